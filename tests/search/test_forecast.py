"""Tests that a study's forecast is made of the parts of its trials, and follows how far these have come."""

from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from krona_tune.search.forecast import (
    ADDED_SHARE,
    AMONG_BEST,
    DRAWN_FINALS,
    IDLE,
    PHASE,
    Forecast,
    TaskForecast,
    TrialParts,
    filling,
    survivors,
)
from krona_tune.search.layer_passes import LayerPasses, StudyPasses
from krona_tune.search.startup.slots import Slots
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.proposer import Proposer
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.study_state import Counts
from tests.rows import row

RUNGS = Schedule(examples_per_epoch=100, rungs=(100, 300, 700), reduction=3)
RTE = TaskForecast(
    schedule=RUNGS,
    adapter=TrialParts(epoch=10.0, evaluation=1.0),
    head=TrialParts(epoch=4.0, evaluation=1.0),
)


def forecast() -> Forecast:
    return Forecast(tasks={"rte": RTE})


def spec(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({"model": "m", "tasks": ("rte",), **sections})


def tried(examples: int, seconds: float, kind: str = "search") -> TrialResult:
    params = {"method": "head_only" if kind == "baseline" else "krona"}
    return row(kind=kind, params=params, status=Status.INTERRUPTED, examples=examples, train_seconds=seconds)


def test_a_trial_takes_its_epochs_and_the_evaluations_on_its_way() -> None:
    assert RTE.until(700) == 70 + 3
    assert RTE.until(200) == 20 + 1
    assert RTE.until(700, RTE.head) == 28 + 3


@pytest.mark.parametrize(("budget", "trainings"), [(15, 9), (6, 0), (None, 0)])
def test_finals_may_add_what_their_budget_leaves(budget: int | None, trainings: int) -> None:
    asked, slots = spec(finalists={"top": 1, "seeds": 3, "budget": budget}), Slots(cpus=1.0, gpus=0.0, count=2)
    assert forecast().may_add(asked, slots) == pytest.approx((1 - ADDED_SHARE) * trainings * 73 / 2)
    least = spec(finalists={"top": 1, "seeds": 3, "budget": 6})
    added = forecast().study(asked, slots) - forecast().study(least, slots)
    assert added == pytest.approx(ADDED_SHARE * trainings * 73 / 2)
    assert forecast().busy(asked) - forecast().busy(least) == pytest.approx(ADDED_SHARE * trainings * 73)


def test_finals_take_more_where_the_best_has_the_dearest_adapter() -> None:
    """Of six trainings half are the default's, if it takes part; no more seeds are paid for."""
    asked, slots = spec(finalists={"top": 1, "seeds": 3}), Slots(cpus=1.0, gpus=0.0, count=2)
    dear = replace(RTE, dearest=RTE.adapter.times(3))
    for compares, finals, dearest in ((False, 3, 3), (True, 6, 3)):
        found = Forecast(tasks={"rte": dear}, planned=PlanFacts(compares=compares))
        usual = Forecast(tasks={"rte": RTE}, planned=PlanFacts(compares=compares))
        assert found.parts("rte", asked)["finalist"][0] == finals + 3
        assert found.may_add(asked, slots) == pytest.approx(dearest * 2 * 73 / 2)
        assert usual.may_add(asked, slots) == 0.0
        assert found.study(asked, slots) == usual.study(asked, slots)


def test_fewer_finals_are_expected_where_the_default_counts_as_one_of_the_best() -> None:
    request = {"top": 1, "seeds": 3}
    asked = {each: spec(search={"trials": 5}, finalists={**request, "counted": each}) for each in (True, False)}
    found = Forecast(tasks={"rte": RTE}, planned=PlanFacts(compares=True, tries_default=True))
    finals = {counted: found.parts("rte", each)["finalist"] for counted, each in asked.items()}
    assert finals[False][0] - finals[True][0] == pytest.approx(3 * AMONG_BEST)
    slots = Slots(cpus=1.0, gpus=0.0, count=1)
    assert found.study(asked[False], slots) - found.study(asked[True], slots) == pytest.approx(3 * AMONG_BEST * 73)
    left = {counted: found.left(each, [], lambda trial: 0.0, 1, 0.0) for counted, each in asked.items()}
    assert left[False] - left[True] == pytest.approx(3 * AMONG_BEST * 73)
    untried = replace(found, planned=PlanFacts(compares=True))
    assert untried.parts("rte", asked[True]) == untried.parts("rte", asked[False])


def test_of_many_arrivals_about_one_in_reduction_goes_on_and_of_few_more() -> None:
    assert survivors(1, 3) == 1
    assert survivors(2, 3) == 1.5
    assert survivors(900, 3) == pytest.approx(300, rel=0.03)
    assert survivors(9, 3) > 3


def test_survivors_are_those_that_asha_lets_go_on() -> None:
    """Applies ASHA's rule itself to many random draws."""
    rng = np.random.default_rng(5)
    counts = []
    for _ in range(3000):
        scores = rng.random(7)
        cutoffs = [np.percentile(scores[:m], 100 * (1 - 1 / 4)) if m else -1.0 for m in range(7)]
        counts.append(sum(score >= cutoff for score, cutoff in zip(scores, cutoffs, strict=True)))
    assert np.mean(counts) == pytest.approx(survivors(7, 4), rel=0.03)


def test_a_study_is_its_trials_less_what_is_stopped_over_the_slots() -> None:
    search = {"trials": 6, "baseline_learning_rates": [1e-2, 1e-3]}
    asked = spec(search=search, finalists={"top": 2, "seeds": 4})
    second, third = survivors(6, 3), survivors(survivors(6, 3), 3)
    busy = 6 * 11 + second * 21 + third * 41 + 2 * 31 + 8 * 73 + 4 * 31
    assert forecast().busy(asked) == pytest.approx(busy)
    start, waiting = 2 * PHASE, 2 * IDLE * 73  # of two phases
    assert forecast().study(asked, Slots(cpus=2, gpus=0.5, count=2)) == pytest.approx(start + (busy + waiting) / 2)
    finals = 8 * 73 + 4 * 31  # which wait for the search
    assert forecast().study(asked, Slots(cpus=2, gpus=0.5, count=5)) == pytest.approx(
        start + 73 + (finals + 4 * IDLE * 73) / 5  # the search takes no less than its longest trial
    )
    assert forecast().study(asked, Slots(cpus=2, gpus=0.5, count=500)) == start + 73 + 73
    assert forecast().device_hours(asked, Slots(cpus=2, gpus=0.5, count=5)) == pytest.approx(busy * 0.5 / 3600)
    assert forecast().device_hours(asked, Slots(cpus=2, gpus=0, count=5)) == pytest.approx(busy * 2 / 3600)
    without_head = Forecast(tasks={"rte": RTE}, planned=PlanFacts(text_to_text=True))
    assert without_head.busy(asked) == pytest.approx(busy - 31)  # one baseline, whatever the learning rates


def test_each_method_searches_for_itself() -> None:
    each = {"method": ["krona", "lora", "lokr"]}
    one, three = (spec(adapter=each, search={"trials": 5, "per_method": per_method}) for per_method in (False, True))
    for methods in (3, 2):  # of three, a deployment may leave out one
        found = Forecast(tasks={"rte": RTE}, planned=PlanFacts(methods=methods))
        assert found.busy(three) - found.busy(one) == pytest.approx((methods - 1) * RTE.search(5))


def test_a_shared_configuration_is_stopped_between_tasks_only_the_cheap_ones_first() -> None:
    """All six configurations are trained in full on COLA; they are judged after one and after two of three tasks."""
    short = replace(RTE, schedule=Schedule(examples_per_epoch=100, rungs=(100, 200), reduction=2))
    found = Forecast(tasks={"rte": RTE, "cola": short, "mrpc": RTE})
    search = {"trials": 6, "shared": True, "baseline_learning_rates": []}
    asked = StudySpec.model_validate(
        {"model": "m", "tasks": ("rte", "cola", "mrpc"), "search": search, "schedule": {"reduction": 2}}
    )
    second = survivors(6, 2)
    busy = 6 * (20 + 2) + second * 73 + survivors(second, 2) * 73
    assert found.busy(asked) == pytest.approx(busy)
    slots = [Slots(cpus=1, gpus=0, count=count) for count in (2, 500)]
    waiting = IDLE * 73 / 2
    assert [found.study(asked, each) - PHASE for each in slots] == pytest.approx([busy / 2 + waiting, 22 + 73 + 73])


def test_taught_trials_are_trained_to_their_end_where_the_plan_found_points() -> None:
    own, asked = (spec(search={"trials": 5, "taught": taught}) for taught in (False, True))
    whole = RTE.until(RTE.schedule.total_examples)
    for taught in (0, 1, 3):  # of the three that the request asks for
        found = Forecast(tasks={"rte": RTE}, planned=PlanFacts(taught=taught))
        more = taught * whole + RTE.search(5 - taught) - RTE.search(5)
        assert found.busy(asked) - forecast().busy(own) == pytest.approx(more)


def test_what_rows_took_corrects_what_is_to_come() -> None:
    took = [tried(100, 16.5), tried(300, 48.0), tried(700, 46.5, kind="baseline"), tried(0, 9.0)]
    corrected = forecast().corrected(took)
    assert corrected.tasks["rte"].until(700) == pytest.approx(1.5 * 73, rel=0.01)
    assert forecast().corrected([]) == forecast()


def test_a_rows_parts_are_those_of_its_kind_of_point() -> None:
    taught = RTE.adapter.times(0.5)
    of = replace(RTE, taught=taught)
    drawn, final, head = (tried(4, 1.0, kind) for kind in ("search", "finalist", "baseline"))
    rows = [drawn, replace(drawn, proposed_by=Proposer.RECORDED_CURVES), final, head]
    assert [of.parts_of(each) for each in rows] == [RTE.adapter, taught, taught, RTE.head]
    assert RTE.parts_of(rows[1]) == RTE.final == RTE.adapter
    assert of.final.epoch == pytest.approx(10 * (0.5 * (1 - DRAWN_FINALS) + DRAWN_FINALS))


def test_states_are_computed_by_the_trials_that_are_the_first_to_need_them() -> None:
    passes = [LayerPasses(forward=1 - depth, backward=1.0, stored={depth: 1.0}) for depth in (0.5, 0.75)]
    counts = Counts(searched=5, heads=1, repeats=0, finals=6, final_heads=3, may_add=0)
    both = StudyPasses(drawn=passes[0], most=passes[0], taught=passes[1])
    alike = StudyPasses(drawn=passes[0], most=passes[0], taught=passes[0])
    same = filling(alike, counts, taught=2, once=8.0, tested=4.0, heads=True)
    assert same["search"] == pytest.approx(8 * 0.5), "each depth once"
    found = filling(both, counts, taught=2, once=8.0, tested=4.0, heads=True)
    assert found == {"baseline": 8.0, "search": pytest.approx(8 * 1.25), "finalist": pytest.approx(4 * 1.75)}
    drawn = StudyPasses(drawn=passes[0], most=passes[0])
    alone = filling(drawn, counts, taught=0, once=8.0, tested=4.0, heads=False)
    assert alone == {"baseline": 0.0, "search": pytest.approx(4), "finalist": pytest.approx(2)}
    none = Counts(**dict.fromkeys(asdict(counts), 0))
    assert not any(filling(both, none, taught=0, once=8.0, tested=4.0, heads=True).values())


def test_finalists_also_take_their_evaluation_on_the_test_half() -> None:
    asked = spec(search={"trials": 6, "baseline_learning_rates": [0.01]}, finalists={"top": 1, "seeds": 3})
    with_test = replace(RTE, adapter=replace(RTE.adapter, test=4.0), head=replace(RTE.head, test=1.0))
    plain, tested = (Forecast(tasks={"rte": task}) for task in (RTE, with_test))
    (count, before), (_, after) = (each.parts("rte", asked)["finalist"] for each in (plain, tested))
    assert (count, after - before) == (6, pytest.approx(2.5))


def test_a_head_over_stored_states_is_forecast_by_its_own_pace_and_corrected_by_its_own_rows() -> None:
    stored = replace(RTE, head=TrialParts(epoch=0.5, evaluation=0.1), filling={"baseline": 3.0})
    asked = spec(search={"trials": 6, "baseline_learning_rates": [0.01, 0.001]})
    found = Forecast(tasks={"rte": stored})
    assert found.parts("rte", asked)["baseline"] == (2, pytest.approx(7 * 0.5 + 3 * 0.1 + 3.0 / 2))
    rows = [tried(700, 3.8 * 2, kind="baseline"), tried(100, 11.0)]
    corrected = found.corrected(rows).tasks["rte"]
    assert (corrected.adapter.epoch, corrected.head.epoch) == (10.0, pytest.approx(1.0))


def test_what_is_left_is_what_no_row_and_no_running_trial_has_done() -> None:
    """Six searched trials and a head: one trial has ended as forecast, one is half done."""
    asked = spec(search={"trials": 6, "baseline_learning_rates": [0.01]})
    searched = RTE.search(6) / 6
    ended, running = tried(100, 11.0), tried(0, 0.0)
    ended, running = replace(ended, status=Status.COMPLETED, ended_at=3.0), replace(running, trial_id="r")
    left = forecast().left(asked, [ended, running], lambda trial_id: 0.5, slots=2, now=40.0)
    assert left == pytest.approx((4.5 * searched + 31 + IDLE * 73) / 2)
    slower = replace(ended, train_seconds=22.0)
    assert forecast().left(asked, [slower], lambda trial_id: 0.0, slots=1, now=40.0) == pytest.approx(
        2 * 5 * searched + 31
    )


def test_a_trial_that_was_interrupted_is_done_as_far_as_its_last_report() -> None:
    asked = spec(search={"trials": 6, "baseline_learning_rates": [0.01]})
    searched = RTE.search(6) / 6
    waiting = [replace(tried(examples, 0.0), trial_id=f"t{examples}", ended_at=9.0) for examples in (0, 100, 300)]
    waiting = [replace(each, train_seconds=RTE.until(each.examples)) for each in waiting]
    left = forecast().left(asked, waiting, lambda trial_id: 0.5 if trial_id == "t100" else 0.0, slots=1, now=40.0)
    assert left == pytest.approx((6 - 0.5 - 3 / 7) * searched + 31)


def test_a_trial_that_a_kill_cut_off_long_ago_waits_and_says_nothing_of_the_pace() -> None:
    """A killed driver leaves a row without an end, and its worker a note of how far it was."""
    asked, cut = spec(search={"trials": 6}), replace(tried(0, 0.0), trial_id="cut", started_at=0.0)
    whole = forecast().left(asked, [], lambda trial_id: 0.0, slots=1, now=28_800.0)
    left = [
        forecast().left(asked, [cut], lambda trial_id: 0.5, slots=1, now=28_800.0, running=running)
        for running in (["cut"], [])
    ]
    assert left[0] > 10 * whole
    assert left[1] <= whole


def test_what_a_clone_copied_took_it_no_time() -> None:
    clone = replace(tried(300, 1.5 * (RTE.until(300) - RTE.until(100))), copied_examples=100)
    assert forecast().corrected([clone]).tasks["rte"].until(700) == pytest.approx(1.5 * RTE.until(700))
    waiting = replace(clone, examples=0, train_seconds=0.0)
    left = forecast().left(spec(search={"trials": 6}), [waiting], lambda trial_id: 0.0, slots=1, now=40.0)
    assert left == pytest.approx((6 - 1 / 7) * RTE.search(6) / 6 + 31)


LONG = TaskForecast(schedule=RUNGS, adapter=RTE.adapter.times(20), head=RTE.head.times(20))


def seen_at(now: float, pace: float, start: float, trials: int) -> tuple[list[TrialResult], dict[str, float]]:
    """Returns the rows and progress of trials that run one after the other, at `pace` times what is forecast, each
    after `start` seconds, after `now` seconds."""
    rows, shares, one = [], {}, start + pace * LONG.until(700)
    for number in range(min(trials, int(now // one) + 1)):
        begun = number * one
        busy = (now - begun - start) / pace
        reported = max(rung for rung in (0, *RUNGS.rungs) if LONG.until(rung) <= busy or not rung)
        following = min((rung for rung in RUNGS.rungs if rung > reported), default=700)
        trained = min(reported + max(busy - LONG.until(reported), 0.0) / LONG.adapter.epoch * 100, following)
        made = tried(reported, pace * LONG.until(reported))
        made = replace(made, trial_id=f"rte-{number:03d}", started_at=begun)
        ended = reported == 700
        rows.append(replace(made, status=Status.COMPLETED, ended_at=begun + one) if ended else made)
        shares[made.trial_id] = 0.0 if ended else trained / 700
    return rows, shares


@pytest.mark.parametrize(("pace", "start"), [(1.0, 0.0), (0.4, 0.0), (3.0, 0.0), (3.0, 9.0), (1.0, 9.0)])
def test_the_time_left_follows_the_pace_that_is_seen_before_the_first_report_too(pace: float, start: float) -> None:
    """From 200 s after the start to the last eighth; at three times what was forecast the first report takes 660 s."""
    asked = spec(search={"trials": 4, "early_stopping": False, "baseline_learning_rates": [0.01]})
    whole, head = 4 * (start + pace * LONG.until(700)), LONG.until(700, LONG.head)
    found = []
    for now in np.linspace(200, 7 / 8 * whole, 200):
        rows, shares = seen_at(now, pace, start, trials=4)
        left = Forecast(tasks={"rte": LONG}).left(asked, rows, lambda name, of=shares: of[name], slots=1, now=now)
        found.append((left - head, whole - now))
    assert all(abs(left - rest) < 0.25 * rest for left, rest in found)
    rises = [max(after - before, 0.0) for (before, _), (after, _) in pairwise(found)]
    assert sum(rises) < 0.2 * whole


def test_a_long_last_trial_is_waited_for_whatever_the_slots() -> None:
    """Of four slots one trains the last trial, which is one quarter done; the head alone has ended."""
    asked = spec(search={"trials": 2, "early_stopping": False, "baseline_learning_rates": [0.01]}, finalists={"top": 0})
    done = [replace(tried(700, 73.0), status=Status.COMPLETED, ended_at=73.0)]
    done += [replace(tried(700, 31.0, kind="baseline"), status=Status.COMPLETED, ended_at=31.0)]
    last = replace(tried(0, 0.0), trial_id="last", started_at=0.0)
    left = forecast().left(asked, [*done, last], lambda name: 0.25 * (name == "last"), slots=4, now=20.0)
    assert left == pytest.approx(0.75 * 73)
