"""The page at /, in a real browser: it says what the API says, and shows how sure the model was."""

import base64
import json
import os
import shutil
from pathlib import Path

import pytest

from browser import browse
from verbatim.demo import DRAFT, MODEL

ANSWERED = "!running && document.querySelectorAll('.assistant .facts')[{}]?.textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browse(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser, server):
    browser.errors.clear()
    browser.resize(1200, 800)
    browser.call("Page.navigate", url=f"{server.url}/")
    browser.wait("typeof model !== 'undefined' && model === 'verbatim-demo'")
    yield browser
    assert browser.errors == []


def write(page, name, value):
    page.run(f"""(() => {{
        const field = $({json.dumps(name)});
        field.value = {json.dumps(str(value))};
        field.dispatchEvent(new Event("input"));
    }})()""")


def say(page, text, number=0):
    """Type, press the button, wait for the end; the text of the answer."""
    write(page, "prompt", text)
    page.run("$('form').requestSubmit()")
    page.wait(ANSWERED.format(number))
    return page.run(f"document.querySelectorAll('.assistant .said')[{number}].textContent")


def test_it_loads_nothing_from_elsewhere(page, server):
    response = server.http.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "http://" not in response.text and "https://" not in response.text
    loaded = page.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {url.removeprefix(server.url) for url in loaded} <= {"/v1/models"}


def test_it_says_what_the_api_says(page, server):
    write(page, "tools", "")
    write(page, "temperature", 1)
    write(page, "seed", 7)
    messages = [{"role": "user", "content": "What is 17 + 25?"}]
    body = {"model": "verbatim-demo", "temperature": 1, "top_p": 1, "seed": 7, "max_tokens": 300}
    expected = server.http.post("/v1/chat/completions", json=body | {"messages": messages}).json()
    assert say(page, "What is 17 + 25?") == expected["choices"][0]["message"]["content"]
    facts = page.run("document.querySelector('.facts').textContent")
    assert f"{expected['usage']['completion_tokens']} tokens" in facts and "cached" in facts
    messages += [expected["choices"][0]["message"], {"role": "user", "content": "Hello!"}]
    again = server.http.post("/v1/chat/completions", json=body | {"messages": messages}).json()
    assert say(page, "Hello!", 1) == again["choices"][0]["message"]["content"]


def test_tokens_show_their_probability_and_their_rivals(page):
    write(page, "tools", "")
    write(page, "temperature", 0)
    answer = say(page, "Hello!")
    page.run("$('shows').click()")
    pair = "(one) => [one.textContent, one.style.getPropertyValue('--p')]"
    tokens = page.run(f"[...document.querySelectorAll('.token')].map({pair})")
    assert "".join(text for text, _ in tokens) == answer
    assert all(0 < float(probability) <= 1 for _, probability in tokens)
    page.run("document.querySelectorAll('.token')[1].dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))")
    rows = page.run("[...document.querySelectorAll('#card tr')].map((row) => [row.className, row.innerText])")
    assert len(rows) >= 8
    assert [json.dumps(tokens[1][0]) in text for label, text in rows if label == "chosen"] == [True]


def test_a_tool_is_called_answered_and_read_out(page):
    write(page, "temperature", 0)
    say(page, "What is the weather in Paris?")
    assert page.run("document.querySelector('.call').textContent") == 'get_weather({"location": "Paris"})'
    page.run("""(() => {
        document.querySelector(".result input").value = '{"temperature": 21}';
        document.querySelector(".result").requestSubmit();
    })()""")
    page.wait(ANSWERED.format(1))
    assert "21" in page.run("document.querySelectorAll('.assistant .said')[1].textContent")


def test_what_goes_wrong_is_said(page):
    write(page, "tools", "{}")
    write(page, "prompt", "Hello!")
    page.run("$('form').requestSubmit()")
    page.wait("document.querySelector('.wrong')?.textContent.includes('not a JSON array')")
    write(page, "tools", "")
    write(page, "top_k", "0")
    write(page, "prompt", "Hello!")
    page.run("$('form').requestSubmit()")
    page.wait("document.querySelectorAll('.wrong')[1]?.textContent.includes('top_k must be at least 1')")
    write(page, "top_k", "")
    assert say(page, "Hello!")


def test_behind_a_key_and_with_several_models(browser, start, tmp_path):
    words = shutil.copytree(MODEL, tmp_path / "words")
    arguments = ("--api-key", "sesame", "--additional-models", str(DRAFT), "--embedding-model", str(words))
    server = start("fastpath", *arguments).wait_ready()
    browser.errors.clear()
    # What a browser sends with every request once its dialog has been given the key as a password.
    login = {"Authorization": "Basic " + base64.b64encode(b":sesame").decode()}
    browser.call("Network.enable")
    browser.call("Network.setExtraHTTPHeaders", headers=login)
    browser.call("Page.navigate", url=f"{server.url}/")
    browser.wait("typeof model !== 'undefined' && model === 'verbatim-demo'")
    assert browser.run("[...$('model').options].map((one) => one.value)") == ["verbatim-demo", "draft"]
    browser.run("$('model').value = 'draft'; $('model').dispatchEvent(new Event('change'))")
    write(browser, "temperature", 0)
    body = {"model": "draft", "temperature": 0, "max_tokens": 300, "messages": [{"role": "user", "content": "Hello!"}]}
    answer = server.http.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer sesame"}).json()
    assert say(browser, "Hello!") == answer["choices"][0]["message"]["content"]
    browser.call("Network.setExtraHTTPHeaders", headers={})
    browser.run("connect()")
    browser.wait("$('model').hidden && $('state').textContent.includes('API key')")
    browser.run("$('key').value = 'sesame'; $('key').dispatchEvent(new Event('change'))")
    browser.wait("!$('model').hidden && $('state').textContent === ''")


def test_text_is_never_taken_for_html(page):
    write(page, "tools", "")
    write(page, "temperature", 0)
    say(page, "Repeat: <img src=x onerror=alert(1)>")
    assert page.run("document.querySelectorAll('#talk img').length") == 0


@pytest.mark.parametrize(("width", "height", "is_dark"), [(1200, 800, False), (1200, 800, True), (390, 844, False)])
def test_it_fits(page, width, height, is_dark, tmp_path):
    """Nothing is cut off; `VERBATIM_SCREENSHOTS=DIR` keeps the pictures for the eye."""
    page.resize(width, height, is_dark=is_dark)
    page.run("$('shows').click()")
    write(page, "temperature", 1)
    write(page, "seed", 3)
    say(page, "What can you do?")
    say(page, "What is the weather in Paris?", 1)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("$('send').getBoundingClientRect().bottom") <= height
    folder = Path(os.environ.get("VERBATIM_SCREENSHOTS", tmp_path))
    page.screenshot(folder / f"{width}-{'dark' if is_dark else 'light'}.png")
