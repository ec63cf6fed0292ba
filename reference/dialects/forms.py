"""Shared. Finding forms in text that comes in pieces: is it there, could it still come, where does it end.

A parser that knows these three never holds back more than it must, and never decides by where the text was cut.
"""

import re

from verbatim.reference.text.marks import num_undecided

# What JSON means by white space, bounded: a model that writes nothing else is soon seen to write text.
SPACE = r"[ \t\r\n]{0,32}"
NAME = r'(?P<name>[^"\\\[\](){}<>\s]{1,64})'  # whether it is a tool's name is asked once it is there in full


class Form:
    """A form of text as a row of atoms, regular expressions that each match a little: `Form("a", "b*", "c")`."""

    def __init__(self, *atoms: str):
        self._whole = re.compile("".join(atoms))
        self._begun = re.compile("".join("(?:" + atom for atom in atoms) + ")?" * len(atoms) + r"\Z")

    def match(self, text: str) -> re.Match | None:
        """The form at the start of a text."""
        return self._whole.match(text)

    def could_become(self, text: str) -> bool:
        """Whether more text might still complete the form."""
        return self._begun.match(text) is not None


def spaced(*words: str) -> list[str]:
    """The atoms of words spelled exactly, with any white space in front of each."""
    return [atom for word in words for atom in (SPACE, *map(re.escape, word))]


def marked(mark: str, *words: str) -> list[str]:
    """The same for a mark that may stand behind any text: white space of every kind in front of it belongs to it."""
    return [r"\s*", *map(re.escape, mark), *spaced(*words)]


class ObjectEnd:
    """Finds the end of one JSON object in text that comes in pieces (RFC 8259)."""

    def __init__(self):
        self.depth, self.is_string, self.is_escaped, self.is_complete = 0, False, False, False

    def find(self, text: str) -> int:
        """How many characters of `text` belong to the object."""
        for index, character in enumerate(text):
            if self.is_string:
                self.is_string = self.is_escaped or character != '"'
                self.is_escaped = character == "\\" and not self.is_escaped
            elif character == '"':
                self.is_string = True
            elif character in "{[":
                self.depth += 1
            elif character in "}]":
                self.depth -= 1
                if self.depth == 0:
                    self.is_complete = True
                    return index + 1
        return len(text)


def held_length(text: str, mark: str) -> int:
    """The length of the tail of `text` that is white space, then perhaps the beginning of `mark`."""
    length = num_undecided(text, mark)
    return len(text) - len(text[: len(text) - length].rstrip())
