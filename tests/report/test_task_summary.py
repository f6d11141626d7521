"""Tests who won and by how much, on a study with known numbers."""

from collections.abc import Sequence
from dataclasses import replace
from math import isclose, nan

import pytest

from krona_tune.report.study_results import average, read_results
from krona_tune.report.task_summary import TaskSummary, pareto, summarise
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.proposer import Proposer
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.standings import Standings
from tests.record.events import ended, manifest, report, started

FACTS = manifest("rte").tasks["rte"]


def scored(number: int, score: float, parameters: int, **changes: object) -> TrialResult:
    trial = started(number, "rte")
    done = ended(trial, Status.COMPLETED, [report(trial, 0, score)])
    return replace(done, trainable_parameters=parameters, metrics={"accuracy": score}, **changes)  # type: ignore[arg-type]


def summary_of(trials: Sequence[TrialResult], facts: TaskFacts | None = FACTS) -> TaskSummary:
    return summarise("rte", Standings(trials), facts)


def test_a_task_is_ranked_on_validation_and_held_against_both_baselines(study: StudyFolder) -> None:
    cola, rte, mrpc = read_results(study).tasks
    assert [each.trial.trial_id for each in cola.ranked] == ["cola-0001", "cola-0002", "cola-0005", "cola-0003"]
    assert cola.best is not None
    assert (cola.best.score, cola.constant_score, cola.baseline_score) == (0.6, 0.0, 0.2)
    assert isclose(cola.gain_over_constant or 0, 0.6)
    assert isclose(cola.gain_over_baseline or 0, 0.4)
    assert cola.counts == {
        Status.COMPLETED: 3,
        Status.STOPPED_EARLY: 1,
        Status.DIVERGED: 1,
        Status.INTERRUPTED: 1,
    }
    assert [trial.trial_id for trial in cola.troubled] == ["cola-0004", "cola-0005"]
    assert (rte.best, rte.gain_over_constant, rte.counts) == (None, None, {Status.FAILED: 1})
    assert (mrpc.best, mrpc.counts, mrpc.smallest_tied) == (None, {}, None)


def test_an_equal_score_ranks_by_fewer_parameters() -> None:
    summary = summary_of([scored(0, 0.75, 900), scored(1, 0.75, 500), scored(2, 0.5, 100)])
    assert [each.trial.trainable_parameters for each in summary.ranked] == [500, 900, 100]
    assert [each.place for each in summary.ranked] == [1, 2, 3]


def test_a_baseline_is_never_the_best_and_the_best_baseline_counts() -> None:
    summary = summary_of(
        [scored(0, 0.9, 10, kind="baseline"), scored(1, 0.8, 10, kind="baseline"), scored(2, 0.7, 500)]
    )
    assert summary.best is not None
    assert (summary.best.score, summary.baseline_score) == (0.7, 0.9)
    assert isclose(summary.gain_over_baseline or 0, -0.2)


def test_a_score_that_is_not_a_number_does_not_rank() -> None:
    summary = summary_of([scored(0, nan, 10), scored(1, 0.6, 20)])
    assert [each.trial.number for each in summary.ranked] == [1]


def test_trials_within_two_standard_errors_of_the_difference_are_tied() -> None:
    """With 100 examples at .8 the error is .04, and .057 for a difference: .10 is within two of them, .13 is not."""
    summary = summary_of([scored(0, 0.8, 900), scored(1, 0.7, 300), scored(2, 0.67, 200)])
    assert [each.tied for each in summary.ranked] == [True, True, False]
    assert summary.smallest_tied is not None
    assert summary.smallest_tied.trial.trainable_parameters == 300


def test_more_examples_tell_more_trials_apart() -> None:
    facts = FACTS.model_copy(update={"validation_examples": 10_000})
    summary = summary_of([scored(0, 0.8, 900), scored(1, 0.7, 300)], facts)
    assert [each.tied for each in summary.ranked] == [True, False]


@pytest.mark.parametrize(("baseline", "beats"), [(0.6, True), (0.75, False)])
def test_a_gain_over_the_head_alone_may_be_chance(baseline: float, beats: bool) -> None:
    assert summary_of([scored(0, baseline, 10, kind="baseline"), scored(1, 0.8, 500)]).beats_baseline is beats


