"""A request as a receipt holds it: every setting that the answer depends on, as it held, and nothing else.

Left out is what changes no bit: ids, cache keys, time limits, and which log-probabilities were shown. `max_tokens` is
the bound that held, also where it came from the context. The seed is text, as some programs lack integers of 64 bits.
"""

from dataclasses import replace
from typing import Any

from verbatim.reference.receipts.json_values import Values, fail
from verbatim.reference.records.grammar_text import Grammar, GrammarSyntax
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.reference.records.thinking import Ending, Thinking

NUMBERS = (
    "temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
)  # fmt: skip
FIELD = "receipt.requests.grammar"  # is at fault if the grammar cannot be compiled


def to_json(request: Request, context_size: int) -> dict[str, Any]:
    """The request as JSON, answered by an engine that holds `context_size` tokens."""
    sampling, stopping, longest = request.sampling, request.stopping, longest_answer(request, context_size)
    is_open = stopping.min_tokens <= longest  # else nothing ends the answer before the context is full
    return {
        "prompt_ids": list(request.prompt_ids),
        "n": request.n,
        "sampling": {name: float(getattr(sampling, name)) for name in NUMBERS}
        | {"top_k": sampling.top_k, "logit_bias": [[i, float(bias)] for i, bias in sampling.logit_bias.items()]}
        | {"seed": str(sampling.seed)},
        "stopping": {
            "max_tokens": longest,
            "min_tokens": min(stopping.min_tokens, longest),
            "strings": list(stopping.strings) if is_open else [],
            "token_ids": list(stopping.token_ids),
            "ignore_eos": stopping.ignore_eos,
            "include_stop_string": stopping.include_stop_string,
        },
        "grammar": request.grammar and {"syntax": str(request.grammar.syntax), "source": request.grammar.source},
        "thinking": request.thinking and _thinking_to_json(request.thinking),
        "visible_ids": list(request.visible_ids),
        "adapter": request.adapter,
    }


def longest_answer(request: Request, context_size: int) -> int:
    """How many tokens an answer may have, in an engine that holds `context_size` tokens."""
    return min(request.stopping.max_tokens or context_size, context_size - len(request.prompt_ids))


def from_json(value: Any, path: str, request_id: str) -> Request:
    """The request again, with log-probabilities; RequestError names what is wrong with it."""
    values = Values(value, path)
    sampling, stopping = Values(values.take("sampling", dict), f"{path}.sampling"), _stopping(values, path)
    request = Request(
        request_id=request_id,
        prompt_ids=values.take_ids("prompt_ids"),
        n=values.take("n", int),
        sampling=SamplingParams(
            **{name: sampling.take(name, float) for name in NUMBERS},
            top_k=sampling.take_or_none("top_k", int),
            logit_bias=_biases(sampling),
            seed=_seed(sampling),
            logprobs=0,
        ),
        stopping=stopping,
        grammar=_grammar(values),
        thinking=_thinking(values),
        visible_ids=values.take_ids("visible_ids"),
        adapter=values.take("adapter", str),
    )
    sampling.done()
    values.done()
    return request


def with_bound(request: Request, max_tokens: int) -> Request:
    """The same for an answer that is known: one token beyond its last is enough to see that it goes on."""
    bound = min(request.stopping.max_tokens or max_tokens, max_tokens)
    stopping = replace(request.stopping, max_tokens=bound, min_tokens=min(request.stopping.min_tokens, bound))
    return replace(request, stopping=stopping)


def _seed(sampling: Values) -> int:
    text = sampling.take("seed", str)
    if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and len(text) <= 20):
        raise fail(sampling.where("seed"), "an integer as text", text)
    return int(text)


def _biases(sampling: Values) -> dict[int, float]:
    biases = {}
    for item, path in sampling.take_list("logit_bias"):
        is_pair = type(item) is list and len(item) == 2 and type(item[0]) is int and type(item[1]) in (int, float)
        if not is_pair:
            raise fail(path, "a token id with its bias", item)
        biases[item[0]] = float(item[1])
    return biases


def _stopping(values: Values, path: str) -> StoppingParams:
    stopping = Values(values.take("stopping", dict), f"{path}.stopping")
    strings = []
    for item, where in stopping.take_list("strings"):
        if type(item) is not str:
            raise fail(where, "a string", item)
        strings.append(item)
    found = StoppingParams(
        max_tokens=stopping.take("max_tokens", int),
        min_tokens=stopping.take("min_tokens", int),
        strings=tuple(strings),
        token_ids=stopping.take_ids("token_ids"),
        ignore_eos=stopping.take("ignore_eos", bool),
        include_stop_string=stopping.take("include_stop_string", bool),
    )
    stopping.done()
    return found


def _grammar(values: Values) -> Grammar | None:
    value = values.take_or_none("grammar", dict)
    if value is None:
        return None
    grammar = Values(value, values.where("grammar"))
    syntax = grammar.take("syntax", str)
    if syntax not in list(GrammarSyntax):
        raise fail(grammar.where("syntax"), f"one of {', '.join(GrammarSyntax)}", syntax)
    found = Grammar(syntax=GrammarSyntax(syntax), source=grammar.take("source", str), field=FIELD)
    grammar.done()
    return found


def _thinking_to_json(thinking: Thinking) -> dict[str, Any]:
    return {
        "opening": thinking.opening,
        "endings": [[ending.dropped, ending.kept] for ending in thinking.endings],
        "forced": thinking.forced,
        "is_open": thinking.is_open,
        "budget": thinking.budget,
    }


def _thinking(values: Values) -> Thinking | None:
    value = values.take_or_none("thinking", dict)
    if value is None:
        return None
    thinking = Values(value, values.where("thinking"))
    endings = []
    for item, path in thinking.take_list("endings"):
        if type(item) is not list or len(item) != 2 or not all(type(text) is str for text in item):
            raise fail(path, "two strings", item)
        endings.append(Ending(*item))
    found = Thinking(
        opening=thinking.take("opening", str),
        endings=tuple(endings),
        forced=thinking.take("forced", str),
        is_open=thinking.take("is_open", bool),
        budget=thinking.take_or_none("budget", int),
    )
    thinking.done()
    return found
