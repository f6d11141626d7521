"""Tests that other workers find a trial's state, and that states are counted and removed here and there."""

import io
import shutil
import sys
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from krona_tune import cli
from krona_tune.record import trial_checkpoints
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.remote_files import Store
from krona_tune.record.trial_checkpoints import RemoteCheckpoints, remove, sizes
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from tests.conftest import Run
from tests.record.stored_states import SEARCHED, states


def test_what_goes_here_goes_elsewhere_too_and_is_counted(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "s", remote=f"file://{tmp_path}/there/s")
    states(folder, SEARCHED)
    store = Store(f"{folder.remote}/checkpoints")
    for each in SEARCHED:
        store.write(f"{each.trial_id}/rung-1.zip", b"x")
    stay = {"rte-001", "rte-003", "cola-000"}
    gone = [each.trial_id for each in SEARCHED if each.trial_id not in stay]
    assert sizes(folder, [*gone, "rte-999"]) == dict.fromkeys(gone, 1001)
    remove(folder, gone)
    assert {path.name for path in folder.checkpoints.iterdir()} == stay
    assert {name for name in store.names() if store.names(name)} == stay
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
