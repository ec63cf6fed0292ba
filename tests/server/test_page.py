"""The page at /, in a real browser in front of a real server: what can be read of an answer is what the API gives."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from browser import browse
from live_server import running
from page_driver import IS_IDLE, action, answers, open_page, questions, send, sent, setting
from verbatim.server.routes.page import PAGE

SOURCES = PAGE.parents[1]
COMMANDS = {  # what its program begins with, and what runs it
    "curl": ("curl http", "bash", "-c"),
    "Python": ("from openai", sys.executable, "-c"),
    "JavaScript": ("const response", "node", "--input-type=module", "-e"),
}
MIXED = "Hi 🙂 café, 你好, שלום 👩‍👩‍👧"


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with running("fastpath", tmp_path_factory.mktemp("page")) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browse(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser, live):
    open_page(browser, live.url)
    yield browser
    assert browser.errors == []
    hosts = {request["url"].split("/")[2] for request in browser.requests if request["url"].startswith("http")}
    assert hosts == {live.url.removeprefix("http://")}  # nothing leaves the machine


def api(live, messages: list[dict], **fields) -> dict:
    """The API's own answer."""
    body = {"model": "verbatim-demo", "messages": messages} | fields
    return live.http.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def continued(live, question: str, begun: str) -> str:
    """What follows the beginning of an answer, by the ids of the prompt and of that beginning."""
    ids = live.http.post("/tokenize", json={"messages": [user(question)]}).json()["tokens"]
    ids += live.http.post("/tokenize", json={"prompt": begun, "add_special_tokens": False}).json()["tokens"]
    body = {"model": "verbatim-demo", "prompt": ids, "max_tokens": 256, "temperature": 0}
    return live.http.post("/v1/completions", json=body).json()["choices"][0]["text"]


def test_the_file_comes_from_the_sources():
    """The built file names the digest of its sources; `make page` builds it anew."""
    top = [
        SOURCES / name
        for name in ("index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts")
    ]
    names = sorted(path.relative_to(SOURCES).as_posix() for path in (*top, *(SOURCES / "src").rglob("*.*")))
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (SOURCES / name).read_bytes() + b"\0")
    assert f'<meta name="sources" content="{digest.hexdigest()}">' in PAGE.read_text(encoding="utf-8")


