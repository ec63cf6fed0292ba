"""Shared. How models write thoughts in front of their answers: one row a format, and the parser that all rows share.

A row says which marks stand around a thought, and how a chat template shows that its model writes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from verbatim.reference.dialects.deltas import Delta, DialectParser, TextDelta, ThoughtDelta
from verbatim.reference.records.thinking import Ending, Thinking
from verbatim.reference.text.thoughts import SPACE, Phase, ThoughtSplitter
from verbatim.reference.text.tokenizer import Tokenizer

NUM_TAIL = 64  # tokens at the end of a prompt in which an opening mark is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtFormat:
    """One way to write thoughts. A template that holds one of its `signs` writes them so."""

    name: str
    opening: str
    endings: tuple[Ending, ...]
    signs: tuple[str, ...]
    forced: str = ""  # what ends a thought that has become too long, if not the first ending

    @property
    def marks(self) -> tuple[str, ...]:
        """All marks, which may be control tokens of a tokenizer, or be made of them."""
        return (self.opening, *(ending.mark for ending in self.endings))

    def visible_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """The control tokens in its marks, which the parser has to see."""
        found = (i for name, i in tokenizer.control_ids.items() if name and any(name in mark for mark in self.marks))
        return tuple(sorted(found))

    def thinking(
        self, tokenizer: Tokenizer, prompt_ids: Sequence[int], budget: int | None = None, continued: str = ""
    ) -> Thinking:
        """The thinking of an answer to a prompt, which may have opened a thought, as may the text that it continues."""
        return Thinking(
            opening=self.opening, endings=self.endings, forced=self.forced or self.endings[0].mark, budget=budget,
            is_open=self._is_open(tokenizer, prompt_ids) or self._leaves_open(continued),
        )  # fmt: skip

    def _leaves_open(self, text: str) -> bool:
        _, opening, thought = text.rpartition(self.opening)
        return opening != "" and not any(ending.mark in thought for ending in self.endings)

    def _is_open(self, tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> bool:
        tail = b"".join(tokenizer.control_names.get(i) or tokenizer.token_bytes(i) for i in prompt_ids[-NUM_TAIL:])
        return tail.decode(errors="replace").rstrip(SPACE).endswith(self.opening)


def pair(name: str, opening: str, closing: str, *signs: str) -> ThoughtFormat:
    """A format with one mark on each side."""
    return ThoughtFormat(name=name, opening=opening, endings=(Ending(closing),), signs=signs or (opening, closing))


MESSAGE, START = "<|message|>", "<|end|><|start|>assistant"
FINAL, COMMENTARY = f"<|channel|>final{MESSAGE}", "<|channel|>commentary"
HARMONY = ThoughtFormat(
    name="harmony",
    opening=f"<|channel|>analysis{MESSAGE}",
    endings=(Ending(START + FINAL), Ending(FINAL), Ending(START, COMMENTARY)),
    signs=("<|channel|>analysis", f"<|channel|>final{MESSAGE}"),
)
FORMATS = (  # a template with signs of several writes the earliest
    HARMONY,
    pair("seed_oss", "<seed:think>", "</seed:think>"),
    pair("magistral", "[THINK]", "[/THINK]"),
    pair("command", "<|START_THINKING|>", "<|END_THINKING|>"),
    pair("apertus", "<|inner_prefix|>", "<|inner_suffix|>"),
    pair("gemma4", "<|channel>thought\n", "<channel|>", "<|channel>thought"),
    pair("granite", "Here is my thought process:", "Here is my response:"),
    pair("think", "<think>", "</think>"),
)
WITH_THINK = (  # names that other servers' parsers have for it, and families
    "qwen3", "deepseek_r1", "deepseek_v3", "glm45", "glm", "smollm3", "hunyuan_a13b", "olmo3", "minimax_m2", "ernie45",
    "step3", "nemotron", "kimi_k2", "exaone4",
)  # fmt: skip
ALIASES = dict.fromkeys(WITH_THINK, "think")
ALIASES |= {"mistral": "magistral", "openai_gptoss": "harmony", "gpt_oss": "harmony", "cohere_command": "command"}
NONE = "none"
NAMES = (NONE, *(each.name for each in FORMATS), *ALIASES)


def choose_thoughts(template_source: str, name: str | None = None) -> ThoughtFormat | None:
    """The format of that name, or else the one that a chat template's source shows; None if it shows none."""
    if name == NONE:
        return None
    if name is not None:
        return next(each for each in FORMATS if each.name == ALIASES.get(name, name))
    return next((each for each in FORMATS if any(sign in template_source for sign in each.signs)), None)


class ThoughtParser:
    """Reads one answer: its thought, and then what `calls` makes of the text behind it.

    White space around a thought belongs to its marks. A call within a thought is part of the thought.
    """

    def __init__(self, thinking: Thinking, calls: DialectParser | None, *, is_apart: bool = True):
        """Unless it `is_apart`, a thought is text in front of the answer, with its marks."""
        self._splitter, self._calls, self._is_apart = ThoughtSplitter(thinking), calls, is_apart
        self._text = ""  # of which nothing has been given, unless the thought is apart
        self._space = ""  # at the end of the thought, as far as it is known
        self._has_thought = self._has_answer = False

    def push(self, text: str) -> list[Delta]:
        """What new text adds, as far as it can be told."""
        self._text += text
        return self._deltas(*self._splitter.push(text))

    def finish(self, *, is_cut: bool = False) -> list[Delta]:
        """What was held back; of a mark that was cut off nothing, as it may have become one."""
        held, phase = self._splitter.held, self._splitter.phase
        thought, answer = self._splitter.finish()
        if is_cut and self._is_apart and phase is not Phase.ANSWER and len(held.strip(SPACE)) > 1:
            thought = answer = ""
        deltas = self._deltas(thought, answer)
        return deltas + (self._calls.finish(is_cut=is_cut) if self._calls else [])

    def _deltas(self, thought: str, answer: str) -> list[Delta]:
        deltas: list[Delta] = []
        text, self._text = self._text, self._splitter.held
        if not self._is_apart:
            text = text[: len(text) - len(answer) - len(self._text)]
            return [TextDelta(text=text)] * bool(text) + self._answer(answer)
        if thought := self._trimmed(thought):
            self._has_thought = True
            deltas.append(ThoughtDelta(text=thought))
        if self._splitter.phase is Phase.ANSWER and not self._has_answer:
            answer = answer.lstrip(SPACE) if self._splitter.is_behind_mark else answer
            self._has_answer = answer != ""
        return deltas + self._answer(answer)

    def _answer(self, text: str) -> list[Delta]:
        if not text:
            return []
        return self._calls.push(text) if self._calls else [TextDelta(text=text)]

    def _trimmed(self, thought: str) -> str:
        thought = self._space + thought
        if not self._has_thought:
            thought = thought.lstrip(SPACE)
        kept = thought.rstrip(SPACE)
        self._space = thought[len(kept) :]
        return kept
