"""Tests that one driver owns a study's folder before it reads anything, and that an unbegun study leaves nothing."""

import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from krona_tune.api.folders import refuse_taken
from krona_tune.atomic_write import UNFINISHED
from krona_tune.record import ownership
from krona_tune.record.ownership import (
    LEASE,
    Lease,
    claim,
    driver_of,
    holding,
    is_held,
    is_locked,
    read_lease,
    refuse_overtaken_here,
    this_host,
    why_lost,
)
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.remote_copy import LOCK, OVERTAKEN, Copy, NotPushedError, OvertakenError, RemoteSink
from krona_tune.record.remote_files import Store
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from tests.record.copies import on
from tests.record.events import started
from tests.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "studies" / "first")


def test_a_second_driver_is_refused_while_the_first_has_the_folder(folder: StudyFolder) -> None:
    with claim(folder):
        assert is_locked(folder)
        with (
            pytest.raises(Refusal, match="--name: the study 'first' is being run; wait for it, or choose another name"),
            claim(folder),
        ):
            pytest.fail("both have it")
        assert is_locked(folder)
    with claim(folder):
        assert is_locked(folder)


def test_a_lock_that_its_last_holder_removed_is_no_lock(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last holder's study had not begun; it goes away after this driver has opened its lock."""
    acquire, tries = FileLock.acquire, []

    def too_late(lock: FileLock, *given: Any, **named: Any) -> Any:
        tries.append(lock)
        held = acquire(lock, *given, **named)
        if len(tries) == 1:
            shutil.rmtree(folder.root)
        return held

    monkeypatch.setattr(FileLock, "acquire", too_late)
    with claim(folder):
        assert is_locked(folder)
        assert folder.driver.exists()
    assert len(tries) == 2


@pytest.mark.parametrize("replaced", ["the lock", "the folder", "the folder by a copy"])
def test_a_driver_whose_folder_was_replaced_knows_it_and_writes_no_more(folder: StudyFolder, replaced: str) -> None:
    def others(first: Path) -> set[Path]:
        return {path.relative_to(first) for path in first.rglob("*")}

    root, aside = folder.root, folder.root.with_name("aside")
    with claim(folder):
        folder.spec.touch()
        assert why_lost(root) == ""
        sink = ParquetSink(folder.results, partial(why_lost, root))
        sink.trial_started(started(0))
        if replaced == "the lock":
            (root / LOCK).unlink()
            (root / LOCK).touch()
        else:
            root.rename(aside)
        if replaced == "the folder by a copy":
            shutil.copytree(aside, root)
        before = others(root)
        assert "moved or replaced" in why_lost(root)
        with pytest.raises(OSError, match=r"was moved or replaced, or its \.lock, so that another driver may have it"):
            sink.trial_started(started(1))
        with pytest.raises(OSError, match="may have it"):
            sink.study_ended(())
        assert others(root) == before
        if replaced != "the folder":
            folder.driver.write_text("1 another", encoding="utf-8")
    assert why_lost(root) == "", "it holds none"
    assert folder.driver.exists() == (replaced != "the folder"), "what another driver wrote stays"


def test_a_driver_whose_folder_was_replaced_removes_nothing_of_the_next_study(folder: StudyFolder) -> None:
    """The next driver has not written its study yet."""
    with claim(folder):
        folder.root.rename(folder.root.with_name("aside"))
        folder.root.mkdir()
        (folder.root / LOCK).touch()
        folder.driver.write_text("1 another", encoding="utf-8")
    assert {path.name for path in folder.root.iterdir()} == {LOCK, folder.driver.name}


def test_a_driver_that_could_not_write_which_it_is_is_unknown(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with claim(folder):
        process, machine = driver_of(folder) or (0, "")
        assert (process, machine.partition("/")[0]) == (os.getpid(), socket.gethostname())
        for written in ("", "\x00", "on a full disk"):
            folder.driver.write_text(written, encoding="utf-8")
            assert driver_of(folder) is None
    assert driver_of(folder) is None
    write = Path.write_text

    def full(path: Path, *given: Any, **named: Any) -> int:
        write(path, "", encoding="utf-8")
        raise OSError("no space is left")

    monkeypatch.setattr(Path, "write_text", full)
    with claim(folder):
        assert not folder.driver.exists()


def test_a_driver_that_still_fetches_the_study_is_known_and_not_one_that_was_killed(
    here: StudyFolder, monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    found, pull = list[tuple[int, str] | None](), Copy.pull

    def look_and_pull(copy: Copy) -> None:
        found.append(driver_of(here))
        pull(copy)

    monkeypatch.setattr(Copy, "pull", look_and_pull)
    here.root.mkdir(parents=True, exist_ok=True)
    here.driver.write_text("4242 elsewhere", encoding="utf-8")
    with claim(here):
        found.append(driver_of(here))
    assert found == [(os.getpid(), this_host())] * 2


def test_of_a_study_that_did_not_begin_nothing_is_left(folder: StudyFolder, tmp_path: Path) -> None:
    with suppress(KeyError), claim(folder):
        folder.log.touch()
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_what_a_killed_start_left_neither_takes_the_name_nor_stays(folder: StudyFolder) -> None:
    folder.root.mkdir(parents=True)
    for name in (".seen-1a2b", ".preflight-x", ".study.yaml.7f.tmp"):
        (folder.root / name).touch()
    refuse_taken(folder, folder.name)
    with claim(folder):
        pass
    assert not folder.root.exists() or not list(folder.root.iterdir())


def test_what_a_driver_left_that_was_killed_while_it_wrote_adapters_goes_when_the_study_is_taken_again(
    folder: StudyFolder,
) -> None:
    """The folder of a trial's state stays: a worker that outlived the driver may be writing there."""
    folder.adapter("rte").mkdir(parents=True)
    left = [folder.adapter("rte") / f"{UNFINISHED}1", folder.adapter("rte").with_name(f"{UNFINISHED}2")]
    stays = folder.checkpoints / "rte-000" / f"{UNFINISHED}3"
    for each in (*left, stays):
        (each / "rte").mkdir(parents=True)
    folder.spec.touch()
    with claim(folder):
        assert not any(each.exists() for each in left)
        assert folder.adapter("rte").is_dir()
        assert stays.is_dir()


def test_a_study_that_has_begun_stays(folder: StudyFolder) -> None:
    with suppress(KeyError), claim(folder):
        folder.spec.touch()
        folder.log.touch()
        raise KeyError
    assert {path.name for path in folder.root.iterdir()} >= {"study.yaml", "study.log"}
    assert not is_locked(folder)


def test_what_was_there_before_stays(folder: StudyFolder) -> None:
    folder.root.mkdir(parents=True)
    (folder.root / "study.log").write_text("an earlier one")
    with claim(folder):
        (folder.root / ".origin").touch()
    assert [path.name for path in folder.root.iterdir()] == ["study.log"]


def test_a_folder_that_can_not_be_looked_at_is_refused(tmp_path: Path) -> None:
    long = StudyFolder(tmp_path / ("x" * 300))
    with pytest.raises(Refusal, match=r"^--storage: .* can't be written by you: File name too long"), claim(long):
        pass


def test_a_folder_that_can_not_be_made_is_refused(folder: StudyFolder) -> None:
    folder.root.parent.touch()
    with pytest.raises(Refusal, match=r"--storage: .*first can't be made: .*; name a writable"), claim(folder):
        pytest.fail("there is no folder")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_in_which_no_file_can_be_locked_is_refused_and_left_as_it_was(
    folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Lustre without the mount option `flock` answers ENOSYS, a network file system without a lock service ENOLCK."""

    def no_lock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_lock)
    said = rf"--storage: no file in .*first can be locked \(flock: {os.strerror(number)}\); mount .* with flock"
    with pytest.raises(Refusal, match=said), claim(folder):
        pytest.fail("others would not see that it is held")
    assert not list(tmp_path.iterdir())


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


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets drivers renew their leases soon."""
    monkeypatch.setattr(ownership, "RENEWED_SECONDS", 0.05)


@pytest.mark.usefixtures("at_once")
def test_a_driver_that_still_fetches_the_study_has_it_and_renews_its_lease(
    here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, fetch, seen = on(tmp_path / "there", uri), Copy.pull, list[str]()
    Copy(here).push()

    def slowly(copy: Copy) -> None:
        first = read_lease(copy.store)
        assert first is not None
        with pytest.raises(Refusal, match="the study 'first' is being run"):
            holding(here).__enter__()
        until(lambda: (now := read_lease(copy.store)) and now.at > first.at)
        seen.append(first.origin)
        fetch(copy)

    monkeypatch.setattr(Copy, "pull", slowly)
    with holding(there):
        lease = read_lease(Copy(there).store)
        assert lease is not None
        assert seen == [lease.origin] == [Copy(there).origin]
        assert lease.origin != Copy(here).origin


@pytest.mark.usefixtures("at_once")
def test_a_driver_that_can_not_fetch_the_study_leaves_it_to_others(
    here: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(copy: Copy) -> None:
        assert is_held(here)
        raise OSError("the store is gone")

    monkeypatch.setattr(Copy, "pull", fail)
    with pytest.raises(Refusal, match="the store is gone"):
        holding(here).__enter__()
    assert read_lease(Copy(here).store) is None


@pytest.mark.usefixtures("at_once")
def test_a_driver_is_told_that_another_one_has_its_study(here: StudyFolder) -> None:
    other = Lease(origin="another", host="elsewhere/7", pid=8, at=time.time())
    OVERTAKEN[here.root] = "by one that was before"
    with holding(here):
        assert here.root not in OVERTAKEN
        lease = other.model_dump_json().encode()  # a renewal that has just looked may write over the first
        until(lambda: here.root in OVERTAKEN or Copy(here).store.write(LEASE, lease))
    assert OVERTAKEN.pop(here.root) == "the study is now run on elsewhere by process 8"
    assert read_lease(Copy(here).store) == other


def test_a_driver_that_was_killed_here_is_gone_at_once_and_one_elsewhere_after_two_minutes(here: StudyFolder) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with holding(here):
        held = read_lease(Copy(here).store)
    assert held is not None
    mine = held.model_copy(update={"pid": dead.pid, "at": time.time()})
    assert not mine.alive
    assert mine.model_copy(update={"pid": os.getpid()}).alive
    assert mine.model_copy(update={"host": "elsewhere/7"}).alive
    assert not mine.model_copy(update={"host": "elsewhere/7", "at": time.time() - 121}).alive
    Copy(here).store.write(LEASE, mine.model_dump_json().encode())
    with holding(here):
        assert read_lease(Copy(here).store) != mine


AHEAD_SECONDS = 3600.0


@pytest.fixture
def ahead(here: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """Leaves the lease of a driver elsewhere whose clock runs an hour ahead."""
    monkeypatch.setattr(ownership, "WATCH_SECONDS", 0.01)
    lease = Lease(origin="another", host="elsewhere/7", pid=8, at=time.time() + AHEAD_SECONDS)
    Copy(here).store.write(LEASE, lease.model_dump_json().encode())
    return lease


def test_a_lease_of_a_clock_that_runs_ahead_is_dead_when_it_was_not_renewed(
    here: StudyFolder, ahead: Lease, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr(ownership.time, "monotonic", lambda: now[0])
    assert is_held(here)
    now[0] += 119
    assert is_held(here)
    now[0] += 2
    assert not is_held(here)
    with holding(here):
        assert caplog.messages == [], "this process has watched it long enough"
        assert is_held(here)


def test_a_driver_that_starts_watches_a_lease_of_a_clock_that_runs_ahead(
    here: StudyFolder, ahead: Lease, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, looks, read = [5000.0], [0], ownership.read_lease

    def seconds_later(store: Store) -> Lease | None:
        now[0] += 30
        looks[0] += 1
        return read(store)

    monkeypatch.setattr(ownership.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ownership, "read_lease", seconds_later)
    with holding(here):
        assert "on elsewhere by process 8 runs ahead" in caplog.text
    assert looks[0] > 5


def test_a_driver_whose_clock_runs_ahead_keeps_its_study(
    here: StudyFolder, ahead: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, read = [9000.0], ownership.read_lease

    def renewed_later(store: Store) -> Lease | None:
        now[0] += 30
        renewed = ahead.model_copy(update={"at": ahead.at + now[0] - 9000})
        store.write(LEASE, renewed.model_dump_json().encode())
        return read(store)

    monkeypatch.setattr(ownership.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ownership, "read_lease", renewed_later)
    for _ in range(9):
        assert is_held(here)
    with pytest.raises(Refusal, match="'first' is being run on elsewhere by process 8"):
        holding(here).__enter__()


@pytest.mark.parametrize("lives", [True, False])
def test_a_driver_in_a_copy_of_this_folder_keeps_its_study_while_it_lives(
    here: StudyFolder, at_once: None, monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    """A folder that was copied as a whole has the id of the other one; a killed container's may have it, too."""
    monkeypatch.setattr(ownership, "WATCH_SECONDS", 0.01)
    now, read = [time.time()], ownership.read_lease
    theirs = Lease(origin=Copy(here).make_origin(), host="elsewhere/7", pid=8, at=now[0])
    Copy(here).store.write(LEASE, theirs.model_dump_json().encode())

    def later(store: Store) -> Lease | None:
        now[0] += 20
        if lives:
            store.write(LEASE, theirs.model_copy(update={"at": now[0]}).model_dump_json().encode())
        return read(store)

    monkeypatch.setattr(ownership, "read_lease", later)
    monkeypatch.setattr(ownership.time, "time", lambda: now[0])
    if lives:
        with pytest.raises(Refusal, match="'first' is being run on elsewhere by process 8"):
            holding(here).__enter__()
    else:
        with holding(here):
            assert (read(Copy(here).store) or theirs).is_ours


def test_a_driver_in_a_copy_of_this_folder_overtakes_it(here: StudyFolder) -> None:
    with holding(here):
        ours = read_lease(Copy(here).store)
        assert ours is not None
        Copy(here).store.write(LEASE, ours.model_copy(update={"pid": ours.pid + 1}).model_dump_json().encode())
        with pytest.raises(OvertakenError):
            ownership.refuse_overtaken(Copy(here).store, ours.origin)


def test_a_driver_pushes_nothing_once_another_one_has_its_study(
    here: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even before the new one has pushed: the new one would find a copy that is another's."""
    monkeypatch.setattr(ownership, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(ownership, "RENEWED_SECONDS", 600.0)
    with holding(here):
        refuse_overtaken_here(here)
        Copy(here).push()
        lease = Lease(origin="b", host="elsewhere", pid=8, at=time.time())
        Copy(here).store.write(LEASE, lease.model_dump_json().encode())
        before = Copy(here).store.names()
        (here.root / "after").write_text("x", encoding="utf-8")
        sink = RemoteSink(here, partial(refuse_overtaken_here, here))
        with pytest.raises(NotPushedError, match="the study is now run on elsewhere by process 8"):
            sink.study_ended([])
        assert Copy(here).store.names() == before
    OVERTAKEN.pop(here.root, None)


def test_a_lease_is_renewed(here: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "RENEWED_SECONDS", 0.05)
    with holding(here):
        first = read_lease(Copy(here).store)
        assert first is not None
        until(lambda: (now := read_lease(Copy(here).store)) and now.at > first.at)
