"""Tests the picture of who had how many slots of the queue."""

import pytest

from krona_tune.report.chart import COLOURS
from krona_tune.service.queue.entry import SlotChange
from krona_tune.service.queue.slots_chart import DAY, MOST_MOMENTS, draw_slots
from tests.service.queue.entries import CHANGES, NOON, page, view


def drawn(changes: list[SlotChange], now: float = NOON) -> dict[str, tuple[list[str], list[int]]]:
    """Returns each area's times and slots by its label."""
    picture = draw_slots(changes, now)
    assert picture
    return {trace.name: (list(trace.x), list(trace.y)) for trace in picture.figure.data}


def test_each_study_is_an_area_of_steps_that_share_their_moments() -> None:
    areas = drawn(CHANGES)
    assert {name: slots for name, (_, slots) in areas.items()} == {"first": [2, 2, 0, 0], "second": [0, 5, 5, 5]}
    moments = ["2026-01-01T11:00:00.000000", "2026-01-01T11:30:00.000000", "2026-01-01T11:45:00.000000"]
    assert [times for times, _ in areas.values()] == [[*moments, "2026-01-01T12:00:00.000000"]] * 2


def test_fewer_than_two_changes_are_not_drawn() -> None:
    assert draw_slots(CHANGES[:1], NOON) is None
    assert draw_slots([each.model_copy(update={"slots": 0}) for each in CHANGES], NOON) is None
    assert "Usage" not in page(view(changes=CHANGES[:1])).text


def test_a_change_before_the_last_day_holds_from_its_beginning() -> None:
    old = SlotChange(at=NOON - 5 * DAY, id=9, name="old", slots=6)
    times, slots = drawn([old, *CHANGES])["old"]
    assert times[0] == "2025-12-31T12:00:00.000000"
    assert set(slots) == {6}


@pytest.mark.slow
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
    assert areas["12 others"][1][-1] == sum(range(1, 13))
