"""Tests what is told of a trial that runs now."""

from dataclasses import replace

import pytest

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import read_records
from krona_tune.report.loss_charts import draw_running_losses
from krona_tune.report.running_trials import RunningTrial, trials_under_way
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from tests.record.events import RUNGS, curve, manifest, report, started
from tests.service.conftest import note


@pytest.mark.parametrize(
    ("evaluated", "reached"),
    [((), 0), ((170,), 0), ((170, 340), 1), ((340, 680, 1020, 1360), 2), (RUNGS, 3)],
)
def test_a_trial_that_is_evaluated_between_its_rungs_has_reached_no_more_than_there_are(
    folder: StudyFolder, evaluated: tuple[int, ...], reached: int
) -> None:
    trial, facts, sink = started(7), manifest("cola"), ParquetSink(folder.results)
    sink.trial_started(trial)
    for number, examples in enumerate(evaluated):
        sink.reported(replace(report(trial, 0, 0.5), rung=number, examples=examples))
    recorded = replace(read_records(folder.results), running=frozenset({trial.trial_id}))
    [running] = trials_under_way(folder, facts, recorded)
    assert (running.rung, running.rungs) == (reached, len(RUNGS))


def test_a_running_trials_curve_goes_on_from_its_reports_to_its_workers_last_note(folder: StudyFolder) -> None:
    trial, other, facts, sink = started(7), started(8), manifest("cola"), ParquetSink(folder.results)
    sink.trial_started(trial)
    sink.trial_started(other)
    sink.reported(replace(report(trial, 0, 0.5), curve=curve(0.9, 0.7)))
    ids = frozenset({trial.trial_id, other.trial_id})

    def running() -> list[RunningTrial]:
        return trials_under_way(folder, facts, replace(read_records(folder.results), running=ids))

    assert [each.curve_loss for each in running()] == [[0.9, 0.7], []]
    note(folder, trial, 0.25, curve(0.7, 0.6, 0.5, after=170, to=680))  # its worker is that of the first rung
    first, second = running()
    assert (first.share, first.curve_examples, first.curve_loss) == (0.25, [170, 340, 510, 680], [0.9, 0.7, 0.6, 0.5])
    assert first.curve_learning_rate[-1] == pytest.approx(0.01 - 680 / 10**6)
    assert (second.share, second.curve_examples) == (0.0, [])
    drawn = draw_running_losses([first, second])
    assert drawn is not None
    [line] = drawn.figure.data
    assert (line.name, list(line.x), list(line.y)) == (
        trial.trial_id,
        [0.5, 1.0, 1.5, 2.0, None],
        [0.9, 0.7, 0.6, 0.5, None],
    )
    assert draw_running_losses([second]) is None


def test_a_full_training_has_no_rungs_and_epochs_of_its_own(folder: StudyFolder) -> None:
    trial, facts, sink = replace(started(7), kind=TrialKind.FULL_TRAIN), manifest("cola"), ParquetSink(folder.results)
    sink.trial_started(trial)
    known = replace(report(trial, 0, 0.5), examples=4000, epochs=2.0, curve=curve(0.9, 0.7, to=4000))
    for reports, examples in (((), None), ((known,), 2000)):
        for each in reports:
            sink.reported(each)
        recorded = replace(read_records(folder.results), running=frozenset({trial.trial_id}))
        [running] = trials_under_way(folder, facts, recorded)
        assert (running.rung, running.rungs, running.epoch_examples) == (0, 0, examples)
    drawn = draw_running_losses([running])
    assert drawn is not None
    assert list(drawn.figure.data[0].x) == [1.0, 2.0, None]
