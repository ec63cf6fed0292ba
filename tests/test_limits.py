"""The model with a shorter context or other windows, as the limits of an engine change it."""

import numpy as np
import pytest

from small_models import write_chat_model
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams

WINDOWED = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 40}


def reshaped(directory, **limits):
    return EngineLimits(**limits).reshape(load_config(directory))


def test_no_limits_change_nothing(tmp_path):
    config = load_config(write_chat_model(tmp_path))
    assert EngineLimits().reshape(config) == config


def test_a_context_can_only_become_shorter(tmp_path):
    write_chat_model(tmp_path)
    assert reshaped(tmp_path, context_window_size=100).context_size == 100
    with pytest.raises(ModelError, match=r"at most the model's own, 256, not 257"):
        reshaped(tmp_path, context_window_size=257)


def test_windows_and_sinks(tmp_path):
    plain = write_chat_model(tmp_path / "plain")
    windowed = write_chat_model(tmp_path / "windowed", **WINDOWED)
    assert load_config(windowed).window == 40
    assert (
        reshaped(plain, sliding_window_size=24, attention_sink_size=4).window,
        reshaped(plain, sliding_window_size=24, attention_sink_size=4).sinks,
    ) == (24, 4)
    assert (reshaped(windowed, sliding_window_size=24).window, reshaped(windowed, attention_sink_size=3).sinks) == (
        24,
        3,
    )
    with pytest.raises(ModelError, match="attention_sink_size 4 needs sliding windows"):
        reshaped(plain, attention_sink_size=4)


def test_an_engine_with_another_window_is_the_model_of_that_window(tmp_path, backend):
    """With a window of 24 as a limit, the answer equals that of a model whose config.json has this window."""
    plain = write_chat_model(tmp_path / "plain", max_position_embeddings=2048)
    made = write_chat_model(tmp_path / "made", max_position_embeddings=2048, **WINDOWED | {"sliding_window": 24})

    def answer(directory, **limits):
        engine = backend.load_engine(directory, limits=EngineLimits(**limits))
        prompt = tuple(np.random.default_rng(0).integers(5, 90, 60).tolist())
        stopping = StoppingParams(max_tokens=40, ignore_eos=True)
        engine.add(
            Request(request_id="a", prompt_ids=prompt, sampling=SamplingParams(temperature=0), stopping=stopping)
        )
        outputs = []
        while engine.has_work():
            outputs += engine.step()
        engine.check()
        return [token_id for output in outputs for token_id in output.token_ids]

    limited = answer(plain, sliding_window_size=24)
    assert limited == answer(made) and len(limited) == 40
    assert limited != answer(plain)
