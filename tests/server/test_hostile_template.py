"""A model whose template runs wild for some messages: a 400 for them, and nothing at all for anybody else."""

import time

import pytest

from live_server import Reader, chat_body
from small_models import write_chat_model

LOOP = "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}"
TEMPLATE = (
    "{% macro again() %}{{ again() }}{% endmacro %}{% set text = messages[0].content %}"
    "{% if text == 'loop' %}" + LOOP + "{% endfor %}" * 3 + "{% endif %}"
    "{% if text == 'macro' %}{{ again() }}{% endif %}{% if text == 'string' %}{{ 'a' * 10**10 }}{% endif %}"
    "{% if text == 'class' %}{{ text.__class__.__mro__ }}{% endif %}{{ text }}"
)


@pytest.fixture
def hostile(start, tmp_path):
    directory = write_chat_model(tmp_path / "hostile", max_position_embeddings=2048)
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return start("fastpath", "--model", str(directory)).wait_ready()


def test_a_400_for_its_request_and_no_harm_to_another(hostile):
    def ask(text):
        return hostile.http.post("/v1/chat/completions", json=chat_body(text, model="hostile"))

    alone = ask("hello").raise_for_status().json()["choices"]
    reader = Reader(hostile, model="hostile", max_tokens=1500).wait_for(3)
    for text, words in (
        ("loop", "steps of work"), ("macro", "too deeply"), ("string", "steps of work"), ("class", "unsafe"),
    ):  # fmt: skip
        start = time.monotonic()
        answer = ask(text)
        assert time.monotonic() - start < 5  # the machine may be busy; tests/test_sandbox.py holds the second
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert words in error.pop("message")
        assert error == {"type": "invalid_request_error", "param": "messages", "code": None}
        assert reader.is_alive()
    assert ask("hello").json()["choices"] == alone
    assert reader.finish()[-1] == "[DONE]"
    assert hostile.health()["running"] == 0
