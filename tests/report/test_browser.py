"""The pages in a real browser: drawn, silent, readable, by keyboard too, on a desktop and on a phone."""

from __future__ import annotations

import io
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from avil_fast.config import TrainConfig
from avil_fast.report import page as report
from avil_fast.report import several
from avil_fast.report.live import Live
from avil_fast.report.run import read
from tests.report.test_page import make
from tests.report.test_run import write
from tests.speed import slow_but

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed; pip install -e '.[dev]' brings it"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright",
    reason="axe-playwright-python is not installed; pip install -e '.[dev]' brings it",
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser; Debian's package is chromium"),
    pytest.mark.xdist_group("browser"),
]

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update"]
SIZES = {"desktop": (1280, 800), "phone": (375, 700)}
TASKS = ["upper_left", "lower_right", "a_task_whose_name_is_as_long_as_names_of_tasks_come", "random_labels"]
CONFIG = "target: upper_left\ntasks: {source: digits}\n" + "note: " + "long " * 60 + "\n"

Browser = Any
Page = Any


@dataclass
class Seen:
    """A page, and what it did besides being shown."""

    page: Page
    told: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def colours(self) -> int:
        """How many there are on it."""
        pixels = matplotlib.image.imread(io.BytesIO(self.page.screenshot(full_page=True)))
        red, green, blue = (pixels[..., i] * 255 for i in range(3))
        return len(np.unique((red.astype(int) << 16) + (green.astype(int) << 8) + blue.astype(int)))

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of files."""
    where = tmp_path_factory.mktemp("pages")
    summary, history = make(TASKS, rounds=5)
    runs = [
        read(write(where / name, summary | {"seed": seed}, history)) for seed, name in enumerate(("one", "two"))
    ]
    texts = {"run": report.render(summary, history, CONFIG), "several": several.render(runs)}
    for name, text in texts.items():
        (where / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: (where / f"{name}.html").as_uri() for name in texts}


@contextmanager
def shown(browser: Browser, address: str, size: str = "desktop", scheme: str = "light") -> Iterator[Seen]:
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    seen = Seen(page)
    page.on("console", lambda message: seen.told.append(message.text))
    page.on("pageerror", lambda error: seen.told.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    try:
        page.goto(address)
        yield seen
    finally:
        page.close()


def background(page: Page) -> float:
    """How light it is, from 0 to 1."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return float(np.mean([int(part) for part in colour.strip("rgb()").split(",")[:3]])) / 255


def violations(page: Page) -> list[str]:
    """What axe-core finds, its advice on good practice included."""
    found = axe.Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def tab_through(page: Page) -> list[str]:
    """What the tab key reaches from the top, until it has been everywhere; each must be seen to have the focus."""
    reached: list[str] = []
    page.evaluate("document.activeElement.blur()")
    while True:
        page.keyboard.press("Tab")
        at = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e); return "
            "[e.id || e.parentElement?.id || '', e.tagName, s.outlineStyle, parseFloat(s.outlineWidth)] })()"
        )
        if at[1] == "BODY" or at[0] in reached:
            return reached
        assert at[2:] == ["solid", 2], at
        reached.append(at[0])


@pytest.mark.parametrize("scheme", slow_but("light", of=["light", "dark"]))
@pytest.mark.parametrize("size", slow_but("phone", of=SIZES))
@pytest.mark.parametrize("name", ["run", "several"])
def test_a_page_is_drawn_and_asks_for_nothing(
    browser: Browser, pages: dict[str, str], name: str, size: str, scheme: str
) -> None:
    with shown(browser, pages[name], size, scheme) as seen:
        assert seen.colours() > 100
        assert (background(seen.page) > 0.5) == (scheme == "light")
        assert seen.page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
        seen.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert seen.page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
        if size == "phone":  # it finds no more on a desktop
            assert violations(seen.page) == []
        assert seen.told == []
        assert seen.requests == [pages[name]]


