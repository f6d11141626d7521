"""Writes examples in CoLA's format: a sentence, and whether it is acceptable English."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from krona_tune.data.mini.grammar import Example, sentence
from krona_tune.data.mini.lexicon import DOINGS, LOOKS, PEOPLE, SCENES, TRAITS


@dataclass(frozen=True, kw_only=True)
class Clause:
    """Subject, verb and place as words, for example `the tall pilots`, `are sleeping`, `in the old barn`."""

    subject: tuple[str, ...]
    verb: tuple[str, ...]
    place: tuple[str, ...]

    def __str__(self) -> str:
        return sentence(" ".join(self.subject + self.verb + self.place))


_OTHER_NUMBER = {"is": "are", "are": "is", "was": "were", "were": "was"}

ERRORS: dict[str, tuple[int, Callable[[Clause], Clause]]] = {
    "agreement": (1, lambda c: replace(c, verb=(_OTHER_NUMBER[c.verb[0]], c.verb[1]))),
    "adjective after its noun": (3, lambda c: replace(c, subject=(c.subject[0], c.subject[2], c.subject[1]))),
    "participle before its auxiliary": (3, lambda c: replace(c, verb=c.verb[::-1])),
    "article before its preposition": (3, lambda c: replace(c, place=(c.place[1], c.place[0], *c.place[2:]))),
    "no auxiliary": (2, lambda c: replace(c, verb=c.verb[1:])),
}
"""Every error with its share among the errors."""

_SHARES = tuple(share for share, _ in ERRORS.values())
_SPOIL = tuple(spoil for _, spoil in ERRORS.values())


def cola(rng: Random, label: int) -> Example:
    clause = _clause(rng)
    if not label:
        (spoil,) = rng.choices(_SPOIL, _SHARES)
        clause = spoil(clause)
    return Example((str(clause),), label)


def _clause(rng: Random) -> Clause:
    one, noun = rng.choice(tuple(PEOPLE.items()))
    many = rng.random() < 0.5
    auxiliary = rng.choice(("are", "were") if many else ("is", "was"))
    return Clause(
        subject=("the", rng.choice(TRAITS), noun.many if many else one),
        verb=(auxiliary, rng.choice(DOINGS)),
        place=(rng.choice(("in", "near", "behind", "outside")), "the", rng.choice(LOOKS), rng.choice(SCENES)),
    )
