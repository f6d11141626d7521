"""Makes up the rows of a search that finals and repeats follow."""

from typing import Any

from krona_tune.study.result import TrialResult
from tests.study.final_rows import row


def searched(number: int, score: float | None, task: str = "rte", **more: Any) -> TrialResult:
    knobs = {"method": "krona", "scale": 1.0 + number, "a_out": 4, "a_in": 6, **more.pop("params", {})}
    return row(f"{number:03d}", "search", score, task=task, number=number, params=knobs, **more)


def head(number: int, score: float, task: str = "rte") -> TrialResult:
    knobs = {"method": "head_only", "learning_rate": 10.0 ** -(number + 1)}
    return row(f"head-{number}", "baseline", score, task=task, number=number, params=knobs)
