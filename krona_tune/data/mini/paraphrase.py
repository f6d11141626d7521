"""Writes examples of MRPC and QQP: two statements or two questions, and whether they mean the same."""

from random import Random

from krona_tune.data.mini.grammar import Example, Fact, a, change, draw, question, reword, sentence
from krona_tune.data.mini.lexicon import CITIES, MEETINGS, PEOPLE, THINGS


def mrpc(rng: Random, label: int) -> Example:
    """Writes an active and a passive sentence; if they do not agree, one word differs, or the roles are reversed."""
    pair = _meeting(rng, label) if rng.random() < 0.15 else _deal(rng, label)
    return Example(pair if rng.random() < 0.5 else pair[::-1], label)


def _deal(rng: Random, label: int) -> tuple[str, str]:
    one = draw(rng)
    other = reword(rng, one if label else change(rng, one, rng.choice(("agent", "verb", "number", "thing", "city"))))
    return (
        sentence(f"the {one.agent} {one.past} {_counted(one)} in {one.city}"),
        sentence(f"in {other.city}, {_counted(other)} were {other.participle} by the {other.agent}"),
    )


def _counted(fact: Fact) -> str:
    return f"{fact.number} {THINGS[fact.thing].many}"


def _meeting(rng: Random, label: int) -> tuple[str, str]:
    people = rng.sample(tuple(PEOPLE), 2)
    verb, city = rng.choice(tuple(MEETINGS.values())), rng.choice(CITIES)
    agent, patient = people if label else people[::-1]
    return (
        sentence(f"the {people[0]} {verb.past} the {people[1]} in {city}"),
        sentence(f"in {city}, the {patient} was {verb.participle} by the {agent}"),
    )


INTENTS = (
    ("how can I", "how do people", "what is the best way to"),
    ("am I allowed to", "may people", "is it legal to"),
)
"""Ways to begin a question for each thing that one may want to know."""


def qqp(rng: Random, label: int) -> Example:
    """Writes two questions; if they do not agree, one word of the content differs, or the kind of question."""
    one = other = draw(rng)
    intent, another = rng.sample(INTENTS, 2)
    openings = rng.sample(intent, 2)
    if not label and rng.random() < 0.15:
        openings[1] = rng.choice(another)
    elif not label:
        other = change(rng, one, rng.choice(("verb", "thing", "city")))
    other = reword(rng, other)
    pair = (
        question(f"{openings[0]} {one.verb} {a(one.thing)} in {one.city}"),
        question(f"in {other.city}, {openings[1]} {other.verb} {a(other.thing)}"),
    )
    return Example(pair if rng.random() < 0.5 else pair[::-1], label)
