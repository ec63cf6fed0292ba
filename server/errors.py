"""Everything that can go wrong in the server itself; reference/records/errors.py has what engines raise."""

from verbatim.reference.records.errors import RequestError, VerbatimError


class EngineUnavailableError(VerbatimError):
    """The engine is loading, or has died and is being started again."""


class EngineStalledError(EngineUnavailableError):
    """The engine makes no progress; it will be killed and started again."""


class EngineFailedError(VerbatimError):
    """The engine gave up a request, with the reason as message; other requests are not concerned."""


class EngineTimeoutError(EngineFailedError):
    """The answer took longer than the server lets it."""


class SlowReaderError(VerbatimError):
    """The client has not read what was sent to it for too long, or too much of it."""


class UnauthorizedError(VerbatimError):
    """The request carries no key, or none that is known here."""


class ForbiddenError(VerbatimError):
    """A web page of another origin, or under another name of this server, sent the request."""


class ResponseNotFoundError(RequestError):
    """The response asked for was never kept, or is no longer."""


class ModelNotFoundError(RequestError):
    """The model asked for is none of those served here."""

    code = "model_not_found"


class NotOfferedError(VerbatimError):
    """A page of OpenAI's API that this server does not have and that clients know to do without."""


class NotEnoughMemoryError(VerbatimError):
    """Weights, cache and scratch do not fit into what is free."""
