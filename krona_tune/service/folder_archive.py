"""Packs a folder as a ZIP file while it is sent, so that no copy of it is made."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from io import RawIOBase
from os import fstat
from pathlib import Path
from time import localtime
from typing import IO, Any
from urllib.parse import quote
from zipfile import ZipFile, ZipInfo

from starlette.responses import StreamingResponse

from krona_tune.refusal import Refusal, refusing

PART = 2**20
"""The bytes of a file that are read at once."""
FIRST = (1980, 1, 1, 0, 0, 0)
"""The first moment that a ZIP file knows."""
Files = dict[Path, IO[bytes]]


class ZipAnswer(StreamingResponse):
    """Answers with a folder as a ZIP file, for which a browser asks where to save it.

    Args:
        folder: what is packed, without what is hidden.
        name: the name of the ZIP file, and of the only folder in it.

    Raises:
        Refusal: a file in the folder is a link to a place outside it or can't be read, or the folder is being written.
    """

    media_type = "application/zip"

    def __init__(self, folder: Path, name: str, status_code: int = 200) -> None:
        saved = f"attachment; filename*=UTF-8''{quote(name, safe='')}.zip"
        super().__init__(zip_parts(open_files(folder), name), status_code, headers={"Content-Disposition": saved})


def open_files(folder: Path) -> Files:
    """Returns a folder's open files by their paths in it: whatever replaces them, they keep what they hold now.

    Raises:
        Refusal: one is a link to a place outside the folder or can't be read, or they changed while they were opened.
    """
    found: Files = {}
    with ExitStack() as failing, refusing(folder.name, "it can't be read", "let the service's account read it"):
        for path in (before := _paths(folder)):
            if not path.resolve().is_relative_to(folder.resolve()):
                raise Refusal(folder.name, f"{path.name} is a link to a place outside it", "copy the file")
            with suppress(FileNotFoundError):  # it is seen below
                found[path.relative_to(folder)] = failing.enter_context(path.open("rb"))
        opened = [fstat(file.fileno()).st_ino for file in found.values()]
        if before != _paths(folder) or opened != [path.stat().st_ino for path in before]:
            raise Refusal(folder.name, "it is being written", "ask again in a moment")
        failing.pop_all()
    return found


def _paths(folder: Path) -> list[Path]:
    """Returns a folder's files, in order, without what is hidden, as what is not complete is."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def zip_parts(files: Files, name: str) -> Iterator[bytes]:
    """Yields the bytes of a ZIP file of open files, uncompressed, since weights don't become smaller; closes them."""
    sent = _Parts()
    with ExitStack() as closing, ZipFile(sent, "w") as packed:
        for file in files.values():
            closing.enter_context(file)
        for path, file in files.items():
            state = fstat(file.fileno())
            entry = ZipInfo(f"{name}/{path.as_posix()}", max(FIRST, localtime(state.st_mtime)[:6]))
            entry.file_size = state.st_size  # decides whether it is written as a large one
            with packed.open(entry, "w") as target:
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
