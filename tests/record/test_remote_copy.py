"""Tests that a URI holds a complete copy of a study at every moment, for one driver at a time, without loss."""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from krona_tune.record import background, remote_copy
from krona_tune.record.ownership import claim, holding, lock_of
from krona_tune.record.parquet_reader import read_trials
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.remote_copy import (
    HERE,
    INDEX,
    NEXT,
    ORIGIN,
    Copy,
    Index,
    NotPushedError,
    OvertakenError,
    RemoteSink,
    belongs,
)
from krona_tune.record.remote_files import Store
from krona_tune.record.storage import refresh
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.copies import on, recorded
from tests.record.events import ended, started
from tests.waiting import until


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


def test_a_file_that_goes_while_it_is_pushed_is_removed_there_too(
    here: StudyFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Copy(here).push()
    changed, write = {path.name: path for path in (here.journal, here.spec)}, Store.write
    for path in changed.values():
        path.write_text(path.read_text() + "more\n")

    def remove_the_other(self: Store, name: str, content: bytes) -> None:
        for other in changed.keys() - {name} if name in changed else ():
            changed.pop(other).unlink()
        write(self, name, content)

    monkeypatch.setattr(Store, "write", remove_the_other)
    Copy(here).push()
    [left] = changed
    assert {"optuna.journal", "study.yaml"} & set(Store(f"{uri}/first").names("")) == {left}


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


def before_the_first_read_of_records(
    monkeypatch: pytest.MonkeyPatch, folder: StudyFolder, happens: Callable[[], None]
) -> None:
    """Lets something happen after a push has listed the files and before it reads the first of the records."""
    read, left = Path.read_bytes, [happens]

    def read_late(path: Path) -> bytes:
        if left and path.is_relative_to(folder.results):
            left.pop()()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_late)


