"""Observers: they see each step, and an engine that is observed takes the same path and answers the same."""

import pytest

from verbatim.demo import MODEL
from verbatim.reference.commands.explain import Explainer
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.observer import Observer
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.server.engine.tracing import Tracer

PROMPTS = ((5, 6, 7, 8), (9, 10, 11), (20, 21), (5, 6, 7, 8))
SETTINGS = ({"temperature": 0}, {"temperature": 1}, {"logprobs": 2}, {"temperature": 0.8, "repetition_penalty": 1.2})


class Recorder(Observer):
    """Writes down the names of the events, and the tokens with what they were drawn from."""

    def __init__(self):
        self.names, self.tokens = [], []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            self.names.append(name)
        return super().__getattribute__(name)

    def on_token(self, token):
        """Keep it; its logits belong to the step."""
        self.tokens.append((token.output.request_id, token.sampled.token_id, token.logits[token.sampled.token_id]))


def run(backend, observers, mode="disable"):
    """Outputs, steps, and how many tokens `sample_batch` had drawn when `extend_decoding` took them in."""
    limits = EngineLimits(max_num_sequence=4, max_total_seq_length=512, speculative_mode=mode)
    engine, batched = backend.load_engine(MODEL, device="cpu", limits=limits), []
    parts = engine.parts

    def extend_decoding(work, answers, drawn):
        outputs, ended = parts.extend_decoding(work, answers, drawn)
        batched.append(len(outputs))
        return outputs, ended

    engine.parts = parts.__class__(
        **{name: getattr(parts, name) for name in parts.__slots__} | {"extend_decoding": extend_decoding}
    )
    for observer in observers:
        engine.subscribe(observer(engine) if isinstance(observer, type) else observer)
    for number, (prompt, settings) in enumerate(zip(PROMPTS, SETTINGS, strict=True)):
        stopping = StoppingParams(max_tokens=6, ignore_eos=True, strings=("zzz",))
        sampling = SamplingParams(seed=number, **settings)
        engine.add(Request(request_id=str(number), prompt_ids=prompt, sampling=sampling, stopping=stopping))
    steps = []
    while engine.has_work():
        steps.append(engine.step())
        engine.check()
    return steps, batched, engine.stats()


@pytest.mark.parametrize("mode", ["disable", "ngram"])
def test_a_traced_engine_takes_the_same_path_and_answers_the_same(backend, mode):
    recorder, tracer = Recorder(), Tracer()
    observed = run(backend, [recorder, tracer], mode)
    assert observed == run(backend, [], mode)
    steps, batched, _ = observed
    assert sum(batched) > 10, "sequences that decode are sampled together, with observers too"
    tokens = [(output.request_id, token_id) for step in steps for output in step for token_id in output.token_ids]
    assert sorted(tokens) == sorted(token[:2] for token in recorder.tokens)
    assert len([event for event in tracer.dump() if event["name"] == "sample"]) == len(tokens) == 24
    assert len([event for event in tracer.dump() if event["name"] == "step"]) == len(steps)


def test_events_come_in_the_order_of_a_step(backend):
    recorder = Recorder()
    steps, _, _ = run(backend, [recorder])
    assert recorder.names[:4] == ["on_add"] * 4
    names = recorder.names[4:]
    assert names.count("on_step") == names.count("on_schedule") == names.count("on_step_end") == len(steps)
    first = names[: names.index("on_step_end") + 1]
    assert first == ["on_step", "on_schedule", "on_forward", *["on_token"] * 4, "on_step_end"]
    assert names[-5:] == [*["on_finish"] * 4, "on_step_end"]


def test_a_token_comes_with_the_logits_that_it_was_drawn_from(backend):
    recorder = Recorder()
    run(backend, [recorder])
    tops = {}

    class Peaks(Observer):
        """The largest logit at each greedy token."""

        def on_token(self, token):
            """Compare by value."""
            tops.setdefault(token.output.request_id, []).append(max(token.logits))

    run(backend, [Peaks()])
    assert tops["0"] == [logit for request_id, _, logit in recorder.tokens if request_id == "0"]


def test_an_aborted_request_is_told_once(backend):
    engine, recorder = backend.load_engine(MODEL, device="cpu"), Recorder()
    engine.subscribe(recorder)
    engine.add(Request(request_id="gone", prompt_ids=(5,), n=2))
    engine.step()
    engine.abort("gone")
    engine.abort("gone")
    assert recorder.names.count("on_abort") == 1
    assert isinstance(Explainer(engine, None), Observer)
