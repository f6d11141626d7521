"""Tests that a file or folder is written completely or stays as it was."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from krona_tune.atomic_write import atomic_folder, atomic_path, write_atomically


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


@pytest.fixture(params=[0o022, 0o027, 0o077, 0o002], ids=oct)
def rights(request: pytest.FixtureRequest) -> Iterator[int]:
    """Sets a umask, and returns the rights that it leaves a file."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def private(path: Path) -> None:
    """Writes a file as safetensors does: a new one, which nobody else may read."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def rights_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_has_the_rights_that_the_umask_leaves(tmp_path: Path, rights: int) -> None:
    with atomic_path(tmp_path / "states") as temporary:
        private(temporary)
    text = write_atomically(tmp_path / "study.yaml", "seed: 7")
    assert (rights_of(tmp_path / "states"), rights_of(text)) == (rights, rights)


@pytest.mark.parametrize("there", [False, True])
def test_the_files_of_a_folder_have_the_rights_that_the_umask_leaves(tmp_path: Path, rights: int, there: bool) -> None:
    place = tmp_path / "adapter"
    if there:
        place.mkdir()
    with atomic_folder(place) as built:
        (built / "words").mkdir()
        (built / "card").write_text("card", encoding="utf-8")
        for name in ("tensors", "words/tensors"):
            private(built / name)
    assert {rights_of(place / name) for name in ("card", "tensors", "words/tensors")} == {rights}
    assert {rights_of(folder) & 0o666 for folder in (place, place / "words")} == {rights}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns what is brought to the disk, and what is renamed, in this order."""
    found: list[str] = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def synced(descriptor: int) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", lambda path, to: (found.append(f"-> {to.name}"), replace(path, to))[1])
    monkeypatch.setattr(Path, "rename", lambda path, to: (found.append(f"-> {to.name}"), rename(path, to))[1])
    return found


def test_a_file_is_on_the_disk_before_it_takes_its_place_and_its_name_after(tmp_path: Path, calls: list[str]) -> None:
    write_atomically(tmp_path / "study.yaml", "seed: 7")
    before, moved, after = calls
    assert before.startswith(".study.yaml.")
    assert (moved, after) == ("-> study.yaml", tmp_path.name)
    calls.clear()
    write_atomically(tmp_path / "state.json", "{}", lasting=False)
    assert calls == ["-> state.json"]


def test_a_folder_is_on_the_disk_before_it_takes_its_place_and_its_name_after(tmp_path: Path, calls: list[str]) -> None:
    for expected in (["-> rung-1", tmp_path.name], ["-> progress", "-> tensors", "rung-1"]):
        calls.clear()
        with atomic_folder(tmp_path / "rung-1") as built:
            for name in ("progress", "tensors"):
                (built / name).touch()
        assert sorted(calls[:3]) == ["progress", "rung-1", "tensors"]
        assert calls[3:] == expected
