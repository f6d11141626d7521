"""Makes up a queue's entries and changes, and its part of the index."""

from typing import Any

from krona_tune.service.pages import index_body
from krona_tune.service.queue.entry import Entry, QueueView, SlotChange
from krona_tune.service.response_models import StudySummary
from tests.report.pages import Page, page_of

NOON = 1_767_268_800.0
"""2026-01-01 12:00 UTC."""


STUDY = StudySummary(name="first", state="running", trials=9, ended=3, begun="2026-01-01T03:04:05+00:00")


def entry(number: int, name: str, state: str = "running", **more: Any) -> Entry:
    values = {"person": "ann", "priority": 1, "submitted_at": NOON - 7200 + number, "began_at": NOON - 3600, **more}
    return Entry(id=number, name=name, state=state, **values)  # type: ignore[arg-type]


WAITS = entry(4, "late", "queued", person="bob", priority=2, began_at=None)


ENTRIES = [
    entry(2, "first", slots=3, priority=7, restarts=2),
    entry(3, "second", slots=0, restarts=1),
    WAITS,
    entry(5, "leaving", slots=1, removed_by="bob"),
    entry(6, "broken", "halted", ended_at=NOON, reason="the disk is full"),
    entry(1, "done", "finished", ended_at=NOON - 60),
    entry(7, "ended", "stopped", ended_at=NOON - 120, reason="ann removed it"),
]


CHANGES = [
    SlotChange(at=NOON - 3600, id=2, name="first", slots=2),
    SlotChange(at=NOON - 1800, id=3, name="second", slots=5),
    SlotChange(at=NOON - 900, id=2, name="first", slots=0),
]


def view(entries: list[Entry] = ENTRIES, **more: Any) -> QueueView:
    return QueueView(entries=entries, **{"capacity": "8 CPUs", **more})


def index(queue: QueueView | None) -> str:
    return str(index_body([STUDY], "here", queue))


def page(queue: QueueView | None) -> Page:
    return page_of(index(queue))
