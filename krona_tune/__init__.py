"""Offers the public names of krona_tune: hyperparameter studies on Ray for KronA, the Kronecker adapter."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Refusal", "Study", "compare", "curves", "load", "open_study", "optuna_space", "predict"]

if TYPE_CHECKING:
    from krona_tune.adapters.adapter_files import load
    from krona_tune.api.study import Study, open_study
    from krona_tune.api.study_comparison import compare
    from krona_tune.peft_search import optuna_space
    from krona_tune.record.recorded_curves import curves
    from krona_tune.refusal import Refusal
    from krona_tune.train.predict import predict

MODULES = {
    "compare": "krona_tune.api.study_comparison",
    "curves": "krona_tune.record.recorded_curves",
    "load": "krona_tune.adapters.adapter_files",
    "open_study": "krona_tune.api.study",
    "Refusal": "krona_tune.refusal",
    "Study": "krona_tune.api.study",
    "optuna_space": "krona_tune.peft_search",
    "predict": "krona_tune.train.predict",
}


def __getattr__(name: str) -> Any:
    """Imports what is offered here only when it is used, so that importing krona_tune imports no torch."""
    if name in MODULES:
        import_module("krona_tune.hub").refuse_hidden_packages()
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module 'krona_tune' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the names of the module with those that are not imported yet, so that an editor completes them."""
    return sorted({*globals(), *__all__})
