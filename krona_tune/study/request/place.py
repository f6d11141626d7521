"""Holds the type of a hub's name or a path in a request, and how one value stands for a list."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from krona_tune.refused_calls import LONGEST_NAME, LONGEST_PATH


def listed(value: Any) -> Any:
    """Returns a list of one value for a value."""
    return [value] if isinstance(value, str | Path) else value


def printable(text: str) -> str:
    """Returns a text, if no character of it is a control character."""
    if not text.isprintable():
        raise ValueError("write it without control characters")
    return text


def _place(text: str) -> str:
    """Returns a hub's name or a path, if file systems accept it."""
    try:
        longest = max(len(part.encode()) for part in text.split("/"))
    except UnicodeEncodeError:
        raise ValueError("write it in UTF-8") from None
    if not text.strip() or "\0" in text or longest > LONGEST_NAME or len(text.encode()) > LONGEST_PATH:
        raise ValueError(f"write a name of at most {LONGEST_NAME} bytes, or a path of at most {LONGEST_PATH} bytes")
    return text


Place = Annotated[str, AfterValidator(_place)]
