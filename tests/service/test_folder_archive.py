"""Tests that a folder is sent whole as a ZIP file in parts, as it was, and that a link out of it is refused."""

import os
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from krona_tune.refusal import Refusal
from krona_tune.service import folder_archive
from krona_tune.service.folder_archive import ZipAnswer, open_files, zip_parts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "cola"
    (made / "inner").mkdir(parents=True)
    (made / "weights.bin").write_bytes(bytes(range(256)) * 40)
    (made / "inner" / "naïve.txt").write_text("words")
    (made / "empty").touch()
    return made


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_unpacked_is_what_the_folder_holds(folder: Path, tmp_path: Path) -> None:
    os.utime(folder / "empty", (0, 0))  # ZIP files know no time before 1980
    before = held(folder)
    (folder / ".unfinished-1").mkdir()
    (folder / ".unfinished-1" / "part").touch()
    with ZipFile(BytesIO(b"".join(zip_parts(open_files(folder), "first-cola")))) as packed:
        assert packed.testzip() is None
        packed.extractall(tmp_path / "out")
    assert held(tmp_path / "out" / "first-cola") == before
    assert len(before) == 3


def test_no_more_than_a_part_is_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_archive, "PART", 1000)
    assert max(map(len, zip_parts(open_files(folder), "x"))) < 2000


def test_files_that_are_replaced_meanwhile_are_sent_as_they_were(folder: Path, tmp_path: Path) -> None:
    before, parts = held(folder), zip_parts(open_files(folder), "x")
    first = next(parts)
    for path in ("weights.bin", "empty"):
        (folder / "new").write_text("another version")
        (folder / "new").rename(folder / path)
    with ZipFile(BytesIO(first + b"".join(parts))) as packed:
        packed.extractall(tmp_path)
    assert held(tmp_path / "x") == before


def test_a_folder_that_changes_while_its_files_are_opened_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def replacing(path: Path, *asked: str) -> object:
        found = opened(path, *asked)
        if path.name == "empty":
            path.rename(folder / "moved")
        return found

    monkeypatch.setattr(Path, "open", replacing)
    with pytest.raises(Refusal, match="cola: it is being written; ask again in a moment"):
        open_files(folder)


def test_a_link_out_of_the_folder_is_refused_before_anything_is_sent(folder: Path, tmp_path: Path) -> None:
    (folder / "inside").symlink_to(folder / "empty")
    assert b"".join(zip_parts(open_files(folder), "x"))
    (tmp_path / "secret").touch()
    (folder / "outward").symlink_to(tmp_path / "secret")
    with pytest.raises(Refusal, match="cola: outward is a link to a place outside it"):
        ZipAnswer(folder, "x")


def test_a_browser_is_told_the_files_name(folder: Path) -> None:
    for path in held(folder):
        (folder / path).unlink()  # nothing stays open
    answer = ZipAnswer(folder, "first–cola")
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''first%E2%80%93cola.zip"
