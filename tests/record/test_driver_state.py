"""Tests that progress inside a rung is a note beside the checkpoint, and stays between two rungs."""

import os
from pathlib import Path

import pytest

from krona_tune.record import driver_state
from krona_tune.record.driver_state import (
    TrialProgress,
    forget_progress,
    note_progress,
    place_of,
    progress_of,
    read_driver_state,
    running_state,
    state_since,
    write_driver_state,
)
from krona_tune.record.ownership import claim, lock_of
from krona_tune.study.folder import StudyFolder
from krona_tune.study.study_state import DriverState, End
from tests.record.events import curve
from tests.waiting import until


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.setattr(driver_state, "NOTE_SECONDS", 0.01)
    return StudyFolder(tmp_path)


def test_the_note_is_there_until_the_trial_leaves_its_worker(folder: StudyFolder) -> None:
    place = place_of(folder.checkpoints, "cola-003")
    notes = [TrialProgress(share=0.4375, curve=curve(0.9, 0.7))]
    assert progress_of(folder, "cola-003") == TrialProgress()
    with note_progress(place, lambda: notes[-1]):
        until(lambda: progress_of(folder, "cola-003").share)
        assert progress_of(folder, "cola-003") == notes[0]
        notes.append(TrialProgress(share=0.5, curve=curve(0.9, 0.7, 0.6)))
    assert progress_of(folder, "cola-003") == notes[1]
    forget_progress(place)
    assert not list(place.parent.iterdir())
    assert progress_of(folder, "cola-003") == TrialProgress()


def written(folder: StudyFolder, at: float, end: End = "") -> DriverState:
    """Returns the state that a driver has written into a study's folder."""
    write_driver_state(
        folder, DriverState(stage="end" if end else "search", trials=9, ended=3, slots=2, end=end, at=at)
    )
    state = read_driver_state(folder)
    assert state
    return state


ENDS: tuple[End, ...] = ("", "finished")


@pytest.mark.parametrize("end", ENDS)
def test_the_state_of_an_earlier_driver_is_not_that_of_the_one_that_has_the_folder(
    folder: StudyFolder, end: End
) -> None:
    """The files' times say nothing of that: the clock may be set back while a driver runs."""
    folder.spec.touch()
    with claim(folder):
        earlier = written(folder, 1.0, end)
    with claim(folder):
        os.utime(folder.driver, (4e9, 4e9))
        assert (read_driver_state(folder), running_state(folder)) == (earlier, None)
        for again in ENDS:
            own = written(folder, 2.0, again)
            assert running_state(folder) == own, "a driver that ends has a state too"


def test_of_a_driver_that_could_not_write_which_it_is_a_state_without_an_end_is_its_own(folder: StudyFolder) -> None:
    with lock_of(folder):
        assert running_state(folder) is None
        own = written(folder, 1.0)
        assert running_state(folder) == own
        written(folder, 2.0, "cancelled")
        assert running_state(folder) is None


def test_a_started_driver_is_told_from_the_one_before_by_what_that_had_left(folder: StudyFolder) -> None:
    assert state_since(folder, None) is None
    earlier = written(folder, 1.0, "cancelled")
    assert (state_since(folder, 1.0), state_since(folder, None)) == (None, earlier)
    own = written(folder, 2.0, "finished")
    assert state_since(folder, 1.0) == own


def test_the_last_point_is_the_newest() -> None:
    assert TrialProgress().last is None
    assert TrialProgress(curve=curve(0.9, 0.7)).last == (340, 0.7, 0.01 - 340 / 10**6)


def test_a_place_that_cannot_be_written_stops_nothing(folder: StudyFolder) -> None:
    place = place_of(folder.checkpoints, "cola-003")
    place.mkdir(parents=True)  # a folder stands where the file should be
    asked: list[TrialProgress] = []

    def progress() -> TrialProgress:
        asked.append(TrialProgress(share=0.5))
        return asked[-1]

    with note_progress(place, progress):
        until(lambda: len(asked) > 1)
    assert progress_of(folder, "cola-003") == TrialProgress()
    assert list(place.parent.iterdir()) == [place]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ('{"share": 0.5, "curve": [[1', 0.0),
        ("0.25", 0.0),
        ('{"share": 7}', 0.0),
        ('{"share": NaN}', 0.0),
        ('{"share": 0.25, "curve": [[9, 0.5]]}', 0.0),
        ('{"share": 0.25}', 0.25),
    ],
)
def test_half_a_note_is_none(folder: StudyFolder, text: str, share: float) -> None:
    place = place_of(folder.checkpoints, "rte-000")
    place.parent.mkdir(parents=True)
    place.write_text(text, encoding="utf-8")
    assert progress_of(folder, "rte-000").share == share
