"""Generated scenarios: an answer does not depend on concurrent requests or on the number of pages.

Hypothesis makes an engine of random limits (pages, slots for states, token budget, sequences, prefix cache, prefill
mode, speculation of every kind), whose model sees everything, looks through a window with sinks, has latent attention
and experts, or has states in most layers. It adds, steps and aborts at random, on a clock that ends what takes too
long. In the end every answer is compared, to the bit of its log-probabilities, with what the same request says alone in
a fresh engine with plenty of pages, without prefix cache and speculation.
"""

import dataclasses
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from family_models import write_family
from lora_adapters import shapes_in, write_adapter
from small_models import write_byte_tokenizer, write_eagle, write_medusa, write_model
from verbatim.reference.cache.pages import NO_PAGE
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.lora.adapter import open_adapter
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import load_weights
from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.errors import ContextLengthError, QueueFullError
from verbatim.reference.records.grammar_text import Grammar, GrammarSyntax, json_schema
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import FinishReason, Request, SamplingParams, StoppingParams
from verbatim.reference.speculation.drafts import load_eagle_head, load_medusa_heads
from verbatim.reference.text.tokenizers import load_tokenizer

EOS, CONTROL, VOCAB = 256, 257, 260
SHAPE = {
    "vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 96, "bos_token_id": None, "eos_token_id": EOS,
}  # fmt: skip
WINDOW = {"architectures": ["MistralForCausalLM"], "sliding_window": 20, "attention_sink_size": 3}
LATENT = SHAPE | {
    "architectures": ["DeepseekV3ForCausalLM"], "num_hidden_layers": 2, "kv_lora_rank": 12, "n_routed_experts": 4,
    "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "rope_scaling": None,
}  # fmt: skip
HYBRID = SHAPE | {
    "num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False,
    "block_dim": 16, "block_ff_dim": 24, "conv_dim": 16, "conv_dim_out": 16, "num_heads": 2,
}  # fmt: skip
RECURRENT = SHAPE | {
    "num_hidden_layers": 2, "num_heads": 4, "head_dim": 8, "state_size": 6, "n_groups": 2,
    "time_step_limit": [0.0, 0.9], "num_attention_heads": None, "num_key_value_heads": None,
}  # fmt: skip
DELTA = SHAPE | {
    "num_hidden_layers": 3, "full_attention_interval": 2, "partial_rotary_factor": 0.5, "linear_key_head_dim": 6,
    "linear_value_head_dim": 5, "num_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
STATEFUL = ("hybrid", "recurrent", "delta")
MANY_STEPS = 3000  # a scenario that takes more goes round in circles
EVENTS = (
    "answers", "aborts", "preemptions", "evictions", "cache hits", "accepted drafts", "rejected drafts",
    "stop strings", "grammars", "pins", "forks", "refusals", "timeouts", "scored prompts", "pages given back",
    "scores alone", "vectors", "adapters",
)  # fmt: skip
GRAMMARS = (
    json_schema({"type": "object", "properties": {"a": {"enum": ["x", "é"]}}, "required": ["a"],
                 "additionalProperties": False}),
    Grammar(syntax=GrammarSyntax.REGEX, source="(ab|é)+"),
)  # fmt: skip
FAVOURED = dict.fromkeys("abcé".encode(), 12.0)  # few bytes, so that stop strings and characters come up
BEGINNINGS = (tuple(range(60, 140)), tuple(range(60, 84)) * 3, (97, 98, 99) * 25)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits(EngineLimits):
    """Those of an engine, and how many slots for states it has at most, whatever it takes."""

    most_slots: int = 1000

    def num_slots(self, config):
        return min(self.most_slots, super().num_slots(config))


class Workshop:
    """Models with two adapters each, their draft models and a tokenizer, loaded once.

    Makes engines, and answers a request alone.
    """

    def __init__(self, backend, directory):
        model = write_byte_tokenizer(write_model(directory / "model", seed=1, scale=0.5, **SHAPE), ["<eos>", "<call>"])
        draft = write_model(directory / "draft", seed=1, scale=0.5, dtype="BF16", rms_norm_eps=0.02, **SHAPE)
        slides = write_model(directory / "slides", seed=1, scale=0.5, **SHAPE | WINDOW)
        self.parts, self.tokenizer = backend.PARTS, load_tokenizer(model)
        latent = write_family(directory / "latent", "deepseek_v3", **LATENT)
        hybrid = write_family(directory / "hybrid", "lfm2", **HYBRID)
        recurrent = write_family(directory / "recurrent", "mamba2", **RECURRENT)
        delta = write_family(directory / "delta", "qwen3_next", **DELTA)
        paths = {"plain": model, "slides": slides, "latent": latent, "hybrid": hybrid, "recurrent": recurrent}
        paths["delta"] = delta
        self.models = {name: backend.load_model(path) for name, path in paths.items()}
        self.keys = {name: self._adapters(self.models[name], path) for name, path in paths.items()}
        sizes = {"hidden_size": SHAPE["hidden_size"], "vocab_size": VOCAB}
        medusa, eagle = write_medusa(directory / "medusa", **sizes), write_eagle(directory / "eagle", **SHAPE)
        config, checkpoint = load_config(model), open_checkpoint(load_config(model), load_weights(model))
        self.drafts = {
            "small_draft": backend.load_model(draft), "medusa": load_medusa_heads(self.parts, medusa, config),
            "eagle": load_eagle_head(self.parts, eagle, config, checkpoint),
        }  # fmt: skip
        self.tally = Counter()
        self._alone = {}

    def _adapters(self, model, path):
        """Loads two adapters of a model; their keys by the names that requests have for them."""
        keys = {"": ""}
        if path.name == "recurrent":  # which has no matrix that an adapter could change
            return dict.fromkeys(("", "a", "b"), "")
        for seed, name in enumerate("ab"):
            place = path.with_name(f"{path.name}-{name}")
            modules = ("self_attn.v_proj", "self_attn.out_proj" if path.name == "hybrid" else "self_attn.o_proj")
            write_adapter(place, shapes_in(path), modules=modules, rank=2, seed=seed)
            opened = open_adapter(place, model.config)
            model.adapters.add(opened)
            keys[name] = opened.key
        return keys

    def engine(self, name, limits, **changes):
        model, draft = self.models[name], self.drafts.get(limits.speculative_mode)
        config = dataclasses.replace(model.config, **changes)
        return Engine(self.parts, config, model, self.tokenizer, limits=limits, draft_model=draft)

    def alone(self, name, request, context_size):
        """The choices of a request that nobody disturbs, in a context of that size."""
        request = dataclasses.replace(request, request_id="", cache_salt="", is_pinned=False, timeout=None)
        key = name, repr(request), context_size
        if key not in self._alone:
            limits = EngineLimits(prefix_cache_mode="disable", max_total_seq_length=2000)
            engine, outputs = self.engine(name, limits, context_size=context_size), []
            engine.add(request)
            while engine.has_work():
                outputs += engine.step()
            self._alone[key] = {
                choice: outcome([o for o in outputs if o.choice == choice]) for choice in range(request.n)
            }
        return self._alone[key]


def outcome(outputs):
    """What one choice said: tokens, text, log-probabilities of answer and prompt and vectors as bits, and its end."""
    both = [[entry for o in outputs for entry in o.logprobs], [entry for o in outputs for entry in o.prompt_logprobs]]
    last = outputs[-1] if outputs else None
    return (
        [token_id for output in outputs for token_id in output.token_ids],
        "".join(output.text for output in outputs),
        *(
            [
                (token.token_id, token.token, token.logprob.hex())
                for entry in entries
                for token in (entry.chosen, *entry.top)
            ]
            for entries in both
        ),
        [value.hex() for output in outputs for value in output.embedding or ()],
        last and (last.finish_reason, last.stop_reason, last.num_completion_tokens, last.num_prompt_tokens),
    )


limits = st.builds(
    lambda sequences, extra, speculation, **fields: Limits(
        max_num_sequence=sequences, prefill_chunk_size=sequences + extra, **speculation, **fields
    ),
    sequences=st.integers(1, 6),
    extra=st.sampled_from([0, 1, 3, 9, 30, 200]),
    max_total_seq_length=st.sampled_from([64, 96, 112, 160, 400]),
    max_queue=st.sampled_from([2, 50]),
    prefix_cache_mode=st.sampled_from(["radix", "radix", "disable"]),
    prefill_mode=st.sampled_from(["hybrid", "hybrid", "chunked"]),
    speculation=st.sampled_from(
        [
            {},
            {"speculative_mode": "ngram"},
            {"speculative_mode": "small_draft"},
            {"speculative_mode": "small_draft", "spec_tree_width": 3},
            {"speculative_mode": "medusa"},
            {"speculative_mode": "eagle"},
        ]
    ),
    spec_draft_length=st.sampled_from([0, 1, 3]),
    max_history_size=st.sampled_from([None, None, 1]),
    most_slots=st.sampled_from([1, 2, 3, 5, 9, 1000]),
)
prompts = st.builds(
    lambda beginning, count, rest: beginning[:count] + tuple(rest),
    st.sampled_from(BEGINNINGS),
    st.integers(1, 70),
    st.lists(st.integers(97, 99), max_size=3),
)
sampling = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0, 0, 0.5, 1]),
    top_p=st.sampled_from([1, 0.8]),
    top_k=st.sampled_from([None, 5]),
    min_p=st.sampled_from([0, 0.1]),
    repetition_penalty=st.sampled_from([1, 1.3]),
    frequency_penalty=st.sampled_from([0, 0.5]),
    presence_penalty=st.sampled_from([0, -0.5]),
    logit_bias=st.sampled_from([{}, FAVOURED, FAVOURED | {CONTROL: 11.0}]),
    seed=st.integers(0, 3),
    logprobs=st.sampled_from([None, 0, 2]),
)
stopping = st.builds(
    lambda max_tokens, min_tokens, **fields: StoppingParams(
        max_tokens=max_tokens, min_tokens=min(min_tokens, max_tokens or min_tokens), **fields
    ),
    max_tokens=st.one_of(st.integers(1, 30), st.none()),
    min_tokens=st.sampled_from([0, 0, 5]),
    strings=st.sampled_from([(), (), ("ab", "bca"), ("c", "éé"), ("aa", "aab", "<call>"), ("a", "é")]),
    token_ids=st.sampled_from([(), (), (98,)]),
    ignore_eos=st.booleans(),
    include_stop_string=st.booleans(),
)
answers = st.builds(
    Request,
    request_id=st.just(""),
    prompt_ids=prompts,
    sampling=sampling,
    stopping=stopping,
    n=st.sampled_from([1, 1, 1, 2, 3]),
    cache_salt=st.sampled_from(["", "", "tenant"]),
    is_pinned=st.sampled_from([False, False, False, True]),
    grammar=st.sampled_from([None, None, None, *GRAMMARS]),
    visible_ids=st.sampled_from([(), (CONTROL,)]),
    prompt_logprobs=st.sampled_from([None, None, None, 1]),
    timeout=st.sampled_from([None, None, None, None, 20]),
    adapter=st.sampled_from(["", "", "a", "b"]),
)
requests = st.one_of(
    *[answers] * 6,
    answers.map(
        lambda request: dataclasses.replace(
            request, prompt_logprobs=request.prompt_logprobs or 0, stopping=StoppingParams(max_tokens=0), grammar=None
        )
    ),
    st.builds(
        lambda request, pooling: Request(
            request_id="",
            prompt_ids=request.prompt_ids,
            cache_salt=request.cache_salt,
            timeout=request.timeout,
            pooling=pooling,
            adapter=request.adapter,
        ),
        answers,
        st.sampled_from(["mean", "last"]),
    ),
)


