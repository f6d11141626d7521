"""Tests that a URI holds a complete copy of a study at every moment, for one driver at a time, without loss."""

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from krona_tune.record import background, ownership
from krona_tune.record.ownership import LEASE, Lease, holding, is_held, lock_of, read_lease
from krona_tune.record.parquet_reader import read_trials
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.remote_copy import INDEX, Copy, Index, NotPushedError, OvertakenError, RemoteSink, belongs
from krona_tune.record.storage import Storage, refresh, storage_at
from krona_tune.record.store import Store
from krona_tune.record.trial_checkpoints import RemoteCheckpoints
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.events import ended, report, started


@pytest.fixture(autouse=True)
def _what_is_logged_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes krona_tune's loggers propagate, whatever ran in this process before."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "krona_tune"]
    for logger in map(logging.getLogger, names):
        monkeypatch.setattr(logger, "propagate", True)
        monkeypatch.setattr(logger, "disabled", False)


@pytest.fixture(params=["file", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yields an empty URI of each kind."""
    if request.param == "file":
        yield f"file://{tmp_path}/elsewhere"
        return
    name = f"memory://{tmp_path.name}/studies"
    yield name
    Store(name)._files.store.clear()


@pytest.fixture
def here(uri: str, tmp_path: Path) -> StudyFolder:
    """Returns a study with a driver on its first machine: three trials, one of them running."""
    folder = on(tmp_path / "here", uri)
    recorded(folder, 3)
    folder.spec.write_text("tasks: [cola]\n", encoding="utf-8")
    folder.journal.write_text("1\n22\n", encoding="utf-8")
    for left_out in (folder.ray / "state", folder.checkpoints / "cola-0000" / "rung-1", folder.root / ".lock"):
        left_out.parent.mkdir(parents=True, exist_ok=True)
        left_out.write_text("not copied", encoding="utf-8")
    os.symlink(folder.journal, f"{folder.journal}.lock")
    Copy(folder).make_origin()
    return folder


def on(machine: Path, uri: str) -> StudyFolder:
    """Returns the study's folder on a machine."""
    return Storage(folder=machine, uri=uri).study("first")


def recorded(folder: StudyFolder, trials: int) -> None:
    sink = ParquetSink(folder.results)
    for number in range(trials):
        trial = started(number)
        sink.trial_started(trial)
        sink.reported(report(trial, 0, 0.25 + number))
        if number < trials - 1:
            sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.25 + number)]))


def files(folder: StudyFolder) -> dict[str, bytes]:
    """Returns the files in a study's folder that are not hidden."""
    paths = (path for path in folder.root.rglob("*") if path.is_file())
    named = {path.relative_to(folder.root).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(".")}


def test_another_machine_gets_what_was_pushed_and_nothing_else(here: StudyFolder, uri: str, tmp_path: Path) -> None:
    Copy(here).push()
    there = on(tmp_path / "there", uri)
    refresh(there)
    left_out = {"ray/state", "checkpoints/cola-0000/rung-1", "optuna.journal.lock"}
    assert files(there) == {name: content for name, content in files(here).items() if name not in left_out}
    assert read_trials(there.results) == read_trials(here.results)


