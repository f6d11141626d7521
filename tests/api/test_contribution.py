"""Tests that a finished study's curves are written as a file from which another one learns, and what is refused."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from krona_tune.api.contribution import contribute
from krona_tune.cli import main
from krona_tune.record.contributed_curves import PROVENANCE, read_curves
from krona_tune.record.driver_state import write_driver_state
from krona_tune.record.ownership import lock_of
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.recorded_curves import COLUMNS
from krona_tune.refusal import Refusal
from krona_tune.search.planning.earlier_study import BY_LOSS, contributed_curves
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.request.loader import build_spec, dump_spec
from krona_tune.study.result import Status
from krona_tune.study.study_state import DriverState
from tests.conftest import Run
from tests.old_studies.stored import FORMATS, put_back
from tests.record.events import ended, manifest, report, started


def study(
    folder: Path,
    trials: int = 3,
    *,
    rungs: int = 3,
    of: int | None = None,
    of_each: Sequence[Mapping[str, Any]] = (),
    **params: Any,
) -> StudyFolder:
    """Writes a study of `of` trials of which `trials` have ended; the first two are of one point.

    `params` are knobs of all trials; with `of_each` there are as many trials as it has knobs for, of one point but for
    these.
    """
    trials = len(of_each) or trials
    found = StudyFolder(folder)
    folder.mkdir()
    asked = {"model": "m", "name": folder.name, "tasks": ["cola"]}
    search = {"trials": of or trials, "baseline_learning_rates": []}
    found.spec.write_text(dump_spec(build_spec({**asked, "search": search}, "x.yaml")), encoding="utf-8")
    whole = manifest("cola")
    sizes = {"width": 48, "depths": {"encoder": 2}, "parameters": 10**6}
    model = type(whole.model).model_validate({**whole.model.model_dump(), **sizes})
    whole.model_copy(update={"model": model}).write(found.manifest)
    sink = ParquetSink(found.results)
    for number in range(trials):
        own = of_each[number] if of_each else {"scale": 2.0 + number // 2}
        trial = started(number, **{"scale": 2.0, "roles": "value", **params, **own})
        reports = [report(trial, rung, 0.1 * number + 0.1 * rung) for rung in range(rungs)]
        sink.trial_started(trial)
        for each in reports:
            sink.reported(each)
        sink.trial_ended(ended(trial, Status.COMPLETED, reports, error="no word of this"))
    sink.study_ended([])
    return found


def test_a_file_has_a_row_a_report_and_says_where_it_is_from_without_any_text(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    left = contribute(study(tmp_path / "mine", 4), path)
    assert (left.points, left.trials, left.reports, left.left_out) == (2, 2, 6, 2)
    curves = read_curves(path)
    assert tuple(pq.read_schema(path).names) == COLUMNS
    assert [row["score"] for row in curves.rows[:3]] == pytest.approx([0.0, 0.1, 0.2])
    assert {row["number"] for row in curves.rows} == {0, 1}
    task = curves.provenance.tasks["cola"]
    assert (task.budget, task.metrics) == (3060, ("matthews",))
    assert curves.provenance.model.width == 48
    whole = path.read_bytes()
    for word in (b"no word of this", str(tmp_path).encode(), b"first-study", b"run_study"):
        assert word not in whole
    said = json.loads(pq.read_schema(path).metadata[PROVENANCE])
    assert said.keys() == {"format", "krona_tune", "versions", "model", "tasks"}


def test_a_point_is_written_only_if_the_columns_say_all_that_changes_its_score(tmp_path: Path) -> None:
    knobs = (
        {"weight_decay": 0.1},
        {},
        {"clip_norm": 0.5},
        {"dropout_layers": "adapted"},
        {"scale": 3.0, "accumulation": 4, "gradient_checkpointing": True},
    )
    left = contribute(study(tmp_path / "mine", of_each=knobs), tmp_path / "theirs.parquet")
    assert (left.points, left.trials, left.left_out) == (2, 2, 3)
    assert [row["score"] for row in read_curves(tmp_path / "theirs.parquet").rows[:1]] == pytest.approx([0.1])


def test_scores_that_are_negated_losses_have_no_bounds_and_teach_no_other_scores(tmp_path: Path) -> None:
    folder, path = study(tmp_path / "mine"), tmp_path / "theirs.parquet"
    known = read_manifest(folder.manifest)
    by_loss = known.tasks["cola"].model_copy(update={"compared_by_loss": True})
    known.model_copy(update={"tasks": {"cola": by_loss}}).write(folder.manifest)
    sink = ParquetSink(folder.results)
    trial = started(9, scale=4.0, roles="value")
    reports = [report(trial, rung, -2.0 + rung) for rung in range(2)]
    for each in reports:
        sink.reported(each)
    sink.trial_ended(ended(trial, Status.COMPLETED, reports))
    sink.study_ended([])
    contribute(folder, path)
    assert min(row["score"] for row in read_curves(path).rows) == -2.0
    assert contributed_curves(path).metrics == {"cola": BY_LOSS}


def test_a_clone_that_went_on_from_another_trial_says_nothing_of_its_own_point(tmp_path: Path) -> None:
    folder, path = study(tmp_path / "mine"), tmp_path / "theirs.parquet"
    sink = ParquetSink(folder.results)
    clone = replace(started(-1, scale=2.0, roles="value"), copied_examples=1000)
    reports = [report(clone, rung, 0.9) for rung in range(3)]
    for each in reports:
        sink.reported(each)
    sink.trial_ended(replace(ended(clone, Status.COMPLETED, reports), copied_examples=1000))
    sink.study_ended([])
    left = contribute(folder, path)
    assert max(row["score"] for row in read_curves(path).rows) < 0.9
    assert left.left_out == 2, "the second of one point, and the clone"


def test_what_was_contributed_is_an_earlier_study(tmp_path: Path) -> None:
    contribute(study(tmp_path / "mine", 6), tmp_path / "theirs.parquet")
    found = contributed_curves(str(tmp_path / "theirs.parquet"))
    assert [row.params["scale"] for row in found.rows] == [2.0, 3.0, 4.0]
    assert [row.score for row in found.rows] == pytest.approx([0.2, 0.4, 0.6])
    assert all(row.finished and row.params["layer_norms"] is False for row in found.rows)
    assert [report.rung for report in found.reports[:3]] == [0, 1, 2]
    assert found.budgets == {"cola": 3060}
    assert found.geometry is not None
    assert (found.geometry.width, found.geometry.parameters) == (48, 10**6)


def test_what_is_no_curve_or_has_not_ended_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    for name, words, message in (
        ("cut", {"of": 5}, r"cut: 2 of its trials have not ended; let it end first: krona-tune resume cut"),
        ("single", {"rungs": 1}, r"single: no trial has more than one report, which is no curve; search with --set"),
        ("other", {"method": "lora", "rank": 2}, r"other: no searched trial with a score is of the method krona"),
        ("cdka", {"init": "cdka"}, r"cdka: no searched trial with a score is of the method krona"),
        ("decay", {"weight_decay": 0.1}, r"decay: no searched trial .* with the defaults of .*weight_decay, clip_norm"),
    ):
        with pytest.raises(Refusal, match=message):
            contribute(study(tmp_path / name, **words), path)
    with pytest.raises(Refusal, match=r"--output: .*theirs does not end in \.parquet; write theirs\.parquet"):
        contribute(study(tmp_path / "mine"), tmp_path / "theirs")
    assert not path.exists()


def test_a_study_that_runs_is_refused_and_nobody_is_told_to_resume_it(tmp_path: Path) -> None:
    runs = study(tmp_path / "runs", of=5)
    with lock_of(runs), pytest.raises(Refusal, match=r"^runs: it is running; let it end first; krona-tune watch runs"):
        contribute(runs, tmp_path / "theirs.parquet")


def test_a_study_that_could_try_no_more_points_is_contributed(tmp_path: Path) -> None:
    cut = study(tmp_path / "cut", of=5)
    write_driver_state(cut, DriverState(stage="end", trials=3, ended=3, slots=1, end="finished", fulfilled=5, at=1.0))
    assert contribute(cut, tmp_path / "theirs.parquet").trials == 2


def test_a_study_of_an_earlier_version_is_contributed_and_another_one_is_taught_by_it(
    run: Run, tmp_path: Path, model: str
) -> None:
    put_back(FORMATS[-1], tmp_path / "old")
    code, out, err = run(
        "contribute", tmp_path / "old" / "studies" / "finished", "--out", "theirs.parquet", program=main
    )
    assert (code, err) == (0, "")
    assert out.startswith("theirs.parquet: ")
    words = ("--dry-run", "--space", "mini", "--tasks", "cola", "--model", model, "--warm-start", "theirs.parquet")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    assert "points near the best of 4 recorded tasks and 1 task of theirs.parquet" in said, "one of their two"
    assert "in replays" not in said, "that was measured of the package's curves alone"
    assert "left out: no trial there scores above the constant answer" in said
    assert "learns" not in out
