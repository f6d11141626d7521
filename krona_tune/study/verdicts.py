"""Says in sentences what of a task's results holds: what was learned, which seeds failed, and what can't be told apart.

The page, the tables, Python and REST all take their words from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from krona_tune.study.chosen_finalist import choose, name_of
from krona_tune.study.finals import Finalist, Finals, finalist_of
from krona_tune.study.formatting import (
    format_bounds,
    format_count,
    format_deviation,
    format_epochs,
    format_name,
    format_score,
)
from krona_tune.study.intervals import Difference
from krona_tune.study.learning import FailureRate, Learned, beats_baseline, learned_more
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.result import NO_INTERVAL, Status, TrialResult, is_score
from krona_tune.study.standings import Standings

TIED = "≈"
"""Marks what can't be told apart from the best."""
FINALS_NOTE = (
    "± is the standard deviation over seeds. The 95 % interval of the test mean covers seeds and test examples. "
    f"{TIED} can't be told apart from the winner on test, by seeds and test examples, with about one false alarm in 20 "
    "tasks however many finalists there are; a difference that “would have been seen” is seen in 4 of 5 cases."
)
"""What the table of finalists says below it."""

CLOSE_TO_HEAD = "the best adapter is not shown to be better than the head alone at this number of validation examples"
"""Says that what a search gains over the head alone may be chance."""


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """One task's sentences. `headline` says that nothing was learned, or that more is not shown; empty if the winner
    is above the constant answer. `others` are about seeds, differences, and what is odd about the data."""

    learned: Learned | None = None
    headline: str = ""
    others: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return (*filter(None, (self.headline,)), *self.others)

    @property
    def nothing(self) -> bool:
        return self.learned is Learned.NOTHING


def verdicts_of(standings: Standings, task: str, finals: Finals) -> Verdicts:
    """Returns a task's verdicts: of its finals; without finalists, of the best of its search beside the head alone."""
    facts = finals.facts
    title = facts.title if facts else task
    best, searched, baseline = standings.best(task), standings.searched(task), standings.baseline(task)
    winner = finals.winner
    rows = winner.learned if winner else (best,) if best else ()
    ended = winner is not None or any(row.finished for row in searched)
    learned = learned_more(rows, facts, best_of=1 if winner else len(searched)) if ended else None
    cut_off = best is not None and not best.ended and best.ended_at is not None  # when the study was stopped
    unfinished = best if best and (ended or cut_off) and not winner and not best.finished else None
    beats = None if winner or learned is Learned.NOTHING else beats_baseline(best, baseline, facts, len(searched))
    everyone = finals.everyone
    others = [
        *([choice_text(finals)] if winner and finals.compares else []),
        *(
            [f"the test mean of the winner has {NO_INTERVAL}{winner.estimate.lacks}"]
            if winner and winner.all_equal
            else []
        ),
        *(text for each in everyone for text in seed_texts(each)),
        *(f"{each.of} {difference_text(each.difference)}" for each in finals.finalists if each.difference),
        *([head_text(finals)] if finals.over_head else []),
        *([CLOSE_TO_HEAD] if beats is False else []),
        *([lost_text(finals)] if finals.lost else []),
        *([unfinished_text(unfinished)] if unfinished else []),
    ]
    return Verdicts(
        learned=learned,
        headline=_headline(title, facts, learned, searched, "winner" if winner else "best adapter"),
        others=tuple(f"{title}: {text}." for text in (*others, *(facts.doubts if facts and (best or winner) else ()))),
    )


def configuration_texts(
    facts: TaskFacts, rows: Sequence[TrialResult], tested: Finalist | None = None, best_of: int = 1
) -> tuple[str, ...]:
    """Returns what is to be known of one configuration where nothing else of its study is seen, as beside its adapter.

    Args:
        rows: its seeds, of which those without a score say nothing.
        tested: what its seeds say together, if they have test scores.
        best_of: how many trials it is the best of; 1 if these seeds had no part in finding it.
    """
    scored = tested.learned if tested else [row for row in rows if is_score(row.score)]
    beside = ""
    if scored and isfinite(facts.constant_score):
        constant = f"A constant answer has {format_score(facts.constant_score)} on the study's validation examples."
        learned = learned_more(scored, facts, best_of)
        beside = _headline(facts.title, facts, learned, rows, "configuration") or constant
    texts = [*((mean_text(tested), *seed_texts(tested)) if tested else ()), *facts.doubts]
    return tuple(filter(None, (beside, *(f"{text[0].upper()}{text[1:]}." for text in texts if text))))


def trained_texts(facts: TaskFacts, rows: Sequence[TrialResult]) -> tuple[str, ...]:
    """Returns the same of a full training, whose rows these are."""
    return configuration_texts(facts, rows, finalist_of(rows[0].of, rows, facts) if rows else None)


def mean_text(each: Finalist) -> str:
    """Says which test score a configuration has in the mean over its seeds; empty for one seed."""
    if each.test.deviation is None:
        return ""
    within = " (95 % interval {} to {})".format(*format_bounds(each.test.interval)) if each.test.interval else ""
    of = f"the {len(each.learned)} seeds that learned" if each.unlearned else f"{len(each.learned)} seeds"
    return f"the mean test score of {of} is {format_score(each.test.mean)} ± {format_deviation(each.test)}{within}"


