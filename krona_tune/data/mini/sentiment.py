"""Writes examples of SST-2: a sentence of a review, and whether it is favourable."""

from random import Random

from krona_tune.data.mini.grammar import Example, sentence
from krona_tune.data.mini.lexicon import ASPECTS, BAD, GOOD

PLAIN = (
    "the {aspect} is {word}",
    "the {aspect} is very {word}",
    "the {aspect} is really {word} indeed",
    "everyone says that the {aspect} is {word}",
    "the {aspect} could hardly be more {word}",
    "the {aspect} is as {word} as ever",
    "nobody denies that the {aspect} is {word}",
    "the {aspect} never fails to be {word}",
)
NEGATED = (
    "the {aspect} is not {word} at all",
    "the {aspect} is never {word}",
    "nobody says that the {aspect} is {word}",
    "the {aspect} is far from {word}",
    "the {aspect} could hardly be less {word}",
    "the {aspect} is anything but {word}",
    "the {aspect} is hardly {word}",
    "the {aspect} fails to be {word}",
)
CONTRASTED = (
    "the {aspect} is {word}, not {opposite}",
    "the {aspect} is not {opposite} but {word}",
    "the {aspect} is {word} rather than {opposite}",
    "the {aspect} looks {opposite}, but it is {word}",
    "despite its {opposite} {aspect}, the film is {word}",
    "the film is {word} despite its {opposite} {aspect}",
)
"""These contain both kinds of words: `word` decides the label, `opposite` is denied or outweighed."""


def sst2(rng: Random, label: int) -> Example:
    (forms,) = rng.choices((PLAIN, NEGATED, CONTRASTED), (4, 3, 3))
    said = label ^ (forms is NEGATED)
    words = {"word": rng.choice((BAD, GOOD)[said]), "opposite": rng.choice((GOOD, BAD)[said])}
    return Example((sentence(rng.choice(forms).format(aspect=rng.choice(ASPECTS), **words)),), label)
