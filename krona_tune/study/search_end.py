"""Says when a task's search ends by itself: when what its remaining trials are expected to gain is too little."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from krona_tune.study.formatting import format_score
from krona_tune.study.kinds import TrialKind
from krona_tune.study.request.study_spec import SearchSpec
from krona_tune.study.result import TrialResult

LEAST_TRIALS = 5
"""The trials that a task has before its search may end by itself."""
TAIL = 3
"""The tail of the scores is the best of TAIL trials."""


@dataclass(frozen=True, kw_only=True)
class SearchEnd:
    """Holds how a task's search ended by itself: after how many ended trials of those asked for, and the gain in score
    that was expected of the others."""

    after: int
    asked: int
    gain: float

    def text(self, title: str) -> str:
        """Returns a sentence about it; `title` is the task's name for people."""
        return (
            f"The search of {title} ended by itself after {self.after} of {self.asked} trials: "
            f"the others were expected to gain {format_score(self.gain)}."
        )


def expected_gain(scores: Sequence[float], more: int) -> float:
    """Returns by how much the best score is expected to rise in further draws of the same kind.

    Above its (k+1)-th value, the upper tail is taken as exponential, with the mean excess of the k best as its scale σ;
    the expected maximum of n such draws grows as σ·Hₙ (H: harmonic numbers; Rényi, 1953, on exponential order
    statistics), so that `more` further ones gain σ·(Hₙ₊ₘ − Hₙ).

    Args:
        scores: of n ≥ 3 trials.
        more: m, the number of further draws.
    """
    best, count = sorted(scores, reverse=True), len(scores)
    tail = max(2, count // TAIL)
    scale = sum(best[:tail]) / tail - best[tail]
    return scale * sum(1 / number for number in range(count + 1, count + more + 1))


def search_end(search: SearchSpec, rows: Iterable[TrialResult], task: str) -> SearchEnd | None:
    """Returns how a task's search has ended by itself; None if it goes on, or nobody asked for that.

    It depends on the order in which the task's trials ended, and on nothing that came after the end, so that a resumed
    study stands by it. A trial without a score counts as the worst.
    """
    if not search.ends_itself:
        return None
    own = [row for row in rows if row.task == task and row.kind == TrialKind.SEARCH and row.ended and row.number >= 0]
    found = [row.score for row in sorted(own, key=lambda row: (row.ended_at or 0.0, row.number))]
    for count in range(LEAST_TRIALS, min(len(found), search.trials - 1) + 1):
        scored = [score for score in found[:count] if score is not None]
        if not scored:
            continue
        scores = [min(scored) if score is None else score for score in found[:count]]
        gain = expected_gain(scores, search.trials - count)
        if gain < search.least_gain:
            return SearchEnd(after=count, asked=search.trials, gain=gain)
    return None
