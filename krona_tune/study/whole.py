"""Text files that are there whole or not at all."""

from pathlib import Path


def put(path: Path, text: str) -> Path:
    """Writes a file in one step: nobody reads half of it, and a full disk leaves what was there."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
