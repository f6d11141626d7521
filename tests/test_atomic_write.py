"""Tests that a file or folder is written completely or stays as it was."""

from contextlib import suppress
from pathlib import Path

import pytest

from krona_tune.atomic_write import atomic_folder, write_atomically


def test_a_file_that_finds_no_room_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = write_atomically(tmp_path / "study.yaml", "seed: 7\n")

    def half(path: Path, text: str, encoding: str) -> int:
        path.write_bytes(text[:3].encode(encoding))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(request, "seed: 8\n")
    assert request.read_text(encoding="utf-8") == "seed: 7\n"
    assert list(tmp_path.iterdir()) == [request]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_is_not_finished_changes_nothing(tmp_path: Path, there: bool) -> None:
    place = tmp_path / "new" / "place"
    if there:
        place.mkdir(parents=True)
        (place / "card").write_text("old", encoding="utf-8")
    with suppress(OSError), atomic_folder(place, last="card") as built:
        (built / "card").write_text("new", encoding="utf-8")
        raise OSError(28, "No space left on device")
    assert [path.read_text(encoding="utf-8") for path in place.parent.rglob("*") if path.is_file()] == ["old"] * there


def test_a_finished_folder_takes_its_place_and_keeps_what_else_was_there(tmp_path: Path) -> None:
    place, seen = tmp_path / "place", []
    for text in ("one", "two"):
        with atomic_folder(place, last="card") as built:
            assert built.name == "place"
            for name in ("card", "tensors"):
                (built / name).write_text(text, encoding="utf-8")
        (place / "notes").touch()
        seen.append({path.name: path.read_text(encoding="utf-8") for path in place.iterdir()})
    assert seen == [{"card": text, "tensors": text, "notes": ""} for text in ("one", "two")]
    assert list(tmp_path.iterdir()) == [place]


def test_the_last_file_never_stands_beside_the_others_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, seen, replace = tmp_path / "place", [], Path.replace

    def watched(file: Path, to: Path) -> Path:
        moved = replace(file, to)
        seen.append({path.name for path in place.iterdir() if path.is_file()})
        return moved

    for _ in range(2):
        with atomic_folder(place, last="card") as built:
            for name in ("card", "tensors", "words"):
                (built / name).touch()
        monkeypatch.setattr(Path, "replace", watched)
    assert seen == [{"tensors", "words"}, {"tensors", "words"}, {"card", "tensors", "words"}]
