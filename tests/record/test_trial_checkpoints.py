"""Tests that the checkpoints which go are those that nothing needs: not the winners', not interrupted trials'."""

import io
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from krona_tune import cli
from krona_tune.adapters.adapter_card import CARD
from krona_tune.record import trial_checkpoints
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.remote_files import Store
from krona_tune.record.trial_checkpoints import RemoteCheckpoints, remove, sizes, unneeded
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.request.loader import build_spec
from krona_tune.study.result import Status, TrialResult
from tests.adapters.cards import made
from tests.conftest import Run
from tests.record.events import manifest
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
    return every - set(unneeded(StudyFolder(Path("nowhere")), rows, SPEC, {}, keep))  # type: ignore[arg-type]


def test_without_finals_each_tasks_best_and_what_was_interrupted_stay() -> None:
    for keep in ("winners", "finalists"):
        assert kept(SEARCHED, keep) == {"rte-001", "rte-003", "cola-000"}
    assert kept(SEARCHED, "all") == {each.trial_id for each in SEARCHED}


def test_what_an_order_may_retry_stays_too() -> None:
    ends = (Status.FAILED, Status.OUT_OF_MEMORY, Status.DIVERGED)
    ended = [replace(row(f"00{n}", "search", None, number=n), status=each) for n, each in enumerate(ends, 4)]
    assert kept([*SEARCHED, *ended], "winners") == {"rte-001", "rte-003", "cola-000", "rte-004", "rte-005"}


def test_with_finals_the_winning_seed_stays_or_all_finalists() -> None:
    rows = [*SEARCHED, *FINALISTS]
    assert kept(rows, "winners") == {"rte-final-rte-001-s2", "rte-003", "cola-000"}
    assert kept(rows, "finalists") == {*(each.trial_id for each in FINALISTS), "rte-003", "cola-000"}


