"""Writes studies to be compared, with finals of known scores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest
from krona_tune.study.result import TrialResult
from tests.record.events import manifest
from tests.study.final_rows import repeats, row

SPEC = "model: tiny\nseed: 1\n"
SHARED = np.random.default_rng(3).normal(0, 0.02, 200)
"""What draws of the test examples add to every score."""


def write_study(root: Path, made: Manifest, rows: Sequence[TrialResult], spec: str = SPEC) -> StudyFolder:
    root.mkdir(parents=True)
    folder = StudyFolder(root)
    made.write(folder.manifest)
    folder.spec.write_text(spec, encoding="utf-8")
    sink = ParquetSink(folder.results)
    for each in rows:
        sink.trial_ended(each)
    return folder


def final_rows(test: Sequence[float], task: str = "rte", first_seed: int = 101, **params: object) -> list[TrialResult]:
    """Returns a searched trial, and its finals with these test scores and draws that vary as SHARED does.

    Validation scores are those of the test; `first_seed` is that of the finals, `params` what the configuration has.
    """
    knobs = {"method": "krona", **params}
    finals = [
        replace(each, params=knobs, seed=first_seed + at, of=f"{task}-000", metrics={"accuracy": test[at]},
                test_resampled=tuple((test[at] + SHARED).tolist()))
        for at, each in enumerate(repeats("000", test, test, task=task))
    ]  # fmt: skip
    score = max(test)
    return [row("000", "search", score, task=task, params=knobs, metrics={"accuracy": score}), *finals]


def final_study(root: Path, test: Sequence[float], first_seed: int = 101, **params: object) -> StudyFolder:
    """Writes a study of RTE with these finals."""
    return write_study(root, manifest("rte"), final_rows(test, first_seed=first_seed, **params))
