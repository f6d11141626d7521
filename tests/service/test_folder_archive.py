"""Tests that a folder is sent whole as a ZIP file in parts, and that a link out of it is refused."""

import os
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from krona_tune.refusal import Refusal
from krona_tune.service import folder_archive
from krona_tune.service.folder_archive import ZipAnswer, files_of, zip_parts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "cola"
    (made / "inner").mkdir(parents=True)
    (made / "weights.bin").write_bytes(bytes(range(256)) * 40)
    (made / "inner" / "naïve.txt").write_text("words")
    (made / "empty").touch()
    return made


def test_what_is_unpacked_is_what_the_folder_holds(folder: Path, tmp_path: Path) -> None:
    os.utime(folder / "empty", (0, 0))  # ZIP files know no time before 1980
    with ZipFile(BytesIO(b"".join(zip_parts(folder, files_of(folder), "first-cola")))) as packed:
        assert packed.testzip() is None
        packed.extractall(tmp_path / "out")
    held = {str(path.relative_to(folder)): path.read_bytes() for path in files_of(folder)}
    out = tmp_path / "out" / "first-cola"
    assert {str(path.relative_to(out)): path.read_bytes() for path in files_of(out)} == held
    assert len(held) == 3


def test_no_more_than_a_part_is_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_archive, "PART", 1000)
    assert max(map(len, zip_parts(folder, files_of(folder), "x"))) < 2000


def test_a_link_out_of_the_folder_is_refused_before_anything_is_sent(folder: Path, tmp_path: Path) -> None:
    (folder / "inside").symlink_to(folder / "empty")
    assert len(files_of(folder)) == 4
    (tmp_path / "secret").touch()
    (folder / "outward").symlink_to(tmp_path / "secret")
    with pytest.raises(Refusal, match="cola: outward is a link to a place outside it"):
        ZipAnswer(folder, "x")


def test_a_browser_is_told_the_files_name(folder: Path) -> None:
    told = ZipAnswer(folder, "first–cola").headers["Content-Disposition"]
    assert told == "attachment; filename*=UTF-8''first%E2%80%93cola.zip"