def test_a_full_training_keeps_its_state_until_its_adapter_is_written(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    full = [row(f"001-full-{name}-s1", TrialKind(f"full_{name}"), 0.8) for name in ("train", "data")]
    failed = row("001-full-train-s2", TrialKind.FULL_TRAIN, None, status=Status.FAILED)
    for name, holds in ((full[0].trial_id, full[0].trial_id), (full[1].trial_id, "rte-000")):
        folder.adapter(name).mkdir(parents=True)
        (folder.adapter(name) / CARD).write_text(made(trial_id=holds).model_dump_json(), encoding="utf-8")
    assert unneeded(folder, [*full, failed], SPEC, {}, "winners") == sorted([full[0].trial_id, failed.trial_id])
    assert unneeded(folder, [*full, failed], SPEC, {}, "finalists") == []


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
    gone = unneeded(folder, SEARCHED, SPEC, {}, "finalists")
    assert sizes(folder, [*gone, "rte-999"]) == dict.fromkeys(gone, 1001)
    remove(folder, gone)
    assert {path.name for path in folder.checkpoints.iterdir()} == {"rte-001", "rte-003", "cola-000"}
    assert {name for name in store.names() if store.names(name)} == {"rte-001", "rte-003", "cola-000"}
    remove(folder, gone)
    assert sizes(folder, gone) == {}


def test_what_can_not_be_removed_elsewhere_is_not_said_to_be_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(tmp_path / "s", remote=f"file://{tmp_path}/there/s")
    Store(f"{folder.remote}/checkpoints").write("rte-001/rung-1.zip", b"x")
    states(folder, SEARCHED[:2])

    def forbidden(store: Store, names: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr(Store, "remove_all", forbidden)
    with pytest.raises(Refusal, match="not allowed"):
        remove(folder, ["rte-001"], surely=True)
    assert sizes(folder, ["rte-001"]) == {"rte-001": 1001}
    remove(folder, ["rte-001"])


def test_the_states_of_many_trials_go_with_few_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(tmp_path / "s", remote=f"memory://{tmp_path.name}/s")
    store, requests = Store(f"{folder.remote}/checkpoints"), list[str]()
    for number in range(300):
        store.write(f"rte-{number}/rung-1.zip", b"x")

    def find(files: MemoryFileSystem, path: str) -> list[str]:
        requests.append("find")
        return [name for name in files.store if name.startswith(path)]

    def rm(files: MemoryFileSystem, path: list[str]) -> None:
        requests.append("rm")
        for name in path:
            del files.store[name]

    def ls(*of: object, **how: object) -> None:
        requests.append("ls")

    for asked in (find, rm, ls):  # as S3 does: all at once
        monkeypatch.setattr(MemoryFileSystem, asked.__name__, asked)
    RemoteCheckpoints(store.uri).remove(f"rte-{number}" for number in range(1, 300))
    assert requests == ["find", "rm"]
    monkeypatch.undo()
    assert store.below() == ["rte-0/rung-1.zip"]
    RemoteCheckpoints(store.uri).remove(["rte-1", "rte-0"])
    assert store.below() == []
    RemoteCheckpoints(f"{store.uri}/nowhere").remove(["rte-1"])


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
    code, out, _ = run("clean", "s", "--dry-run", program=cli.main)
    assert (code, out) == (0, "2.0 kB would be freed: the checkpoints of 2 trials\n")
    assert len(list(ended.checkpoints.iterdir())) == len(SEARCHED)
    code, out, _ = run("clean", "s", "--yes", program=cli.main)
    assert (code, out) == (0, "2.0 kB freed: the checkpoints of 2 trials\n")
    assert {"rte-001", "rte-003"} <= {path.name for path in ended.checkpoints.iterdir()}
    assert not (ended.checkpoints / "rte-000").exists()
    code, out, _ = run("clean", "s", program=cli.main)
    assert (code, out) == (0, "nothing to remove: no trial has a checkpoint that it needs no more\n"), "nobody is asked"
    code, _, err = run("clean", "s", "--keep", "winner", program=cli.main)
    assert (code, err) == (2, "--keep: unknown choice 'winner', did you mean 'winners'?\n")


def test_what_an_unfinished_study_still_needs_stays(run: Run) -> None:
    """One configuration of a shared search has completed on one task only, where it is not the best."""
    folder = StudyFolder(Path("studies/s"))
    sink = ParquetSink(folder.results)
    folder.spec.write_text("{model: m, name: s, tasks: [rte, cola], search: {shared: true, trials: 2}}")
    shared = manifest("rte", "cola")
    shared.write(folder.manifest)
    rows = [SEARCHED[0], SEARCHED[1], replace(SEARCHED[5], number=1, trial_id="cola-001")]
    for each in rows:
        sink.trial_ended(each)
    sink.study_ended([])
    states(folder, rows)
    code, out, _ = run("clean", "s", "--yes", program=cli.main)
    assert (code, out) == (0, "nothing to remove: no trial has a checkpoint that it needs no more\n")
    code, out, _ = run("clean", "s", "--keep", "winners", "--yes", program=cli.main)
    assert (code, out) == (0, "1.0 kB freed: the checkpoints of 1 trial\n")


def test_where_nobody_answers_nothing_goes(
    ended: StudyFolder, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "clean: nobody has answered, nothing is removed; add --yes\n"
    code, _, err = run("clean", "s", program=cli.main)
    assert (code, err) == (2, said)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err == said

    class Interrupted(io.StringIO):
        def readline(self, size: int | None = -1) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())
    with pytest.raises(SystemExit, match="130"):
        cli.main()
    assert len(list(ended.checkpoints.iterdir())) == len(SEARCHED)


def rung(trial: Path, number: int, text: str) -> Path:
    kept = trial / f"rung-{number}"
    kept.mkdir(parents=True)
    (kept / "adapter.safetensors").write_text(text, encoding="utf-8")
    (kept / "progress.json").write_text("{}", encoding="utf-8")
    return kept


def test_a_state_is_found_by_another_worker_and_only_the_last_one_stays(uri: str, tmp_path: Path) -> None:
    here, there = (tmp_path / machine / "cola-000" for machine in ("a", "b"))
    for number in (2, 10):
        RemoteCheckpoints(uri).send(rung(here, number, f"after {number}"))
    assert Store(uri).names("cola-000") == ["rung-10.zip"]
    rung(there, 3, "older")
    worker = RemoteCheckpoints(uri)
    worker.bring(there)
    assert (there / "rung-10" / "adapter.safetensors").read_text() == "after 10"
    shutil.rmtree(there / "rung-10")
    worker.bring(there)
    assert not (there / "rung-10").exists()  # not fetched twice: the first copy was quarantined as damaged
    RemoteCheckpoints(None).send(here)
    RemoteCheckpoints(None).bring(there)


def test_half_an_upload_is_not_taken_for_a_state(uri: str, tmp_path: Path) -> None:
    RemoteCheckpoints(uri).send(rung(tmp_path / "a" / "rte-001", 1, "whole"))
    whole = Store(uri).read("rte-001/rung-1.zip")
    for length in (0, len(whole) // 2, len(whole) - 1):
        Store(uri).write("rte-001/rung-4.zip", whole[:length])
        there = tmp_path / f"b{length}" / "rte-001"
        RemoteCheckpoints(uri).bring(there)
        assert [path.name for path in there.glob("rung-*")] == ["rung-1"]


def test_a_store_that_is_away_costs_a_worker_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    worker = RemoteCheckpoints(f"file://{tmp_path}/file")
    kept = rung(tmp_path / "rte-001", 1, "x")
    worker.send(kept)
    worker.send(kept)  # it is not retried at once
    assert len([line for line in caplog.messages if "could not be sent" in line]) == 1


def test_a_state_is_not_lost_where_the_store_gave_no_answer_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, names, away = f"file://{tmp_path}/there", Store.names, [True]
    RemoteCheckpoints(uri).send(rung(tmp_path / "a" / "rte-001", 5, "far"))

    def perhaps(store: Store, folder: str = "") -> list[str]:
        if away and away.pop():
            raise ConnectionError("no route")
        return names(store, folder)

    monkeypatch.setattr(Store, "names", perhaps)
    monkeypatch.setattr(trial_checkpoints, "WAITS", ())
    worker, here = RemoteCheckpoints(uri), tmp_path / "b" / "rte-001"
    worker.bring(here)
    assert not here.exists(), "it begins at the start"
    monkeypatch.setattr("krona_tune.record.trial_checkpoints.time.monotonic", lambda: 1e9)
    worker.send(rung(here, 1, "near"))
    assert Store(uri).names("rte-001") == ["rung-1.zip", "rung-5.zip"]
    away.append(True)
    monkeypatch.setattr(trial_checkpoints, "WAITS", (0.0,))
    worker.bring(here)
    assert (here / "rung-5").exists(), "it is asked again"


def test_a_lower_state_is_fetched_where_it_is_asked_for_and_one_that_can_not_be_used_goes(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/there"
    for number in (3, 5):
        RemoteCheckpoints(uri).send(rung(tmp_path / "a" / f"rte-{number}", number, "x"))
        Store(uri).write(f"rte-001/rung-{number}.zip", Store(uri).read(f"rte-{number}/rung-{number}.zip"))
    worker, here = RemoteCheckpoints(uri), tmp_path / "b" / "rte-001"
    worker.bring(here, 3)
    assert [path.name for path in here.iterdir()] == ["rung-3"]
    worker.forget(here / "rung-5")
    assert Store(uri).names("rte-001") == ["rung-3.zip"]


def test_a_state_that_could_not_be_sent_is_sent_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, away = f"file://{tmp_path}/there", [True]
    write = Store.write

    def perhaps(store: Store, name: str, content: bytes) -> None:
        if away[0]:
            raise ConnectionError("no route")
        write(store, name, content)

    monkeypatch.setattr(Store, "write", perhaps)
    worker, here = RemoteCheckpoints(uri), tmp_path / "here"
    worker.send(rung(here / "rte-001", 3, "last"))
    worker.leave(here / "rte-001")
    assert (here / "rte-001" / "rung-3").exists()
    away[0] = False
    monkeypatch.setattr("krona_tune.record.trial_checkpoints.time.monotonic", lambda: 1e9)  # the pause is over
    worker.send(rung(here / "rte-002", 1, "next"))
    assert (Store(uri).names("rte-001"), Store(uri).names("rte-002")) == (["rung-3.zip"], ["rung-1.zip"])


def test_the_end_of_a_trial_does_not_wait_for_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, failures = f"file://{tmp_path}/there", [ConnectionError("no route")]
    write = Store.write

    def perhaps(store: Store, name: str, content: bytes) -> None:
        if failures:
            raise failures.pop()
        write(store, name, content)

    monkeypatch.setattr(Store, "write", perhaps)
    worker, here = RemoteCheckpoints(uri), tmp_path / "rte-001"
    worker.send(rung(here, 3, "last"))
    worker.leave(here)
    assert (Store(uri).names("rte-001"), here.exists()) == (["rung-3.zip"], False)


def test_a_state_that_waited_replaces_no_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker has taken the trial further meanwhile."""
    uri = f"file://{tmp_path}/there"
    worker, other = RemoteCheckpoints(uri), RemoteCheckpoints(uri)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", lambda *_: (_ for _ in ()).throw(ConnectionError("no route")))
        worker.send(rung(tmp_path / "a" / "rte-001", 1, "early"))
    other.send(rung(tmp_path / "b" / "rte-001", 2, "further"))
    monkeypatch.setattr("krona_tune.record.trial_checkpoints.time.monotonic", lambda: 1e9)
    worker.send(rung(tmp_path / "a" / "rte-002", 1, "next"))
    assert Store(uri).names("rte-001") == ["rung-2.zip"]
