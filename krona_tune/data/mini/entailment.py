"""Writes examples of MNLI and RTE: does the first sentence entail, leave open or contradict the second?"""

from random import Random

from krona_tune.data.mini.grammar import Example, Fact, a, change, draw, sentence
from krona_tune.data.mini.lexicon import ANIMALS, DOINGS, PEOPLE, SCENES

_NOUNS = {
    "animals": tuple(noun.many for noun in ANIMALS.values()),
    "people": tuple(noun.many for noun in PEOPLE.values()),
}
_KIND = {noun: kind for kind, nouns in _NOUNS.items() for noun in nouns}
ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)


def mnli(rng: Random, label: int) -> Example:
    """Writes about some or no people or animals that do something somewhere.

    The hypothesis is drawn first, whatever the label. `Two dogs` decides what is said of some animals, `no animals`
    what is said of dogs; the other way round the hypothesis stays open, as it does for another activity or scene.
    """
    noun = rng.choice(tuple(_NOUNS) if rng.random() < 0.2 else tuple(_KIND))
    doing, scene = rng.choice(DOINGS), rng.choice(SCENES)
    some = rng.random() < 0.5
    hypothesis = f"{'some' if some else 'no'} {noun} are {doing} in the {scene}"
    asserted = {ENTAILMENT: some, NEUTRAL: rng.random() < 0.5, CONTRADICTION: not some}[label]
    if label != NEUTRAL:
        noun = _settling(rng, noun, asserted) if rng.random() < 0.35 else noun
    elif rng.random() < 0.35:
        asserted = noun in _KIND
        noun = _settling(rng, noun, not asserted)
    elif rng.random() < 0.5:
        doing = _other(rng, doing, DOINGS)
    else:
        scene = _other(rng, scene, SCENES)
    quantity = rng.choice(("two", "three", "many", "several")) if asserted else "no"
    return Example((sentence(f"{quantity} {noun} in the {scene} are {doing}"), sentence(hypothesis)), label)


def _settling(rng: Random, noun: str, asserted: bool) -> str:
    """Returns a narrower noun for a premise that asserts, a wider one for one that denies; `noun` if there is none."""
    return rng.choice(_NOUNS.get(noun, (noun,))) if asserted else _KIND.get(noun, noun)


def _other(rng: Random, word: str, words: tuple[str, ...]) -> str:
    return rng.choice([other for other in words if other != word])


def rte(rng: Random, label: int) -> Example:
    """Writes two facts, and a third: one of them (label 0), or one of them with its agent or its thing changed."""
    facts = draw(rng), draw(rng)
    concluded = rng.choice(facts)
    if label:
        concluded = change(rng, concluded, rng.choice(("agent", "thing")))
    premise = f"{_clause(facts[0])} in {facts[0].city} and {_clause(facts[1])}"
    return Example((sentence(premise), sentence(_clause(concluded))), label)


def _clause(fact: Fact) -> str:
    return f"the {fact.agent} {fact.past} {a(fact.thing)}"
