"""Files that are there whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that takes its place in one step: nobody reads half of it, and a full disk leaves what was
    there, and no half of a file."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def put(path: Path, text: str) -> Path:
    """Writes a whole text file."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
