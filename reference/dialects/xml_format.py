"""Shared. Formats in which a call names its function and each parameter stands between marks.

`<function=f>`, `<parameter=city>`, the value as bare text, `</parameter>`, `</function>`: one `XmlFormat` says what the
marks are, and parser (xml_parser.py) and grammar (xml_grammar.py) follow from it. White space may stand between marks.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from verbatim.reference.dialects.forms import NAME, SPACE, Form, marked, spaced

KEY = r'(?P<key>[^<>"\r\n]{1,256})'


@dataclass(frozen=True, kw_only=True)
class XmlFormat:
    """The marks of a format, each a row of words. A word may be a control token of a tokenizer.

    `block_open` and `block_close` stand around one call or several; "" where calls stand alone.
    A function's name stands between `call_open` and `call_named`, a parameter's between `parameter_open` and
    `parameter_keyed`; its value ends with `parameter_close`. Where `is_padded`, a line break on either side of a value
    belongs to the marks. `string_keyed` and `json_keyed` take the place of `parameter_keyed` in formats that say
    whether a value is a string. `has_bare_calls` if the model may leave out the block's marks.
    """

    name: str
    block_open: str = ""
    block_close: str = ""
    call_open: tuple[str, ...]
    call_named: tuple[str, ...] = ()
    call_close: tuple[str, ...]
    parameter_open: str
    parameter_keyed: tuple[str, ...]
    parameter_close: str
    string_keyed: str = ""
    json_keyed: str = ""
    is_padded: bool = False
    has_bare_calls: bool = False

    @property
    def opening(self) -> str:
        """The mark that begins calls."""
        return self.block_open or self.call_open[0]

    @property
    def openings(self) -> tuple[str, ...]:
        """All marks that may begin calls."""
        return (self.opening, self.call_open[0]) if self.has_bare_calls else (self.opening,)

    @property
    def marks(self) -> tuple[str, ...]:
        """All words that may be control tokens."""
        words = (self.block_open, self.block_close, *self.call_open, *self.call_named, *self.call_close,
                 self.parameter_open, *self.parameter_keyed, self.parameter_close)  # fmt: skip
        return tuple(dict.fromkeys(word for word in words if word.startswith("<") and word.endswith(">")))

    @cached_property
    def heads(self) -> tuple[Form, ...]:
        """How the first call of a block may begin, up to its first parameter; the group `name` is its name."""
        named = self._named_atoms
        alone = Form(*marked(*self.call_open), *named)
        if not self.block_open:
            return (alone,)
        first = Form(*marked(self.block_open, *self.call_open), *named)
        return (first, alone) if self.has_bare_calls else (first,)

    @cached_property
    def next_head(self) -> Form:
        """How a further call of the same block begins."""
        return Form(*spaced(*self.call_open), *self._named_atoms)

    @cached_property
    def parameter_heads(self) -> tuple[tuple[Form, str], ...]:
        """How a parameter begins, up to its value; "string" or "json" where the marks say so. `key` is its name."""
        begun = (*spaced(self.parameter_open), KEY)
        forms = [(Form(*begun, *spaced(*self.parameter_keyed)), "")]
        for keyed, marked_type in ((self.string_keyed, "string"), (self.json_keyed, "json")):
            forms += [(Form(*begun, *map(re.escape, keyed)), marked_type)] if keyed else []
        return tuple(forms)

    @cached_property
    def call_end(self) -> Form:
        """What closes a call."""
        return Form(*spaced(*self.call_close))

    @cached_property
    def block_end(self) -> Form:
        """What closes a block."""
        return Form(*spaced(self.block_close))

    @cached_property
    def any_opening(self) -> re.Pattern[str]:
        """Finds the first mark that may begin calls."""
        return re.compile("|".join(map(re.escape, self.openings)))

    @property
    def _named_atoms(self) -> tuple[str, ...]:
        ending = spaced(*self.call_named) if self.call_named else [SPACE, "(?=<)"]
        return (SPACE, NAME, *ending)