def test_it_is_one_file_with_a_strict_policy(live):
    response = live.http.get("/")
    policy = response.headers["content-security-policy"]
    assert response.headers["content-type"].startswith("text/html") and response.headers["content-encoding"] == "gzip"
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert len(response.content) < 2_500_000
    again = live.http.get("/", headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304 and again.content == b""


def test_it_says_what_the_api_says(page, live):
    """Text is that of `delta.content`, spaces included, in the page's first state; and no tools are sent."""
    setting(page, "temperature", 0)
    talk = []
    for text in ("Reverse the words: green lamp river", "What is 17 + 25?", "Hello!"):
        talk += [user(text), {"role": "assistant"}]
        talk[-1]["content"] = api(live, talk[:-1], temperature=0)["content"]
        assert send(page, text) == talk[-1]["content"]
    assert questions(page) == [message["content"] for message in talk[::2]]
    bodies = sent(page)
    assert [body["messages"] for body in bodies] == [talk[:1], talk[:3], talk[:5]]
    assert not any("tools" in body for body in bodies)
    facts = page.texts(".facts")[-1]
    assert "tokens/s" in facts and "first after" in facts and "cached" in facts


def test_characters_of_several_tokens_stay_whole(page, live):
    """The model writes emoji, accents, Chinese and Hebrew byte by byte here, since a schema tells it to."""
    schema = json.dumps({"const": MIXED})
    setting(page, "schema", schema)
    setting(page, "temperature", 0)
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": json.loads(schema), "strict": True}}
    expected = api(live, [user("Hello!")], response_format=form, temperature=0)["content"]
    assert json.loads(expected) == MIXED
    assert send(page, "Hello!") == expected
    page.click("[aria-label^='Show tokens']")
    assert answers(page) == [expected]
    assert len(page.texts(".token")) > len(expected.encode()) // 2  # several for each character


def test_the_settings_show_what_the_model_recommends(page, live):
    recommended = live.http.get("/v1/models").json()["data"][0]["default_sampling_params"]
    page.click("[aria-label=Settings]")
    shown = page.run(
        "Object.fromEntries([...document.querySelectorAll('.fields input')].map((b) => [b.id, b.placeholder]))"
    )
    assert recommended == {"temperature": 0.5}
    assert shown.pop("temperature") == "0.5" and set(shown.values()) == {"default"}


def test_a_tool_is_called_answered_and_read_out(page, live):
    page.click("[aria-label=Settings]")
    page.run("[...document.querySelectorAll('.settings button')].find((b) => b.innerText === 'Example').click()")
    setting(page, "temperature", 0)
    send(page, "What is the weather in Paris?")
    tools = sent(page)[0]["tools"]
    call = api(live, [user("What is the weather in Paris?")], tools=tools, temperature=0)["tool_calls"][0]["function"]
    assert page.texts(".call-name") == [f"Calls {call['name']}"]
    assert json.loads(page.texts(".call pre")[0]) == json.loads(call["arguments"]) == {"location": "Paris"}
    page.write(".result", '{"temperature": 21}')
    page.press("Enter")
    page.wait(f"document.querySelectorAll('.turn.assistant > footer').length === 2 && {IS_IDLE}")
    last = sent(page)[-1]
    assert answers(page)[1] == api(live, last["messages"], tools=tools, temperature=0)["content"] != ""
    assert "21" in answers(page)[1]


def test_a_call_that_nobody_answers_ends_nothing(page):
    page.click("[aria-label=Settings]")
    page.run("[...document.querySelectorAll('.settings button')].find((b) => b.innerText === 'Example').click()")
    setting(page, "temperature", 0)
    send(page, "What is the weather in Paris?")
    assert page.texts(".call") != []
    assert send(page, "Hello!") != ""
    assert [message["role"] for message in sent(page)[-1]["messages"]] == ["user", "assistant", "tool", "user"]


def test_a_message_that_is_refused_goes_back_into_the_box(page):
    long = "word " * 5000
    page.write("#prompt", long)
    page.press("Enter")
    page.wait("document.querySelector('.notice')?.innerText.includes('maximum context length')")
    assert page.run("document.querySelector('#prompt').value") == long.strip()
    assert questions(page) == []
    assert send(page, "Hello!") != "" and page.texts(".notice") == []
    assert [len(body["messages"]) for body in sent(page)] == [1, 1]
    setting(page, "min_p", 2)
    page.write("#prompt", "Again")
    page.press("Enter")
    page.wait("document.querySelector('.notice')?.innerText.includes('min_p must be')")
    assert page.run("document.querySelector('#prompt').value") == "Again" and questions(page) == ["Hello!"]


def test_another_token_continues_from_there(page, live):
    setting(page, "temperature", 0)
    page.click("[aria-label^='Show tokens']")
    answer = send(page, "What can you do?")
    doubts = page.run(
        "[...document.querySelectorAll('.token')].map((t) => Number(t.style.getPropertyValue('--doubt')))"
    )
    assert all(0 <= doubt < 1 for doubt in doubts) and "".join(page.texts(".token")) == answer
    page.run("document.querySelector('.tokens').focus()")
    for _ in range(3):  # to the first token, the second, the third
        page.press("ArrowRight")
    page.press("Enter")
    page.wait("document.querySelectorAll('.candidate').length >= 5")
    chosen = page.texts(".candidate.chosen .candidate-text")
    assert len(chosen) == 1 and page.run("document.querySelector('.card').getBoundingClientRect().top > 0")
    page.run("""[...document.querySelectorAll('.candidate:not(.chosen)')].find((row) =>
        /^[␣a-zA-Z]+$/.test(row.querySelector('.candidate-text').innerText)).click()""")
    page.wait(f"document.querySelector('.versions')?.innerText.includes('2/2') && {IS_IDLE}")
    begun = "".join(page.texts(".token")[:3])
    assert begun != answer[: len(begun)]
    assert answers(page) == [begun + continued(live, "What can you do?", begun)]
    page.click("[aria-label='Previous version']")
    page.wait("document.querySelector('.versions').innerText.includes('1/2')")
    assert answers(page) == [answer]
    page.run("document.querySelector('.prompt-tokens').open = true")
    page.wait("document.querySelectorAll('.piece').length > 2")
    facts = page.texts(".turn.assistant .facts")[0]
    marks = [page.run(f"document.querySelectorAll('{name}').length") for name in (".piece", ".piece.cached")]
    assert f"prompt {marks[0]}, {marks[1]} cached" in facts


def test_versions_edit_delete_undo(page):
    setting(page, "temperature", 0)
    first = send(page, "What is 17 + 25?")
    action(page, 1, "Regenerate")
    page.wait(f"document.querySelector('.turn.assistant .versions')?.innerText.includes('2/2') && {IS_IDLE}")
    assert answers(page) == [first]
    action(page, 0, "Edit")
    page.write(".editor textarea", "What is 2 + 2?")
    page.press("Enter")
    page.wait(f"document.querySelector('.turn.user .versions')?.innerText.includes('2/2') && {IS_IDLE}")
    assert questions(page) == ["What is 2 + 2?"] and answers(page) != [first]
    page.click(".turn.user [aria-label='Previous version']")
    page.wait("document.querySelector('.bubble').innerText === 'What is 17 + 25?'")
    assert answers(page) == [first]
    action(page, 0, "Delete")
    page.wait("document.querySelector('.bubble').innerText === 'What is 2 + 2?'")
    page.click(".notice .link")
    page.wait("document.querySelector('.bubble').innerText === 'What is 17 + 25?'")


def test_an_answer_that_was_cut_off_can_be_continued(page, live):
    setting(page, "temperature", 0)
    setting(page, "max_tokens", 6)
    begun = send(page, "What can you do?")
    assert "cut off" in page.texts(".facts")[0]
    setting(page, "max_tokens", 200)
    action(page, 1, "Continue")
    page.wait(f"document.querySelector('.versions')?.innerText.includes('2/2') && {IS_IDLE}")
    whole = api(live, [user("What can you do?")], temperature=0)["content"]
    assert answers(page) == [whole] and whole.startswith(begun) and whole != begun


def test_conversations_are_kept_found_exported_and_imported(page, live, tmp_path):
    setting(page, "temperature", 0)
    send(page, "Hello!")
    page.click(".new")
    kept = send(page, "What is 17 + 25?")
    page.call("Page.navigate", url=f"{live.url}/")
    page.wait("document.querySelectorAll('.chats li').length === 2")
    assert page.texts(".chats .title") == ["What is 17 + 25?", "Hello!"]
    page.write("#search", "17")
    page.wait("document.querySelectorAll('.chats li').length === 1")
    page.click(".chats .title")
    page.wait("document.querySelector('.bubble')?.innerText === 'What is 17 + 25?'")
    assert answers(page) == [kept]
    assert page.run("JSON.parse(localStorage['verbatim-settings']).sampling['verbatim-demo'].temperature") == "0"
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=False)
    page.click(".chats [aria-label^=Export]")
    page.write("#search", "")
    page.click(".chats .current [aria-label^=Delete]")
    page.wait("document.querySelectorAll('.chats li').length === 1")
    file = tmp_path / "conversation.json"
    while not (file.exists() and file.stat().st_size):
        page.run("new Promise((resolve) => setTimeout(resolve, 20))")
    node = page.call("DOM.querySelector", nodeId=page.call("DOM.getDocument")["root"]["nodeId"], selector="[type=file]")
    page.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node["nodeId"])
    page.wait("document.querySelectorAll('.chats li').length === 2")
    page.click(".chats .title")
    page.wait("document.querySelector('.bubble')?.innerText === 'What is 17 + 25?'")
    assert answers(page) == [kept]


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_a_chat_as_code_gives_the_same_answer(page, language):
    setting(page, "temperature", 0)
    setting(page, "top_k", 3)
    setting(page, "system", "Be 'brief' and \"true\".")
    answer = send(page, "What is 17 + 25?")
    page.click("[aria-label='This chat as code']")
    page.run(f"[...document.querySelectorAll('.tabs button')].find((b) => b.innerText === '{language}').click()")
    mark, *command = COMMANDS[language]
    program = page.wait(f"(text => text.includes('{mark}') && text)(document.querySelector('.program').innerText)")
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    done = subprocess.run([*command, program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text = json.loads(done.stdout)["choices"][0]["message"]["content"] if language == "curl" else done.stdout.strip()
    assert text == answer
