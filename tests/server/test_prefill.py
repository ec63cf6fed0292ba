"""An assistant's message that is continued, and what a request tells the chat template: chats and /tokenize alike."""

import pytest

from live_server import running, stream_events
from verbatim.demo import MODEL
from verbatim.server.http.sse import read_event

USER = {"role": "user", "content": "What is 2 plus 3?"}
OPEN = {"role": "assistant", "content": "2 + 3 ="}
CONTINUE = {"messages": [USER, OPEN], "continue_final_message": True, "add_generation_prompt": False}
MOOD = "{{ '<|im_start|>system\n' + mood + '<|im_end|>\n' if mood }}{{ '[' + documents[0].text + ']' if documents }}"


@pytest.fixture(scope="module")
def moody(tmp_path_factory):
    """A server under the default policy, whose template has the variables `mood` and `documents`."""
    directory = tmp_path_factory.mktemp("moody")
    template = directory / "template.jinja"
    template.write_text(MOOD + (MODEL / "chat_template.jinja").read_text(encoding="utf-8"), encoding="utf-8")
    with running("fastpath", directory, "--chat-template", str(template)) as server:
        yield server.wait_ready()


def prompt_of(server, **body) -> str:
    """The text of a chat's prompt, in which control tokens have none; a chat counts the same tokens."""
    response = server.http.post("/tokenize", json=body)
    assert response.status_code == 200, response.text
    tokens = response.json()["tokens"]
    usage = server.chat(**body, max_tokens=1).json()["usage"]
    assert usage["prompt_tokens"] == len(tokens)
    return server.http.post("/detokenize", json={"tokens": tokens}).json()["prompt"]


def refusal(server, **body) -> tuple[str, str]:
    answer = server.chat(**body)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]["param"], answer.json()["error"]["code"]


def test_a_last_message_is_continued(server):
    prompt = prompt_of(server, **CONTINUE)
    assert prompt.endswith("assistant\n2 + 3 =")
    ids = server.http.post("/tokenize", json=CONTINUE).json()["tokens"]
    continued = server.complete(prompt=ids, max_tokens=8, temperature=0, ignore_eos=True).json()["choices"][0]["text"]
    answer = server.chat(**CONTINUE, logprobs=True).json()["choices"][0]
    assert answer["message"]["content"] == continued
    for same in (
        {"messages": [USER, OPEN], "continue_final_message": True},
        {"messages": [USER, OPEN | {"prefix": True}]},
        {"messages": [USER, OPEN | {"partial": True}]},
    ):
        assert prompt_of(server, **same) == prompt


def test_without_a_sign_it_is_closed_and_an_answer_begins(server):
    prompt = prompt_of(server, messages=[USER, OPEN])
    assert prompt.endswith("2 + 3 =\nassistant\n")
    assert prompt_of(server, messages=[USER, OPEN], add_generation_prompt=False) == prompt.removesuffix("assistant\n")


def test_an_echo_begins_with_the_last_message_whole_or_streamed(server):
    whole = server.chat(**CONTINUE, echo=True).json()["choices"][0]["message"]["content"]
    plain = server.chat(**CONTINUE).json()["choices"][0]["message"]["content"]
    assert whole == OPEN["content"] + plain
    with server.http.stream(
        "POST", "/v1/chat/completions", json=CONTINUE | {"model": "verbatim-demo", "echo": True, "stream": True,
                                                         "temperature": 0, "max_tokens": 8, "ignore_eos": True}
    ) as response:  # fmt: skip
        events = [read_event(f"data: {data}\n\n".encode()) for data in stream_events(response) if data != "[DONE]"]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == whole
    assert server.chat(messages=[USER], echo=True).json()["choices"] == server.chat(messages=[USER]).json()["choices"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (CONTINUE | {"add_generation_prompt": True}, "add_generation_prompt", "invalid_parameter_combination"),
        ({"messages": [OPEN | {"prefix": True}, USER]}, "messages[0]", "invalid_value"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs", "invalid_type"),
        ({"chat_template_kwargs": {"self": 1}}, "chat_template_kwargs.self", "invalid_value"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages", "invalid_value"),
        ({"chat_template_kwargs": {"mood": "x"}}, "chat_template_kwargs.mood", "unsupported_parameter"),
        ({"documents": [{"text": "x"}]}, "documents", "unsupported_parameter"),
        ({"continue_final_message": "yes"}, "continue_final_message", "invalid_type"),
    ],
)
def test_what_cannot_be_done(server, body, param, code):
    assert refusal(server, **body) == (param, code)


def test_variables_reach_the_template(moody):
    body = {"messages": [USER], "chat_template_kwargs": {"mood": "gay <|im_end|>"}, "documents": [{"text": "D"}]}
    assert prompt_of(moody, **body).startswith("system\ngay <|im_end|>\n[D]")
    answer = moody.chat(chat_template_kwargs={"mood": "x", "enable_thinking": False})
    assert answer.status_code == 200 and answer.headers["x-verbatim-ignored"] == "chat_template_kwargs.enable_thinking"
    plain = moody.chat(chat_template_kwargs={})
    assert "x-verbatim-ignored" not in plain.headers
    assert plain.json()["usage"]["prompt_tokens"] < answer.json()["usage"]["prompt_tokens"]
