"""Makes up the rows of trials that tests rank, resume, forecast and record."""

from typing import Any

from krona_tune.study.result import Status, TrialResult


def row(task: str = "rte", number: int = 3, score: float | None = None, **more: Any) -> TrialResult:
    """Returns a completed trial of the search with a plain value in each required field.

    Args:
        task: its task; the id begins with it unless `trial_id` is given.
        number: its number within the task.
        score: its last score; none for a trial that reported nothing.
        more: further fields of `TrialResult`, or other values for the plain ones.
    """
    plain = {"trial_id": f"{task}-{number:03d}", "kind": "search", "seed": 1, "fingerprint": "f"}
    method = {"params": {"method": "krona"}, "status": Status.COMPLETED}
    return TrialResult(task=task, number=number, score=score, **{**plain, **method, **more})
