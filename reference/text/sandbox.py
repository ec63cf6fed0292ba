"""A sandbox for chat templates: no way out of it, and only so much work, however a template is written.

Jinja2's own sandbox keeps templates away from Python's insides. What it lacks is a bound: here everything that takes
time or memory is paid for, before it is done, out of `max_work` units. One unit is a short round of a loop, a call, an
element that is read, or 128 characters that are read or written. The count is the same on every machine.
"""

import json
import re
import types
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from functools import wraps

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.filters import FILTERS
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.tests import TESTS
from jinja2.utils import Namespace

from verbatim.reference.text.sandbox_syntax import COMPARED, JOINED, PAY, SLICED, Generation, Prices

MAX_WORK = 200_000  # of a short conversation; a long one may do more (template_values.py)
CHARACTERS_A_UNIT = 128
MAX_BITS = 1024  # of a whole number
WIDE_FIELD = re.compile(r"%(\([^)%]*\))?[-+ #0.\d]*(\d{4}|\*)")  # of `"%9999d" % value`

METHODS = {  # of strings, lists and dictionaries: none of the others is needed, and some grow without a bound
    "capitalize", "casefold", "center", "copy", "count", "endswith", "find", "get", "index", "isalnum", "isalpha",
    "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "items", "join", "keys",
    "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust",
    "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
    "values", "zfill",
}  # fmt: skip
WITHOUT_READING = {  # filters and methods that do not read what they are given, whatever its size
    "attr", "d", "default", "first", "get", "items", "keys", "last", "length", "map", "reject", "rejectattr", "select",
    "selectattr", "values", SLICED,
}  # fmt: skip
GROWING = {"batch", "center", "indent", "ljust", "rjust", "round", "slice", "tojson", "wordwrap", "zfill"}
COMPARING = {  # tests
    "!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan", "lower", "lt",
    "ne", "upper",
}  # fmt: skip
NO_FILTERS = ("random", "urlize", "xmlattr")  # chance, and HTML


