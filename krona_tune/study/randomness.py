"""Randomness has an address: one seed, and a stream for each use of it that no other use can disturb."""

import hashlib


def stream(seed: int, *address: str | int) -> int:
    """A seed of 63 bits for one use, such as `stream(seed, "data order", epoch)`; equal on every machine."""
    text = "/".join(map(str, (seed, *address)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
