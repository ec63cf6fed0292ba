"""Both engines give the same answer, word for word and number for number, behind the same HTTP."""

import pytest

from live_server import chat_body, running

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
BODIES = [
    ("/v1/chat/completions", chat_body("What is the capital of France?", max_tokens=24)),
    ("/v1/chat/completions", chat_body("Tell me a story.", n=3, temperature=1, seed=5, logprobs=True, top_logprobs=5)),
    ("/v1/chat/completions", chat_body("Hi", temperature=1.3, seed=6, top_p=0.9, top_k=40, frequency_penalty=0.5)),
    ("/v1/chat/completions", chat_body("Call f.", tools=TOOLS, max_tokens=30, ignore_eos=False)),
    (
        "/v1/messages",
        {
            "model": "verbatim-demo",
            "max_tokens": 24,
            "seed": 7,
            "messages": [{"role": "user", "content": "Call f."}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        },
    ),
    ("/v1/completions", {"model": "verbatim-demo", "prompt": ["One", "Two two"], "logprobs": 5, "seed": 1, "n": 2}),
]


def without_ids(value):
    """The answer without what is new each time."""
    if isinstance(value, dict):
        return {name: without_ids(item) for name, item in value.items() if name not in ("id", "created")}
    return [without_ids(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pair")
    with running("fastpath", directory) as fast, running("reference", directory) as plain:
        yield fast.wait_ready(), plain.wait_ready()


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_equal_but_for_id_and_created(pair, path, body):
    fast, plain = (server.http.post(path, json=body).raise_for_status().json() for server in pair)
    assert without_ids(fast) == without_ids(plain)
