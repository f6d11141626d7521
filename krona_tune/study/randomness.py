"""Derives from one seed a separate random stream for each use, so that no use affects another."""

import hashlib


def stream(seed: int, *address: str | int) -> int:
    """Returns a seed of 63 bits for one use, such as `stream(seed, "data order", epoch)`; equal on every machine."""
    text = "/".join(map(str, (seed, *address)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
