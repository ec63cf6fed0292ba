"""Health checks: an endpoint is probed every two seconds while it is ready, else soon and then ever less often.

`GET /ready` of a verbatim server tells whether it would take a request, and names its models with their fingerprints.
A server of another make, which has no such page, is ready if it lists its models at `/v1/models`; if it wants a key for
that, it may have any. A server that refuses connections or answers 503 is ejected at once; a server that does not
answer, after three probes. Then, or if it says that its engine makes no progress, its running requests are abandoned.
"""

import asyncio
import contextlib

import aiohttp
import orjson
from sanic.log import logger

from verbatim.router.bounded import TooLongError, get, read
from verbatim.router.endpoint import Endpoint
from verbatim.server.errors import EngineStalledError
from verbatim.server.http.error_answers import describe

READY_SECONDS = 2.0
FIRST_SECONDS = 0.1
LONGEST_SECONDS = 3.0
TIMEOUT_SECONDS = 3.0
MAX_TIMEOUTS = 3
HAS_NO_SUCH_PAGE = (404, 405, 501)
WANTS_A_KEY = (401, 403)
STALLED = describe(EngineStalledError())[1]["error"]["code"].encode()
WRONG_FORM = (ValueError, KeyError, TypeError)


async def watch(endpoint: Endpoint, session: aiohttp.ClientSession) -> None:
    """Keep `endpoint.is_ready` and `endpoint.models` true. Runs until cancelled."""
    delay, num_timeouts = FIRST_SECONDS, 0
    while True:
        endpoint.woken.clear()
        was_ready, reason = endpoint.is_ready, ""
        try:
            endpoint.is_ready = await _probe(endpoint, session)
            num_timeouts, reason = 0, "it says that it is not ready"
        except TimeoutError:
            num_timeouts += 1
            if num_timeouts >= MAX_TIMEOUTS:
                endpoint.is_ready, reason = False, "it does not answer"
                endpoint.give_up()
        except (aiohttp.ClientError, OSError, TooLongError, *WRONG_FORM) as error:
            endpoint.is_ready, reason = False, type(error).__name__
        if endpoint.is_ready != was_ready:
            logger.info("Endpoint %s is %s", endpoint.url, "ready." if endpoint.is_ready else f"ejected: {reason}.")
        delay = FIRST_SECONDS if was_ready else min(2 * delay, LONGEST_SECONDS)
        await _wait(endpoint, READY_SECONDS if endpoint.is_ready else delay)


async def _wait(endpoint: Endpoint, seconds: float) -> None:
    """Until it is time, or a request has failed there; then a moment more, so that a dying server can die."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await endpoint.woken.wait()
            await asyncio.sleep(FIRST_SECONDS)


async def _probe(endpoint: Endpoint, session: aiohttp.ClientSession) -> bool:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        async with get(session, endpoint.url + "/ready") as answer:
            is_ready = answer.status == 200
            body = await read(answer)
            if is_ready and (models := _models_of(body)) is not None:
                endpoint.models = models
                return True
            if not is_ready and answer.status not in HAS_NO_SUCH_PAGE:
                if STALLED in body:
                    endpoint.give_up()
                return False
        async with get(session, endpoint.url + "/v1/models") as answer:
            if answer.status == 200:
                listed = orjson.loads(await read(answer))
                endpoint.models = {model["id"]: None for model in listed["data"]}
            return is_ready or answer.status == 200 or answer.status in WANTS_A_KEY


def _models_of(body: bytes) -> dict[str, str | None] | None:
    """What a verbatim server that is ready names; None if it is none."""
    try:
        models = orjson.loads(body)["models"]
    except WRONG_FORM:
        return None
    return models if isinstance(models, dict) else None
