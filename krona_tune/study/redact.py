"""Redacts passwords in everything that is written or printed."""

import re

MASKS = {
    re.compile(r"([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/]+@", re.IGNORECASE): r"\1:***@",
    re.compile(r"(\b(?:password|passwd|secret|token|api[_-]?key)=)[^\s&'\"]+", re.IGNORECASE): r"\1***",
}
"""What a password stands in, and what is left of it: `scheme://user:…@host`, and `password=…` in a query."""


def redact(text: str) -> str:
    """A text in which no URL carries a password, and no `password=`, `token=` or their like a value."""
    for secret, left in MASKS.items():
        text = secret.sub(left, text)
    return text
