"""/tokenize and /detokenize: the ids that a request for an answer has, and back."""

import pytest

USER = {"role": "user", "content": "What is 17 + 25?"}
CHAT = {"messages": [USER]}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def post(server, path, **body):
    response = server.http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_prompt_and_back(server):
    found = post(server, "/tokenize", model="verbatim-demo", prompt="Hello, wörld!", return_token_strs=True)
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"]) > 0
    assert found["max_model_len"] == server.http.get("/v1/models").json()["data"][0]["max_model_len"]
    usage = server.complete(prompt="Hello, wörld!", max_tokens=1).json()["usage"]
    assert usage["prompt_tokens"] == found["count"]
    back = post(server, "/detokenize", tokens=found["tokens"])["prompt"]
    assert back.removeprefix(" ") == "Hello, wörld!"
    bare = post(server, "/tokenize", prompt="Hello, wörld!", add_special_tokens=False)
    assert bare["tokens"] == found["tokens"][found["count"] - bare["count"] :] and bare["token_strs"] is None
    assert post(server, "/tokenize", prompt="")["count"] == found["count"] - bare["count"]


@pytest.mark.parametrize("tools", [None, [TOOL]])
def test_a_chat_has_the_ids_of_its_request(server, tools):
    found = post(server, "/tokenize", messages=[USER], tools=tools)
    answer = server.chat(messages=[USER], tools=tools, ignore_eos=None, max_tokens=1).json()
    assert answer["usage"]["prompt_tokens"] == found["count"]
    assert USER["content"] in post(server, "/detokenize", tokens=found["tokens"])["prompt"]


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("/tokenize", {}, "prompt", "invalid_parameter_combination"),
        ("/tokenize", {"prompt": "a", "messages": [USER]}, "prompt", "invalid_parameter_combination"),
        ("/tokenize", {"prompt": ["a"]}, "prompt", "invalid_type"),
        ("/tokenize", {"prompt": "a", "banana": 1}, "banana", "unknown_parameter"),
        ("/tokenize", CHAT | {"add_generation_prompt": "no"}, "add_generation_prompt", "invalid_type"),
        ("/tokenize", CHAT | {"continue_final_message": True, "add_generation_prompt": True},
         "add_generation_prompt", "invalid_parameter_combination"),
        ("/detokenize", {}, "tokens", "missing_required_parameter"),
        ("/detokenize", {"tokens": "abc"}, "tokens", "invalid_type"),
        ("/detokenize", {"tokens": [1, -1]}, "tokens[1]", "integer_below_min_value"),
        ("/detokenize", {"tokens": [10**9]}, "tokens[0]", "integer_above_max_value"),
        ("/detokenize", {"tokens": [True]}, "tokens[0]", "invalid_type"),
    ],
)  # fmt: skip
def test_what_cannot_be_done(server, path, body, param, code):
    response = server.http.post(path, json=body)
    assert response.status_code == 400
    assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (param, code)


def test_unknown_models(server):
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [5]})):
        assert server.http.post(path, json=body | {"model": "other"}).status_code == 404
