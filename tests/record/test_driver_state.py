"""Tests that progress inside a rung is a note beside the checkpoint and is removed together with the rung."""

from pathlib import Path

import pytest

from krona_tune.record import driver_state
from krona_tune.record.driver_state import note_progress, place_of, share_done
from krona_tune.study.folder import StudyFolder
from tests.waiting import until


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.setattr(driver_state, "SECONDS", 0.01)
    return StudyFolder(tmp_path)


def test_the_note_is_there_while_the_rung_lasts(folder: StudyFolder) -> None:
    place = place_of(folder.checkpoints, "cola-003")
    assert share_done(folder, "cola-003") == 0.0
    with note_progress(place, lambda: 0.4375):
        until(lambda: share_done(folder, "cola-003"))
    assert not place.exists()
    assert share_done(folder, "cola-003") == 0.0


def test_a_place_that_cannot_be_written_stops_nothing(folder: StudyFolder) -> None:
    place = place_of(folder.checkpoints, "cola-003")
    place.mkdir(parents=True)  # a folder stands where the file should be
    asked: list[float] = []

    def share() -> float:
        asked.append(0.5)
        return 0.5

    with note_progress(place, share):
        until(lambda: len(asked) > 1)
    assert share_done(folder, "cola-003") == 0.0


@pytest.mark.parametrize(
    ("text", "share"), [("", 0.0), ("0.", 0.0), ("half", 0.0), ("7", 1.0), ("-1", 0.0), ("nan", 0.0), ("0.25", 0.25)]
)
def test_half_a_note_is_none(folder: StudyFolder, text: str, share: float) -> None:
    place = place_of(folder.checkpoints, "rte-000")
    place.parent.mkdir(parents=True)
    place.write_text(text, encoding="utf-8")
    assert share_done(folder, "rte-000") == share
