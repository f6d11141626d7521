"""Writes examples of QNLI: a question and a sentence, and whether the sentence answers the question."""

from random import Random

from krona_tune.data.mini.grammar import Example, change, draw, question, sentence

ASKED = {
    "by the {fact.agent}": "who {fact.past} the {fact.colour} {fact.thing}",
    "in {fact.city}": "where was the {fact.colour} {fact.thing} {fact.participle}",
    "on {fact.day}": "when was the {fact.colour} {fact.thing} {fact.participle}",
}
"""A part of a sentence, and the question that it answers."""


def qnli(rng: Random, label: int) -> Example:
    """Writes a question, and a sentence that tells two of who, where and when.

    Without an answer (label 1) the sentence leaves out what is asked, or is about another deed or another thing.
    """
    fact = draw(rng)
    answer = rng.choice(tuple(ASKED))
    asked = question(ASKED[answer].format(fact=fact))
    others = [part for part in ASKED if part != answer]
    told = [answer, rng.choice(others)]
    if label and rng.random() < 0.2:
        told = others
    elif label:
        fact = change(rng, fact, rng.choice(("verb", "thing")))
    rng.shuffle(told)
    statement = " ".join(("the {fact.colour} {fact.thing} was {fact.participle}", *told))
    return Example((asked, sentence(statement.format(fact=fact))), label)
