"""Every error that this project raises on purpose, as one small tree.

    VerbatimError
    ├── RequestError            the caller asked for something that cannot be done (HTTP 400)
    │   ├── ContextLengthError  the prompt, or prompt and answer, do not fit the context
    │   └── UnsupportedError    known to OpenAI or to the reference, refused here by name
    ├── ModelError              a model directory cannot be used: missing, damaged, or of an unknown kind
    ├── BackendError            an engine or device was asked for that is not built or not there
    ├── QueueFullError          the queue is full just now (HTTP 429)
    └── NumericsError           a computation left the finite numbers; only that request ends

Messages name the field, the value and the bound, in words that a caller can act on.
"""


class VerbatimError(Exception):
    """The root of the tree."""


class RequestError(VerbatimError):
    """A request that cannot be done.

    `field` is the path of the offending field as OpenAI writes it (`messages[0].content`), or None;
    `code` is OpenAI's word for the kind of fault (`integer_below_min_value`), or None.
    """

    code: str | None = None

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None):
        super().__init__(message)
        self.field = field
        self.code = code or self.code


class ContextLengthError(RequestError):
    """The request does not fit the model's context. Nothing is ever cut in silence."""

    code = "context_length_exceeded"


class UnsupportedError(RequestError):
    """A parameter or option that this engine does not have; it is refused by name, never dropped."""

    code = "unsupported_parameter"


class ModelError(VerbatimError):
    """A model directory that cannot be used; the message names the file and what is wrong with it."""


class BackendError(VerbatimError):
    """An engine or device that is not there; the message names what builds or provides it."""


class QueueFullError(VerbatimError):
    """The engine holds as many requests as it may; try again later."""


class NumericsError(VerbatimError):
    """A logit is not a finite number. Concerns one request, never its neighbours."""