def test_the_best_of_many_trials_must_gain_more_over_the_head_alone() -> None:
    """With 100 examples .8 is 2.5 standard errors of the difference above .64."""
    head, best = scored(0, 0.64, 10, kind="baseline"), scored(1, 0.8, 500)
    assert summary_of([head, best]).beats_baseline is True
    assert summary_of([head, best, *(scored(number, 0.5, 500) for number in range(2, 13))]).beats_baseline is False


def test_whether_a_baseline_is_beaten_is_unknown_without_one() -> None:
    assert summary_of([scored(1, 0.8, 500)]).beats_baseline is None


def test_the_average_is_over_the_tasks_that_have_a_result() -> None:
    with_result = summarise("rte", Standings([scored(0, 0.75, 9), scored(1, 0.6, 9, kind="baseline")]), FACTS)
    other = FACTS.model_copy(update={"constant_score": 0.25})
    second = summarise(
        "mrpc", Standings([scored(2, 0.25, 9, task="mrpc"), scored(3, 0.5, 9, task="mrpc", kind="baseline")]), other
    )
    none = summarise("cola", Standings([]), FACTS)
    mean = average([with_result, none, second])
    assert mean is not None
    assert mean.tasks == ("rte", "mrpc")
    assert (mean.best, mean.constant, mean.baseline) == (0.5, pytest.approx(0.4), pytest.approx(0.55))
    assert average([none]) is None


def test_an_average_of_baselines_needs_each_of_them() -> None:
    with_baseline = summarise("rte", Standings([scored(0, 0.75, 9), scored(1, 0.6, 9, kind="baseline")]), FACTS)
    without = summarise("mrpc", Standings([scored(2, 0.25, 9, task="mrpc")]), FACTS)
    mean = average([with_baseline, without])
    assert mean is not None
    assert mean.baseline is None


def test_the_pareto_front_rises_from_few_parameters_to_many() -> None:
    trials = [scored(0, 0.8, 900), scored(1, 0.7, 300), scored(2, 0.65, 500), scored(3, 0.6, 100), scored(4, 0.7, 400)]
    front = pareto(summary_of([*trials, scored(5, 0.9, 0)]).ranked)
    assert [each.trial.trainable_parameters for each in front] == [100, 300, 900]


def test_a_task_that_the_manifest_does_not_know_is_shown_too(study: StudyFolder) -> None:
    manifest("rte").write(study.manifest)
    assert [each.task for each in read_results(study).tasks] == [
        "rte",
        "cola",
    ]


def test_where_curves_teach_those_trained_to_their_end_come_first_and_a_much_higher_score_is_not_tied() -> None:
    cut = replace(scored(1, 0.95, 500), status=Status.STOPPED_EARLY)
    summary = summary_of([scored(0, 0.6, 500, proposed_by=Proposer.RECORDED_CURVES), cut])
    assert [each.score for each in summary.ranked] == [0.6, 0.95]
    assert [each.tied for each in summary.ranked] == [True, False]
    assert summary.taught
    assert not summary_of([scored(0, 0.6, 500)]).taught


@pytest.mark.parametrize(
    ("metrics", "by_loss", "said"),
    [
        (("accuracy",), False, ""),
        (("accuracy",), True, "A validation score is the loss of the targets, negated."),
        (("perplexity",), False, "In a score perplexity counts negated, so that the higher is the better."),
    ],
)
def test_what_counts_negated_is_said(metrics: tuple[str, ...], by_loss: bool, said: str) -> None:
    facts = FACTS.model_copy(update={"metrics": metrics, "compared_by_loss": by_loss})
    assert summary_of([scored(0, 0.6, 500)], facts).negated == said


def test_a_metric_of_ones_own_that_counts_negated_is_named() -> None:
    facts = FACTS.model_copy(update={"metrics": ("mae", "worst"), "averages": False})
    said = "In a score mae and worst counts negated, so that the higher is the better."
    assert summary_of([scored(0, -0.2, 500)], facts).negated == said
