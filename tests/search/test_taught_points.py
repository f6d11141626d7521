"""Tests that some of a task's first trials are taught points, until these are seen to be no better than others."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from krona_tune.search.searchers.open_samplers import open_samplers
from krona_tune.search.searchers.proposal import TriedPoint
from krona_tune.search.searchers.taught_points import TaughtPoints
from krona_tune.study.proposer import Proposer
from krona_tune.study.result import Status
from tests.search.conftest import never, spec
from tests.search.samplers import SPACE

ANY = {"method": "krona", "a_out": 4, "a_in": 6, "roles": "query", "layers": "last 2"}
POINTS = [point for scale in range(1, 13) if (point := SPACE.adopted({**ANY, "scale": float(scale)}))]

LARGER = SPACE.adopted({**ANY, "roles": "query+value", "scale": 1.0}) or {}


def taught_of(trials: int) -> TaughtPoints:
    return TaughtPoints("cola", SPACE, POINTS, spec(trials=trials, taught=True).search)


def sampler(folder: Path, trials: int) -> Any:
    asked = spec(startup_trials=1, trials=trials, taught=True)
    return open_samplers(asked, SPACE, folder / "journal", never, taught={"cola": taught_of(trials)})["cola"]


def proposed_by(one: Any, trials: int, *, taught: float, others: float) -> str:
    """Asks for trials one after the other, each trained to its end; returns T for a taught one, o for another."""
    said = ""
    for number in range(trials):
        name = f"cola-{number:03d}"
        assert one.ask(name, number) is not None
        is_taught = one.origin(name).proposed_by == Proposer.RECORDED_CURVES
        said += "T" if is_taught else "o"
        score = taught if is_taught else others
        one.report(name, 64, score)
        one.tell(name, Status.COMPLETED, score)
    return said


@pytest.mark.parametrize(
    ("trials", "expected"),
    [(1, "T"), (2, "To"), (3, "Too"), (4, "ToTo"), (5, "ToToT"), (10, "ToToToToTo"), (20, "ToToToToToToToToo")],
)
def test_taught_points_that_win_are_tried_and_optuna_keeps_two_trials(
    tmp_path: Path, trials: int, expected: str
) -> None:
    one = sampler(tmp_path, trials)
    assert proposed_by(one, len(expected), taught=0.6, others=0.5) == expected
    tried = [each.point for each, who in zip(one.tried(), expected, strict=True) if who == "T"]
    assert tried == POINTS[: len(tried)]


def test_points_that_win_less_than_half_are_given_up_for_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert proposed_by(sampler(tmp_path, 10), 10, taught=0.4, others=0.5) == "Tooooooooo"
    assert "0 of 1 comparisons won and 0 equal" in caplog.text


@pytest.mark.parametrize(
    ("status", "expected"),
    [(Status.DIVERGED, "Tooooo"), (Status.OUT_OF_MEMORY, "Tooooo"), (Status.FAILED, "ToToTo")],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_points_that_diverge_before_the_first_rung_lose_and_lost_workers_do_not(
    tmp_path: Path, status: Status, expected: str, resumed: bool
) -> None:
    one, said, ends = sampler(tmp_path, 6), "", dict[str, tuple[Status, dict[int, float]]]()
    for number in range(6):
        name = f"cola-{number:03d}"
        assert one.ask(name, number) is not None
        is_taught = one.origin(name).proposed_by == Proposer.RECORDED_CURVES
        said += "T" if is_taught else "o"
        ends[name] = (status, {}) if is_taught else (Status.COMPLETED, {64: 0.5})
        for step, score in ends[name][1].items():
            one.report(name, step, score)
        one.tell(name, ends[name][0], 0.5)
        if resumed:
            one = sampler(tmp_path, 6)
            for each, (how, scores) in ends.items():
                one.recall(each, one.point(each), how, scores)
    assert said == expected


def test_a_trial_that_diverged_late_loses_also_where_it_had_reported() -> None:
    late = TriedPoint(point=POINTS[0], scores={64: 0.9}, ended=True, worst=True)
    other = {**POINTS[0], "scale": 0.3}
    silent, learned = (TriedPoint(point=other, scores=scores, ended=True) for scores in ({}, {64: 0.5}))
    assert not taught_of(10).misled([late, silent])
    assert taught_of(10).misled([late, learned])
    assert not taught_of(10).misled([replace(learned, point=POINTS[0]), replace(late, point=other)])


def test_clones_of_a_taught_point_do_not_speak_against_it() -> None:
    taught = TriedPoint(point=POINTS[0], scores={64: 0.8}, ended=True)
    other = TriedPoint(point={**POINTS[0], "scale": 0.3}, scores={64: 0.6}, ended=True)
    clones = [TriedPoint(point={**POINTS[0], "scale": scale}, scores={64: 0.9}, ended=True) for scale in (0.4, 0.5)]
    assert taught_of(10).misled([taught, other, *clones])
    assert not taught_of(10).misled([taught, other, *(replace(each, ordered=True) for each in clones)])


def test_points_that_score_the_same_as_all_others_are_tried_further(tmp_path: Path) -> None:
    assert proposed_by(sampler(tmp_path, 5), 5, taught=0.5, others=0.5) == "ToToT"


def test_a_resumed_task_goes_on_with_the_next_taught_point(tmp_path: Path) -> None:
    proposed_by(sampler(tmp_path, 6), 2, taught=0.6, others=0.5)
    again = sampler(tmp_path, 6)
    assert again.ask("cola-000", 0) == POINTS[0]
    assert again.ask("cola-002", 2) == POINTS[1]
    assert again.origin("cola-002").proposed_by == Proposer.RECORDED_CURVES


def test_no_second_point_begins_before_the_first_has_ended_while_others_are_left() -> None:
    points, first = taught_of(5), TriedPoint(point=POINTS[0], scores={}, ended=False)
    other = TriedPoint(point={**POINTS[0], "scale": 0.3}, scores={}, ended=False)
    assert points.points(0, [])[0].point == POINTS[0]
    assert not points.points(2, [first, other])
    assert points.points(2, [first, other, other])
    ended = TriedPoint(point=POINTS[0], scores={}, ended=True)
    assert points.points(2, [ended, other])


@pytest.mark.parametrize(
    ("taught", "others", "misled"),
    [
        ([({1: 0.5, 3: 0.6}, True)], [({1: 0.4}, True)], False),
        ([({1: 0.5, 3: 0.6}, True)], [({1: 0.5}, True)], False),
        ([({1: 0.5}, True)], [({1: 0.5}, True), ({1: 0.6}, True)], True),
        ([({1: 0.5, 3: 0.6}, True)], [({1: 0.9, 3: 0.5}, True)], False),
        ([({1: 0.5}, False)], [({1: 0.9}, True)], False),
        ([({1: 0.5}, True)], [({1: 0.9}, False)], False),
        ([({}, True)], [({1: 0.9}, True)], False),
        ([({1: 0.5}, True), ({1: 0.7}, False)], [({1: 0.6}, True)], False),
        ([({1: 0.5}, True), ({1: 0.7}, False)], [({1: 0.6}, True), ({1: 0.8}, False)], True),
    ],
)
def test_scores_are_compared_where_both_have_reported(
    taught: list[tuple[dict[int, float], bool]], others: list[tuple[dict[int, float], bool]], misled: bool
) -> None:
    points = taught_of(10)
    tried = [TriedPoint(point=point, scores=s, ended=e) for point, (s, e) in zip(POINTS, taught, strict=False)]
    tried += [
        TriedPoint(point={**POINTS[0], "scale": 0.3 + number / 100}, scores=s, ended=e)
        for number, (s, e) in enumerate(others)
    ]
    assert points.misled(tried) is misled


def test_points_that_were_given_up_stay_so_after_a_resume_though_the_others_became_worse(tmp_path: Path) -> None:
    """The first taught point loses against the second trial; all later ones are worse than it."""

    def go_on(one: Any, numbers: range) -> str:
        said = ""
        for number in numbers:
            name = f"cola-{number:03d}"
            assert one.ask(name, number) is not None
            said += "T" if one.origin(name).proposed_by == Proposer.RECORDED_CURVES else "o"
            score = {0: 0.5, 1: 0.6}.get(number, 0.1)
            one.report(name, 64, score)
            one.tell(name, Status.COMPLETED, score)
        return said

    whole = go_on(sampler(tmp_path, 12), range(12))
    assert whole == "T" + 11 * "o"
    (tmp_path / "journal").rename(tmp_path / "whole")
    assert go_on(sampler(tmp_path, 12), range(6)) + go_on(sampler(tmp_path, 12), range(6, 12)) == whole


@pytest.mark.parametrize(
    ("taught", "other", "scores", "misled"),
    [
        (POINTS[0], LARGER, (0.4, 0.5), False),
        (LARGER, POINTS[0], (0.5, 0.4), False),
        (LARGER, POINTS[0], (0.4, 0.5), True),
        (POINTS[0], POINTS[1], (0.4, 0.5), True),
    ],
)
def test_of_every_size_a_larger_trial_wins_no_comparison(
    taught: dict[str, Any], other: dict[str, Any], scores: tuple[float, float], misled: bool
) -> None:
    assert SPACE.parameters(POINTS[0]) == SPACE.parameters(POINTS[1]) < SPACE.parameters(LARGER)
    asked = spec(trials=10, taught=True, objective="pareto").search
    both = zip((taught, other), scores, strict=True)
    tried = [TriedPoint(point=point, scores={64: score}, ended=True) for point, score in both]
    assert TaughtPoints("cola", SPACE, [taught], asked).misled(tried) is misled
