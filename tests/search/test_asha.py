"""Tests one ASHA per task: tasks don't judge each other, baselines never stop, a resumed study judges as before."""

from math import inf, nan
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler

from krona_tune.search.searchers.asha import AshaPerGroup
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.request.schedule import make_schedule
from tests.search.rungs import CONTINUE, STOP, added, at, ends, judges, report

SCORES = (0.2, 0.9, 0.5, 0.1, 0.8, 0.4, 0.7, 0.3)


@given(
    reports=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), st.integers(0, 20)), max_size=60),
    rule=st.sampled_from([(2, True), (4, True), (2, False), (3, False), (4, False)]),
)
def test_decisions_are_those_of_rays_own_asha(reports: list[tuple[int, int, int]], rule: tuple[int, bool]) -> None:
    """Any trials report once at any rungs in any order, up to one rung beyond the budget. With 2 and 4 Ray's rounding
    changes nothing; with others a study that began with it keeps it."""
    reduction, exact = rule
    own = make_schedule(examples_per_epoch=60, epochs=reduction**3, grace_epochs=1, reduction=reduction)
    ours = AshaPerGroup({"cola": own}, per_method=False, exact=exact)
    rays = AsyncHyperBandScheduler(
        time_attr="examples",
        metric="score",
        mode="max",
        grace_period=own.rungs[0],
        max_t=own.total_examples,
        reduction_factor=reduction,
    )
    trials: dict[int, Any] = {}
    reached: dict[int, int] = {}
    for number, rung, score in reports:
        if rung <= reached.get(number, -1):
            continue
        if number not in trials:
            trials[number] = added(ours, number)
            rays.on_trial_add(None, trials[number])
        reached[number] = rung
        result = {"examples": own.rungs[rung], "score": score / 20, "train_loss": 0.0}
        assert ours.on_trial_result(None, trials[number], result) == rays.on_trial_result(None, trials[number], result)


def test_an_easy_and_a_hard_task_keep_the_same_share() -> None:
    scheduler = judges("sst2", "cola")
    kept: dict[str, list[bool]] = {"sst2": [], "cola": []}
    for number, score in enumerate(SCORES):
        for task, offset in (("sst2", 0.8), ("cola", 0.0)):
            trial = added(scheduler, number, task)
            kept[task].append(at(scheduler, trial, 0, offset + 0.1 * score) == CONTINUE)
    assert kept["sst2"] == kept["cola"]
    assert 2 <= sum(kept["cola"]) <= 5


def test_per_method_a_weak_methods_trials_are_judged_among_themselves() -> None:
    for per_method, weak in ((False, [STOP, STOP]), (True, [CONTINUE, CONTINUE])):
        scheduler = judges(per_method=per_method)
        strong = [added(scheduler, number) for number in (0, 1)]
        assert [at(scheduler, trial, 0, score) for trial, score in zip(strong, (0.8, 0.9), strict=True)][1] == CONTINUE
        rivals = [added(scheduler, number, method="bitfit") for number in (2, 3)]
        assert [at(scheduler, t, 0, s) for t, s in zip(rivals, (0.1, 0.2), strict=True)] == weak
    scheduler.replay([(report("cola-009", 0, 0.3), {"method": "bitfit"})])
    assert at(scheduler, added(scheduler, 4, method="bitfit"), 0, 0.15) == STOP
    assert at(scheduler, added(scheduler, 5, method="lora"), 0, 0.05) == CONTINUE


def test_the_better_half_goes_on_from_each_rung() -> None:
    scheduler = judges()
    trials = [added(scheduler, number) for number in range(4)]
    assert [at(scheduler, t, 0, s) for t, s in zip(trials, (0.5, 0.4, 0.6, 0.45), strict=True)] == [
        CONTINUE,
        STOP,
        CONTINUE,
        STOP,
    ]
    assert at(scheduler, trials[2], 1, 0.7) == CONTINUE
    assert at(scheduler, trials[0], 1, 0.65) == STOP


@pytest.mark.parametrize("score", [nan, inf, -inf])
@pytest.mark.parametrize("replayed", [False, True], ids=["live", "replayed"])
def test_a_score_that_is_no_number_ends_its_trial_and_judges_no_other(score: float, replayed: bool) -> None:
    scheduler, without = judges(), judges()
    if replayed:
        scheduler.replay([(report("cola-009", 0, score), {"method": "krona"})])
    else:
        assert at(scheduler, added(scheduler, 9), 0, score) == STOP
    for number, each in enumerate(SCORES):
        assert at(scheduler, added(scheduler, number), 0, each) == at(without, added(without, number), 0, each)


def test_a_baseline_is_neither_stopped_nor_counted() -> None:
    scheduler = judges()
    head = added(scheduler, 0, kind="baseline")
    assert at(scheduler, head, 0, 0.9) == CONTINUE
    searched = [added(scheduler, number) for number in (1, 2)]
    assert at(scheduler, searched[0], 0, 0.5) == CONTINUE
    assert at(scheduler, searched[1], 0, 0.6) == CONTINUE
    assert at(scheduler, head, 1, 0.0) == CONTINUE
    ends(scheduler, head, 0.0)


def test_replayed_reports_judge_a_new_trial() -> None:
    scheduler = judges("cola", "rte")
    earlier = [report("cola-000", 0, 0.6), report("cola-000", 1, 0.7), report("rte-000", 0, 0.1, "rte")]
    scheduler.replay((each, {"method": "krona"}) for each in earlier)
    assert at(scheduler, added(scheduler, 1), 0, 0.5) == STOP
    better = added(scheduler, 2)
    assert at(scheduler, better, 0, 0.65) == CONTINUE
    assert at(scheduler, better, 1, 0.66) == STOP
    assert at(scheduler, added(scheduler, 1, "rte"), 0, 0.2) == CONTINUE