def test_the_journal_of_a_copy_has_no_end_that_the_rows_lack(
    here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial ends for both after the push has listed the files, and before it reads them."""

    def a_trial_ends() -> None:
        with here.journal.open("a") as journal:
            journal.write("333\n")
        ParquetSink(here.results).trial_ended(ended(started(2), Status.FAILED, []))

    before = read_trials(here.results)
    before_the_first_read_of_records(monkeypatch, here, a_trial_ends)
    Copy(here).push()
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


def test_an_old_copy_of_a_drivers_folder_pushes_nothing_and_is_set_aside(
    here: StudyFolder, uri: str, tmp_path: Path
) -> None:
    """It has the id of the folder of which it is a copy, as in a snapshot of a machine."""
    with claim(here):
        ParquetSink(here.results).trial_ended(ended(started(3), Status.FAILED, []))
        Copy(here).push()
        there = on(tmp_path / "there", uri)
        shutil.copytree(here.root, there.root)
        ParquetSink(here.results).trial_ended(ended(started(2), Status.STOPPED_EARLY, []))
        Copy(here).push()
    (there.root / "later").touch()
    with pytest.raises(OvertakenError):
        Copy(there).push()
    with claim(there):
        assert read_trials(there.results) == read_trials(here.results)
        assert Copy(there).origin != Copy(here).origin
        there.page.touch()
        Copy(there).push()
    (aside,) = there.root.glob(".superseded-*")
    assert (aside / "later").exists()
    refresh(here)
    assert here.page.exists()


@pytest.mark.parametrize("at", [HERE, NEXT])
def test_a_driver_that_was_killed_while_it_pushed_comes_back_to_its_own_copy(
    here: StudyFolder, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    write = remote_copy.write_atomically

    def killed(path: Path, text: str, **how: Any) -> Path:
        if path.name == at:
            raise Killed
        return write(path, text, **how)

    with claim(here):
        Copy(here).push()
        (here.root / "later").touch()
        with monkeypatch.context() as patch:
            patch.setattr(remote_copy, "write_atomically", killed)
            with pytest.raises(Killed):
                Copy(here).push()
    (here.root / "latest").touch()
    with claim(here):
        assert (here.root / "latest").exists()
        Copy(here).push()
    with claim(here):
        assert (here.root / "latest").exists()
    assert not list(here.root.glob(".superseded-*"))


def test_a_command_that_changes_nothing_leaves_the_study_to_its_driver(
    here: StudyFolder, uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Copy(here).push()
    there = on(tmp_path / "there", uri)
    exported = there.exports / "cola-merged" / "model.safetensors"
    exported.parent.mkdir(parents=True)
    exported.touch()
    for number in range(2):
        with claim(there):  # as sync and clean do
            pass
        ParquetSink(here.results).trial_ended(ended(started(2), Status.FAILED, []))
        (here.root / f"later-{number}").touch()
        Copy(here).push()
        refresh(there)
        assert (there.root / f"later-{number}").exists()
    assert (list(there.root.glob(".superseded-*")), caplog.messages) == ([], [])
    assert exported.exists()
    assert read_trials(there.results) == read_trials(here.results)


@pytest.mark.parametrize("changed", ["a record", "a new file", "one less"])
def test_what_a_driver_changed_and_could_not_push_is_kept(
    here: StudyFolder, uri: str, tmp_path: Path, changed: str
) -> None:
    Copy(here).push()
    there = on(tmp_path / "there", uri)
    exported = there.exports / "cola-merged"
    exported.mkdir(parents=True)
    with claim(there):
        if changed == "a record":
            ParquetSink(there.results).trial_ended(ended(started(2), Status.STOPPED_EARLY, []))
        elif changed == "a new file":
            (there.root / "notes.txt").touch()
        else:
            there.journal.unlink()
    kept = files(there)
    refresh(there)
    (aside,) = there.root.glob(".superseded-*")
    assert files(StudyFolder(aside)) == kept
    assert exported.is_dir(), "what was exported is not its driver's"


def test_a_page_that_was_drawn_again_is_no_work_of_a_driver(
    here: StudyFolder, uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Copy(here).push()
    there = on(tmp_path / "there", uri)
    refresh(there)
    there.page.write_text("drawn here", encoding="utf-8")
    for _ in range(2):
        with claim(there):
            there.page.write_text("drawn again", encoding="utf-8")
        refresh(there)
    assert (list(there.root.glob(".superseded-*")), caplog.messages) == ([], [])


class Killed(BaseException):
    """The process is killed."""


@pytest.mark.parametrize("moved", range(6))
def test_what_could_not_be_pushed_is_kept_if_a_process_is_killed_while_it_moves_that(
    here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    Copy(here).push()
    there = on(tmp_path / "there", uri)
    with claim(there):
        ParquetSink(there.results).trial_ended(ended(started(2), Status.STOPPED_EARLY, []))
        there.page.touch()
    kept, left, rename = files(there), list(range(moved)), Path.rename

    def renamed(path: Path, to: Path) -> Path:
        if not left:
            raise Killed
        left.pop()
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", renamed)
        with pytest.raises(Killed):
            refresh(there)
    refresh(there)
    (aside,) = there.root.glob(".superseded-*")
    assert files(StudyFolder(aside)) == kept
    assert read_trials(there.results) == read_trials(here.results)


def test_a_folder_gets_its_id_at_once_and_keeps_it(here: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Copy(here)
    known = copy.make_origin("another")

    def killed(path: Path, text: str, **_: Any) -> int:
        path.touch()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        assert copy.make_origin("a third") == known
        (here.root / ORIGIN).unlink()
        with pytest.raises(Killed):
            copy.make_origin("a fourth")
    assert copy.origin == "", "no half id is left"
    assert not (here.root / ORIGIN).exists()


MEANWHILE: dict[str, Callable[[ExitStack, StudyFolder], object]] = {
    "runs": lambda stack, folder: stack.enter_context(claim(folder)),
    "came and went": lambda _, folder: pushed_by_a_driver(folder),
}


def pushed_by_a_driver(folder: StudyFolder) -> None:
    with claim(folder):
        ParquetSink(folder.results).trial_ended(ended(started(2), Status.FAILED, []))
        Copy(folder).push()


@pytest.mark.parametrize("driver", MEANWHILE)
def test_a_look_leaves_the_folder_to_a_driver_that_has_come_meanwhile(
    here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    """The driver takes the folder after the look has read the copy's index."""
    Copy(here).push()
    there = on(tmp_path / "there", uri)
    refresh(there)
    read, left = Store.read, [MEANWHILE[driver]]
    with ExitStack() as stack:

        def and_driven(store: Store, name: str) -> bytes:
            content = read(store, name)
            if name == INDEX and left:
                left.pop()(stack, there)
            return content

        monkeypatch.setattr(Store, "read", and_driven)
        refresh(there)
        assert not left
        assert not list(there.root.glob(".superseded-*"))
        assert there.spec.exists()
        assert len(read_trials(there.results)) == 3


def test_the_sink_pushes_at_the_beginning_after_a_trial_and_at_the_end(here: StudyFolder, uri: str) -> None:
    def index() -> Index:
        return Index.model_validate_json(Store(f"{uri}/first").read(INDEX))

    def is_there(name: str) -> bool:
        return INDEX in Store(f"{uri}/first").names() and name in index().files

    here.state.write_text("of an earlier driver", encoding="utf-8")
    sink = RemoteSink(here)
    until(lambda: is_there("study.yaml"))
    assert not is_there("state.json")
    (here.root / "after a trial").write_text("x", encoding="utf-8")
    sink.trial_ended(started(1))
    until(lambda: is_there("after a trial"))
    here.page.write_text("<html>", encoding="utf-8")
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

    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 60)
    monkeypatch.setattr(background, "DRAIN_SECONDS", 20)  # shorter than a pause: the end tries once
    monkeypatch.setattr(Copy, "push", perhaps)
    lost = RemoteSink(here)
    with pytest.raises(NotPushedError, match=r"lacks the latest changes \(ConnectionError: no route"):
        lost.study_ended([])
    assert len([line for line in caplog.messages if "the study continues" in line]) == 1
    assert "hunter2" not in caplog.text
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
    until(lambda: pushes)
    sink.trial_ended(started(1))
    with pytest.raises(NotPushedError, match=r"lacks the latest changes \(the study is now run on another machine\)"):
        sink.study_ended([])
    assert (len(pushes), caplog.text.count("nothing more is pushed")) == (1, 1)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", ".lock", "results/.x.tmp", "ray/x", "optuna.journal.lock", "a/../b"]
)
def test_what_an_index_names_outside_the_study_is_not_fetched(name: str) -> None:
    assert not belongs(name)
    assert belongs("results/parts/trials-1.parquet")


def test_a_copy_that_is_compacted_while_it_is_pulled_is_pulled_again(
    here: StudyFolder, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Copy(here).push()
    read = Store.read

    def and_compacted(self: Store, name: str) -> bytes:
        if name != INDEX and list((here.results / "parts").iterdir()):
            ParquetSink(here.results).study_ended([])
            Copy(here).push()
        return read(self, name)

    monkeypatch.setattr(Store, "read", and_compacted)
    there = on(tmp_path / "there", uri)
    refresh(there)
    assert read_trials(there.results) == read_trials(here.results)
    assert not list((there.results / "parts").glob("*"))


def test_a_part_that_goes_away_while_it_is_pushed_is_left_out(
    here: StudyFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = next((here.results / "parts").iterdir())
    before_the_first_read_of_records(monkeypatch, here, gone.unlink)
    Copy(here).push()
    index = Index.model_validate_json(Store(f"{uri}/first").read(INDEX))
    assert f"results/parts/{gone.name}" not in index.files
    assert replace(here, remote=None).remote_checkpoints is None
