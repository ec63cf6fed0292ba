"""Whether and how long a model thinks before it answers, under the names that OpenAI and other servers have for it.

What a request wishes is told to the model's chat template, in the variables that it reads: `enable_thinking`,
`thinking`, `reasoning_effort`, `thinking_budget`. A template without a switch cannot turn thinking off; then its budget
is 0. The budget holds in the engine, to the token. A wish that nothing can fulfil is named as without effect; a bound
on the thoughts of a model that has none holds anyway.
"""

from dataclasses import dataclass
from typing import Any

from verbatim.reference.dialects import DialectParser
from verbatim.reference.dialects.thoughts import ThoughtParser
from verbatim.reference.records.thinking import Thinking
from verbatim.reference.text.template import ChatTemplate
from verbatim.server.api import policy
from verbatim.server.api.fields import Field, Fields, Object
from verbatim.server.api.foreign import anything
from verbatim.server.api.foreign_fields import REASONING
from verbatim.server.api.tools import ToolUse
from verbatim.server.api.value_types import BOOLEAN, integer, one_of
from verbatim.server.models.served import ServedModel

NO_EFFORT = "none"
EFFORTS = (NO_EFFORT, "minimal", "low", "medium", "high", "xhigh", "max")
NEAREST = {NO_EFFORT: "low", "minimal": "low", "xhigh": "high", "max": "high"}  # for templates that do not know them
SWITCHES = ("enable_thinking", "thinking")
HISTORY = ("reasoning_content", "thinking", "reasoning")  # under which templates look for an earlier thought
EFFORT = Field("reasoning_effort", one_of(*EFFORTS), "How much the model thinks before it answers.", example="low")
TOKENS = integer(-1)
THINKING = Object(
    Field("type", one_of("enabled", "disabled", "adaptive", "auto"), "Whether the model thinks first."),
    Field("budget_tokens", TOKENS, "For so many tokens at most.", example=1024),
    foreign=anything(None, "display clear_thinking"),
)
OF_REASONING = (
    Field("effort", EFFORT.type, EFFORT.description, example="low"),
    Field("enabled", BOOLEAN, "Whether the model thinks first.", example=True),
    Field("max_tokens", TOKENS, "It thinks for so many tokens at most.", example=1024),
    Field("exclude", BOOLEAN, "Leave the thought out of the answer.", default=False),
)
REASON = Object(*OF_REASONING, foreign={n: f for n, f in REASONING.items() if n not in {f.name for f in OF_REASONING}})
BUDGETS = ("thinking_token_budget", "thinking_budget", "reasoning_budget")
OF_THINKING = Field("thinking", THINKING, "Whether it thinks first, as Anthropic has it.", example={"type": "disabled"})
OF_REASON = Field("reasoning", REASON, "How much it thinks first.", example={"effort": "low"})
SHARED = (
    *(Field(name, TOKENS, "It thinks for so many tokens at most; -1 for no bound.", example=256) for name in BUDGETS),
    Field("enable_thinking", BOOLEAN, "Whether the model thinks before it answers.", example=True),
)
FIELDS = (
    EFFORT,
    OF_THINKING,
    OF_REASON,
    *SHARED,
    Field("include_reasoning", BOOLEAN, "Whether the answer shows the thought.", default=True),
    Field("separate_reasoning", BOOLEAN, "Whether it stands apart from the content.", default=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a request wishes; `paths` are the fields that said so, by wish. None is no wish."""

    is_on: bool | None = None
    effort: str | None = None
    budget: int | None = None
    is_shown: bool = True
    is_apart: bool = True
    paths: dict[str, str]

    def variables(self, model: ServedModel, given: dict[str, Any]) -> dict[str, Any]:
        """The variables of the model's template: those `given`, which come first, and what the wishes set."""
        known = model.template.variables if model.template else frozenset()
        found: dict[str, Any] = {name: self.is_on for name in SWITCHES if name in known and self.is_on is not None}
        if self.effort is not None and "reasoning_effort" in known and model.template:
            found["reasoning_effort"] = _said(self.effort, model.template)
        if "thinking_budget" in known and (self.budget is not None or self.is_on is False):
            found["thinking_budget"] = self.budget if self.is_on is not False else 0
        self._note(model, found, given)
        return found | given

    def _note(self, model: ServedModel, found: dict, given: dict) -> None:
        """Name the wishes that nothing fulfils."""
        is_told = found.keys() & {"reasoning_effort", *SWITCHES}
        if self.is_on and "is_on" in self.paths and not is_told and model.thoughts is None:
            policy.note_without_effect(self.paths["is_on"])
        if self.effort not in (None, NO_EFFORT) and not is_told and "effort" in self.paths:
            policy.note_without_effect(self.paths["effort"])

    def thinking(
        self, model: ServedModel, prompt_ids: tuple[int, ...], variables: dict[str, Any], continued: str = ""
    ) -> Thinking | None:
        """What the engine is told of an answer that continues some text; None for a model that writes no thoughts."""
        if model.thoughts is None:
            return None
        is_switched = any(variables.get(name) is False for name in SWITCHES)
        budget = 0 if self.is_on is False and not is_switched else self.budget
        return model.thoughts.thinking(model.tokenizer, prompt_ids, budget, continued)


def answer_parser(
    tools: ToolUse, model: ServedModel, thinking: Thinking | None, *, is_apart: bool = True
) -> DialectParser | None:
    """What reads one answer: its thought, and its calls; None where it is text and nothing else."""
    calls = model.dialect.parser(tools.callable_tools) if tools.names else None
    return ThoughtParser(thinking, calls, is_apart=is_apart) if thinking else calls


def take_wishes(fields: Fields) -> Wishes:
    """The wishes in the fields of a chat, a response or a message: those of `FIELDS` that it declares."""
    values, paths = _read(fields)
    effort, budget = values.get("effort"), values.get("budget")
    is_on = values.get("is_on")
    if is_on is None and effort is not None:
        is_on = effort != NO_EFFORT
    elif is_on is None and budget and budget > 0:
        is_on = True
    budget = None if budget is None or budget < 0 else budget
    shown = {name: values[name] for name in ("is_shown", "is_apart") if name in values}
    return Wishes(is_on=is_on, effort=effort, budget=budget, paths=paths, **shown)


def _read(fields: Fields) -> tuple[dict[str, Any], dict[str, str]]:
    """Values by wish, and the paths that they came from; the more particular field is read later and wins."""
    values: dict[str, Any] = {}
    paths: dict[str, str] = {}

    def take(wish: str, value: Any, path: str) -> None:
        if value is not None:
            values[wish], paths[wish] = value, path

    if (reason := fields["reasoning"] if fields.declares("reasoning") else None) is not None:
        take("effort", reason["effort"], reason.where("effort"))
        take("is_on", reason["enabled"], reason.where("enabled"))
        take("budget", reason["max_tokens"], reason.where("max_tokens"))
        take("is_shown", False if reason["exclude"] else None, reason.where("exclude"))
        reason.done()
    if (thinking := fields["thinking"] if fields.declares("thinking") else None) is not None:
        type_ = thinking["type"]
        take("is_on", {"enabled": True, "disabled": False}.get(type_), fields.where("thinking"))
        take("budget", thinking["budget_tokens"], thinking.where("budget_tokens"))
        thinking.done()
    for wish, names in {
        "effort": (EFFORT.name,), "is_on": ("enable_thinking",), "budget": BUDGETS,
        "is_shown": ("include_reasoning",), "is_apart": ("separate_reasoning",),
    }.items():  # fmt: skip
        for name in names:
            if fields.declares(name):
                take(wish, fields[name], fields.where(name))
    return values, paths


def _said(effort: str, template: ChatTemplate) -> str:
    """The effort as the template knows it: in a word that it has, or else the nearest of low, medium and high."""
    is_known = f"'{effort}'" in template.source or f'"{effort}"' in template.source
    return effort if is_known else NEAREST.get(effort, effort)


def with_history(messages: list[dict], template: ChatTemplate | None) -> list[dict]:
    """Earlier thoughts under the names by which the template looks for them; which of them it shows is up to it."""
    source = template.source if template else ""
    names = [name for name in HISTORY if f".{name}" in source or f"'{name}'" in source or f'"{name}"' in source]
    found = []
    for message in messages:
        thought = message.get("reasoning_content")
        found.append(message | dict.fromkeys(names, thought) if thought is not None else message)
    return found
