"""Makes up finalists: rows of completed trials with both scores."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import TrialResult
from tests.rows import row as plain_row


def row(name: str, kind: TrialKind, score: float | None, *, task: str = "rte", **more: Any) -> TrialResult:
    """Returns a completed trial, with its method and knobs in `params`."""
    known: dict[str, Any] = {"seed": 5, "trainable_parameters": 700, "trainable_percent": 0.07, **more}
    return plain_row(task, score=score, trial_id=f"{task}-{name}", kind=kind, **known)


AROUND = (-0.03, 0.0, 0.03)
"""How far scores on draws of the validation examples are from the score, for every seed and configuration alike."""


def with_draws(rows: Sequence[TrialResult]) -> list[TrialResult]:
    """Returns these rows with scores on draws of the validation examples."""
    return [replace(row, validation_resampled=tuple((row.score or 0.0) + of for of in AROUND)) for row in rows]


def repeats(
    of: str, validation: Sequence[float], test: Sequence[float], *, method: str = "krona", **more: Any
) -> list[TrialResult]:
    """Returns one configuration's finalists, with seeds from 101 on."""
    return [
        row(
            f"final-{of}-s{index + 1}",
            TrialKind.FINALIST,
            score,
            of=of,
            seed=101 + index,
            params={"method": method},
            started_at=float(index),
            test_score=on_test,
            test_examples=90,
            test_metrics={"accuracy": on_test},
            **more,
        )
        for index, (score, on_test) in enumerate(zip(validation, test, strict=True))
    ]
