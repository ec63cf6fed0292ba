"""Values of a receipt as they are read: each is checked, and an error names its path (`receipt.answers[0].choice`)."""

from typing import Any, TypeVar

from verbatim.reference.records.errors import RequestError

T = TypeVar("T")
NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
}
MAX_IDS = 1 << 21  # tokens of one text
MAX_TEXT = 1 << 22  # characters of one string
MAX_ITEMS = 1 << 16  # of any other array


def fail(path: str, expected: str, value: Any) -> RequestError:
    """The error for a value that cannot be; a long one is not repeated."""
    return RequestError(f"{path} must be {expected}, not {repr(value)[:60]}", field=path, code="invalid_receipt")


class Values:
    """The fields of an object, taken one by one; `done` refuses those that nobody has taken."""

    def __init__(self, value: Any, path: str):
        if type(value) is not dict:
            raise fail(path, "an object", value)
        self._values, self.path = dict(value), path

    def where(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}"

    def take(self, name: str, type_: type[T]) -> T:
        """A field that must be there, of this type; an integer may stand for a number."""
        value = self._take(name)
        if type_ is float and type(value) is int:
            value = float(value)
        if type(value) is not type_:
            raise fail(self.where(name), NAMES[type_], value)
        if isinstance(value, str | list) and len(value) > (MAX_TEXT if isinstance(value, str) else MAX_IDS):
            raise fail(self.where(name), "shorter", f"of length {len(value)}")
        return value

    def take_or_none(self, name: str, type_: type[T]) -> T | None:
        """The same; null stays None."""
        if self._values.get(name, self) is None:
            del self._values[name]
            return None
        return self.take(name, type_)

    def take_ids(self, name: str) -> tuple[int, ...]:
        """Token ids: integers from 0 on; whether a vocabulary has them is seen later."""
        ids = self.take(name, list)
        for index, token_id in enumerate(ids):
            if type(token_id) is not int or not 0 <= token_id < 1 << 31:
                raise fail(f"{self.where(name)}[{index}]", "a token id", token_id)
        return tuple(ids)

    def take_list(self, name: str) -> list[tuple[Any, str]]:
        """The items of an array, each with its path."""
        items = self.take(name, list)
        if len(items) > MAX_ITEMS:
            raise fail(self.where(name), f"at most {MAX_ITEMS} items", f"{len(items)} items")
        return [(item, f"{self.where(name)}[{index}]") for index, item in enumerate(items)]

    def take_any(self, name: str) -> Any:
        """A field of any type, or None where it is absent."""
        return self._values.pop(name, None)

    def done(self) -> None:
        """Refuse a field that is not known: it would be under the digest, and mean nothing."""
        for name in self._values:
            raise RequestError(f"{self.where(name)[:200]} is not a field of a receipt", field=self.where(name)[:200])

    def _take(self, name: str) -> Any:
        if name not in self._values:
            raise RequestError(f"{self.where(name)} is missing", field=self.where(name), code="invalid_receipt")
        return self._values.pop(name)
