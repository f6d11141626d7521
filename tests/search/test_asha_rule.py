"""Tests how a score at the cutoff is judged, which shared configurations go on, and that rows are judged alike."""

import pytest

from krona_tune.search.searchers.asha_rule import Rungs, SharedAverages
from krona_tune.study.result import Status
from tests.rows import row

TASKS = ("rte", "cola", "stsb", "sst2")


def rungs_of(rivals: int, reduction: int, *, exact: bool) -> Rungs:
    """Returns rungs at which so many trials have reported 0, .02, .04 …, each with the loss 0.5."""
    found = Rungs(reduction, exact=exact)
    for number in range(rivals):
        found.survives(1, number / 50, 0, 0.5)
    return found


@pytest.mark.parametrize("reduction", range(2, 10))
def test_where_the_cutoff_falls_on_a_score_the_losses_divide_the_trials_with_it(reduction: int) -> None:
    for rivals in range(1, 42, reduction):
        score = (rivals - 1) * (reduction - 1) // reduction / 50
        judged = [rungs_of(rivals, reduction, exact=True).survives(1, score, 0, loss) for loss in (0.4, 0.6)]
        assert judged == [True, False], f"{rivals} rivals"


@pytest.mark.parametrize(("rivals", "survives"), [(7, True), (10, False), (13, True), (16, False)])
def test_a_cutoff_that_is_rounded_up_stops_a_trial_whatever_its_loss(rivals: int, *, survives: bool) -> None:
    rungs = rungs_of(rivals, 3, exact=False)
    assert rungs.survives(1, (rivals - 1) * 2 // 3 / 50, 0, 0.0) is survives


def test_a_configuration_is_stopped_after_one_or_two_tasks_but_not_after_three() -> None:
    """Of four tasks η = 2 judges after the first and the second; 0.5, then 0.6, are the best that got as far."""
    averages = SharedAverages(4, 2)
    assert averages.add(0, "rte", 0.5) == (0.5, Status.INTERRUPTED)
    assert averages.add(1, "rte", 0.4) == (0.4, Status.STOPPED_EARLY)
    assert averages.add(0, "cola", 0.7) == (pytest.approx(0.6), Status.INTERRUPTED)
    assert averages.add(0, "stsb", 0.0) == (pytest.approx(0.4), Status.INTERRUPTED)
    assert averages.scored(0) == {"rte", "cola", "stsb"}
    assert averages.add(0, "sst2", 0.8) == (0.5, Status.COMPLETED)


def test_earlier_trials_are_judged_in_the_order_of_their_ends() -> None:
    """Configuration 2 ended its first task before 1 did, and 3 failed; 4 runs."""
    rows = [
        row("rte", 0, 0.5, ended_at=1.0),
        row("rte", 1, 0.55, ended_at=3.0),
        row("rte", 2, 0.6, ended_at=2.0),
        row("cola", 2, 0.8, ended_at=4.0),
        row("rte", 3, None, status=Status.DIVERGED, ended_at=5.0),
        row("rte", 4, 0.1, status=Status.INTERRUPTED),
    ]
    assert SharedAverages(4, 2).replay(rows) == {
        0: (Status.INTERRUPTED, {1: 0.5}),
        1: (Status.INTERRUPTED, {1: 0.55}),
        2: (Status.INTERRUPTED, {1: 0.6, 2: pytest.approx(0.7)}),
        3: (Status.DIVERGED, {}),
        4: (Status.INTERRUPTED, {}),
    }
    later = SharedAverages(4, 2).replay([*rows[:1], *rows[2:], row("rte", 1, 0.52, ended_at=3.0)])
    assert later[1] == (Status.STOPPED_EARLY, {1: 0.52})
