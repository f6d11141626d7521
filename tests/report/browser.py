"""Opens pages in the system's Chromium through Playwright, whose own browsers are never downloaded."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.waiting import until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 180_000
"""How long a tab waits for what it is told to see, in milliseconds: a busy machine may need most of a minute to unpack
plotly."""
expect.set_options(timeout=PATIENCE)
CHARTS = ".chart svg.main-svg:first-child"
"""The charts that are drawn."""
WHERE = """place => JSON.stringify([place.outerHTML.slice(0, 200), place.getBoundingClientRect(), innerHeight,
  document.hidden, Boolean(place.closest("details:not([open])"))])"""
"""Tells what keeps a chart from being drawn."""


class Tab:
    """One tab. `said` holds the messages of its console and its uncaught errors, `asked_for` the URLs it requested."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked_for: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"exception: {error}"))
        page.on("request", lambda request: self.asked_for.append(request.url))
        page.on("websocket", lambda socket: self.asked_for.append(socket.url))

    def open(self, path: Path) -> None:
        """Opens a file, loaded to its end, and forgets what the tab said and asked for before."""
        self.said.clear()
        self.asked_for.clear()
        self.page.goto(path.resolve().as_uri())

    def wait_for_first_chart(self) -> None:
        self.page.locator(CHARTS).first.wait_for(state="attached")

    def draw_everything(self) -> int:
        """Scrolls each chart into view and waits until all are drawn; returns how many there are.

        Charts above that are drawn meanwhile may move it out of view, so it is scrolled there until it is drawn, to
        another line each time. A picture of the page makes the browser draw a frame, without which it never sees what
        is in view: on a busy machine one drew none for a quarter of an hour.
        """
        lines = cycle(("center", "start", "end"))

        def drawn(place: Locator) -> bool:
            place.evaluate("(place, line) => place.scrollIntoView({ block: line })", next(lines))
            with suppress(PlaywrightError):
                self.page.screenshot(type="jpeg", quality=1)
            return place.locator("svg.main-svg").locator("path, rect, image").count() > 0

        def missing(place: Locator) -> str:
            return f"a chart is not drawn: {place.evaluate(WHERE)}; the console said {self.said}"

        for place in self.page.locator(".chart").all():
            until(partial(drawn, place), said=partial(missing, place))
        self.page.evaluate("scrollTo(0, 0)")
        return self.page.locator(CHARTS).count()

    def barriers(self) -> list[str]:
        """Returns what axe finds to be in the way of some readers, with the first place of each."""
        found = Axe().run(self.page).response
        assert found["passes"], "axe has looked at nothing"
        return [f"{each['impact']} {each['id']}: {each['nodes'][0]['target']}" for each in found["violations"]]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Starts a headless browser that reaches this machine only. Root runs it without its sandbox, as it must."""
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=CHROMIUM,
            chromium_sandbox=os.geteuid() != 0,
            args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        ) as browser,
    ):
        yield browser


@contextmanager
def opened_tab(browser: Browser, width: int = 1280) -> Iterator[Tab]:
    """Opens a tab with a profile of its own, so that nothing remains of it."""
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        context.set_default_timeout(PATIENCE)
        context.set_default_navigation_timeout(PATIENCE)
        yield Tab(context.new_page())


def wait_until_it_fits(page: Page, width: int) -> None:
    """Waits until a page is at most so many pixels wide: a chart follows the window a moment later."""
    is_as_wide = "document.documentElement.scrollWidth"
    until(lambda: page.evaluate(is_as_wide) <= width, PATIENCE / 1000, lambda: f"{page.evaluate(is_as_wide)} pixels")
