"""`level`: every instruction set that this processor has, in turn; `same`: equality to the last bit."""

import pytest

from verbatim.reference.records.errors import BackendError

try:
    import verbatim.fastpath.backend  # noqa: F401
    from verbatim.fastpath.machine import dispatch

    LEVELS = dispatch.available()
except BackendError as error:
    LEVELS = [pytest.param(None, marks=pytest.mark.skip(reason=str(error)))]


@pytest.fixture(scope="module", params=LEVELS)
def level(request):
    """Run the module's tests at one level, then go back to the one that was chosen at import."""
    chosen = dispatch.level()
    dispatch.use(request.param)
    assert dispatch.level() == request.param
    yield request.param
    dispatch.use(chosen)