def test_replayed_reports_judge_as_the_live_ones_did() -> None:
    live, resumed = judges(), judges()
    told = [(number, score) for number, score in enumerate(SCORES[:5])]
    for number, score in told:
        at(live, added(live, number), 0, score)
    resumed.replay((report(f"cola-{number:03d}", 0, score), {"method": "krona"}) for number, score in told)
    for number, score in enumerate(SCORES[5:], start=5):
        assert at(live, added(live, number), 0, score) == at(resumed, added(resumed, number), 0, score)


def test_a_trial_taken_up_at_a_higher_rung_leaves_its_last_score_out_of_the_lower_ones() -> None:
    """The resumed trial repeats rung 1 and ends; its final score must not judge the next trial's first report."""
    scheduler = judges(epochs=3)
    taken_up = added(scheduler, 0)
    assert at(scheduler, taken_up, 1, 0.8) == CONTINUE
    ends(scheduler, taken_up, 0.9)
    assert at(scheduler, added(scheduler, 1), 0, 0.5) == CONTINUE


def test_a_failure_without_a_score_changes_nothing() -> None:
    scheduler = judges()
    failed = added(scheduler, 0)
    scheduler.on_trial_complete(None, failed, {"status": "diverged", "done": True})
    lost = added(scheduler, 1)
    scheduler.on_trial_error(None, lost)
    removed = added(scheduler, 2)
    scheduler.on_trial_remove(None, removed)
    assert at(scheduler, added(scheduler, 3), 0, 0.1) == CONTINUE


def test_the_last_rung_stops_a_trial_that_did_not_say_that_it_is_done() -> None:
    scheduler = judges()
    assert at(scheduler, added(scheduler, 0), 2, 0.9) == STOP


def test_equal_scores_are_told_apart_by_the_training_loss() -> None:
    """If all scores are equal, only trials with a low training loss continue."""
    scheduler = judges()
    losses = (0.69, 0.66, 0.68, 0.61, 0.675)
    got = [at(scheduler, added(scheduler, n), 0, 0.0, loss) for n, loss in enumerate(losses)]
    assert got == [CONTINUE, CONTINUE, STOP, CONTINUE, STOP]
    assert at(scheduler, added(scheduler, 9), 0, 0.01, 0.7) == CONTINUE


@pytest.mark.parametrize("unit", [1.0, 1e-7])
def test_the_training_loss_overrules_no_score_in_whatever_unit(unit: float) -> None:
    """As of an error of labels that are small numbers: the losses differ by more than the scores."""
    scheduler = judges()
    scores, losses = (-6.0, -5.0, -6.5, -4.0), (0.1, 0.9, 0.05, 0.8)
    pairs = enumerate(zip(scores, losses, strict=True))
    got = [at(scheduler, added(scheduler, n), 0, unit * score, loss) for n, (score, loss) in pairs]
    assert got == [CONTINUE, CONTINUE, STOP, CONTINUE]
    assert at(scheduler, added(scheduler, 4), 0, unit * -5.4, 0.01) == CONTINUE


def test_with_sizes_a_trial_is_judged_among_those_that_are_not_larger() -> None:
    own = make_schedule(examples_per_epoch=60, epochs=4, grace_epochs=1, reduction=2)
    scheduler = AshaPerGroup({"cola": own}, per_method=False, size_of=lambda params: params["size"])

    def judged(number: int, size: int, score: float, rung: int = 0) -> str:
        message = TrialMessage(f"cola-{number:03d}", "cola", number, "search", 1, {"method": "krona", "size": size})
        trial: Any = SimpleNamespace(trial_id=f"t{number}", config=message.to_dict())
        scheduler.on_trial_add(None, trial)
        return at(scheduler, trial, rung, score)

    assert [judged(n, 900, score) for n, score in enumerate((0.8, 0.9, 0.7))] == [CONTINUE, CONTINUE, STOP]
    assert judged(3, 100, 0.3) == CONTINUE
    assert judged(4, 100, 0.2) == STOP
    assert judged(5, 50, 0.1) == CONTINUE
    assert judged(6, 900, 0.3) == STOP
    assert judged(3, 100, 0.1, rung=2) == STOP
    scheduler.replay([(report("cola-009", 0, 0.6), {"method": "krona", "size": 60})])
    assert judged(7, 80, 0.5) == CONTINUE
    assert judged(8, 80, 0.05) == STOP


def test_reports_between_the_rungs_stop_nobody_and_judge_nobody() -> None:
    own = make_schedule(examples_per_epoch=60, epochs=4, grace_epochs=1, reduction=2, every_epoch=True)
    scheduler = AshaPerGroup({"cola": own}, per_method=False)
    for number, score in enumerate(SCORES):
        result = {"examples": 180, "score": score, "train_loss": 0.5}
        assert scheduler.on_trial_result(None, added(scheduler, number), result) == CONTINUE
    assert at(scheduler, added(scheduler, 20), 1, 0.01) == CONTINUE  # the first at its rung


@pytest.mark.parametrize(("score", "next_one"), [(0.1, CONTINUE), (0.9, STOP)])
def test_a_spared_trial_goes_on_and_is_a_rival_of_the_others(score: float, next_one: str) -> None:
    scheduler = judges(spared=lambda message: message.number == 1)
    at(scheduler, added(scheduler, 0), 0, 0.5)
    assert at(scheduler, added(scheduler, 1), 0, score) == CONTINUE
    assert at(scheduler, added(scheduler, 2), 0, 0.6) == next_one
