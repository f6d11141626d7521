"""Tests what the index shows of a queue: entries, slots over time, device hours; and nothing where no queue runs."""

import json
import re
from html import escape

import pytest

from krona_tune.report.html import figure_json
from krona_tune.service.pages import MOST_CHANGES, index_body, index_page
from krona_tune.service.queue.slots_chart import draw_slots
from tests.report.pages import Page, page_of
from tests.service.queue.entries import CHANGES, NOON, STUDY, WAITS, entry, index, page, view

EVIL = '"><script>alert("k")</script>%{x}'


def row(html: str, number: int) -> str:
    """Returns an entry's row."""
    found = re.search(rf'<tr data-entry="{number}".*?</tr>', html, re.DOTALL)
    assert found
    return found[0]


def text_of(html: str) -> str:
    found = Page()
    found.feed(html)
    return found.text


def test_a_service_without_a_queue_shows_none() -> None:
    html = index(None)
    assert "ueue" not in html
    assert "<li>" not in html
    assert html == str(index_body([STUDY], "here"))
    assert "queue" not in index_page({"nonce": "n"}, index_body([STUDY], "here"), "s").partition("<body")[2]


def test_the_queue_is_listed_above_the_studies_with_the_numbers_that_a_command_takes() -> None:
    html = index(view())
    text = page_of(html).text
    assert text.index("What waits and what runs.") < text.index("The newest first.")
    assert text_of(row(html, 2)) == "2 first ann Set running 2 restarts 3 2026-01-01 10:00:02 UTC Remove…"
    assert text_of(row(html, 3)) == "3 second ann Set waits for slots 1 restart 0 2026-01-01 10:00:03 UTC Remove…"
    assert text_of(row(html, 4)) == "4 late bob Set queued 0 2026-01-01 10:00:04 UTC Remove…"
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
        "6 broken ann halted the disk is full 2026-01-01 10:00:06 UTC 2026-01-01 12:00:00 UTC Queue again"
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


def test_the_changes_are_told_in_numbers_too_the_newest_first() -> None:
    text = page(view(changes=CHANGES)).text
    assert "2026-01-01 11:45:00 UTC first 0 2026-01-01 11:30:00 UTC second 5 2026-01-01 11:00:00 UTC first 2" in text
    many = [CHANGES[0].model_copy(update={"at": NOON + turn}) for turn in range(1234)]
    html = index(view(changes=many))
    assert f"the last {MOST_CHANGES} of 1,234 changes" in html
    assert html.count('<th scope="row" class="study">first</th>') == MOST_CHANGES


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
    picture = draw_slots([each.model_copy(update={"name": "</script>"}) for each in CHANGES], NOON)
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
    tags = page_of("".join(row(index(view()), number) for number in (2, 4, 6))).attributes
    said = [tag["aria-label"] or "" for name, tag in tags if name in {"input", "button"}]
    assert said
    assert all(re.search(r"first|late|broken", each) for each in said), said
