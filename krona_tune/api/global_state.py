"""Puts back what a study changes in a Python session: variables of the environment, levels of logs, random numbers."""

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

VARIABLES = ("RAY_", "TUNE_", "MLFLOW_", "PYTHONBREAKPOINT")
"""The beginnings of the variables that are set for Ray, Tune and MLflow, or by them."""
LOGGERS = {"optuna": logging.INFO} | dict.fromkeys(
    (
        "alembic",
        "bitsandbytes",
        "mlflow.store.db.utils",
        "mlflow.store.tracking",
        "mlflow.tracking",
        "urllib3.connectionpool",
    ),
    logging.NOTSET,
)
"""The loggers that a study silences, and the level that the package of each gives it when it is imported."""


@contextmanager
def keeping_global_state() -> Iterator[None]:
    """Puts back what a study in this context changes; what else the program changes meanwhile stays."""
    variables, levels = _variables(), {name: logging.getLogger(name).level for name in LOGGERS}
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        for name in _variables().keys() - variables:
            del os.environ[name]
        os.environ.update(variables)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level or LOGGERS[name])
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)


def _variables() -> dict[str, str]:
    return {name: os.environ[name] for name in os.environ if name.startswith(VARIABLES)}
