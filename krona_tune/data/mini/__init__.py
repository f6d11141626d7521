"""Generates mini-GLUE: synthetic examples in the format of every GLUE task, written by a small grammar."""

from krona_tune.data.mini.generated_splits import generate

__all__ = ["generate"]
