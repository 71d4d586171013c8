"""The chat page in a real browser: asked as a person would, thoughts folded, version shown, nothing injected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab

from tests.flows.chromium import CHROMIUM, Page
from tests.flows.screens import SCHEMES, WIDTHS, browser, faults
from tests.flows.serving.live import Live, Shelf, frozen_engine, live, sure
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT

pytestmark = [pytest.mark.drill, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]
LAST = "[...document.querySelectorAll('.turn.model')].at(-1)"


@pytest.fixture(scope="module")
def server(talkers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One that says the same each time: the page names no temperature."""
    root = tmp_path_factory.mktemp("page")
    with live(Shelf({"1": sure(talkers["1"], root / "sure")}), root / "cache", keys=("secret",)) as running:
        yield running


def test_a_conversation(server: Live, tmp_path: Path) -> None:
    with Page(f"{server.url}/#key=secret", tmp_path) as page:
        page.until("document.querySelector('#model').textContent == 'talker, version 1'")
        assert page.value("location.href") == f"{server.url}/"  # the key is not left in the address
        page.type(QUESTION)
        page.until(f"{LAST}?.querySelector('.text').textContent == '{ANSWER}'")
        page.until("document.querySelector('#send').textContent == 'Send'")
        assert page.value(f"{LAST}.querySelector('.reasoning').textContent") == THOUGHT
        assert page.value(f"{LAST}.querySelector('details').open") is False
        assert page.value(f"{LAST}.querySelector('.by').textContent").startswith("talker/1, ")
        page.value(f"{LAST}.querySelector('summary').click()")
        page.type("<img src=x onerror='document.title=1'>")
        page.until("document.querySelectorAll('.turn.model .by:not(:empty)').length == 2")
        assert page.value("document.querySelectorAll('main img').length") == 0
        page.until("document.querySelector('#send').textContent == 'Send'")
        page.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000
        assert not page.problems, page.problems


def test_a_key_is_asked_for(server: Live, tmp_path: Path) -> None:
    with Page(server.url, tmp_path) as page:
        page.until("document.querySelector('#door').open")
        assert page.value("document.querySelector('#refused').hidden") is True
        page.value("document.querySelector('#key').focus()")
        page.type("mistaken")
        page.until("document.querySelector('#door').open && !document.querySelector('#refused').hidden")
        page.value("document.querySelector('#key').focus()")
        page.type("secret")
        page.until("document.querySelector('#model').textContent == 'talker, version 1'")
        page.value("document.querySelector('#question').focus()")
        page.type(QUESTION)
        page.until(f"{LAST}?.querySelector('.text').textContent == '{ANSWER}'")


MARKDOWN = """# Heading

Some *emphasis*, **strong**, `code`, ~~gone~~, snake_case_name, 2*3*4 and [a link](https://example.org/a_b).

3. third
4. fourth
   - nested

> quoted

| name | value |
|:--|--:|
| a | a cell that goes on and on, further than a phone is wide, and then some more of it |

```python
x = "<b>a line that has to scroll in its own box and not push the page aside, whatever is written in it</b>"
```

<script>document.title = 1</script> <img src=x onerror="document.title = 1"> [bad](javascript:alert(1)) ![p](https://x.org/p.png)
"""
TALK = [
    {"role": "user", "content": "How is a table written?"},
    {"role": "assistant", "content": MARKDOWN, "reasoning_content": "So.", "by": "talker/1, 9 tokens, 0.1 s"},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "", "reasoning_content": "", "error": "the engine was lost"},
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


def opened(chromium: Browser, server: Live, **options: Any) -> Tab:
    """The page, logged in, with one chat kept from before."""
    tab = chromium.new_context(**options).new_page()
    tab.goto(f"{server.url}/#key=secret")
    kept = {"id": "old", "title": "How is a table written?", "system": "", "messages": TALK, "changed": 1}
    tab.evaluate("chat => localStorage.setItem('deepmill.chat.old', JSON.stringify(chat))", kept)
    tab.reload()
    expect(tab.locator("#model")).to_have_text("talker, version 1")
    return tab


def ask(tab: Tab, text: str, answers: int) -> None:
    tab.fill("#question", text)
    tab.press("#question", "Enter")
    expect(tab.locator(".turn.model .by:not(:empty)")).to_have_count(answers)
    expect(tab.locator("#send")).to_have_text("Send")


