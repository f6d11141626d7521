"""Makes up the rows of a search that finals and repeats follow, and those of the finals."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.result import Status, TrialResult
from tests.study.final_rows import row, with_draws


def searched(number: int, score: float | None, task: str = "rte", **more: Any) -> TrialResult:
    knobs = {"method": "krona", "scale": 1.0 + number, "a_out": 4, "a_in": 6, **more.pop("params", {})}
    return row(f"{number:03d}", "search", score, task=task, number=number, params=knobs, **more)


def head(number: int, score: float, task: str = "rte") -> TrialResult:
    knobs = {"method": "head_only", "learning_rate": 10.0 ** -(number + 1)}
    return row(f"head-{number}", "baseline", score, task=task, number=number, params=knobs)


def final_row(config: TrialMessage, status: Status = Status.COMPLETED) -> TrialResult:
    """Returns the row of a finalist, as the ledger would write it."""
    trial = config.checked()
    return row(
        config.trial_id.removeprefix(f"{trial.task}-"),
        trial.kind,
        0.5,
        task=trial.task,
        number=config.number,
        seed=trial.seed,
        params=config.params,
        of=config.of,
        status=status,
    )


def final_rows(trials: Iterable[TrialMessage], scores: Mapping[int, Iterable[float]]) -> list[TrialResult]:
    """Returns the rows of these finalists; a configuration's seeds have its scores, in order, and draws around them."""
    left = {number: iter(values) for number, values in scores.items()}
    return with_draws(
        [
            replace(final_row(trial), score=(score := next(left[trial.number])), test_score=score, test_examples=90)
            for trial in trials
        ]
    )
