"""Chooses what to use of a task's finals: the best finalist, unless it is not shown to be better than the default."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from krona_tune.study.finals import DEFAULT, HEAD, Finalist, Finals
from krona_tune.study.intervals import Estimate, difference, estimate
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.metric_table import bounds_of

WORTH = 0.05
"""A score that is left open by less is not worth another training.

Of a metric without bounds, whose unit may be anything, it is this share of what a score is above the constant answer's.
"""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The configuration that is chosen of a task's finals, and why, in words."""

    finalist: Finalist
    reason: str


def choose(finals: Finals) -> Chosen | None:
    """Returns what is chosen of a task's finals, on validation alone; None without finalists.

    Beside the finalists stand the default configuration and the head alone, but not one that gives way to the other
    (`_gives_way`). The finalists are asked in the order of `lower_bound`, the reliable ones first, and the first is
    taken that is better than both with `finals.confidence`; an unsteady one is not taken over a steady default
    configuration that learns, and where `finals.steady` says so, a reliable one need only have the mean of a default
    configuration of which a seed did not learn, but that mean at least. If none is better, the better one of these two
    is taken; so it is where no draws of the validation examples say how much scores vary with these, as of one's own
    metric that is too slow for them. Finals without a default configuration, as of earlier versions, choose their
    winner. Of finals that were cut short, what has not ended has no say, and the reason says so.
    """
    winner, default = finals.winner, finals.default
    if winner is None:
        return None
    both = [each for each in (default, finals.head_only) if each]
    unfinished = f"; {UNFINISHED}" * (finals.unfinished and not finals.awaits_default)
    if not (finals.compares and both):
        return Chosen(finalist=winner, reason=_alone(finals) + unfinished)
    known = [each for each in both if not any(_gives_way(each, other, finals) for other in both)]
    pending = f"; {AWAITED}" if finals.awaits_default else unfinished
    rivals = [each for each in finals.finalists if each.steady or not (default and default.reliable)]
    at = f"on validation with {100 * finals.confidence:.6g} % confidence"
    for each in _by_promise(rivals, finals.confidence):
        beaten = _to_beat(each, finals, known)
        if each not in known and all(is_better(each, other, finals.confidence) for other in beaten):
            beside = _unsteady(default) * (default not in (*beaten, each))
            names = " and ".join(map(name_of, beaten))
            why = f"it is better than {names}, {at}" if beaten else "it learned with every seed, with no lower mean"
            return Chosen(finalist=each, reason=why + beside + pending)
    best = max(known, key=lambda each: each.validation.mean)
    drawn = all(row.validation_resampled for each in (*finals.finalists, *known) for row in each.rows)
    why = f"no other is shown to be better, {at}" if drawn else _UNDRAWN
    why = why if len(finals.everyone) > 1 else _NO_OTHER
    return Chosen(finalist=best, reason=why + _unsteady(default) * (default not in known) + pending)


def _gives_way(each: Finalist, other: Finalist, finals: Finals) -> bool:
    """Returns whether one of the default configuration and the head alone has no say beside the other.

    It has none if it is not reliable, and the other is. Where `TaskFacts.means_decide` says so and each of its seeds
    has a score, it has one all the same if its mean is higher, failed seeds included.
    """
    if each.reliable or not other.reliable:
        return False
    scored = not each.lost and all(row in each.rows for row in each.unlearned)
    means_decide = finals.facts is not None and finals.facts.means_decide
    return not (means_decide and scored) or each.validation.mean <= other.validation.mean


def _to_beat(each: Finalist, finals: Finals, known: Sequence[Finalist]) -> Sequence[Finalist]:
    """Returns what one finalist has to be better than: `known`; or, if it is reliable and a seed of the default
    configuration did not learn, that one where its mean over the seeds with a score is higher, and the head alone."""
    default, head = finals.default, [finals.head_only] if finals.head_only else []
    if not (finals.steady and each.reliable and each.seeds > 1 and default and default.unlearned):
        return known
    return head if each.validation.mean >= default.validation.mean else [default, *head]


