"""Prompts for filling in the middle (FIM): what is between a prefix and a suffix, in the format of a model's family.

A family is known by its marks, which its tokenizer has as tokens. Mostly the prompt is prefix, suffix, and a mark after
which the model writes the middle (PSM); Codestral and Seed-Coder have the suffix first (SPM). Sources: the model cards
of Qwen2.5-Coder, StarCoder, Granite, CodeGemma, CodeLlama, DeepSeek-Coder, Codestral, Seed-Coder and CodeGeeX.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from verbatim.reference.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Family:
    """Marks before the prefix, before the suffix, and before the middle ("" for none)."""

    prefix: str
    suffix: str
    middle: str
    is_suffix_first: bool = False
    has_first_space: bool = False  # the prefix begins as any text of this tokenizer does


FAMILIES = (
    Family("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, Granite 4, CodeGemma
    Family("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite, Yi-Coder, Stable Code
    Family("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    Family("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    Family("▁<PRE>", "▁<SUF>", "▁<MID>", has_first_space=True),  # CodeLlama
    Family("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>", is_suffix_first=True),  # Seed-Coder
    Family("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # CodeGeeX 4, GLM 4
    Family("[PREFIX]", "[SUFFIX]", "", is_suffix_first=True),  # Codestral
)
ENDS = (  # other marks of these families, after which a middle is over
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>", "<|endoftext|>", "<fim_pad>", "<file_sep>",
    "<|cursor|>", "▁<EOT>", "<｜end▁of▁sentence｜>", "[MIDDLE]", "<[fim-pad]>",
)  # fmt: skip
SNIPPET, UNNAMED = "\n\n--- snippet ---\n\n", "filename"


@dataclass(frozen=True, slots=True)
class Infill:
    """A family's format with the ids of one tokenizer. `stop_ids` end a middle beside the model's own end."""

    family: Family
    mark_ids: tuple[int | None, ...]  # of prefix, suffix and middle
    stop_ids: tuple[int, ...]

    def encode(
        self, tokenizer: Tokenizer, prefix: str, suffix: str, extra: Sequence[tuple[str, str]] = ()
    ) -> list[int]:
        """The ids of a prompt after which the model writes what is between the two texts.

        `extra` are names and texts of other files, which stand in front, with the family's marks if it has them.
        """
        of_prefix, of_suffix, of_middle = self.mark_ids
        is_first = self.family.has_first_space
        before = [of_prefix, *tokenizer.encode(prefix, is_first=is_first)]
        after = [of_suffix, *tokenizer.encode(suffix, is_first=False)]
        ids = [*after, *before] if self.family.is_suffix_first else [*before, *after]
        others = _files(tokenizer, extra) if extra else []
        return [i for i in (*tokenizer.bos_ids, *others, *ids, of_middle) if i is not None]


def find_infill(tokenizer: Tokenizer) -> Infill | None:
    """The format whose marks a tokenizer has; None if it has none of a known family."""
    for family in FAMILIES:
        marks = (family.prefix, family.suffix, family.middle)
        ids = [_id_of(tokenizer, mark) if mark else None for mark in marks]
        if all(i is not None for i, mark in zip(ids, marks, strict=True) if mark):
            ends = (_id_of(tokenizer, mark) for mark in ENDS)
            return Infill(family, tuple(ids), tuple(sorted({i for i in (*ids, *ends) if i is not None})))
    return None


def _files(tokenizer: Tokenizer, extra: Sequence[tuple[str, str]]) -> list[int]:
    """Other files as models of repositories know them (Qwen2.5-Coder, StarCoder 2), or as snippets of text."""
    marks = [i for mark in ("<|file_sep|>", "<file_sep>") if (i := _id_of(tokenizer, mark)) is not None]
    if not marks:
        return [i for _, text in extra for i in tokenizer.encode(SNIPPET + text + "\n", is_first=False)]
    files = [*((name or UNNAMED, text) for name, text in extra), (UNNAMED, "")]
    return [i for name, text in files for i in (marks[0], *tokenizer.encode(f"{name}\n{text}", is_first=False))]


def _id_of(tokenizer: Tokenizer, mark: str) -> int | None:
    """The id of a mark: a control token, or (Qwen2.5-Coder) a token of its own that is none."""
    if mark in tokenizer.control_ids:
        return tokenizer.control_ids[mark]
    ids = tokenizer.encode(mark, is_first=False)
    is_single = len(ids) == 1 and tokenizer.token_bytes(ids[0]) == mark.encode()
    return ids[0] if is_single else None
