"""Sliding windows: pages behind them are given back, the sinks' stay, and nobody can tell from the answer."""

import pytest

from small_models import write_chat_model
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams

WINDOW, SINKS = 40, 4
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": WINDOW}
PROMPT = tuple(range(300, 420))


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """Without sinks, and with them."""
    parent = tmp_path_factory.mktemp("models")
    changes = MISTRAL | {"eos_token_id": None, "max_position_embeddings": 1024}
    return [write_chat_model(parent / str(sinks), attention_sink_size=sinks, **changes) for sinks in (0, SINKS)]


def run(engine, *prompts, max_tokens=24, n=1):
    """Each choice's tokens and log-probabilities, and the most pages that were in use."""
    for i, prompt in enumerate(prompts):
        sampling = SamplingParams(seed=i, logprobs=1)
        stopping = StoppingParams(max_tokens=max_tokens)
        engine.add(Request(request_id=str(i), prompt_ids=prompt, sampling=sampling, stopping=stopping, n=n))
    found, most = {}, 0
    while engine.has_work():
        for output in engine.step():
            ids, scores = found.setdefault((output.request_id, output.choice), ([], []))
            ids.extend(output.token_ids)
            scores.extend(output.logprobs)
        engine.check()
        most = max(most, engine.stats()["used_pages"])
    assert engine.stats()["used_pages"] == 0
    return found, most


@pytest.mark.parametrize("sinks", [0, SINKS])
def test_pages_behind_the_window_are_free(backend, directories, sinks):
    limits = EngineLimits(prefix_cache_mode="disable", prefill_chunk_size=32)
    engine = backend.load_engine(directories[bool(sinks)], limits=limits)
    _, most = run(engine, PROMPT, max_tokens=80)
    assert most <= bool(sinks) + (WINDOW + 32) // 16 + 2, "200 tokens would fill 13 pages"


@pytest.mark.parametrize("sinks", [0, SINKS])
@pytest.mark.parametrize("mode", ["disable", "radix"])
def test_an_answer_does_not_depend_on_how_many_pages_there_are(backend, directories, sinks, mode):
    prompts = [PROMPT, PROMPT[:70], PROMPT[::-1]]
    many, few = (
        backend.load_engine(
            directories[bool(sinks)],
            limits=EngineLimits(
                prefix_cache_mode=mode, max_total_seq_length=total, prefill_chunk_size=24, max_num_sequence=4
            ),
        )
        for total in (4096, 160)
    )
    expected, _ = run(many, *prompts, n=2)
    assert run(few, *prompts, n=2)[0] == expected
    assert few.context_size == 1024, "160 tokens' pages are enough, however long it gets"
    assert run(few, *prompts, n=2)[0] == expected, "and from the prefix cache"


def test_sinks_change_answers_and_only_behind_the_window(backend, directories):
    found = [run(backend.load_engine(directory), PROMPT[:38], max_tokens=12)[0]["0", 0] for directory in directories]
    assert found[0][0][:2] == found[1][0][:2], "position 39 is the last that sees everything"
    assert found[0] != found[1]


def test_the_prefix_cache_keeps_what_it_is_shown(backend, directories):
    engine = backend.load_engine(directories[0], limits=EngineLimits(prefill_chunk_size=32))
    run(engine, PROMPT)
    engine.add(Request(request_id="again", prompt_ids=PROMPT, stopping=StoppingParams(max_tokens=2)))
    outputs = [output for _ in range(3) for output in engine.step()]
    assert outputs[-1].num_cached_tokens == len(PROMPT) - 1


def test_sinks_must_be_a_number(backend, tmp_path):
    directory = write_chat_model(tmp_path, attention_sink_size=-1, **MISTRAL)
    with pytest.raises(ModelError, match="attention_sink_size must be at least 0, not -1"):
        backend.load_engine(directory)
