"""Tests that progress inside a rung is a note beside the checkpoint, and stays between two rungs."""

from pathlib import Path

import pytest

from krona_tune.record import driver_state
from krona_tune.record.driver_state import TrialProgress, forget_progress, note_progress, place_of, progress_of
from krona_tune.study.folder import StudyFolder
from tests.record.events import curve
from tests.waiting import until


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.setattr(driver_state, "SECONDS", 0.01)
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
