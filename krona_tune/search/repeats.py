"""Chooses the repeats: a task's first configurations, trained again with new seeds to see how much scores differ."""

from collections.abc import Iterable

from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.randomness import stream
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status, TrialResult


def repeat_trials(spec: StudySpec, rows: Iterable[TrialResult]) -> list[TrialMessage]:
    """Returns every repeat of the trials that have ended, however they ended, begun or not: seed by seed."""
    asked = spec.search.repeats
    ended = [row for row in rows if row.kind == "search" and row.status is not Status.INTERRUPTED]
    first = sorted((row for row in ended if 0 <= row.number < asked.points), key=lambda row: row.number)
    return [
        TrialMessage(
            f"{row.trial_id}-s{index}",
            row.task,
            row.number,
            "repeat",
            stream(spec.seed, "repeat", row.task, index) % 2**31,
            row.params,
            row.trial_id,
        )
        for index in range(1, asked.seeds + 1)
        for row in first
    ]
