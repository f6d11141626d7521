"""Finds the files that hold a user's own metric function, with those beside it that they import, and hashes them."""

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from krona_tune.refusal import Refusal

MOST_BYTES = 1_000_000
"""The most bytes of a file of code."""


def file_of(place: str) -> Path | None:
    """Returns the file at PATH.py:FUNCTION; None for MODULE:FUNCTION."""
    module = place.rpartition(":")[0]
    return Path(module) if module.endswith(".py") else None


def refuse_odd_file(key: str, file: Path) -> None:
    """Refuses what can't be read as a file of code: a folder, a pipe that nobody may ever write to, a huge file."""
    if not os.path.exists(file):  # also of a name that no file can have
        raise Refusal(key, f"{file} is not there", "paths are relative to the YAML file that names them")
    if not file.is_file():
        raise Refusal(key, f"{file} is no regular file", "name a file of Python code")
    if file.stat().st_size > MOST_BYTES:
        raise Refusal(key, f"{file} has more than {MOST_BYTES:,} bytes", "name a file of Python code")


def code_digest(files: Iterable[Path]) -> str:
    """Returns a hash of files and of those in their folders that they import, by name and content; empty for none."""
    lines = [f"{os.path.relpath(path, file.parent)} {digest}" for file in files for path, digest in _hashes(file)]
    return hashlib.sha256(os.fsencode("\n".join(sorted(lines)))).hexdigest() if lines else ""


def _hashes(file: Path) -> Iterator[tuple[Path, str]]:
    """Yields the file and what it imports, directly or by others, from its own folder, with the hash of each."""
    seen, waiting = set(), [file]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        source = _beginning(path)
        yield path, hashlib.sha256(source).hexdigest()
        waiting += _imported(source, path, file.parent)


def _beginning(path: Path) -> bytes:
    """Returns what is read of a file; nothing if it can't be read, since its import says why."""
    try:
        with path.open("rb") as opened:
            return opened.read(MOST_BYTES)
    except OSError:
        return b""


def _imported(source: bytes, path: Path, folder: Path) -> Iterator[Path]:
    """Yields where the modules may be that a file imports; nothing if it is no code."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (file for each in names for file in _modules(folder, each.name))
            case ast.ImportFrom(module=module, names=names, level=level):
                base = path.joinpath(*[".."] * level).resolve() if level else folder
                named = [f"{module}.{each.name}" if module else each.name for each in names]
                yield from (file for name in named for file in _modules(base, name))


def _modules(folder: Path, name: str) -> Iterator[Path]:
    """Yields the files that a dotted name may import: of each package in it, and of the last module."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        package = folder.joinpath(*parts[:depth])
        yield package.with_name(f"{package.name}.py")
        yield package / "__init__.py"
