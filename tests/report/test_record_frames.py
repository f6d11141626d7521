"""Tests that the frames have their documented columns, with one row per trial and one per rung."""

from pandas.api.types import is_numeric_dtype

from krona_tune.record.records import read_records
from krona_tune.report.record_frames import reports_frame, shape_word, trials_frame
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Report, TrialResult
from tests.record.events import started
from tests.report.conftest import Empty


def test_a_trial_is_one_row_with_its_knobs_and_metrics(study: StudyFolder) -> None:
    frame = trials_frame(study).set_index("trial_id")
    assert len(frame) == 7
    row = frame.loc["cola-0003"]
    assert (row["scale"], row["a_out"], row["a_in"], row["factor_shape"]) == (3.5, 12, 16, "12x16")
    assert (row["status"], row["score"], row["metric_matthews"]) == ("stopped_early", 0.1, 0.1)
    assert frame.loc["cola-0000", "factor_shape"] == ""


def test_a_report_is_one_row(study: StudyFolder) -> None:
    frame = reports_frame(study)
    assert len(frame) == 9
    assert frame[frame["trial_id"] == "cola-0001"]["score"].tolist() == [0.3, 0.6]


def test_a_trial_that_never_ended_has_what_it_reported_last(study: StudyFolder) -> None:
    [trial] = [trial for trial in read_records(study.results).trials if trial.trial_id == "cola-0005"]
    assert (trial.status, trial.score, trial.epochs) == ("interrupted", 0.5, 1.0)
    assert (trial.train_seconds, trial.evaluation_seconds, trial.metrics) == (2.5, 0.25, {"matthews": 0.5})


def test_a_failed_trial_keeps_having_no_score(study: StudyFolder) -> None:
    [trial] = [trial for trial in read_records(study.results).trials if trial.task == "rte"]
    assert trial.score is None


def test_an_empty_study_has_empty_frames_with_columns(empty: Empty) -> None:
    folder = empty("cola")
    nested = {"params", "metrics", "test_metrics", "curve"}
    assert {*TrialResult.__dataclass_fields__} - nested | {"factor_shape"} <= set(trials_frame(folder).columns)
    assert {*Report.__dataclass_fields__} - nested <= set(reports_frame(folder).columns)
    assert len(trials_frame(folder)) == len(reports_frame(folder)) == 0


def test_columns_hold_numbers_also_before_any_trial_has_one(study: StudyFolder, empty: Empty) -> None:
    for folder in (study, empty("cola")):
        trials, reports = trials_frame(folder), reports_frame(folder)
        numeric = ["score", "rung", "examples", "test_score", "expected_score", "ended_at"]
        assert all(map(is_numeric_dtype, trials[numeric].dtypes))
        assert trials.nlargest(2, "test_score").test_score.isna().all()
        assert reports.nlargest(2, "score").score.tolist() == sorted(reports.score, reverse=True)[:2]
    rungs = trials_frame(study).set_index("trial_id").rung
    assert [str(rungs[name]) for name in ("cola-0001", "rte-0000")] == ["1", "<NA>"]


def test_the_factor_shape_names_the_output_size_first() -> None:
    assert shape_word(started(0)) == "24x16"
