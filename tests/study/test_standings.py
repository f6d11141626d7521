"""Tests the ranking: by score, then smaller, then earlier; by the average if tasks share; by the finals."""

from dataclasses import replace
from typing import Any

from krona_tune.study.finals import DEFAULT
from krona_tune.study.proposer import Proposer
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.standings import BEST_OF_ALL, BEST_OF_FINISHED, BEST_ON_AVERAGE, Standings, rank_trials
from tests.rows import row
from tests.study.final_rows import repeats


def trial(number: int, score: float | None, size: int = 9, task: str = "cola", **more: Any) -> TrialResult:
    return row(task, number, score, trainable_parameters=size, **more)


def test_the_highest_score_is_first_of_equals_the_smaller_then_the_earlier() -> None:
    rows = [
        trial(0, 0.5),
        trial(1, 0.7, 8),
        trial(2, 0.7, 5),
        trial(3, 0.7, 5),
        trial(4, None),
        trial(5, float("nan")),
        trial(6, -0.2),
    ]
    assert [each.number for each in rank_trials(rows)] == [2, 3, 1, 0, 6]


def test_what_became_of_a_trial_plays_no_part_only_its_last_score_does() -> None:
    rows = [trial(0, 0.5), trial(1, 0.9, status=Status.DIVERGED), trial(2, 0.8, status=Status.INTERRUPTED)]
    assert [each.number for each in rank_trials(rows)] == [1, 2, 0]


def test_beside_taught_trials_those_that_were_trained_to_their_end_come_first() -> None:
    rows = [
        trial(0, 0.5, proposed_by=Proposer.RECORDED_CURVES),
        trial(1, 0.9, status=Status.STOPPED_EARLY),
        trial(2, 0.6),
        trial(3, 0.8, status=Status.INTERRUPTED),
    ]
    assert [each.number for each in rank_trials(rows)] == [2, 0, 1, 3]
    assert [each.number for each in rank_trials(rows[1:])] == [1, 3, 2]


def test_the_rule_by_which_the_best_is_selected_is_said() -> None:
    rows = [trial(0, 0.5), trial(0, 0.1, task="rte"), trial(1, 0.6, task="rte", proposed_by=Proposer.RECORDED_CURVES)]
    assert Standings(rows).rule("cola") == BEST_OF_ALL
    assert Standings(rows).rule("rte") == BEST_OF_FINISHED
    cut_short = [trial(0, 0.5, status=Status.INTERRUPTED, proposed_by=Proposer.RECORDED_CURVES)]
    assert Standings(cut_short).rule("cola") == BEST_OF_ALL
    assert Standings(rows, ("cola", "rte")).rule("cola") == BEST_ON_AVERAGE


def test_the_search_the_heads_and_the_tasks_are_apart() -> None:
    rows = [trial(0, 0.5), trial(1, 0.9, kind="baseline"), trial(2, 0.3, kind="baseline"), trial(3, 0.8, task="rte")]
    standings = Standings(rows)
    assert [each.number for each in standings.searched("cola")] == [0]
    assert standings.best("cola") == standings.winner("cola") == rows[0]
    assert standings.baseline("cola") == rows[1]
    assert standings.baseline("rte") is None
    assert standings.best("mrpc") is standings.winner("mrpc") is None


def test_tasks_that_share_their_configurations_have_the_best_average_s() -> None:
    rows = [trial(0, 0.9), trial(0, 0.1, task="rte"), trial(1, 0.6), trial(1, 0.6, task="rte"), trial(2, 0.99)]
    standings = Standings(rows, ("cola", "rte"))
    assert [each.number for each in standings.shared] == [1, 0]
    assert standings.best("cola") == rows[2]
    assert Standings(rows).best("cola") == rows[4]
    other = trial(1, 0.3, task="mrpc")
    assert Standings([*rows, other], ("cola", "rte")).best("mrpc") == other, "no task of those that share"


def test_of_several_shared_finalists_one_is_that_of_all_tasks() -> None:
    """A study that went on has two: the second wins on average, the first on the one task, a third lacks a task."""
    scores = {"cola": {3: (0.9, 0.9), 5: (0.8, 0.8), 7: (1.0, 1.0)}, "rte": {3: (0.2, 0.2), 5: (0.6, 0.7)}}
    rows = [
        replace(each, task=task, trial_id=f"{task}-{each.trial_id}", of=f"{task}-{number:03d}", number=number)
        for task, found in scores.items()
        for number, validation in found.items()
        for each in repeats(str(number), validation, validation)
    ]
    head = [
        replace(each, task="cola", of="cola-head-0")
        for each in repeats("head", (0.5,) * 2, (0.5,) * 2, method="head_only")
    ]
    together, apart = Standings([*rows, *head], ("cola", "rte")), Standings([*rows, *head])
    assert [[each.of for each in together.finals(task).finalists] for task in scores] == [["cola-005"], ["rte-005"]]
    assert together.finals("cola").head_only is not None
    assert [each.of for each in apart.finals("cola").finalists] == ["cola-007", "cola-003", "cola-005"]
    assert [row.of for row in (together.winner("cola"), together.chosen("rte")) if row] == ["cola-005", "rte-005"]


def test_a_shared_finalist_that_lacks_seeds_does_not_beat_one_that_has_all() -> None:
    scores = {3: (0.5, 0.5, 0.5), 5: (0.9,)}
    rows = [
        replace(each, task=task, trial_id=f"{task}-{each.trial_id}", of=f"{task}-{number:03d}", number=number)
        for task in ("cola", "rte")
        for number, validation in scores.items()
        for each in repeats(str(number), validation, validation)
    ]
    standings = Standings(rows, ("cola", "rte"))
    assert [row.of for row in map(standings.chosen, ("cola", "rte")) if row] == ["cola-003", "rte-003"]


def test_the_default_of_a_shared_study_takes_part_though_the_search_has_tried_it_too() -> None:
    rows = [
        replace(each, task=task, trial_id=f"{task}-{each.trial_id}", of=f"{task}-{tried:03d}", number=number)
        for task in ("cola", "rte")
        for number, tried, validation in ((1, 1, (0.7, 0.7)), (DEFAULT, 5, (0.6, 0.6)))
        for each in repeats(str(number), validation, validation)
    ]
    finals = Standings(rows, ("cola", "rte")).finals("cola")
    assert finals.compares
    assert [each.of for each in finals.finalists] == ["cola-001", "cola-005"]
    assert finals.default is finals.finalists[1]


def test_the_front_rises_with_the_parameters() -> None:
    rows = [trial(0, 0.5, 9), trial(1, 0.7, 20), trial(2, 0.6, 30), trial(3, 0.4, 5)]
    assert [each.number for each in Standings(rows).front("cola")] == [3, 0, 1]


def test_the_finals_decide_who_wins() -> None:
    finals = [*repeats("rte-1", [0.5, 0.6], [0.5, 0.5]), *repeats("rte-2", [0.7, 0.8], [0.4, 0.4])]
    rows = [trial(0, 0.999, task="rte"), *finals]
    standings = Standings(rows)
    winner = standings.finals("rte").winner
    assert winner is not None
    assert standings.winner("rte") == winner.best_row == finals[3]
    assert standings.best("rte") == rows[0]
