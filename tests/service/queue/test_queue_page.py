"""Tests what the index shows of a queue: entries, slots over time, device hours; and nothing where no queue runs."""

import json
import re
from html import escape
from typing import Any

import pytest

from krona_tune.report.html import figure_json
from krona_tune.service.answers import StudySummary
from krona_tune.service.pages import MOST_CHANGES, index_body, index_page
from krona_tune.service.queue.entry import Entry, QueueView, SlotChange
from krona_tune.service.queue.slots_chart import COLOURS, DAY, MOST_MOMENTS, slots_picture
from tests.report.test_study_page import Page
from tests.service.test_pages import page_of

NOON = 1_767_268_800.0
"""2026-01-01 12:00 UTC."""
EVIL = '"><script>alert("k")</script>%{x}'
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


def row(html: str, number: int) -> str:
    """Returns an entry's row."""
    found = re.search(rf'<tr data-entry="{number}".*?</tr>', html, re.DOTALL)
    assert found
    return found[0]


def text_of(html: str) -> str:
    found = Page()
    found.feed(html)
    return found.text


def drawn(changes: list[SlotChange], now: float = NOON) -> dict[str, tuple[list[str], list[int]]]:
    """Returns each area's times and slots by its label."""
    picture = slots_picture(changes, now)
    assert picture
    return {trace.name: (list(trace.x), list(trace.y)) for trace in picture.figure.data}


def test_a_service_without_a_queue_shows_none() -> None:
    html = index(None)
    assert "ueue" not in html
    assert "<li>" not in html
    assert html == str(index_body([STUDY], "here"))
    assert "queue" not in index_page({"nonce": "n"}, index_body([STUDY], "here"), "s").partition("<body")[2]


def test_the_queue_is_listed_above_the_studies_by_place() -> None:
    html = index(view())
    text = page_of(html).text
    assert text.index("What waits and what runs.") < text.index("The newest first.")
    assert text_of(row(html, 2)) == "1 first ann Set running 2 restarts 3 2026-01-01 10:00:02 UTC Remove…"
    assert text_of(row(html, 3)) == "2 second ann Set waits for slots 1 restart 0 2026-01-01 10:00:03 UTC Remove…"
    assert text_of(row(html, 4)) == "3 late bob Set queued 0 2026-01-01 10:00:04 UTC Remove…"
    assert 'value="7"' in row(html, 2)
    assert page_of(html).ids.count("priority-2") == 1


def test_only_a_study_that_has_begun_is_linked() -> None:
    html = index(view())
    assert 'href="/studies/first"' in row(html, 2)
    assert "href" not in row(html, 4)


def test_an_entry_that_was_removed_while_it_runs_says_so_and_is_not_removed_twice() -> None:
    shown = row(index(view()), 5)
    assert "ends soon: bob removed it" in text_of(shown)
    assert "<button type" not in shown


def test_what_ended_is_listed_apart_with_its_reason_and_may_be_queued_again_unless_it_is_finished() -> None:
    html = index(view())
    assert "Ended (3)" in page_of(html).text
    assert text_of(row(html, 6)) == (
        "broken ann halted the disk is full 2026-01-01 10:00:06 UTC 2026-01-01 12:00:00 UTC Queue again"
    )
    assert "Queue again" not in row(html, 1)
    assert "Queue again" in row(html, 7)
    assert "Ended (" not in index(view([WAITS]))


@pytest.mark.parametrize(("number", "said"), [(2, "keeps its trials, and can be put back"), (4, "loses its place. It")])
def test_a_removal_says_what_becomes_of_the_study(number: int, said: str) -> None:
    confirm = dict(page_of(row(index(view()), number)).attributes[-1][1])["data-confirm"]
    assert confirm
    assert said in confirm


def test_the_queue_says_what_there_is_to_share_and_what_is_wrong() -> None:
    text = page(view(limits={"ann": 1, "bob": 4})).text
    assert "The studies share 8 CPUs , in proportion to their priorities." in text
    assert "At most 1 slot at once goes to the studies of ann, 4 slots at once go to the studies of bob." in text
    text = page(view(capacity="", problem="the cluster does not answer")).text
    assert "the cluster does not answer" in text
    assert "The studies share" not in text


def test_an_empty_queue_says_how_a_study_gets_in() -> None:
    html = index(view([]))
    assert "krona-tune submit SPACE --to http://…" in html
    assert "data-entry" not in html


