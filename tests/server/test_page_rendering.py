"""What the page shows of any stream: every script, code, tables, formulas, thinking; what is hostile; what breaks off.

A player sends the page recorded streams here, since no small model writes all of this when it is asked.
"""

import shutil
from pathlib import Path

import pytest

from browser import browse
from live_server import running
from page_driver import IS_IDLE, answers, open_page, playing, questions, send, sent, setting
from verbatim.demo import DRAFT

HERE = Path(__file__).parent
TEXTS = [
    "green lamp  river, two spaces, and a tab\tend",
    "👩‍👩‍👧 🇫🇷 ❤️ 🙂 café naïve e\u0301",
    "你好，世界。今天天气很好！\n日本語の文章です。한국어도 있습니다.",
    "مرحبا بالعالم، كيف حالك؟ שלום עולם",
    "1 < 2 && 3 > 2, <b>not bold</b>, C:\\path\\file.txt, snake_case_name, 5 * 3 * 2, $5 and $6",
    "First line\nsecond line\n\nA new paragraph.",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browse(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def player():
    with playing() as player:
        yield player


@pytest.fixture
def page(browser, player):
    open_page(browser, player.url, "player")
    yield browser
    assert browser.errors == []
    assert {request["url"].split("/")[2] for request in browser.requests if request["url"].startswith("http")} == {
        player.url.removeprefix("http://")
    }


def test_every_script_is_shown_as_it_was_sent(page, player):
    """The tokens are three bytes long: none of them is a whole emoji, most are parts of characters."""
    for text in TEXTS:
        player.play(text)
        shown = send(page, text)
        assert shown.replace("\u00a0", " ") == text, text
        assert questions(page)[-1] == text
    page.click("[aria-label^='Show tokens']")
    assert answers(page) == TEXTS
    assert page.run("getComputedStyle(document.querySelectorAll('.tokens')[3]).direction") == "rtl"
    page.click("[aria-label^='Show tokens']")
    assert page.run("getComputedStyle(document.querySelectorAll('.rich p')[3]).direction") == "rtl"
    page.click("[aria-label=Settings]")
    page.run("[...document.querySelectorAll('label')].find((l) => l.innerText.includes('plain text')).click()")
    player.play("&amp; \\* **as it is**")
    assert send(page, "Go") == "&amp; \\* **as it is**"


def test_markdown_code_tables_and_formulas(page, player):
    code = 'def f(x):\n    return "<b>" + x  # 你好\n\nprint(f("a"))'
    table = "| name | value |\n|---|---:|\n| π | 3.14 |\n| `e` | 2.72 |"
    formulas = "Inline \\(a^2\\) and\n\n$$\\int_0^1 x\\,dx$$"
    player.play(f"# Title\n\n- one\n- **two**\n\n```python\n{code}\n```\n\n{table}\n\n{formulas}\n\nend")
    send(page, "Go")
    assert page.texts(".rich pre") == [code]
    assert "3 of 4 draft tokens accepted" in page.texts(".facts")[0]
    assert page.texts(".rich h1") == ["Title"] and page.texts(".rich li") == ["one", "two"]
    texts = "(row) => [...row.cells].map((cell) => cell.innerText)"
    cells = page.run(f"[...document.querySelectorAll('.rich tr')].map({texts})")
    assert cells == [["name", "value"], ["π", "3.14"], ["e", "2.72"]]
    assert page.run("document.querySelectorAll('.rich .katex-html').length") == 2
    assert page.run("document.querySelectorAll('.rich .hljs-keyword').length") >= 2
    page.run("navigator.clipboard.writeText = (text) => ((window.copied = text), Promise.resolve())")
    page.click("[aria-label='Copy code']")
    assert page.wait("window.copied") == code
    assert page.run("document.fonts.ready.then(() => [...document.fonts].some((f) => f.status === 'loaded'))")


def test_thinking_is_folded(page, player):
    player.play("<think>\nFirst I look.\n</think>\n\nThe answer.")
    assert send(page, "Go") == "The answer."
    assert page.run("document.querySelector('.thinking').open") is False
    player.choices = [{"delta": {"reasoning_content": "I weigh it."}}, {"delta": {"content": "Yes."}}, {"delta": {}}]
    assert send(page, "Go") == "Yes."
    assert page.run("[...document.querySelectorAll('.thinking .rich')].map((box) => box.textContent.trim())") == [
        "First I look.",
        "I weigh it.",
    ]


def test_nothing_in_an_answer_runs_or_loads(page, player):
    player.play(
        '<script>document.title = "hit"</script> <img src=x onerror="document.title=\'hit\'">\n\n'
        "![picture](https://example.com/a.png) ![local](/v1/models) [bad](javascript:alert(1)) "
        "[good](https://example.com)\n\n"
        "$\\href{javascript:alert(1)}{x}$ $\\includegraphics{https://example.com/b.png}$ <style>*{color:red}</style>"
    )
    text = send(page, "<img src=x onerror=\"document.title='hit'\">")
    assert "<script>" in text and "<img src=x" in questions(page)[0]
    assert page.run("document.title") == "verbatim"
    assert page.run("document.querySelectorAll('.column img, .column script, .column style, [onerror]').length") == 0
    links = page.run("[...document.querySelectorAll('.rich a')].map((a) => [a.href, a.target, a.rel])")
    assert all(target == "_blank" and "noopener" in rel for _, target, rel in links)
    assert not any(href.startswith("javascript:") for href, _, _ in links) and len(links) >= 2


def test_stopped_before_the_first_token_it_goes_back_into_the_box(page, player):
    player.play("Never read")
    player.gate.clear()
    page.write("#prompt", "A question")
    page.press("Enter")
    page.wait("document.querySelector('.waiting') !== null")
    page.press("Escape")
    page.wait("document.querySelector('#prompt').value === 'A question'")
    assert questions(page) == answers(page) == []
    player.gate.set()
    player.play("Fine.")
    assert send(page, "Another") == "Fine."
    assert sent(page)[-1]["messages"] == [{"role": "user", "content": "Another"}]


def test_what_breaks_off_is_kept_and_told(page, player):
    player.play("The beginning of")
    player.choices.pop()
    player.breaks_off = True
    assert send(page, "Go") == "The beginning of"
    assert "broke off" in page.texts(".turn .wrong")[0] and "broken off" in page.texts(".facts")[0]
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}
    player.choices = [{"delta": {"tool_calls": [call]}}]
    page.write("#prompt", "Call it")
    page.press("Enter")
    page.wait("document.querySelector('#prompt').value === 'Call it'")  # half a call is no answer
    player.breaks_off = False
    player.play("Whole.")
    assert send(page, "On") == "Whole."
    assert [message["role"] for message in sent(page)[-1]["messages"]] == ["user", "assistant", "user"]


def test_a_server_that_continues_messages_is_asked_to(page, player):
    """Another token is taken by the chat API where it can continue an answer's beginning."""
    player.play("One two three", size=4)
    player.choices[1]["logprobs"]["content"][0]["top_logprobs"].append({"token": "ten", "logprob": -2, "bytes": None})
    send(page, "Count")
    player.play(" and more")
    page.click("[aria-label^='Show tokens']")
    page.run("document.querySelectorAll('.token')[1].click()")
    page.click(".candidate:not(.chosen)")
    page.wait(f"document.querySelector('.versions')?.innerText.includes('2/2') && {IS_IDLE}")
    assert answers(page) == ["One ten and more"]
    body = sent(page)[-1]
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False
    assert body["messages"][-1] == {"role": "assistant", "content": "One ten"}


def test_a_full_browser_is_told(page, player):
    page.run("IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError'); }")
    player.play("Still here.")
    assert send(page, "Go") == "Still here."
    page.wait("document.querySelector('.notice')?.innerText.includes('no space left')")


def test_what_is_being_written_outlives_the_page(page, player):
    player.play("word " * 60)
    player.delay = 0.05
    page.write("#prompt", "Go")
    page.press("Enter")
    count = "open => new Promise((resolve) => (open.onsuccess = () => open.result.transaction('conversations')"
    count += ".objectStore('conversations').count().onsuccess = (event) => resolve(event.target.result)))"
    page.wait(f"({count})(indexedDB.open('verbatim'))", 10)
    page.call("Page.navigate", url=f"{player.url}/")
    page.wait("document.querySelectorAll('.chats .title').length === 1")
    page.click(".chats .title")
    page.wait("document.querySelector('.facts')?.innerText.includes('broken off')")
    assert questions(page) == ["Go"] and answers(page)[0].startswith("word word")


def test_a_dead_server(page, player):
    player.play("Alive.")
    send(page, "Go")
    player.close()
    page.write("#prompt", "Still there?")
    page.press("Enter")
    page.wait("document.querySelector('.notice')?.innerText.includes('does not answer')")
    assert page.run("document.querySelector('#prompt').value") == "Still there?" and questions(page) == ["Go"]
    page.wait("document.querySelector('.bar .state').innerText === 'No connection'")
    page.errors.clear()


def test_ten_thousand_tokens(page, player):
    words = [f"w{number % 97} " + ("\n\n" if number % 50 == 49 else "") for number in range(10_000)]
    entries = [{"content": [{"token": word, "logprob": -1.0}]} for word in words]
    player.choices = [
        {"delta": {"content": word}, "logprobs": entry} for word, entry in zip(words, entries, strict=True)
    ]
    page.write("#prompt", "Go")
    page.press("Enter")
    page.wait(f"document.querySelectorAll('.turn.assistant > footer').length === 1 && {IS_IDLE}", 20)
    assert answers(page)[0].split() == "".join(words).split()
    slowest = page.run("""new Promise((resolve) => {
        const began = performance.now();
        document.querySelector("[aria-label^='Show tokens']").click();
        requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
    })""")
    assert slowest < 3000 and page.run("document.querySelectorAll('.token').length") == len(words)
    away = "document.querySelector('.scroll').scrollTop"
    page.run("document.querySelector('.scroll').scrollTop = 0")
    player.play("More.")
    page.wait("document.querySelector('.to-end') !== null")
    assert page.run(away) == 0


PANELS = ("", "[aria-label=Settings]", "button[aria-label=Conversations]", "[aria-label='This chat as code']")
WIDE = (
    "`" + "long_" * 40 + "`\n\n```\n" + "x" * 300 + "\n```\n\n| a | b |\n|---|---|\n| " + "y" * 90 + " | z |\n\n$$"
    + "a+" * 60 + "a$$\n\n" + "W" * 200
)  # fmt: skip


@pytest.mark.parametrize("panel", PANELS)
def test_a_phone_of_320_pixels_holds_it(page, player, panel):
    page.resize(320, 600)
    player.play(WIDE)
    send(page, "Q" * 120)
    if panel:
        page.click(panel)
    wide = page.run("""[...document.querySelectorAll('body *')]
        .filter((element) => !element.closest('.wide, pre, .math, .hidden'))
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 0.5)
        .map((element) => element.outerHTML.slice(0, 80))""")
    assert wide == []
    assert page.run("document.documentElement.scrollWidth") <= 320
    assert page.run("document.querySelector('.composer button').getBoundingClientRect().bottom") <= 600


@pytest.mark.parametrize("is_dark", [False, True])
def test_axe_finds_nothing_serious(page, player, is_dark):
    found = HERE / "node/node_modules/axe-core/axe.min.js"
    if not found.exists():
        pytest.skip("`npm install` in tests/server/node brings axe")
    page.resize(1300, 900, is_dark=is_dark)
    player.play(
        "# Title\n\nA [link](https://example.com) and `code`\n\n```python\nx = 'a'  # note\n```\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n$x^2$"
    )
    send(page, "Hello")
    run = """axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations
        .filter((item) => ['serious', 'critical'].includes(item.impact))
        .map((item) => [item.id, item.nodes.map((node) => node.html)]))"""
    page.run(found.read_text(encoding="utf-8"))
    assert page.run(run) == []
    page.click("[aria-label=Settings]")
    page.run("[...document.querySelectorAll('.settings button')].find((b) => b.innerText === 'Example').click()")
    assert page.run(run) == []
    page.click("[aria-label^='Show tokens']")
    page.run("document.querySelector('.token').click()")
    page.wait("document.querySelector('.card') !== null")
    assert page.run(run) == []
    page.press("Escape")
    page.click("[aria-label='This chat as code']")
    assert page.run(run) == []


def choose_model(page, name: str):
    page.run(f"document.querySelector('#model').value = {name!r}")
    page.run("document.querySelector('#model').dispatchEvent(new Event('change', {bubbles: true}))")


def test_behind_a_key_with_models_of_both_forms(browser, tmp_path):
    """A key that is missing is asked for; another model gets the same chat; one without a template continues texts."""
    base = shutil.copytree(DRAFT, tmp_path / "base")
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        (base / name).unlink(missing_ok=True)
    arguments = ("--api-key", "sesame", "--additional-models", str(base))
    with running("fastpath", tmp_path, *arguments) as server:
        server.wait_ready()
        server.http.headers["authorization"] = "Bearer sesame"
        browser.call("Network.setExtraHTTPHeaders", headers={"Authorization": "Bearer sesame"})
        open_page(browser, server.url)
        setting(browser, "temperature", 0)
        browser.call("Network.setExtraHTTPHeaders", headers={})
        browser.run("[...document.querySelectorAll('.settings .link')].find((b) => b.innerText === 'API key').click()")
        browser.wait("document.activeElement.id === 'key'")
        browser.write("#key", "a wrong one")
        browser.press("Enter")
        state = "document.querySelector('.bar .state').innerText"
        browser.wait(f"{state} === 'An API key is needed' && document.activeElement.id === 'key'", 20)
        browser.write("#key", "sesame")
        browser.press("Enter")
        browser.wait(f"{state} === '' && document.querySelector('dialog') === null", 20)
        first = send(browser, "Hello!")
        choose_model(browser, "base")
        browser.write("#prompt", "What is 17 + 25?")
        browser.press("Enter")
        browser.wait("document.querySelector('.notice')?.innerText.includes('no chat template')")
        body = sent(browser)[-1]
        assert body["model"] == "base" and body["messages"][1]["content"] == first and "temperature" not in body
        browser.click(".notice .link")
        browser.wait("document.querySelector('.text-mode textarea') !== null", 10)
        setting(browser, "temperature", 0)
        setting(browser, "max_tokens", 12)
        browser.write(".text-mode textarea", "The river")
        browser.press("Enter", 2)
        browser.wait("document.querySelector('.foot .facts')?.innerText.includes(' tokens')")
        body = {"model": "base", "prompt": "The river", "temperature": 0, "max_tokens": 12}
        text = server.http.post("/v1/completions", json=body).json()["choices"][0]["text"]
        assert browser.run("document.querySelector('.text-mode textarea').value") == "The river" + text
        browser.run("[...document.querySelectorAll('.foot button')].find((b) => b.innerText === 'Undo').click()")
        browser.wait("document.querySelector('.text-mode textarea').value === 'The river'")
        browser.run("[...document.querySelectorAll('.chats .title')].find((b) => b.innerText === 'Hello!').click()")
        choose_model(browser, "verbatim-demo")
        assert send(browser, "What is 17 + 25?") == answers(browser)[1] != ""
        assert sent(browser)[-1]["temperature"] == 0  # each model has its own settings
        assert browser.errors == []
        browser.call("Network.setExtraHTTPHeaders", headers={})
