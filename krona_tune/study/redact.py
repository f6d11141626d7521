"""Redacts passwords in everything that is written or printed."""

import re

MASKS = {
    re.compile(r"([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/]+@", re.IGNORECASE): r"\1:***@",
    re.compile(r"(\b(?:password|passwd|secret|token|api[_-]?key)=)[^\s&'\"]+", re.IGNORECASE): r"\1***",
    re.compile(r"(--notify[= ])(?:'[^']*'|\S+)"): r"\1***",
}
"""Patterns with a password, and what remains of them: `scheme://user:…@host`, `password=…` in a query, and a service
to notify, whose whole address is secret."""


def redact(text: str) -> str:
    """Masks the passwords of URLs, and the values of `password=`, `token=` and similar words."""
    for secret, left in MASKS.items():
        text = secret.sub(left, text)
    return text
