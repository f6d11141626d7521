"""Tests that a study leaves a session's environment, logs and random numbers as it found them."""

import logging
import os
import random

import numpy as np
import optuna
import pytest

from krona_tune.api.global_state import keeping_global_state


def test_what_a_study_changes_is_put_back_also_after_an_error_and_what_the_program_changes_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"RAY_worker_niceness": "3", "MLFLOW_TRACKING_USERNAME": "anna", "MINE": "old"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    before = optuna.logging.get_verbosity(), random.getstate(), np.random.get_state()[1].tolist()

    def study() -> None:
        os.environ.update(RAY_worker_niceness="0", TUNE_MAX_PENDING_TRIALS_PG="2", PYTHONBREAKPOINT="x", MINE="new")
        del os.environ["MLFLOW_TRACKING_USERNAME"]
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        random.random(), np.random.rand()
        raise KeyError

    with pytest.raises(KeyError), keeping_global_state():
        study()
    assert {name: os.environ.get(name) for name in ("RAY_worker_niceness", "MLFLOW_TRACKING_USERNAME", "MINE")} == {
        "RAY_worker_niceness": "3",
        "MLFLOW_TRACKING_USERNAME": "anna",
        "MINE": "new",
    }
    assert not {"TUNE_MAX_PENDING_TRIALS_PG", "PYTHONBREAKPOINT"} & os.environ.keys()
    assert (optuna.logging.get_verbosity(), random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_logger_of_a_package_that_the_study_imported_first_has_that_packages_own_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("optuna"), "level", logging.NOTSET)
    with keeping_global_state():
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