class TooMuchWorkError(jinja2.TemplateError):
    """A template asks for more than a conversation can need."""


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one rendering: it counts that rendering's work, so it is not used for another."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self, max_work: int = MAX_WORK):
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[Generation, loopcontrols],
            finalize=_printed,
        )  # fmt: skip
        self.filters, self.tests = _FILTERS, _TESTS
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _refuse, "strftime_now": _now, "dict": _new_dict}
        self.max_work = self.work_left = max_work

    def pay(self, units: int) -> None:
        """Take some work off what is left."""
        self.work_left -= units
        if self.work_left < 0:
            raise TooMuchWorkError(f"it does more than {self.max_work} steps of work")

    def pay_to_read(self, *values) -> int:
        """Pay for reading values to the bottom, each place of a value that stands in several; returns the price."""
        before, waiting = self.work_left, list(values)
        while waiting:
            value = waiting.pop()
            self.pay(1 + (len(value) // CHARACTERS_A_UNIT if isinstance(value, str) else 0))
            if isinstance(value, Namespace):
                raise SecurityError("a namespace has no text")
            if isinstance(value, Mapping):
                self.pay(len(value))
                waiting += value
                waiting += value.values()
            elif isinstance(value, Collection) and not isinstance(value, str):
                self.pay(len(value))
                waiting += value
        return before - self.work_left

    def pay_for(self, name: str, *values) -> None:
        """Pay for a filter or method and what may come of it."""
        if name == "replace":
            text, old, new = map(str, values[:3])
            values = (text, new)
            self.pay((text.count(old) + 1) * len(new) // CHARACTERS_A_UNIT)
        elif name == "join" and len(values) > 1:
            text, parts = (values[0], values[1]) if isinstance(values[0], str) else (str(values[1]), values[0])
            self.pay((len(parts) * (len(text) + 1)) // CHARACTERS_A_UNIT)
        elif name == "format":
            self.check_format(values[0], values[1:])
        elif name == "sum" and not all(isinstance(value, int | float | str | None) for value in values[1:]):
            raise SecurityError("sum begins with a number")
        price = 1 if name in WITHOUT_READING else self.pay_to_read(*values)
        if name in GROWING:
            for value in values[1:]:
                factor = abs(value) if isinstance(value, int) else len(value) if isinstance(value, str) else 0
                price *= 1 + factor
                self.pay(price)

    def check_format(self, form, values) -> None:
        """Refuse wide fields of `"%d" % value`; each field may write out all that is given."""
        if isinstance(form, str):
            if WIDE_FIELD.search(form):
                raise TooMuchWorkError("a field of a format is wider than 999")
            self.pay((form.count("%") + form.count("{")) * (8 + self.pay_to_read(values)))

    def concat(self, pieces) -> str:
        """Put output together, of the whole template, a macro or a block."""
        paid = []
        for piece in pieces:
            self.pay(1 + len(piece) // CHARACTERS_A_UNIT)
            paid.append(piece)
        return "".join(paid)

    def call(__self, __context, __obj, *args, **kwargs):  # noqa: N805
        """Call a macro, a function of ours or one of the known methods, if there is work left for it."""
        if isinstance(__obj, types.BuiltinMethodType):
            if __obj.__name__ not in METHODS:
                raise SecurityError(f"{__obj.__name__} is not a method that templates may call")
            args, named = _listed(args), (value for name, value in kwargs.items() if not name.startswith("_"))
            __self.pay_for(__obj.__name__, __obj.__self__, *args, *named)
        elif isinstance(__obj, types.MethodType):  # loop.changed compares
            __self.pay_to_read(*args)
        __self.pay(1)
        return __self.paid(super().call(__context, __obj, *args, **kwargs))

    def paid(self, result):
        """A result, its elements paid for; what comes one by one is paid as it comes."""
        if isinstance(result, str | list | tuple | dict):
            self.pay(len(result) // CHARACTERS_A_UNIT if isinstance(result, str) else len(result))
        return self._one_by_one(result) if isinstance(result, types.GeneratorType) else result

    def _one_by_one(self, results):
        for result in results:
            self.pay(1)
            yield result

    def call_binop(self, context, operator, left, right):
        """Arithmetic: texts and lists that it makes are paid for first, whole numbers stay below 2^1024."""
        numbers = [value for value in (left, right) if isinstance(value, int)]
        bits = [number.bit_length() for number in numbers]
        if operator == "%" and isinstance(left, str):
            self.check_format(left, right)
        elif len(numbers) == 1 and operator == "*":
            (length,) = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)] or [0]
            unit = CHARACTERS_A_UNIT if isinstance(left, str) or isinstance(right, str) else 1
            self.pay(length * max(0, numbers[0]) // unit)
        elif operator == "+":
            sizes = [(value, len(value)) for value in (left, right) if isinstance(value, str | list | tuple)]
            self.pay(sum(size // CHARACTERS_A_UNIT if isinstance(value, str) else size for value, size in sizes))
        if max(bits, default=0) > MAX_BITS or (operator == "**" and len(bits) == 2 and bits[0] * right > MAX_BITS):
            raise TooMuchWorkError(f"a whole number has more than {MAX_BITS} bits")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value):
        """`"{}".format(value)` with the same bounds as `"%s" % value`."""
        if super().wrap_str_format(value) is None:
            return None
        form, is_map = value.__self__, value.__name__ == "format_map"

        def formatted(*args, **kwargs):
            self.check_format(form, [args, kwargs])
            return _Formatter(self).vformat(form, () if is_map else args, args[0] if is_map else kwargs)

        return formatted

    def _generate(self, source, name, filename, defer_init=False):
        return super()._generate(Prices().visit(source), name, filename, defer_init)


class _Formatter(SandboxedFormatter):
    """Fields of a format string, also those whose width is a value."""

    def format_field(self, value, format_spec):
        if re.search(r"\d{4}", format_spec):
            raise TooMuchWorkError("a field of a format is wider than 999")
        return super().format_field(value, format_spec)


def _listed(values):
    """The same values, iterators read out, so that they can be looked into."""
    return [list(value) if isinstance(value, Iterator) else value for value in values]


def _bounded(name: str, function):
    """A filter or test that pays before it runs. It asks for the context, so that nothing is computed beforehand."""
    passed = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @wraps(function, updated=())
    def paying(context, *args, **kwargs):
        sandbox = context.environment
        args = args if name in WITHOUT_READING else _listed(args)
        sandbox.pay_for(name, *args, *kwargs.values())
        first = {"context": context, "eval_context": context.eval_ctx, "environment": sandbox}
        return sandbox.paid(function(*([first[passed]] if passed else []), *args, **kwargs))

    return jinja2.pass_context(paying)


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """As transformers does it: plain JSON, no HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@jinja2.pass_context
def _printed(context, value):
    context.environment.pay_to_read(value)
    return value


@jinja2.pass_context
def _pay(context, units: int) -> bool:
    context.environment.pay(units)
    return True


def _refuse(message: str):
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    if re.search(r"%\W*\d", form):
        raise SecurityError("a date may not have a width")
    return datetime.now().strftime(form)


def _new_dict(*args, **kwargs) -> dict:
    return dict(*args, **kwargs)


_OURS = {
    "tojson": _to_json, COMPARED: lambda value: value, SLICED: lambda value: value,
    JOINED: lambda parts: "".join(map(str, parts)),
}  # fmt: skip
_FILTERS = {
    name: _bounded(name, function) for name, function in (FILTERS | _OURS).items() if name not in NO_FILTERS
} | {PAY: _pay}
_TESTS = {name: _bounded(name, function) if name in COMPARING else function for name, function in TESTS.items()}