def test_each_study_is_an_area_of_steps_that_share_their_moments() -> None:
    areas = drawn(CHANGES)
    assert {name: slots for name, (_, slots) in areas.items()} == {"first": [2, 2, 0, 0], "second": [0, 5, 5, 5]}
    moments = ["2026-01-01T11:00:00.000000", "2026-01-01T11:30:00.000000", "2026-01-01T11:45:00.000000"]
    assert [times for times, _ in areas.values()] == [[*moments, "2026-01-01T12:00:00.000000"]] * 2


def test_fewer_than_two_changes_are_not_drawn() -> None:
    assert slots_picture(CHANGES[:1], NOON) is None
    assert slots_picture([each.model_copy(update={"slots": 0}) for each in CHANGES], NOON) is None
    assert "Usage" not in page(view(changes=CHANGES[:1])).text


def test_a_change_before_the_last_day_holds_from_its_beginning() -> None:
    old = SlotChange(at=NOON - 5 * DAY, id=9, name="old", slots=6)
    times, slots = drawn([old, *CHANGES])["old"]
    assert times[0] == "2025-12-31T12:00:00.000000"
    assert set(slots) == {6}


def test_a_day_of_many_changes_and_studies_is_drawn_with_few_points_and_the_greatest_areas() -> None:
    changes = [
        SlotChange(at=NOON - DAY + 10 * turn, id=turn % 20, name=f"s{turn % 20}", slots=1 + turn % 20)
        for turn in range(8000)
    ]
    areas = drawn(changes)
    greatest = [f"s{number}" for number in range(20 - len(COLOURS), 20)]
    assert list(areas) == [*greatest, f"{20 - len(COLOURS)} others"]
    assert max(len(times) for times, _ in areas.values()) <= MOST_MOMENTS + 2
    assert areas["s19"][1][-1] == 20
    assert areas["13 others"][1][-1] == sum(range(1, 14))


def test_the_changes_are_told_in_numbers_too_the_newest_first() -> None:
    text = page(view(changes=CHANGES)).text
    assert "2026-01-01 11:45:00 UTC first 0 2026-01-01 11:30:00 UTC second 5 2026-01-01 11:00:00 UTC first 2" in text
    many = [CHANGES[0].model_copy(update={"at": NOON + turn}) for turn in range(1234)]
    html = index(view(changes=many))
    assert f"the last {MOST_CHANGES} of 1,234 changes" in html
    assert html.count('<th scope="row">first</th>') == MOST_CHANGES


def test_device_hours_are_shown_if_anybody_used_some() -> None:
    text = page(view(device_hours={"ann": 0.25, "": 0.1, "bob": 12.345})).text
    assert "bob 12.35 ann 0.25 not recorded 0.10" in text
    assert "Device hours of each" not in page(view()).text


def test_hostile_names_and_reasons_are_text() -> None:
    evil = [
        entry(2, "a", person=EVIL, removed_by=EVIL, reason=EVIL).model_copy(update={"name": EVIL}),
        entry(3, "b", "halted", person=EVIL, reason=EVIL, ended_at=NOON).model_copy(update={"name": EVIL}),
    ]
    changes = [each.model_copy(update={"name": EVIL}) for each in CHANGES[:2]]
    html = index(view(evil, changes=changes, limits={EVIL: 2}, device_hours={EVIL: 1.0}, problem=EVIL, capacity=EVIL))
    found = page_of(html)
    assert "<script>alert" not in html
    assert found.tags["script"] == found.tags["figure"] == 1
    assert not [name for _, tag in found.attributes for name in tag if name.startswith("on")]
    [figure] = re.findall(r'<script type="application/json" id="queue-slots">(.*?)</script>', html, re.DOTALL)
    [trace] = json.loads(figure)["data"]
    assert trace["name"] == escape(f"{EVIL[:31]}…")
    assert "alert" not in trace["hovertemplate"]


def test_a_figure_can_not_end_its_script() -> None:
    picture = slots_picture([each.model_copy(update={"name": "</script>"}) for each in CHANGES], NOON)
    assert picture
    assert "<" not in figure_json(picture.figure)


def test_the_page_of_a_queue_has_one_script_more_with_its_nonce() -> None:
    body = index_body([STUDY], "here", view())
    plain, changing = (page_of(index_page({"nonce": "n0"}, body, "s", queue=queue)) for queue in (False, True))
    assert changing.tags["script"] == plain.tags["script"] + 1
    assert all(tag["nonce"] == "n0" for name, tag in changing.attributes if name == "script")
    assert changing.ids.count("queue-confirm") == 1
    assert len(set(changing.ids)) == len(changing.ids)


def test_every_field_and_button_of_an_entry_names_its_study() -> None:
    for name, tag in page_of("".join(row(index(view()), number) for number in (2, 4, 6))).attributes:
        if name in {"input", "button"}:
            assert re.search(r"first|late|broken", tag["aria-label"] or "")