def test_markdown_is_drawn_and_nothing_of_it_runs(chromium: Browser, server: Live) -> None:
    tab = opened(chromium, server)
    tab.get_by_role("button", name="How is a table written?", exact=True).click()
    answer = tab.locator(".turn.model .text").first
    for tag, text in {
        "h2": "Heading",
        "em": "emphasis",
        "strong": "strong",
        "del": "gone",
        "blockquote": "quoted",
    }.items():
        expect(answer.locator(tag)).to_have_text(text)
    expect(answer.locator("ol > li")).to_have_count(2)
    assert answer.locator("ol").get_attribute("start") == "3"
    expect(answer.locator("ol ul li")).to_have_text("nested")
    expect(answer.locator("td").first).to_have_text("a")
    expect(answer.locator("pre code")).to_contain_text("<b>a line")
    links = answer.locator("a").evaluate_all("all => all.map(a => [a.getAttribute('href'), a.rel])")
    rel = "noopener noreferrer nofollow"
    assert links == [["https://example.org/a_b", rel], ["https://x.org/p.png", rel]]
    assert answer.locator("script, img, b").count() == 0
    assert "snake_case_name, 2*3*4" in answer.inner_text()
    assert tab.title() == "Deepmill"
    expect(tab.locator(".turn .error")).to_have_text("the engine was lost")
    tab.context.close()


def test_chats_are_kept_changed_and_forgotten(chromium: Browser, server: Live) -> None:
    tab = opened(chromium, server)
    sent: list[Any] = []
    tab.on("request", lambda request: sent.append(request.post_data_json) if request.method == "POST" else None)
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.click("#instruct")
    tab.fill("#system-text", "Be brief.")
    tab.get_by_role("button", name="Save").click()
    ask(tab, "Say it in full.", 1)
    assert [each["role"] for each in sent[0]["messages"]] == ["system", "user"]
    tab.get_by_role("button", name="Ask for another answer").click()
    expect(tab.locator("#send")).to_have_text("Send")
    assert sent[1]["messages"] == sent[0]["messages"]
    tab.focus("#question")
    tab.keyboard.press("ArrowUp")  # edits the last message
    tab.get_by_label("Edit your message").fill(QUESTION)
    tab.keyboard.press("Enter")
    expect(tab.locator(".turn.user .text")).to_have_text(QUESTION)
    expect(tab.locator("#send")).to_have_text("Send")
    assert sent[2]["messages"][-1] == {"role": "user", "content": QUESTION}
    tab.reload()  # what was said is still there
    expect(tab.locator("#chats li")).to_have_count(2)
    tab.locator("#chats .open").first.click()
    expect(tab.locator(".turn.user .text")).to_have_text(QUESTION)
    ask(tab, "Say it in full.", 2)
    assert [each["role"] for each in sent[3]["messages"]] == ["system", "user", "assistant", "user"]
    tab.get_by_role("button", name="Delete the chat How is a table written?").click()
    expect(tab.locator("#chats li")).to_have_count(1)
    tab.click("#fresh")
    expect(tab.locator(".turn")).to_have_count(0)
    tab.context.close()


def test_keys_stop_and_begin_lines(chromium: Browser, server: Live) -> None:
    tab = opened(chromium, server)
    tab.fill("#question", "one")
    tab.press("#question", "Shift+Enter")
    assert tab.input_value("#question") == "one\n"
    with frozen_engine():
        tab.press("#question", "Enter")
        expect(tab.locator("#send")).to_have_text("Stop")
        tab.keyboard.press("Escape")
        expect(tab.locator("#send")).to_have_text("Send")
    expect(tab.locator(".turn.model .by")).to_contain_text("stopped")
    tab.context.close()


def test_copies_go_to_the_clipboard(chromium: Browser, server: Live) -> None:
    tab = opened(chromium, server, permissions=["clipboard-read", "clipboard-write"])
    tab.get_by_role("button", name="How is a table written?", exact=True).click()
    tab.get_by_role("button", name="Copy the code").click()
    assert tab.evaluate("navigator.clipboard.readText()").startswith('x = "<b>a line')
    tab.get_by_role("button", name="Copy the answer").first.click()
    assert tab.evaluate("navigator.clipboard.readText()") == MARKDOWN
    tab.context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_fits_and_can_be_read(chromium: Browser, server: Live, scheme: Any) -> None:
    tab = opened(chromium, server, color_scheme=scheme, bypass_csp=True)  # axe is a script, and the page allows none
    found = []
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 800})
        if width == WIDTHS[0]:
            tab.click("#menu")
            found += faults(tab)
        tab.locator("#chats .open").first.click()
        found += [f"{width}: {fault}" for fault in faults(tab, contrast=width != WIDTHS[1])]
    assert not found, found
    tab.context.close()
