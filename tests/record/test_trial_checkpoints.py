"""Tests that the checkpoints which go are those that nothing needs: not the winners', not interrupted trials'."""

from dataclasses import replace
from pathlib import Path

import pytest

from krona_tune import cli
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.store import Store
from krona_tune.record.trial_checkpoints import remove, size, unneeded
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import build_spec
from krona_tune.study.result import Status, TrialResult
from tests.conftest import Run
from tests.study.final_rows import repeats, row

SPEC = build_spec({"model": "m", "name": "s", "tasks": ["rte", "cola"]}, "x.yaml")
SEARCHED = [
    row("000", "search", 0.6, number=0),
    row("001", "search", 0.8, number=1),
    row("002", "search", 0.1, number=2, status=Status.STOPPED_EARLY),
    replace(row("003", "search", None, number=3), status=Status.INTERRUPTED),
    row("head-0", "baseline", 0.5),
    row("000", "search", 0.4, number=0, task="cola"),
    row("001", "search", 0.3, number=1, task="cola"),
]
FINALISTS = [*repeats("rte-001", (0.7, 0.9), (0.7, 0.8)), *repeats("rte-000", (0.6, 0.6), (0.5, 0.5))]


def kept(rows: list[TrialResult], keep: str) -> set[str]:
    every = {each.trial_id for each in rows}
    return every - set(unneeded(rows, SPEC, keep))  # type: ignore[arg-type]


def test_without_finals_each_tasks_best_and_what_was_interrupted_stay() -> None:
    for keep in ("winners", "finalists"):
        assert kept(SEARCHED, keep) == {"rte-001", "rte-003", "cola-000"}
    assert unneeded(SEARCHED, SPEC, "all") == []


def test_with_finals_the_winning_seed_stays_or_all_finalists() -> None:
    rows = [*SEARCHED, *FINALISTS]
    assert kept(rows, "winners") == {"rte-final-rte-001-s2", "rte-003", "cola-000"}
    assert kept(rows, "finalists") == {*(each.trial_id for each in FINALISTS), "rte-003", "cola-000"}


def states(folder: StudyFolder, rows: list[TrialResult]) -> None:
    for each in rows:
        (folder.checkpoints / each.trial_id / "rung-1").mkdir(parents=True)
        (folder.checkpoints / each.trial_id / "rung-1" / "state").write_bytes(b"x" * 1000)


def test_what_goes_here_goes_elsewhere_too_and_is_counted(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "s", remote=f"file://{tmp_path}/there/s")
    states(folder, SEARCHED)
    store = Store(f"{folder.remote}/checkpoints")
    for each in SEARCHED:
        store.write(f"{each.trial_id}/rung-1.zip", b"x")
    gone = unneeded(SEARCHED, SPEC, "finalists")
    assert size(folder, gone) == 1000 * len(gone) == 4000
    remove(folder, gone)
    assert {path.name for path in folder.checkpoints.iterdir()} == {"rte-001", "rte-003", "cola-000"}
    assert {name for name in store.names() if store.names(name)} == {"rte-001", "rte-003", "cola-000"}
    remove(folder, gone)


@pytest.fixture
def ended(run: Run) -> StudyFolder:
    """Writes the study `s` in the folder where `run` runs programs."""
    folder = StudyFolder(Path("studies/s"))
    sink = ParquetSink(folder.results)
    folder.spec.write_text("{model: m, name: s, tasks: [rte, cola]}", encoding="utf-8")
    for each in SEARCHED[:3]:
        sink.trial_ended(each)
    sink.study_ended([])
    states(folder, SEARCHED)
    return folder


def test_a_person_is_asked_before_anything_goes(ended: StudyFolder, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.confirm", lambda question: print(question) is not None)
    code, out, err = run("clean", "s", program=cli.main)
    assert (code, err, out) == (0, "", "Remove the checkpoints of 2 trials of s, 2.0 kB?\n")
    assert len(list(ended.checkpoints.iterdir())) == len(SEARCHED)
    code, out, _ = run("clean", "s", "--yes", program=cli.main)
    assert (code, out) == (0, "2.0 kB freed: the checkpoints of 2 trials\n")
    assert {"rte-001", "rte-003"} <= {path.name for path in ended.checkpoints.iterdir()}
    assert not (ended.checkpoints / "rte-000").exists()
    code, _, err = run("clean", "s", "--keep", "winner", program=cli.main)
    assert (code, err) == (2, "--keep: unknown choice 'winner', did you mean 'winners'?\n")