def test_only_what_was_changed_is_pushed_and_pulled_again(
    here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    write, read = Store.write, Store.read
    monkeypatch.setattr(Store, "write", lambda self, name, content: (moved.append(name), write(self, name, content))[1])
    Copy(here).push()
    assert {"study.yaml", "optuna.journal", INDEX} < set(moved)
    moved.clear()
    Copy(here).push()
    assert moved == []
    with here.journal.open("a") as journal:
        journal.write("333\n")
    there = on(tmp_path / "there", uri)
    refresh(there)
    Copy(here).push()
    assert moved == ["optuna.journal", INDEX]
    moved.clear()
    monkeypatch.setattr(Store, "read", lambda self, name: (moved.append(name), read(self, name))[1])
    refresh(there)
    assert moved == [INDEX, "optuna.journal"]
    assert there.journal.read_text() == "1\n22\n333\n"


def test_parts_that_were_compacted_go_there_too(here: StudyFolder, uri: str, tmp_path: Path) -> None:
    """A part that remained would count as newer than the compacted rows."""
    Copy(here).push()
    there = on(tmp_path / "there", uri)
    refresh(there)
    goes_on = ParquetSink(here.results)
    goes_on.trial_ended(ended(started(2), Status.DIVERGED, []))
    goes_on.study_ended([])
    Copy(here).push()
    refresh(there)
    assert not list((there.results / "parts").iterdir())
    assert Store(f"{uri}/first").names("results/parts") == []
    assert read_trials(there.results) == read_trials(here.results)
    assert read_trials(there.results)[2].status is Status.DIVERGED


@pytest.mark.parametrize("pushed_before", [False, True])
def test_a_push_during_a_compaction_leaves_no_row_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pushed_before: bool
) -> None:
    """Between two looks of the push at the folder, a trial ends and the parts are compacted."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    step, happened = 0, True
    while happened:
        step, looks = step + 1, 0
        here, there = (
            on(tmp_path / f"{machine}-{step}", f"file://{tmp_path}/copy-{step}") for machine in ("here", "there")
        )
        Copy(here).make_origin()
        recorded(here, 2)
        sink = ParquetSink(here.results)
        if pushed_before:
            Copy(here).push()
            sink.trial_ended(ended(started(1), Status.FAILED, []))
        before = {row.trial_id: row.status for row in read_trials(here.results)}

        def compacting(look: Callable[..., Any], step: int = step, sink: ParquetSink = sink) -> Callable[..., Any]:
            def looking(path: Path, *given: Any) -> Any:
                nonlocal looks
                looks += 1
                if looks == step:
                    sink.trial_ended(ended(started(1), Status.DIVERGED, []))
                    sink.study_ended([])
                return look(path, *given)

            return looking

        with pytest.MonkeyPatch.context() as watched:
            for name in ("iterdir", "read_bytes"):
                watched.setattr(Path, name, compacting(getattr(Path, name)))
            Copy(here).push()
        happened = looks >= step
        refresh(there)
        found = {row.trial_id: row.status for row in read_trials(there.results)}
        assert found in (before, before | {started(1).trial_id: Status.DIVERGED})
        Copy(here).push()
        refresh(there)
        assert read_trials(there.results) == read_trials(here.results)
    assert step > 8


def test_half_a_push_is_not_seen(here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Copy(here).push()
    before = read_trials(here.results)
    ParquetSink(here.results).trial_ended(ended(started(2), Status.FAILED, []))
    with here.journal.open("a") as journal:
        journal.write("333\n")
    write = Store.write

    def cut(self: Store, name: str, content: bytes) -> None:
        if name == INDEX:
            raise ConnectionError("the cable")
        write(self, name, content)

    monkeypatch.setattr(Store, "write", cut)
    with pytest.raises(ConnectionError):
        Copy(here).push()
    there = on(tmp_path / "there", uri)
    refresh(there)
    assert read_trials(there.results) == before
    assert there.journal.read_text() == "1\n22\n"  # as long as the rows: Optuna has no end that they lack


def test_the_journal_of_a_copy_has_no_end_that_the_rows_lack(
    here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = Copy._states

    def then_told(self: Copy) -> dict[str, tuple[int, int]]:
        found = states(self)
        with here.journal.open("a") as journal:
            journal.write("333\n")
        ParquetSink(here.results).trial_ended(ended(started(2), Status.FAILED, []))
        return found

    before = read_trials(here.results)
    monkeypatch.setattr(Copy, "_states", then_told)
    Copy(here).push()
    monkeypatch.setattr(Copy, "_states", states)
    there = on(tmp_path / "there", uri)
    refresh(there)
    assert read_trials(there.results) == before
    assert there.journal.read_text() == "1\n22\n"
    Copy(here).push()
    refresh(there)
    assert read_trials(there.results) == read_trials(here.results)
    assert there.journal.read_text() == "1\n22\n333\n"


def test_a_driver_that_comes_back_to_its_own_copy_keeps_what_it_had_not_pushed(here: StudyFolder) -> None:
    Copy(here).push()
    ParquetSink(here.results).trial_ended(ended(started(2), Status.FAILED, []))
    with holding(here):
        assert read_trials(here.results)[2].status is Status.FAILED


def test_a_driver_that_was_overtaken_pushes_nothing_and_sets_its_own_aside(
    here: StudyFolder, uri: str, tmp_path: Path
) -> None:
    Copy(here).push()
    there = on(tmp_path / "there", uri)
    with holding(there):
        ParquetSink(there.results).trial_ended(ended(started(2), Status.STOPPED_EARLY, []))
        Copy(there).push()
    ParquetSink(here.results).trial_ended(ended(started(2), Status.FAILED, []))
    with pytest.raises(OvertakenError):
        Copy(here).push()
    with lock_of(here):
        refresh(here)  # changes nothing, because a driver works in it
    assert read_trials(here.results)[2].status is Status.FAILED
    refresh(here)
    assert read_trials(here.results)[2].status is Status.STOPPED_EARLY
    (aside,) = here.root.glob(".superseded-*")
    assert read_trials(aside / "results")[2].status is Status.FAILED


def test_one_driver_has_a_study_at_a_time(
    here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = on(tmp_path / "there", uri)
    assert not is_held(there)
    with holding(here):
        Copy(here).push()
        assert is_held(there)
        with pytest.raises(Refusal, match=f"'first' is being run on .* by process {os.getpid()}; wait for it"):
            holding(there).__enter__()
        monkeypatch.setattr(ownership, "STALE_SECONDS", -1.0)
        with holding(there), pytest.raises(OvertakenError):
            ownership.refuse_overtaken(Copy(here).store, Copy(here).origin)
    assert read_lease(Copy(here).store) is None
    assert not is_held(there)


def test_a_driver_that_was_killed_here_is_gone_at_once_and_one_elsewhere_after_two_minutes(here: StudyFolder) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = Lease(origin="x", host=ownership._host(), pid=dead.pid, at=time.time())
    assert not mine.alive
    assert mine.model_copy(update={"pid": os.getpid()}).alive
    assert mine.model_copy(update={"host": "elsewhere/7"}).alive
    assert not mine.model_copy(update={"host": "elsewhere/7", "at": time.time() - 121}).alive
    Copy(here).store.write(LEASE, mine.model_dump_json().encode())
    with holding(here):
        assert read_lease(Copy(here).store) != mine


def test_a_reader_of_a_folder_finds_a_whole_file_at_any_time(tmp_path: Path) -> None:
    store, contents = Store(f"file://{tmp_path}/there"), [b"A" * 9, b"B" * 3_000_000]
    store.write("index", contents[0])
    writers = [Thread(target=lambda: [store.write("index", contents[turn % 2]) for turn in range(60)]) for _ in "ab"]
    for writer in writers:
        writer.start()
    read = {store.read("index") for _ in iter(lambda: any(writer.is_alive() for writer in writers), False)}
    for writer in writers:
        writer.join()
    assert read <= set(contents)
    assert store.names() == ["index"]


def test_a_lease_is_renewed(here: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "RENEWED_SECONDS", 0.05)
    monkeypatch.setattr(ownership, "SETTLED_SECONDS", 0.0)
    with holding(here):
        first = read_lease(Copy(here).store)
        assert first is not None
        until = time.monotonic() + 10
        while (now := read_lease(Copy(here).store)) is None or now.at == first.at:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_the_sink_pushes_at_the_beginning_after_a_trial_and_at_the_end(here: StudyFolder, uri: str) -> None:
    def index() -> Index:
        return Index.model_validate_json(Store(f"{uri}/first").read(INDEX))

    def until(there: str) -> None:
        deadline = time.monotonic() + 10
        while INDEX not in Store(f"{uri}/first").names() or there not in index().files:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    sink = RemoteSink(here)
    until("study.yaml")
    (here.root / "after a trial").write_text("x", encoding="utf-8")
    sink.trial_ended(started(1))
    until("after a trial")
    here.report.write_text("<html>", encoding="utf-8")
    sink.study_ended([])
    assert "report.html" in index().files


def test_a_store_that_is_away_is_tried_again_and_what_it_lacks_in_the_end_is_said(
    here: StudyFolder, uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = True
    push = Copy.push

    def perhaps(self: Copy) -> None:
        if away:
            raise ConnectionError("no route to s3://me:hunter2@host")
        push(self)

    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(Copy, "push", perhaps)
    monkeypatch.setattr(background, "DRAIN_SECONDS", 0.2)
    lost = RemoteSink(here)
    with pytest.raises(NotPushedError, match=r"lacks the latest changes \(ConnectionError: no route"):
        lost.study_ended([])
    assert len([line for line in caplog.messages if "the study continues" in line]) == 1
    assert "hunter2" not in caplog.text
    monkeypatch.setattr(background, "DRAIN_SECONDS", 20)
    sink = RemoteSink(here)
    away = False
    sink.study_ended([])
    assert INDEX in Store(f"{uri}/first").names()


def test_a_sink_that_was_overtaken_pushes_nothing_more_and_says_it_at_the_end_at_once(
    here: StudyFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pushes: list[None] = []

    def refuse(self: Copy) -> None:
        pushes.append(None)
        raise OvertakenError("the study is now run on another machine")

    monkeypatch.setattr(Copy, "push", refuse)
    sink = RemoteSink(here)
    while not pushes:
        time.sleep(0.01)
    sink.trial_ended(started(1))
    with pytest.raises(NotPushedError, match=r"lacks the latest changes \(the study is now run on another machine\)"):
        sink.study_ended([])
    assert (len(pushes), caplog.text.count("nothing more is pushed")) == (1, 1)


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
    for size in (0, len(whole) // 2, len(whole) - 1):
        Store(uri).write("rte-001/rung-4.zip", whole[:size])
        there = tmp_path / f"b{size}" / "rte-001"
        RemoteCheckpoints(uri).bring(there)
        assert [path.name for path in there.glob("rung-*")] == ["rung-1"]


def test_a_store_that_is_away_costs_a_worker_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    worker = RemoteCheckpoints(f"file://{tmp_path}/file")
    kept = rung(tmp_path / "rte-001", 1, "x")
    worker.send(kept)
    worker.send(kept)  # it is not retried at once
    assert len([line for line in caplog.messages if "could not be sent" in line]) == 1


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", ".lock", "results/.x.tmp", "ray/x", "optuna.journal.lock", "a/../b"]
)
def test_what_an_index_names_outside_the_study_is_not_fetched(name: str) -> None:
    assert not belongs(name)
    assert belongs("results/parts/trials-1.parquet")


def test_a_storage_is_a_folder_or_a_uri_with_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain = storage_at("studies")
    assert (plain.study("a"), str(plain)) == (StudyFolder(Path("studies/a")), "studies")
    one, other = storage_at("s3://bucket/studies/"), storage_at("s3://bucket/others")
    assert one.study("a").remote == "s3://bucket/studies/a"
    assert one.study("a").storage == "s3://bucket/studies"
    assert one.folder.parent == tmp_path / "krona_tune" / "storage"
    assert one.folder.name.startswith("s3-bucket-studies-")
    assert one.folder != other.folder
    secret = storage_at("sftp://me:hunter2@host/studies")
    assert "hunter2" not in f"{secret}{secret.folder}"


def test_studies_are_listed_from_here_and_there(here: StudyFolder, uri: str, tmp_path: Path) -> None:
    Copy(here).push()
    storage = Storage(folder=tmp_path / "there", uri=uri)
    only_here = storage.study("second")
    only_here.root.mkdir(parents=True)
    only_here.spec.write_text("", encoding="utf-8")
    assert storage.names() == ["first", "second"]
    assert storage.studies() == [storage.study("first"), only_here]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s4://bucket/studies", r"--storage: unknown protocol 's4', did you mean 's3a?'"),
        ("foo://bucket/studies", r"--storage: unknown protocol 'foo'; known: abfs, az, file, ftp, gcs, gs, hdfs"),
        ("~nobody-here/studies", r"--storage: there is no home folder '~nobody-here'; give the folder's whole path"),
        ("gs://bucket/studies", r"needs a package that is not installed; pip install 'krona_tune\[gs\]'"),
    ],
)
def test_what_can_not_be_opened_is_refused(place: str, message: str) -> None:
    if place.startswith("gs:"):
        sys.modules["gcsfs"] = None  # type: ignore[assignment]
    try:
        with pytest.raises(Refusal, match=message):
            storage_at(place).brought("first")
    finally:
        sys.modules.pop("gcsfs", None)


def test_a_copy_that_is_compacted_while_it_is_pulled_is_pulled_again(
    here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Copy(here).push()
    fetch = Copy._fetch

    def and_compacted(self: Copy, name: str, state: tuple[int, int]) -> None:
        if here.results.joinpath("parts").iterdir():
            ParquetSink(here.results).study_ended([])
            Copy(here).push()
        fetch(self, name, state)

    monkeypatch.setattr(Copy, "_fetch", and_compacted)
    there = on(tmp_path / "there", uri)
    refresh(there)
    assert read_trials(there.results) == read_trials(here.results)
    assert not list((there.results / "parts").glob("*"))


def test_a_part_that_goes_away_while_it_is_pushed_is_left_out(
    here: StudyFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = Copy._states
    gone = next((here.results / "parts").iterdir())

    def then_compacted(self: Copy) -> dict[str, tuple[int, int]]:
        found = states(self)
        gone.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Copy, "_states", then_compacted)
    Copy(here).push()
    index = Index.model_validate_json(Store(f"{uri}/first").read(INDEX))
    assert f"results/parts/{gone.name}" not in index.files
    assert replace(here, remote=None).remote_checkpoints is None
