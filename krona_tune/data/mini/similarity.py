"""Writes examples of STS-B: two sentences and how similar they are in meaning, 0 to 5."""

from random import Random

from krona_tune.data.mini.grammar import Example, Fact, change, draw, reword, sentence

WEIGHTS = {"agent": 1.4, "verb": 1.2, "thing": 1.4, "city": 0.6, "colour": 0.4}
"""The weight of each part of a fact; together 5.0."""


def stsb(rng: Random, level: int) -> Example:
    """Writes two sentences with `level` of the five parts the same (or synonyms); the score is the weight of these."""
    one = other = draw(rng)
    changed = rng.sample(tuple(WEIGHTS), len(WEIGHTS) - level)
    for slot in changed:
        other = change(rng, other, slot)
    pair = _plain(one), _fronted(reword(rng, other))
    score = round(sum(WEIGHTS.values()) - sum(WEIGHTS[slot] for slot in changed), 1)
    return Example(pair if rng.random() < 0.5 else pair[::-1], score)


def _plain(fact: Fact) -> str:
    return sentence(f"the {fact.agent} {fact.past} the {fact.colour} {fact.thing} in {fact.city}")


def _fronted(fact: Fact) -> str:
    return sentence(f"in {fact.city}, the {fact.colour} {fact.thing} was {fact.participle} by the {fact.agent}")
