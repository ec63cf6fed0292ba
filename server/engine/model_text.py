"""What a server knows of a model beside its weights: its words, and how it writes calls and thoughts.

HTTP workers need all of it; the engine reads it once, for the fingerprint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from verbatim.reference.checkpoint.generation import sampling_defaults
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.dialects import Dialect, choose_dialect
from verbatim.reference.dialects.thoughts import ThoughtFormat, choose_thoughts
from verbatim.reference.text.template import ChatTemplate
from verbatim.reference.text.tokenizer import Tokenizer
from verbatim.server.settings.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelText:
    """`sampling_defaults` are what the model's authors recommend; `words` are what answers depend on of all this."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    dialect: Dialect
    thoughts: ThoughtFormat | None
    pooling: str
    sampling_defaults: Mapping[str, Any]
    words: tuple[str, ...]


def read_text(options: Options, tokenizer: Tokenizer | None = None) -> ModelText:
    """Read it as the options choose; ModelError if a file cannot be used. A tokenizer that is there spares another."""
    source = open_source(options.model)
    tokenizer, pooling = tokenizer or source.tokenizer(), source.pooling()
    template = source.chat_template(tokenizer, options.chat_template)
    text = template.source if template else ""
    dialect = choose_dialect(text, options.tool_parser)
    thoughts = choose_thoughts(text, options.reasoning_parser)
    words = [text, dialect.name, *([thoughts.name] if thoughts else []), pooling]
    recommended = sampling_defaults(source.generation_defaults())
    if recommended and options.generation_config == "none":
        recommended, words = {}, [*words, "without generation_config"]
    return ModelText(
        tokenizer=tokenizer, template=template, dialect=dialect, thoughts=thoughts, pooling=pooling,
        sampling_defaults=recommended, words=tuple(words),
    )  # fmt: skip
