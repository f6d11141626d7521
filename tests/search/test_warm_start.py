"""Tests that tasks first try the best points of an earlier study, as far as their own space allows."""

from typing import Any

from krona_tune.search.searchers.warm_start import adopt_points, earlier_points
from krona_tune.study.result import Status, TrialResult
from tests.search.conftest import space

SPACE = space("bert", {"a_out": [4, 6], "a_in": 6, "scale": {"low": 1.0, "high": 8.0}, "roles": ["query", "value"]})
TASKS = ("cola", "rte", "stsb")


def row(task: str, number: int, score: float | None, status: Status = Status.COMPLETED, **params: Any) -> TrialResult:
    return TrialResult(
        trial_id=f"{task}-{number:03d}",
        task=task,
        kind="search",
        number=number,
        seed=1,
        fingerprint="",
        status=status,
        score=score,
        params={"method": "krona", "a_out": 4, "a_in": 6, "scale": 1.0 + number, "roles": "value", **params},
    )


def scales(points: Any) -> list[float]:
    return [point["scale"] for point in points]


def test_an_earlier_study_is_tried_first_its_own_task_before_the_others() -> None:
    rows = [
        row("rte", 0, 0.6),
        row("rte", 1, 0.8),
        row("rte", 2, 0.9, Status.STOPPED_EARLY),
        row("rte", 3, float("nan")),
        row("rte", 4, 0.7),
        row("rte", 5, 0.5),
        row("cola", 6, 0.3),
        row("cola", 7, 0.2),
    ]
    earlier = earlier_points(rows, TASKS)
    assert {task: scales(points) for task, points in earlier.items()} == {
        "rte": [2.0, 5.0, 1.0, 7.0],
        "cola": [7.0, 8.0, 2.0],
        "stsb": [2.0, 7.0],
    }
    adopted = [[each.point for each in adopt_points(SPACE, earlier["stsb"], number)] for number in range(3)]
    assert list(map(scales, adopted)) == [[2.0, 7.0], [7.0], []]


def test_a_point_is_adopted_with_the_values_that_are_fixed_here_and_only_where_the_others_can_be_drawn() -> None:
    adopted = SPACE.adopted({"method": "krona", "a_out": 6, "a_in": 2, "scale": 3.5, "roles": "query"})
    assert adopted
    assert (adopted["a_out"], adopted["a_in"], adopted["scale"]) == (6, 6, 3.5)
    assert adopted["learning_rate"] == 3e-3
    other = {"method": "krona", "a_out": 6, "a_in": 2, "scale": 3.5, "roles": "query"}
    for change in ({"a_out": 12}, {"scale": 9.0}, {"roles": "output"}, {"method": "krona_b"}, {"scale": None}):
        assert SPACE.adopted({**other, **change}) is None