def _headline(
    title: str, facts: TaskFacts | None, learned: Learned | None, searched: Sequence[TrialResult], what: str
) -> str:
    """Says that `what` is not above the constant answer, if so."""
    if facts is None:
        return ""
    constant = format_score(facts.constant_score)
    match learned:
        case Learned.NOTHING:
            return (
                f"Nothing was learned on {title}: the {what} is not above the constant answer ({constant} on "
                f"validation). {_likely_reasons(searched, facts.far_labels)}"
            )
        case Learned.UNSHOWN:
            return f"On {title}, the {what} is not shown to be above the constant answer ({constant} on validation)."
        case _:
            return ""


def _likely_reasons(searched: Sequence[TrialResult], known: str) -> str:
    """Returns what may keep trials from learning, with what these ones had; first what was `known` before them."""
    rates = sorted({float(row.params["learning_rate"]) for row in searched if row.params.get("learning_rate")})
    words = dict.fromkeys(f"{rate:.2g}" for rate in rates[:1] + rates[-1:])
    tried = f" ({' to '.join(words)} {'was' if len(words) == 1 else 'were'} tried)" if rates else ""
    seen = max((row.examples for row in searched), default=0)
    most = f" (at most {format_count(seen)} training examples were seen)" if seen else ""
    first = f"{known}. Others: " if known else ""
    return (
        f"Likely reasons: {first}a learning rate that is too low or too high{tried}, a budget that is too small{most}, "
        "examples.max_length that cuts off what matters, or a backbone that does not know the task's language."
    )


def rate_text(rate: FailureRate) -> str:
    """Writes how many seeds did not learn, with the exact interval of the rate."""
    low, high = rate.interval
    of = f"{rate.failed} of {rate.seeds} {'seed' if rate.seeds == 1 else 'seeds'} did not learn"
    return f"{of} (95 % interval of the rate: {100 * low:.0f} to {100 * high:.0f} %)"


def choice_text(finals: Finals) -> str:
    """Says what is chosen of finals that have a winner, and why."""
    choice = choose(finals)
    assert choice is not None, "of finals without finalists nothing is chosen"
    what = name_of(choice.finalist)
    if choice.finalist is finals.winner:
        return f"chosen is the winner, {what}: {choice.reason}"
    return f"chosen is {what} and not the winner, {name_of(finals.winner or choice.finalist)}: {choice.reason}"


def seed_texts(each: Finalist) -> list[str]:
    """Returns what is to be said of a finalist's seeds; nothing if all have learned and have a test score."""
    texts = []
    if each.failure_rate:
        names = ", ".join(row.trial_id for row in each.unlearned)
        texts.append(f"{rate_text(each.failure_rate)} with {each.of}, {names}; its test score is that of the others")
    if each.lost:
        seeds = len({row.seed for row in (*each.rows, *each.unlearned, *each.lost)})
        texts.append(f"{len(each.lost)} of {seeds} seeds of {each.of} {_has(len(each.lost))} no test score")
    return texts


def _has(number: int) -> str:
    return "has" if number == 1 else "have"


def difference_text(value: Difference, first: str = "the winner") -> str:
    """Says how a configuration compares with the first one of a difference: `can't be told apart from the winner; 0.05
    would have been seen`."""
    if value.apart is None or value.estimate is None:
        return f"is not compared with {first}: {value.lacks}"
    if not value.apart:
        return f"can't be told apart from {first}{_seen(value)}"
    return f"is {'worse' if value.estimate.mean > 0 else 'better'} than {first} by {_size(value)}"


def both_text(value: Difference) -> str:
    """Says which seeds a difference is over."""
    if not value.partly or value.estimate is None:
        return "under the same seeds"
    seeds = f"{value.estimate.seeds:g} {'seed' if value.estimate.seeds == 1 else 'seeds'}"
    return f"over the {seeds} with which both learned and were tested"


def head_text(finals: Finals) -> str:
    """Says whether the winner is better than the head alone."""
    value = finals.over_head
    if value is None or value.estimate is None or value.apart is None:
        return f"the winner is not compared with the head alone: {value.lacks if value else 'there is none'}"
    if finals.beats_head:
        return f"the winner is better than the head alone by {_size(value)}"
    if value.apart:
        return f"the winner is worse than the head alone by {_size(value)}"
    return f"the winner can't be told apart from the head alone{_seen(value)}"


def _size(value: Difference) -> str:
    over = f", {both_text(value)}" if value.partly else ""
    return f"{format_score(abs(value.estimate.mean) if value.estimate else None)} on test{over}"


def _seen(value: Difference) -> str:
    """Returns which difference would have been seen; why none would, if so."""
    if value.detectable is None:
        return f": {value.lacks}"
    if value.blind:
        return "; with so few seeds and examples, no difference would have been seen"
    return f"; {format_score(value.detectable)} would have been seen"


def unfinished_text(best: TrialResult) -> str:
    """Says that the best of a search was not trained to its end."""
    how = f"{format_name(best.status)} after " if best.ended else ""  # of one that has not ended, it may run
    return f"the best trial, {best.trial_id}, has not been trained to the end ({how}{format_epochs(best.epochs)})"


def lost_text(finals: Finals) -> str:
    """Says which configurations have no test score at all, with the last line of the first error."""
    names = ", ".join(dict.fromkeys(row.of for row in finals.lost))
    diverged = sum(row.status is Status.DIVERGED for row in finals.lost)
    reason = next((row.reason for row in finals.lost if row.reason), "")
    why = f" ({reason})" if reason else ""
    whole = "all finalists failed" if finals.winner is None else "finalists failed"
    return f"{whole}: {names}, {len(finals.lost)} trainings of which {diverged} diverged{why}"
