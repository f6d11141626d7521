"""Holds one row for each kind of trial: how its trials are called, and what is done with them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from krona_tune.study.folder import FULL
from krona_tune.study.frozen_value import FactsEnum


@dataclass(frozen=True, kw_only=True)
class KindFacts:
    """Holds what is true of all trials of one kind.

    Attributes:
        trial_id: the pattern of their ids. `source` is the id of the trial that is trained again, `index` counts the
            seeds from 1.
        phase: when a study trains them, from 1: those of one phase together; None if its request asks for none.
        words: what a legend calls them; empty for the searched ones, which it tells apart by their end.
        tested: they are evaluated on the test half, once, at their end.
        in_budget: what they use counts against the study's budget.
        kept: their checkpoints stay with `keep_checkpoints: finalists`, not only the winners'.
        resampled: of draws of the validation half they have scores, too, by which they are chosen.
        holds_out: they have a validation score; without it all examples are trained on.
        trained_on: the examples that they are trained on, in words, if these are not the study's own.
    """

    trial_id: str
    phase: int | None = None
    words: str = ""
    tested: bool = False
    in_budget: bool = True
    kept: bool = False
    resampled: bool = False
    holds_out: bool = True
    trained_on: str = ""

    def id_of(self, *, task: str = "", number: int | str = 0, source: str = "", index: int = 0) -> str:
        """Returns the id of a trial of this kind, by those of its parts that the pattern names."""
        return self.trial_id.format(task=task, number=number, source=source, index=index)


class TrialKind(FactsEnum):
    """A kind of trial; its value stands in the records.

    `search`: a proposed configuration, which competes with the others of its task. `baseline`: the head alone.
    `finalist`: one of the best, trained again with another seed. `repeat`: a searched one, trained again by its number.
    `full_train` and `full_data`: a configuration trained again on more examples than the study has used.
    """

    facts: KindFacts

    SEARCH = "search", KindFacts(trial_id="{task}-{number:03d}", phase=1)
    BASELINE = "baseline", KindFacts(trial_id="{task}-head-{number}", phase=1, words="head only")
    FINALIST = (
        "finalist",
        KindFacts(
            trial_id="{task}-final-{number}-s{index}",
            phase=2,
            words="finalists",
            tested=True,
            kept=True,
            resampled=True,
        ),
    )
    REPEAT = "repeat", KindFacts(trial_id="{source}-s{index}", phase=3, words="repeats")
    FULL_TRAIN = (
        "full_train",
        KindFacts(
            trial_id=f"{{source}}{FULL}train-s{{index}}",
            words="full trainings",
            tested=True,
            in_budget=False,
            kept=True,
            trained_on="all training examples",
        ),
    )
    FULL_DATA = (
        "full_data",
        KindFacts(
            trial_id=f"{{source}}{FULL}data-s{{index}}",
            words="full trainings",
            in_budget=False,
            kept=True,
            holds_out=False,
            trained_on="all examples of train, validation and test together",
        ),
    )


FIRST_TRAINED = frozenset({TrialKind.SEARCH, TrialKind.BASELINE})
"""The kinds of trials that train no other trial's configuration again."""
PHASES = tuple(
    tuple(kind for kind in TrialKind if kind.facts.phase == phase)
    for phase in sorted({kind.facts.phase for kind in TrialKind if kind.facts.phase})
)
"""The kinds of the trials that run together, in the order in which they run."""
SEARCHED = "searched"
"""What counts call the trials of the search."""
FULL_TRAININGS = frozenset(kind for kind in TrialKind if not kind.facts.in_budget)
"""The kinds of full trainings, which come after the study and have no part in its budget."""


def searched_number(trial_id: str, task: str) -> int | None:
    """Reads from the id of a searched trial which one of its task it is; None for any other trial."""
    number = trial_id.removeprefix(f"{task}-")
    return int(number) if number.isdecimal() else None


def counts_by_kind(kinds: Iterable[str]) -> dict[str, int]:
    """Returns how many trials there are of each kind, by its words, the searched ones first."""
    found = Counter(facts_of(kind).words or SEARCHED for kind in kinds)
    return {words: found[words] for words in sorted(found, key=lambda words: words != SEARCHED)}


def facts_of(kind: str) -> KindFacts:
    """Returns what is true of the kind that a row names. Raises a ValueError if it names none."""
    return TrialKind(kind).facts  # type: ignore[call-arg]