def test_everything_is_reached_by_keyboard(browser: Browser, pages: dict[str, str]) -> None:
    with shown(browser, pages["run"], "phone") as seen:
        figures = [f"numbers-{name}" for name in ("progress", "alpha", "weight", "cosine", "time")]
        assert tab_through(seen.page) == [*figures, "budget", "command", "configuration"]
        seen.page.focus("#numbers-alpha > summary")
        seen.page.keyboard.press("Enter")
        assert seen.page.is_visible("#numbers-alpha table")
        assert "table-alpha" in tab_through(seen.page)
        # how wide the numbers are depends on the machine's fonts: here they overflow with any
        seen.page.evaluate("document.getElementById('table-alpha').style.width = '100px'")
        seen.page.focus("#table-alpha")
        seen.page.keyboard.press("ArrowRight")
        deadline = time.monotonic() + 30  # not wait_for_function: the page's policy forbids what that evaluates
        while not seen.page.evaluate("document.getElementById('table-alpha').scrollLeft > 0"):
            assert time.monotonic() < deadline
            seen.page.wait_for_timeout(20)


def test_a_screen_reader_hears_the_answer_first_and_every_number(browser: Browser, pages: dict[str, str]) -> None:
    for name in pages:
        with shown(browser, pages[name]) as seen:
            page = seen.page
            levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(one => +one.tagName[1])")
            assert levels[0] == 1
            assert levels.count(1) == 1
            assert all(after <= before + 1 for before, after in pairwise(levels))
            landmarks = page.evaluate("[...document.body.children].map(one => one.tagName)")
            assert landmarks == ["HEADER", "MAIN", "FOOTER"]
            for figure in page.query_selector_all("figure"):
                assert figure.query_selector("svg[role=img]").get_attribute("aria-label")
                assert len(figure.query_selector_all("details caption")) == 1


@pytest.mark.slow
def test_a_live_page_follows_the_run_where_it_stands(browser: Browser) -> None:
    summary, history = make(TASKS, rounds=2)
    config = TrainConfig(target=TASKS[0], rounds=2, output_dir=None)
    with Live(config, TASKS, summary["metric"]) as live, shown(browser, live.address, "phone") as seen:
        page = seen.page
        assert seen.text("#status") == "Waiting for round 1 of 2."
        page.evaluate("window.same = true")
        live.round(history[0])
        page.wait_for_selector("h1:has-text('19.0 %')")
        page.wait_for_selector("#status:has-text('Round 1')")
        assert "Round 1 of 2 is done." in seen.text("#status")
        assert violations(page) == []
        page.focus("#numbers-alpha > summary")
        page.keyboard.press("Enter")
        live.round(history[1])
        page.wait_for_selector("h1:has-text('38.0 %')")
        assert "38.0 %" in page.title()
        assert page.evaluate("document.activeElement.parentElement.id") == "numbers-alpha"
        assert page.is_visible("#numbers-alpha table tr:nth-child(2)")
        live.ended(summary)
        page.wait_for_selector("#status:has-text('The run has ended.')")
        assert "78.5 %" in seen.text("h1")
        assert page.evaluate("window.same"), "the page was loaded anew"
        assert seen.colours() > 100
        assert seen.told == []
        assert {request.removeprefix(live.address) for request in seen.requests} == {"", "state"}


@pytest.mark.slow
def test_a_live_page_says_when_the_run_is_gone(browser: Browser) -> None:
    config = TrainConfig(target=TASKS[0], rounds=2, output_dir=None)
    live = Live(config, TASKS, None)
    live.__enter__()
    end = threading.Thread(target=live.__exit__, args=(None, None, None))
    with shown(browser, live.address) as seen:
        live._end_seen.set()  # as if no page was open
        end.start()
        seen.page.wait_for_selector("#status:has-text('no answer')")
    end.join()


def test_a_wrong_token_shows_nothing(browser: Browser) -> None:
    config = TrainConfig(target=TASKS[0], rounds=2, output_dir=None)
    with Live(config, TASKS, None) as live:
        page = browser.new_page()
        with pytest.raises(playwright.Error, match="HTTP_RESPONSE_CODE"):
            page.goto(live.address[:-5] + "AAAA/")
        page.close()
