"""Shared. Formats in which the arguments of a call are one JSON object.

Calls stand in a block or by themselves, in a list or not; each is an opening, the function's name, what stands between
it and the arguments, the arguments, a closing. One `JsonFormat` says what these are, and parser (json_parser.py) and
grammar (json_grammar.py) follow from it. White space may stand between the parts.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from verbatim.reference.dialects.forms import NAME, SPACE, Form, marked, spaced

NUMBER = "\0number"  # a piece that stands for a whole number
ARGUMENTS = (SPACE, r"(?=\{)")
WITH_ID = Form(*spaced(",", '"id"', ":", '"'), r'[^"\\]{0,64}', '"', *spaced("}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One call in pieces: what stands before its name, between name and arguments, and behind the arguments."""

    opening: tuple[str, ...]
    named: tuple[str, ...]
    closing: tuple[str, ...] = ()

    @property
    def is_object(self) -> bool:
        """Whether the call is one JSON object, with the name under a key."""
        return '"name' in self.opening[-1].replace("tool_name", "name") and self.closing[:1] == ("}",)


@dataclass(frozen=True, kw_only=True)
class JsonFormat:
    """A format. `block` are its outer marks; `begin`, `between` and `end` stand around the calls in it.

    `item` is how a call is written, `read` are further forms that are understood. A piece that may be a control token
    is a piece by itself.
    """

    name: str
    item: Item
    read: tuple[Item, ...] = ()
    block: tuple[str, str] = ("", "")
    begin: str = ""
    between: str = ""
    end: str = ""

    @property
    def opening(self) -> str:
        """The mark that begins calls, "" where there is none."""
        return self.block[0] or ("" if self.begin else self.item.opening[0])

    @property
    def marks(self) -> tuple[str, ...]:
        """The pieces that may be control tokens."""
        pieces = [*self.block, *(word for item in self._items for word in (*item.opening, *item.named, *item.closing))]
        return tuple(dict.fromkeys(piece for piece in pieces if piece.startswith("<") and piece.endswith(">")))

    @cached_property
    def heads(self) -> tuple[Form, ...]:
        """How the first call of a block may begin, up to its arguments; the group `name` is its name."""
        return self._heads(self._first)

    @cached_property
    def next_heads(self) -> tuple[Form, ...]:
        """The same for the calls behind it."""
        return tuple(head for lead in self._next for head in self._heads(lead))

    @cached_property
    def objects(self) -> tuple[Form, ...]:
        """What stands before a first call that is an object; none where calls are not objects."""
        words = takewhile(lambda piece: "{" not in piece, self.item.opening)
        return (Form(*self._first, *_atoms(*words), *ARGUMENTS),) if self.item.is_object else ()

    @cached_property
    def next_objects(self) -> tuple[Form, ...]:
        """The same for the calls behind it."""
        return tuple(Form(*lead, *ARGUMENTS) for lead in self._next) if self.item.is_object else ()

    @cached_property
    def tails(self) -> tuple[Form, ...]:
        """What closes a call."""
        closings = dict.fromkeys(item.closing for item in self._items if item.closing)
        ids = (WITH_ID,) if self.item.is_object else ()
        return (*(Form(*_atoms(*closing)) for closing in closings), *ids) or (Form(""),)

    @cached_property
    def ends(self) -> tuple[Form, ...]:
        """The end of the block, and of the list in it, where the model leaves out the mark behind."""
        whole = Form(*_atoms(self.end), *_atoms(self.block[1]))
        return (whole, Form(*_atoms(self.end))) if self.end.strip() and self.block[1] else (whole,)

    @property
    def _items(self) -> tuple[Item, ...]:
        return (self.item, *self.read)

    @property
    def _first(self) -> list[str]:
        return [*(marked(self.block[0]) if self.block[0] else [r"\s*"]), *_atoms(self.begin)]

    @property
    def _next(self) -> tuple[list[str], ...]:
        return ([], _atoms(self.between)) if (self.block[0] and self.between.strip()) or self.begin else ([],)

    def _heads(self, lead: list[str]) -> tuple[Form, ...]:
        return tuple(
            Form(*lead, *_atoms(*item.opening), SPACE, NAME, *_atoms(*item.named), *ARGUMENTS) for item in self._items
        )


def _atoms(*pieces: str) -> list[str]:
    """Pieces as atoms of a form; white space between their words may be there or not."""
    found: list[str] = []
    for piece in pieces:
        found += [r"\d{1,6}"] if piece == NUMBER else spaced(*piece.split())
    return found
