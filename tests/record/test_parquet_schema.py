"""Tests that a row comes back as it was written: every field, missing values, and what earlier versions wrote."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.adapters.method_table import METHODS
from krona_tune.record import parquet_schema
from krona_tune.record.parquet_reader import REPORT_KIND, TRIAL_KIND, read_reports, read_trials
from krona_tune.record.parquet_schema import report_of
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import Refusal
from krona_tune.study.result import Report, Status
from tests.record.damage import parts, table_in
from tests.record.events import RUNGS, curve, ended, report, started


@pytest.mark.parametrize("layer_norms", [False, True, "adapted"])
def test_every_field_comes_back_equal(tmp_path: Path, layer_norms: bool | str) -> None:
    trial = started(3, layers="first 4", layer_norms=layer_norms, dropout=0.125)
    reports = [report(trial, 0, 0.25), report(trial, 1, 0.5)]
    result = replace(ended(trial, Status.FAILED, reports, error="a\nb <c>"), checkpoint="x/y", adapter_parameters=11)
    sink = ParquetSink(tmp_path)
    for each in reports:
        sink.reported(each)
    sink.trial_ended(result)
    assert (read_trials(tmp_path), read_reports(tmp_path)) == ([result], reports)
    sink.study_ended([])
    assert (read_trials(tmp_path), read_reports(tmp_path)) == ([result], reports)
    assert read_trials(tmp_path)[0].params["layer_norms"] == layer_norms


CURVE_COLUMNS = ["curve_examples", "curve_loss", "curve_learning_rate"]


def test_a_training_curve_comes_back_equal_also_beside_rows_without_one(tmp_path: Path) -> None:
    trial = started(3)
    reports = [replace(report(trial, 0, 0.25), curve=curve(0.9, 0.5)), report(trial, 1, 0.5)]
    row = replace(ended(trial, Status.STOPPED_BY_USER, reports), curve=curve(0.4, 0.3, after=RUNGS[1], to=RUNGS[2]))
    sink = ParquetSink(tmp_path)
    for each in reports:
        sink.reported(each)
    sink.trial_ended(row)
    assert (read_trials(tmp_path), read_reports(tmp_path)) == ([row], reports)
    sink.study_ended([])
    assert (read_trials(tmp_path), read_reports(tmp_path)) == ([row], reports)
    table = table_in(tmp_path, REPORT_KIND)
    assert [table[name].to_pylist() for name in CURVE_COLUMNS] == [
        [[170, 340], []],
        [[0.9, 0.5], []],
        [[0.01 - 170 / 10**6, 0.01 - 340 / 10**6], []],
    ]


def test_a_loss_that_is_no_number_stays_at_the_end_of_its_curve(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    sink.trial_ended(replace(ended(started(1), Status.DIVERGED, []), curve=curve(0.75, math.nan)))
    [row] = read_trials(tmp_path)
    assert str([point.loss for point in row.curve]) == "[0.75, nan]"
    assert "curve_loss" not in row.params


def test_records_of_before_there_were_training_curves_are_read(tmp_path: Path) -> None:
    trial = started(1)
    sink = ParquetSink(tmp_path)
    sink.reported(report(trial, 0, 0.5))
    sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.5)]))
    for part in parts(tmp_path):
        pq.write_table(pq.read_table(part).drop_columns(CURVE_COLUMNS), part)
    assert read_reports(tmp_path) == [report(trial, 0, 0.5)]
    assert read_trials(tmp_path) == [ended(trial, Status.COMPLETED, [report(trial, 0, 0.5)])]


@pytest.mark.parametrize("losses", [[0.5], [0.5, None]], ids=["shorter", "with a gap"])
def test_half_a_curve_is_refused(tmp_path: Path, losses: list[float | None]) -> None:
    ParquetSink(tmp_path).reported(replace(report(started(1), 0, 0.5), curve=curve(0.9, 0.5)))
    [part] = parts(tmp_path)
    table = pq.read_table(part)
    place = table.column_names.index("curve_loss")
    pq.write_table(table.set_column(place, "curve_loss", pa.array([losses], pa.list_(pa.float64()))), part)
    with pytest.raises(Refusal, match="can't be read"):
        read_reports(tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_comes_back_with_the_knobs_that_it_reads(tmp_path: Path, method: str) -> None:
    trial = started(3, method=method)
    read = {name: trial.params[name] for name in trial.params if name in METHODS[method].reads or name == "method"}
    written = {"dropout_layers": "all", "accumulation": 1, "gradient_checkpointing": False}  # an older study lacks them
    result = replace(
        ended(trial, Status.COMPLETED, []),
        params={**read, "learning_rate": 0.25, "dropout": 0.0, **written},
    )
    ParquetSink(tmp_path).trial_ended(result)
    assert read_trials(tmp_path) == [result]


def test_a_finalists_look_at_the_test_half_comes_back_equal(tmp_path: Path) -> None:
    trial = replace(started(2, kind="finalist"), of="cola-0001")
    seen = replace(
        ended(trial, Status.COMPLETED, [report(trial, 0, 0.5)]),
        test_score=0.375,
        test_examples=93,
        test_metrics={"matthews": 0.375},
        test_resampled=(0.25, 0.5, 0.375),
        test_note="no value for 1 of 4 draws",
    )
    plain = ended(started(1), Status.COMPLETED, [])
    sink = ParquetSink(tmp_path)
    sink.trial_ended(plain)
    sink.trial_ended(seen)
    assert read_trials(tmp_path) == [plain, seen]
    sink.study_ended([])
    assert read_trials(tmp_path) == [plain, seen]
    table = table_in(tmp_path, TRIAL_KIND)
    assert table["test_metric_matthews"].to_pylist() == [None, 0.375]
    assert table["test_score"].to_pylist() == [None, 0.375]


def test_a_draw_without_a_score_keeps_its_place(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    sink.trial_ended(replace(ended(started(1), Status.COMPLETED, []), test_resampled=(0.25, math.nan, 0.375)))
    sink.study_ended([])
    assert str(read_trials(tmp_path)[0].test_resampled) == "(0.25, nan, 0.375)"


def test_records_of_before_there_were_finalists_are_read(tmp_path: Path) -> None:
    ParquetSink(tmp_path).trial_ended(ended(started(1), Status.COMPLETED, []))
    [part] = parts(tmp_path)
    later = ["of", "test_score", "test_examples", "test_resampled", "test_note"]
    pq.write_table(pq.read_table(part).drop_columns(later), part)
    assert read_trials(tmp_path) == [ended(started(1), Status.COMPLETED, [])]


def test_a_kronecker_adapter_of_before_there_were_sums_has_one_term(tmp_path: Path) -> None:
    ParquetSink(tmp_path).trial_ended(ended(started(1), Status.COMPLETED, []))
    [part] = parts(tmp_path)
    pq.write_table(pq.read_table(part).drop_columns(["terms", "scaling", "init"]), part)
    [row] = read_trials(tmp_path)
    assert row.params == {**started(1).params, "terms": 1, "scaling": "plain", "init": "krona"}


def test_a_parameter_that_may_be_none_comes_back_as_none(tmp_path: Path) -> None:
    trial = started(3)
    assert trial.params["dropout"] is None
    ParquetSink(tmp_path).trial_started(trial)
    assert read_trials(tmp_path)[0].params == trial.params


def test_types_do_not_depend_on_what_came_first(tmp_path: Path) -> None:
    empty = table_in(tmp_path, TRIAL_KIND).schema
    sink = ParquetSink(tmp_path)
    sink.trial_started(started(0, scale=2))
    assert table_in(tmp_path, TRIAL_KIND).schema == empty
    assert (empty.field("score").type, empty.field("scale").type) == (pa.float64(), pa.float64())
    assert (empty.field("a_out").type, empty.field("dropout").type) == (pa.int64(), pa.float64())
    assert (empty.field("rung").type, empty.field("layer_norms").type) == (pa.int64(), pa.string())


def test_trials_with_different_metrics_share_a_table(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    first, second = started(0), started(1, "rte")
    sink.reported(report(first, 0, 0.5))
    sink.reported(replace(report(second, 0, 0.75), metrics={"accuracy": 0.75}))
    sink.study_ended([])
    assert [each.metrics for each in read_reports(tmp_path)] == [{"matthews": 0.5}, {"accuracy": 0.75}]
    assert table_in(tmp_path, REPORT_KIND)["metric_accuracy"].to_pylist() == [None, 0.75]


def test_a_field_of_peft_may_be_a_word_for_one_method_and_a_number_for_another(tmp_path: Path) -> None:
    sink, expected = ParquetSink(tmp_path), []
    for number, value in enumerate((True, "gaussian", 3, 0.5)):
        trial = started(number, method="peft:LoRA", peft_init_lora_weights=value)
        expected.append(ended(trial, Status.COMPLETED, []))
        sink.trial_ended(expected[-1])
    assert read_trials(tmp_path) == expected
    sink.study_ended([])
    assert read_trials(tmp_path) == expected
    assert [row.params["peft_init_lora_weights"] for row in read_trials(tmp_path)] == [True, "gaussian", 3, 0.5]


@dataclass(frozen=True, kw_only=True)
class LaterReport(Report):
    """The report of a version that records one fact more."""

    gradient_norm: float = 0.0


def test_a_report_of_before_a_fact_was_recorded_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    written = report(started(0), 1, 0.5)
    monkeypatch.setattr(parquet_schema, "Report", LaterReport)
    assert report_of(written.row()) == LaterReport(**vars(written))


@pytest.mark.parametrize("lost", ["rung", "score"])
def test_a_report_without_a_value_that_every_version_wrote_is_refused(lost: str) -> None:
    row = report(started(0), 1, 0.5).row()
    with pytest.raises(ValueError, match=f"a report lacks {lost}"):
        report_of({**row, lost: None})
    with pytest.raises(ValueError, match=f"a report lacks {lost}"):
        report_of({name: value for name, value in row.items() if name != lost})
