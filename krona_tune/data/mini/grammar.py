"""Holds what the builders share: an example, sentences as text, and facts with their paraphrases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from krona_tune.data.mini.lexicon import CITIES, COLOURS, DAYS, NUMBERS, PEOPLE, THINGS, VERBS


class Example(NamedTuple):
    """The texts in the order of the task's inputs, and the label."""

    texts: tuple[str, ...]
    label: float


Writer = Callable[[Random, int], Example]


def sentence(text: str, end: str = ".") -> str:
    """Returns the text with a capital letter first and `end` last."""
    return text[0].upper() + text[1:] + end


def question(text: str) -> str:
    return sentence(text, "?")


def a(phrase: str) -> str:
    """Returns the phrase with its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact: who did what to which thing, where and when. Every word can be changed on its own."""

    agent: str
    verb: str
    number: str
    colour: str
    thing: str
    city: str
    day: str

    @property
    def past(self) -> str:
        return VERBS[self.verb].past

    @property
    def participle(self) -> str:
        return VERBS[self.verb].participle


WORDS: Mapping[str, Sequence[str]] = {
    "agent": tuple(PEOPLE),
    "verb": tuple(VERBS),
    "number": NUMBERS,
    "colour": COLOURS,
    "thing": tuple(THINGS),
    "city": CITIES,
    "day": DAYS,
}
"""The words that may fill each place of a fact."""

SYNONYMS: Mapping[str, str] = {
    word: entry.synonym for table in (PEOPLE, THINGS, VERBS) for word, entry in table.items() if entry.synonym
}


def draw(rng: Random) -> Fact:
    """Returns a random fact."""
    return Fact(**{slot: rng.choice(words) for slot, words in WORDS.items()})


def change(rng: Random, fact: Fact, slot: str) -> Fact:
    """Returns the same fact except for one word, which is neither the old one nor its synonym."""
    old = getattr(fact, slot)
    return replace(fact, **{slot: rng.choice([word for word in WORDS[slot] if word not in (old, SYNONYMS.get(old))])})


def reword(rng: Random, fact: Fact) -> Fact:
    """Returns the same fact, with about half of the words that have a synonym replaced by it."""
    words = {slot: getattr(fact, slot) for slot in WORDS}
    return replace(fact, **{slot: SYNONYMS[w] for slot, w in words.items() if w in SYNONYMS and rng.random() < 0.5})
