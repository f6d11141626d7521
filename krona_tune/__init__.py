"""krona_tune: Ray-distributed hyperparameter studies for KronA, the Kronecker adapter."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load"]

if TYPE_CHECKING:
    from krona_tune.adapters.export import load


def __getattr__(name: str) -> Any:
    """`load` is found when it is asked for, so that importing krona_tune imports no torch."""
    if name == "load":
        from krona_tune.adapters.export import load

        return load
    raise AttributeError(f"module 'krona_tune' has no attribute {name!r}")