class EngineMachine(RuleBasedStateMachine):
    """One scenario. `living` are the requests under way, `heard` what every request has said so far."""

    def __init__(self, workshop):
        super().__init__()
        self.workshop, self.tally = workshop, Counter()
        self.engine, self.living, self.aborted, self.heard, self.now = None, {}, {}, {}, 0
        self.requests = {}

    @initialize(
        name=st.sampled_from(["plain", "slides", "slides", "latent", "hybrid", "recurrent"]),
        limits=limits,
        first=st.lists(requests, min_size=1, max_size=4),
    )
    def open(self, name, limits, first):
        name = "delta" if name == "hybrid" and limits.max_num_sequence % 2 else name
        width = 1 if name in STATEFUL else limits.spec_tree_width  # drafts of a model with states have no branches
        self.name, self.engine = name, self.workshop.engine(name, dataclasses.replace(limits, spec_tree_width=width))
        for request in first:  # short enough for any engine
            self.add(dataclasses.replace(request, prompt_ids=request.prompt_ids[:40]))

    @rule(request=requests)
    def add(self, request):
        key = self.workshop.keys[self.name][request.adapter]
        request = dataclasses.replace(request, request_id=str(len(self.requests)), adapter=key)
        try:
            self.engine.add(request, now=self.now)
        except (ContextLengthError, QueueFullError):
            self.tally["refusals"] += 1
            return
        finally:
            self.engine.check()
        self.requests[request.request_id] = self.living[request.request_id] = request
        self.heard[request.request_id] = {choice: [] for choice in range(request.n)}

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), request=requests)
    def resume(self, data, request):
        """A conversation goes on: its prompt is what an earlier one was asked and has said."""
        earlier = self.requests[data.draw(st.sampled_from(sorted(self.requests)))]
        spoken = [token_id for output in self.heard[earlier.request_id][0] for token_id in output.token_ids]
        prompt_ids = (*earlier.prompt_ids, *spoken, *request.prompt_ids[:3])
        self.add(dataclasses.replace(request, prompt_ids=prompt_ids, cache_salt=earlier.cache_salt))

    @precondition(lambda self: self.living)
    @rule(count=st.integers(1, 12))
    def step(self, count):
        for _ in range(count):
            self.step_once()

    @precondition(lambda self: len(self.living) > 1)
    @rule(data=st.data())
    def abort(self, data):
        name = data.draw(st.sampled_from(sorted(self.living)))
        self.engine.abort(name)
        self.engine.check()
        self.aborted[name] = self.living.pop(name)
        self.tally["aborts"] += 1

    def step_once(self):
        tree, scheduler = self.engine.prefix_cache, self.engine.scheduler
        computed = {each: each.num_computed for each in (*scheduler.running, *scheduler.waiting)}
        known = set(tree.pages()) if tree is not None else set()
        self.now += 1
        outputs = self.engine.step(now=self.now)
        self.engine.check()
        for output in outputs:
            self.heard[output.request_id][output.choice].append(output)
            if output.finish_reason is FinishReason.TIMEOUT:
                self.aborted[output.request_id] = self.requests[output.request_id]
                self.tally["timeouts"] += 1
        self.tally["pages given back"] += sum(NO_PAGE in each.pages for each in scheduler.running)
        for name in {output.request_id for output in outputs}:
            if all(choice and choice[-1].finish_reason for choice in self.heard[name].values()):
                del self.living[name]
        self.tally["preemptions"] += sum(each.num_computed < count for each, count in computed.items())
        self.tally["evictions"] += len(known - set(tree.pages() if tree is not None else ()))

    def teardown(self):
        """Let everybody finish, and compare."""
        if self.engine is None:
            return
        for _ in range(MANY_STEPS):
            if not self.engine.has_work():
                break
            self.step_once()
        assert not self.engine.has_work(), "somebody waits and is never served"
        assert not self.living
        assert self.engine.stats()["used_pages"] == self.num_pinned()
        draft_cache = getattr(self.engine.drafts.speculator, "cache", None)
        assert draft_cache is None or draft_cache.num_free == draft_cache.num_pages, "the draft model holds pages"
        for name, request in self.requests.items():
            self.compare(request, self.heard[name])
        self.count()

    def num_pinned(self):
        """Pages that nobody uses and that are kept all the same."""
        tree = self.engine.prefix_cache
        return 0 if tree is None else len(tree.pages()) - tree.num_idle

    def compare(self, request, heard):
        """Outputs equal those of the request alone; an aborted request has a prefix of them."""
        alone = self.workshop.alone(self.name, request, self.engine.context_size)
        for choice, outputs in heard.items():
            ours, expected = outcome(outputs), alone[choice]
            if request.request_id not in self.aborted:
                assert ours == expected
            ids, text, logprobs, prompt_logprobs, _, _ = ours
            assert ids == expected[0][: len(ids)]
            assert expected[1].startswith(text)
            assert logprobs == expected[2][: len(logprobs)]
            assert prompt_logprobs == expected[3][: len(prompt_logprobs)]

    def count(self):
        """Add what has happened in this scenario to the tally."""
        stats, tally = self.engine.stats(), self.tally
        last = [outputs[-1] for choices in self.heard.values() for outputs in choices.values() if outputs]
        tally["accepted drafts"] += stats["accepted_tokens"]
        tally["rejected drafts"] += stats["drafted_tokens"] - stats["accepted_tokens"]
        tally["cache hits"] += sum(output.num_cached_tokens > 0 for output in last)
        tally["stop strings"] += sum(isinstance(output.stop_reason, str) for output in last)
        tally["answers"] += sum(output.finish_reason is not None for output in last)
        tally["forks"] += sum(output.choice > 0 for output in last)
        tally["grammars"] += sum(self.requests[output.request_id].grammar is not None for output in last)
        tally["scored prompts"] += sum(self.requests[output.request_id].prompt_logprobs is not None for output in last)
        tally["scores alone"] += sum(self.requests[output.request_id].stopping.max_tokens == 0 for output in last)
        tally["vectors"] += sum(output.embedding is not None for output in last)
        tally["adapters"] += sum(self.requests[output.request_id].adapter != "" for output in last)
        tally["pins"] += self.num_pinned()
        tally["scenarios"] += bool(last)
        self.workshop.tally.update(tally)


@pytest.fixture(scope="module")
def workshop(backend, tmp_path_factory):
    return Workshop(backend, tmp_path_factory.mktemp("workshop"))


def run_scenarios(workshop, count, capsys, **options):
    """Run at least that many scenarios, in which everything that there is has happened; print how often."""
    workshop.tally.clear()
    chosen = settings(deadline=None, print_blob=True, max_examples=count, stateful_step_count=12, **options)
    run_state_machine_as_test(lambda: EngineMachine(workshop), settings=chosen)
    tally = workshop.tally
    with capsys.disabled():
        counts = ", ".join(f"{tally[event]} {event}" for event in EVENTS)
        print(f"\n{tally['scenarios']} scenarios on {workshop.parts.name}: {counts}")
    assert tally["scenarios"] >= count
    assert [event for event in EVENTS if not tally[event]] == []


def test_scenarios(workshop, capsys):
    run_scenarios(workshop, {"reference": 20, "fastpath": 70}[workshop.parts.name], capsys, derandomize=True)


@pytest.mark.slow
def test_many_scenarios(workshop, capsys):
    run_scenarios(workshop, {"reference": 500, "fastpath": 2000}[workshop.parts.name], capsys)