def _unsteady(default: Finalist | None) -> str:
    """Says how a default configuration that is not compared with has failed; empty without one."""
    if default is None:
        return ""
    if default.steady:
        return f"; {name_of(default)} is not above the constant answer"
    failed = len(default.unlearned) + len(default.lost)
    return (
        f"; {name_of(default)} did not learn, or not to the end, with {failed} of {len(default.learned) + failed} seeds"
    )


def _alone(finals: Finals) -> str:
    """Says why there is neither a default configuration nor a head alone to compare a winner with."""
    if finals.awaits_default:
        return AWAITED
    missing = "the default configuration has no score"
    return missing if finals.compares else "there is no default configuration to compare it with"


AWAITED = "no training of the default configuration has ended"
UNFINISHED = "the finals have not ended, so that another may be chosen"
_NO_OTHER = "no other configuration was trained again"
_UNDRAWN = "no other can be shown to be better, because there are no draws of the validation examples for each seed"


def contenders(finals: Finals) -> tuple[Finalist, ...]:
    """Returns those among which more seeds may tell the best: the most promising finalist, and each one that it is not
    shown to be better than though their seeds differ much. Returns nothing if there is no such one."""
    if not finals.finalists:
        return ()
    leader = _by_promise(finals.finalists, finals.confidence)[0]
    worth, rest = _worth(leader, finals.facts), [each for each in finals.everyone if each is not leader]
    others = [each for each in rest if _may_change(leader, each, worth, finals.confidence)]
    return (leader, *others) if others else ()


def is_better(first: Finalist, second: Finalist, confidence: float) -> bool:
    """Returns whether one configuration's mean validation score is shown to be above another's, one-sided.

    Compared are the seeds that both have, on the same draws of the examples; it takes two seeds, and draws.
    """
    found = _validated(first, second)
    return found is not None and _is_above_zero(found, confidence)


def _validated(first: Finalist, second: Finalist) -> Estimate | None:
    """Returns the difference of their validation scores; None if they share no seed."""
    sides, bounds = (first.validated_by_seed(), second.validated_by_seed()), bounds_of(first.rows[0].metrics)
    return difference(*sides, first.validation_examples, bounds=bounds).estimate


def _is_above_zero(found: Estimate, confidence: float) -> bool:
    if not found.whole or found.lacks:
        return False
    return found.mean > found.quantile(confidence) * found.deviation


def lower_bound(each: Finalist, confidence: float) -> float:
    """Returns what its mean validation score is above with a confidence; the mean itself if that is not known."""
    scored = each.validated_by_seed().values()
    found = estimate([score for score, _ in scored], [draws for _, draws in scored], each.validation_examples)
    return found.mean if found.lacks else found.mean - found.quantile(confidence) * found.deviation


def _by_promise(finalists: Iterable[Finalist], confidence: float) -> Sequence[Finalist]:
    """Returns finalists by what they promise: the reliable ones first, then by the lower bound."""
    return sorted(finalists, key=lambda each: (each.reliable, lower_bound(each, confidence)), reverse=True)


def _worth(each: Finalist, facts: TaskFacts | None) -> float:
    """Returns which difference in score is worth another training; 0.0 if the metric has no bounds, and no constant
    answer's score tells what is much."""
    if bounds_of(each.rows[0].metrics):
        return WORTH
    gain = each.validation.mean - facts.constant_score if facts else 0.0
    return WORTH * abs(gain) if isfinite(gain) else 0.0


def _may_change(leader: Finalist, other: Finalist, worth: float, confidence: float) -> bool:
    """Returns whether more seeds may change what is known of a difference: chance between seeds alone leaves it open by
    more than `worth`, or there is one seed of each and none was lost. Against chance between examples no seed helps,
    nor where that chance is not known."""
    found = _validated(leader, other)
    if found is None or not found.drawn or _is_above_zero(found, confidence):
        return False
    if found.seeds < 2:
        return leader.steady and other.steady
    of_seeds = replace(found, of_examples=0.0, drawn=False)
    return of_seeds.quantile(confidence) * of_seeds.deviation > worth


def name_of(each: Finalist) -> str:
    """Names a configuration of finals in a sentence."""
    return {DEFAULT: f"the default configuration ({each.of})", HEAD: "the head alone"}.get(each.number, each.of)
