"""Redacts passwords in everything that is written or printed."""

import re

PORT = r"\d{1,5}(?:[/?#\s]|$)"
SECRETS = ("password", "passwd", "pwd", "secret", "token", "(?:api|access|private|secret)[_-]?key", "signature")
"""The ends of the names whose values are secret, such as `client_secret` and `accessToken`."""
MASKS = {
    re.compile(rf"([a-z][a-z0-9+.-]*://[^\s/:@\[]*):(?!{PORT})\S+@", re.IGNORECASE): r"\1:***@",
    re.compile(rf"((?:{'|'.join(SECRETS)})=)[^\s&'\"]+", re.IGNORECASE): r"\1***",
    re.compile(r"(--notify[= ])(?:'[^']*'|\S+)"): r"\1***",
}
"""Patterns with a password, and what remains of them: `scheme://user:…@host`, `password=…` in a query, and a service
to notify, whose whole address is secret. A password may hold any sign, so it ends at the last @ of its word; what looks
like a port is none."""


def redact(text: str) -> str:
    """Masks the passwords of URLs, and the values of `password=`, `access_token=` and similar words."""
    for secret, left in MASKS.items():
        text = secret.sub(left, text)
    return text
