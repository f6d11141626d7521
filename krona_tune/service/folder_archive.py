"""Packs a folder as a ZIP file while it is sent, so that no copy of it is made."""

from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import ZipFile, ZipInfo

from starlette.responses import StreamingResponse

from krona_tune.refusal import Refusal

PART = 2**20
"""How many bytes of a file are read at once."""


class ZipAnswer(StreamingResponse):
    """Answers with a folder as a ZIP file, for which a browser asks where to save it.

    Args:
        folder: what is packed.
        name: the name of the ZIP file, and of the only folder in it.

    Raises:
        Refusal: a file in the folder is a link to a place outside it.
    """

    media_type = "application/zip"

    def __init__(self, folder: Path, name: str) -> None:
        saved = f"attachment; filename*=UTF-8''{quote(name, safe='')}.zip"
        super().__init__(zip_parts(folder, files_of(folder), name), headers={"Content-Disposition": saved})


def files_of(folder: Path) -> list[Path]:
    """Returns a folder's files, in order. Raises a Refusal if one is a link to a place outside the folder."""
    home = folder.resolve()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        if not path.resolve().is_relative_to(home):
            raise Refusal(folder.name, f"{path.name} is a link to a place outside it", "copy the file")
    return files


def zip_parts(folder: Path, files: list[Path], name: str) -> Iterator[bytes]:
    """Yields the bytes of a ZIP file of a folder's files, uncompressed, since weights don't become smaller."""
    sent = _Parts()
    with ZipFile(sent, "w", strict_timestamps=False) as packed:
        for path in files:
            entry = ZipInfo.from_file(path, f"{name}/{path.relative_to(folder).as_posix()}", strict_timestamps=False)
            with path.open("rb") as file, packed.open(entry, "w") as target:
                while part := file.read(PART):
                    target.write(part)
                    yield sent.taken()
    yield sent.taken()


class _Parts(RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        self._held += part
        return len(part)

    def taken(self) -> bytes:
        found, self._held = bytes(self._held), bytearray()
        return found
