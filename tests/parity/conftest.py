"""`level`: every instruction set that this processor has, in turn; `same`: equality to the last bit."""

import pytest

from reference.errors import BackendError

try:
    from fastpath import backend, dispatch  # noqa: F401

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
