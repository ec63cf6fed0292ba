"""Our own OpenAPI page, tried out by a stranger: schemathesis sends what the page allows, and what it forbids.

Whatever comes back is no failure of the server, and has a code, a type and a shape that the page names. The context is
small, so that an answer is short also where a body asks for a long one.
"""

import pytest
from hypothesis import HealthCheck, given, settings

from live_server import running
from verbatim.demo import MODEL as DEMO_MODEL
from verbatim.reference.checkpoint.families import load_config
from verbatim.server.api.policy import reading
from verbatim.server.api.value_types import TOKEN_ID
from verbatim.server.docs.openapi import document

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install '.[clients]'")

LIMITS = ("--max-num-sequence", "32", "--context-window-size", "64", "--max-queue", "4096", "--enable-debug")
STRICT = ("--unknown-fields", "refuse")  # what the page does not have is forbidden
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip
NEED_MORE = (  # an option, a profiler, another model, adapters on disk, a receipt
    "/debug/dump_event_trace", "/debug/profiler_stop", "/infill", "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
    "/v1/verify",
)  # fmt: skip
MODEL = {"enum": ["verbatim-demo"]}
VOCAB_SIZE = load_config(DEMO_MODEL).vocab_size


def narrowed(schema):
    """The page, with what it cannot know: the one model's name and its vocabulary, without which all is refused."""
    if schema == TOKEN_ID.schema:
        return schema | {"maximum": VOCAB_SIZE - 1}
    if isinstance(schema, list):
        return [narrowed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: narrowed(value) for name, value in schema.items()}
    if "model" in schema.get("properties", ()) and not schema.get("additionalProperties", True):
        schema["properties"]["model"] = MODEL
    return schema


def page() -> dict:
    """Our document, its bodies narrowed."""
    with reading("refuse"):
        written = document("test")
    for methods in written["paths"].values():
        if "post" in methods:
            methods["post"]["requestBody"] = narrowed(methods["post"]["requestBody"])
    return written


SCHEMA = schemathesis.openapi.from_dict(page())
OPERATIONS = [(method.upper(), path) for path, methods in SCHEMA.raw_schema["paths"].items() for method in methods]
POSTS = [operation for operation in OPERATIONS if operation[0] == "POST"]  # the others have no body to get wrong
NUM_EXAMPLES, MANY_EXAMPLES = 12, 300


def typed(value):
    """2.0 is an integer to JSON Schema; to a server that never converts types it is not."""
    match value:
        case float():
            return int(value) if value.is_integer() else value
        case list():
            return [typed(item) for item in value]
        case dict():
            return {name: typed(item) for name, item in value.items()}
    return value


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running("fastpath", tmp_path_factory.mktemp("schema"), *LIMITS, *STRICT) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def checks():
    found = [check for check in schemathesis.checks.CHECKS.get_all() if check.__name__ in CHECKS]
    assert len(found) == len(CHECKS)
    return found


def explore(server, checks, method: str, path: str, mode: str, num_examples: int) -> set[int]:
    """Send what fits the page or, with the mode negative, what does not; gives the codes that came back."""
    operation, codes = SCHEMA[path][method], set()

    @settings(max_examples=num_examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(schemathesis.GenerationMode(mode)))
    def send(case):
        if mode == "positive":
            case.body = typed(case.body)
        codes.add(case.call_and_validate(base_url=server.url, checks=checks, timeout=60).status_code)

    send()
    return codes


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_page_allows(server, checks, method, path):
    codes = explore(server, checks, method, path, "positive", NUM_EXAMPLES)
    assert 200 in codes or "{" in path or path in NEED_MORE, "nothing was done, so little was tried"


@pytest.mark.parametrize(("method", "path"), POSTS)
def test_what_the_page_forbids(server, checks, method, path):
    assert 400 in explore(server, checks, method, path, "negative", NUM_EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(("method", "path"), POSTS)
def test_at_length(server, checks, method, path, mode):
    explore(server, checks, method, path, mode, MANY_EXAMPLES)


def test_the_server_is_well(server):
    """After all of it, with nothing left behind."""
    health = server.health()
    assert {name: health[name] for name in ("running", "waiting", "used_pages")} == {
        "running": 0, "waiting": 0, "used_pages": 0,
    }  # fmt: skip
    assert "Traceback" not in server.log and " while answering a request" not in server.log
