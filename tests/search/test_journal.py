"""Tests that Optuna's journal forgets nothing and can be read again after a full disk or a damaged line."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from krona_tune.search.searchers.open_samplers import open_journal
from tests.search.conftest import never


def study(storage: JournalStorage) -> optuna.Study:
    return optuna.create_study(storage=storage, study_name="s", load_if_exists=True)


def filled(path: Path, trials: int = 2) -> Path:
    """Writes a journal in which some trials have ended."""
    asked = study(open_journal(path, never))
    for number in range(trials):
        trial = asked.ask()
        trial.suggest_float("x", 0, 1)
        asked.tell(trial, number + 0.5)
    return path


def values(path: Path) -> list[float | None]:
    """Returns the values that another program reads."""
    read = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    return [trial.value for trial in read.trials]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Returns a switch for a full disk, which cuts off the end of what is written."""
    flushed = os.fsync
    state = {"full": False}

    def fsync(descriptor: int) -> None:
        if state["full"]:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - 20)
            raise OSError(28, "No space left on device")
        flushed(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return lambda full: state.update(full=full)


def test_what_finds_no_room_is_kept_and_written_with_what_comes_next(
    tmp_path: Path, full_disk: Callable[[bool], None]
) -> None:
    path, reasons = filled(tmp_path / "journal"), list[str]()
    asked = study(open_journal(path, reasons.append))
    full_disk(True)
    late = [asked.ask() for _ in range(3)]
    asked.tell(late[0], 7.0)
    assert [trial.value for trial in asked.trials] == [0.5, 1.5, 7.0, None, None]
    assert values(path) == [0.5, 1.5]
    assert "No space left" in reasons[0]
    full_disk(False)
    asked.tell(late[2], 9.0)
    assert values(path) == [0.5, 1.5, 7.0, None, 9.0]
    late[1].set_user_attr("still", "open")
    asked.tell(late[1], 8.0)
    assert values(path) == [trial.value for trial in asked.trials] == [0.5, 1.5, 7.0, 8.0, 9.0]


def test_a_line_that_a_kill_left_unfinished_is_cut_off(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal")
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:9])
    study(open_journal(path, never)).enqueue_trial({"x": 0.5})
    assert values(path) == [0.5, 1.5, None]
    assert list(tmp_path.glob("*.damaged")) == []


@pytest.mark.parametrize(
    "damage", [b"\0" * 30, b"{}", b'{"op_code": 99, "worker_id": "w"}', b'{"op_code": 4, "wor', b"17", b"\xff\xfe"]
)
def test_a_damaged_journal_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: bytes) -> None:
    path = filled(tmp_path / "journal")
    lines: list[Any] = path.read_bytes().splitlines()
    lines[len(lines) // 2] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    study(open_journal(path, never)).enqueue_trial({"x": 0.5})
    assert values(path) == [None]
    kept = (tmp_path / "journal.damaged").read_bytes().splitlines()
    assert json.loads(kept[0])
    assert damage in kept
