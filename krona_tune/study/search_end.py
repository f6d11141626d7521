"""Says when a task's search ends by itself: when what its remaining trials are expected to gain is too little."""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import inf
from statistics import fmean

from krona_tune.study.formatting import format_score
from krona_tune.study.request.metric_table import bounds_of
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.result import TrialResult

READ_OF_SEARCH = ("trials", "stop", "least_gain", "stop_trials")
"""The keys of `search` that decide about an end."""
LEAST_TRIALS = 5
"""The scored trials that a task has before its search may end by itself."""
TAIL = 3
"""The tail of the scores is the best of TAIL trials."""


@dataclass(frozen=True, kw_only=True)
class SearchEnd:
    """Holds how a task's search ended by itself: how many of the trials asked for it has begun, and the gain in score
    that was expected of the others."""

    begun: int
    asked: int
    gain: float

    def text(self, title: str) -> str:
        """Returns a sentence about it; `title` is the task's name for people."""
        return (
            f"The search of {title} ended by itself with {self.begun} of {self.asked} trials: "
            f"more were expected to gain {format_score(self.gain)}."
        )


def expected_gain(best: Sequence[float], more: int) -> float | None:
    """Returns by how much the best score is expected to rise in further draws of the same kind; None if that can't be
    said, because the best ones are equal.

    Above its (k+1)-th value, the upper tail is taken as exponential, with the mean excess of the k best as its scale σ;
    the expected maximum of n such draws grows as σ·Hₙ (H: harmonic numbers; Rényi, 1953, on exponential order
    statistics), so that `more` further ones gain σ·(Hₙ₊ₘ − Hₙ).

    Args:
        best: the scores of n ≥ 3 trials, the best first.
        more: m, the number of further draws.
    """
    count = len(best)
    tail = max(2, count // TAIL)
    if best[0] == best[tail]:
        return None
    scale = fmean(best[:tail]) - best[tail]
    return scale * (_harmonic(count + more) - _harmonic(count))


def _harmonic(count: int) -> float:
    """Returns Hₙ, the sum of the reciprocals of 1 to n."""
    return _first_harmonic(1 << count.bit_length())[count]


@lru_cache(maxsize=64)
def _first_harmonic(count: int) -> tuple[float, ...]:
    """Returns Hₙ for n below count."""
    return tuple(accumulate((1 / number for number in range(1, count)), initial=0.0))


def search_end(search: SearchSpec, rows: Iterable[TrialResult], task: str) -> SearchEnd | None:
    """Returns how a task's search has ended by itself; None if it goes on, has begun all its trials, or nobody asked
    for that.

    It depends on the order in which the task's trials ended, and on nothing that came after the end, so that a resumed
    study stands by it: a trial that was retried counts as one without a score, when it had failed.
    """
    if not search.ends_itself:
        return None
    own = [row for row in rows if row.task == task and row.searched and row.number >= 0]
    if len(own) >= search.trials:
        return None
    ended = sorted((row for row in own if row.ended or row.failed_at), key=_first_end)
    bounds = next((bounds_of(row.metrics) for row in ended if row.metrics), None)
    highest = bounds[1] if bounds else inf
    scores = tuple(None if row.failed_at else row.score for row in ended)
    gain = _too_little(scores, search.trials, search.least_gain, highest)
    return None if gain is None else SearchEnd(begun=len(own), asked=search.trials, gain=gain)


def _first_end(row: TrialResult) -> tuple[float, int]:
    return row.failed_at or row.ended_at or 0.0, row.number


@lru_cache(maxsize=256)
def _too_little(scores: tuple[float | None, ...], asked: int, least: float, highest: float) -> float | None:
    """Returns the first expected gain that is less than the least one, while these trials ended; None if none is.

    A trial without a score adds nothing to the tail; of the trials to come, as many are expected to have none. Above
    the `highest` score that there can be nothing is gained.
    """
    falling: list[float] = []
    for count, score in enumerate(scores[: asked - 1], start=1):
        if score is not None:
            insort(falling, score, key=lambda each: -each)
        if len(falling) >= LEAST_TRIALS:
            more = round((asked - count) * len(falling) / count)
            gain = 0.0 if falling[0] >= highest else expected_gain(falling, more)
            if gain is not None and gain < least:
                return gain
    return None


def search_ends(search: SearchSpec, rows: Sequence[TrialResult], titles: Mapping[str, str]) -> tuple[str, ...]:
    """Returns a sentence about each task whose search ended by itself; `titles` names the tasks for people."""
    ends = ((title, search_end(search, rows, task)) for task, title in titles.items())
    return tuple(end.text(title) for title, end in ends if end)
