"""Tests the queue's part of the index in a browser: it is changed by mouse and keyboard, and stays usable meanwhile."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from playwright.sync_api import Locator, Page, expect

from krona_tune.refusal import Refusal
from krona_tune.report.html import packed_script
from krona_tune.service.access import Access, Guard
from krona_tune.service.live_events import News, Streams
from krona_tune.service.pages import STAMP, index_body, index_page
from krona_tune.service.queue.entry import Entry, Move, QueueView, SlotChange
from krona_tune.service.response_models import StudySummary
from krona_tune.service.responses import json_answer, refused
from tests.report.browser import CHROMIUM, Tab, chromium, opened_tab, wait_until_it_fits

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

"""How long the browser waits for the service, in milliseconds: other tests may run beside it."""
STUDIES = [
    StudySummary(name="first", state="running", trials=40, ended=12, seconds_left=4000.0, best=0.61, head_only=0.2),
    StudySummary(name="done", state="finished", trials=9, ended=9, best=0.5, head_only=0.3, device_seconds=7300.0),
]


def entries(now: float) -> dict[int, Entry]:
    """Returns an entry in each state, submitted within the last hours."""

    def made(number: int, name: str, state: str, person: str = "ann", **more: Any) -> Entry:
        values = {"person": person, "priority": 1, "submitted_at": now - 9000 + 500 * number, **more}
        return Entry(id=number, name=name, state=state, **values)  # type: ignore[arg-type]

    begun: dict[str, Any] = {"began_at": now - 4000}
    full = "/disk: 1.0 GB are free, 4.2 GB are needed; free some"
    found = [
        made(4, "first", "running", priority=8, slots=5, restarts=1, **begun),
        made(5, "second-with-a-longer-name", "running", "bob", priority=3, slots=2, **begun),
        made(6, "third", "running", "the service (carol)", **begun),
        made(7, "fourth", "queued", "bob"),
        made(3, "broken", "halted", reason=full, ended_at=now, **begun),
        made(2, "left", "stopped", "bob", reason="bob removed it", ended_at=now - 60, **begun),
        made(1, "done", "finished", ended_at=now - 1800, **begun),
    ]
    return {each.id: each for each in found}


@dataclass
class Queue:
    """A queue in memory behind the routes of the service; `deaf`: it refuses every change."""

    entries: dict[int, Entry] = field(default_factory=lambda: entries(time.time()))
    version: int = 0
    deaf: bool = False
    asked: list[tuple[str, int, int | None]] = field(default_factory=list)

    @property
    def view(self) -> QueueView:
        now, live = time.time(), sorted(self.entries.values(), key=lambda each: (not each.live, -each.priority))
        steps = ((9000, 1, 8), (7000, 4, 3), (7000, 1, 5), (4000, 5, 2), (4000, 1, 3), (1800, 1, 0), (1800, 4, 5))
        changes = [SlotChange(at=now - ago, id=of, name=self.entries[of].name, slots=n) for ago, of, n in steps]
        hours = {"ann": 20.25, "bob": 3.5}
        limits = {"bob": 2}
        return QueueView(entries=live, capacity="8 CPUs, 1 GPU", limits=limits, changes=changes, device_hours=hours)

    def change(self, number: int, **values: object) -> Entry:
        """Changes an entry, which every open page is told of."""
        self.entries[number] = self.entries[number].model_copy(update=values)
        self.version += 1
        return self.entries[number]

    def app(self) -> FastAPI:
        app, streams = FastAPI(), Streams()

        def answered(request: Request, number: int, asked: int | None, **values: object) -> Response:
            self.asked.append((request.method, number, asked))
            if self.deaf:
                return refused(request.scope, 422, Refusal(f"entry {number}", "it <b>may</b> not", "ask later"))
            return json_answer(self.change(number, **values))

        @app.get("/")
        def index(request: Request) -> HTMLResponse:
            body = index_body(STUDIES, "/studies", self.view)
            return HTMLResponse(index_page(request.scope, body, str(self.version), queue=True))

        @app.get("/main")
        def main() -> HTMLResponse:
            return HTMLResponse(index_body(STUDIES, "/studies", self.view), headers={STAMP: str(self.version)})

        @app.get("/events")
        def events(request: Request, since: str = "") -> Response:
            return streams.answer(request, lambda: News(stamp=str(self.version)), since)

        @app.get("/plotly.js")
        def plotly() -> Response:
            return Response(packed_script(), media_type="text/javascript", headers={"Content-Encoding": "gzip"})

        @app.patch("/api/queue/{number}")
        def move(request: Request, number: int, asked: Move) -> Response:
            return answered(request, number, asked.priority, priority=asked.priority)

        @app.delete("/api/queue/{number}")
        def remove(request: Request, number: int) -> Response:
            ran = self.entries[number].state == "running"
            return answered(request, number, None, **({"removed_by": "ann"} if ran else {"state": "removed"}))

        @app.post("/api/queue/{number}/again")
        def again(request: Request, number: int) -> Response:
            return answered(request, number, None, state="queued", reason="")

        app.add_middleware(Guard, access=Access())
        app.state.streams = streams
        return app


@contextmanager
def serving(queue: Queue) -> Iterator[str]:
    """Serves a queue from a thread; gives its address."""
    app = queue.app()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as opened:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{opened.getsockname()[1]}"
        finally:
            app.state.streams.end()
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with chromium() as browser, opened_tab(browser) as opened:
        yield opened


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def page(tab: Tab, queue: Queue) -> Iterator[Page]:
    tab.said.clear()
    with serving(queue) as address:
        tab.page.goto(address)
        tab.page.evaluate("window.notReloaded = true")
        yield tab.page
        assert tab.page.evaluate("window.notReloaded"), "the page was loaded again"
        tab.page.goto("about:blank")
    assert [line for line in tab.said if "422" not in line] == []


def priority(page: Page, study: str = "fourth") -> Locator:
    return page.get_by_label(f"Priority of {study}", exact=True)


def place(page: Page, study: str) -> Locator:
    return page.locator("#queue-live").get_by_role("row", name=study)


def test_a_priority_is_set_by_keyboard_unless_it_is_none_and_keeps_the_focus(page: Page, queue: Queue) -> None:
    field = priority(page)
    for wrong in ("11", "0", "1.5", ""):
        field.fill(wrong)
        page.keyboard.press("Enter")
        assert field.evaluate("field => !field.validity.valid"), wrong
    page.keyboard.type("9")
    page.keyboard.press("Enter")
    expect(page.locator("#queue-live tbody tr").first).to_contain_text("fourth")
    expect(field).to_be_focused()
    expect(field).to_have_value("9")
    expect(page.get_by_role("status")).to_contain_text(["fourth has priority 9."])
    assert queue.asked == [("PATCH", 7, 9)]


def test_what_was_typed_what_was_unfolded_and_an_open_dialog_stay_while_the_queue_changes(
    page: Page, queue: Queue
) -> None:
    page.get_by_text("Ended (3)").click()
    priority(page, "third").fill("4")
    page.get_by_role("button", name="Remove first").click()
    queue.change(7, state="halted", reason="it is new")
    expect(page.get_by_text("Ended (4)")).to_be_visible()
    expect(page.get_by_text("it is new")).to_be_visible()
    expect(priority(page, "third")).to_have_value("4")
    expect(page.get_by_role("dialog")).to_contain_text("Remove first from the queue? Its driver is asked to end")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Remove first")).to_be_focused()
    assert queue.asked == []


def test_a_removal_asks_first_and_what_was_removed_is_put_back(page: Page, queue: Queue) -> None:
    page.get_by_role("button", name="Remove fourth").click()
    expect(page.get_by_role("dialog")).to_contain_text("It loses its place.")
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(place(page, "fourth")).to_have_count(0)
    page.get_by_role("button", name="Remove first").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(place(page, "first")).to_contain_text("ends soon: ann removed it")
    page.get_by_text("Ended (4)").click()
    page.get_by_role("button", name="Queue again: fourth").click()
    expect(place(page, "fourth")).to_contain_text("queued")
    assert [(method, number) for method, number, _ in queue.asked] == [("DELETE", 7), ("DELETE", 4), ("POST", 7)]


def test_a_refusal_is_shown_beside_its_entry_until_a_change_succeeds(page: Page, queue: Queue) -> None:
    queue.deaf = True
    priority(page).fill("5")
    page.get_by_role("button", name="Set the priority of fourth").click()
    refusal = page.locator("#answer-7")
    expect(refusal.get_by_role("alert")).to_have_text("Refused: entry 7: it <b>may</b> not; ask later")
    queue.change(6, restarts=4)
    expect(place(page, "third")).to_contain_text("4 restarts")
    expect(refusal).to_be_visible()
    expect(priority(page)).to_have_value("5")
    queue.deaf = False
    page.get_by_role("button", name="Set the priority of fourth").click()
    expect(refusal).to_be_hidden()
    expect(priority(page)).to_have_value("5")


def test_the_slots_are_drawn_and_told_in_numbers(tab: Tab, page: Page) -> None:
    assert tab.draw_everything() == 1
    assert page.locator(".legendtext").all_text_contents() == ["done", "first", "second-with-a-longer-name"]
    page.get_by_text("The changes of slots in numbers").click()
    expect(page.locator("#changes tbody tr")).to_have_count(7)


def test_the_queue_fits_a_telephone_in_the_dark_and_in_the_light(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.get_by_text("Ended (3)").click()
    for scheme, lightness in (("dark", range(200)), ("light", range(566, 766))):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        wait_until_it_fits(page, 360)
        colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", colour)[:3])) in lightness, colour
    page.set_viewport_size({"width": 1280, "height": 900})
