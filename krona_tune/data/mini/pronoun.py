"""Writes examples of WNLI: a sentence with a pronoun, and whether the second sentence reads the pronoun correctly."""

from random import Random

from krona_tune.data.mini.grammar import Example, sentence
from krona_tune.data.mini.lexicon import MEETINGS, MEN, STATES, TRAITS, WOMEN


def wnli(rng: Random, label: int) -> Example:
    """Writes of a man and a woman, one called he or she; the second sentence names that one (label 1) or the other."""
    he, she = (f"{rng.choice(TRAITS)} {rng.choice(people)}" for people in (MEN, WOMEN))
    pronoun, meant, other = rng.choice((("he", he, she), ("she", she, he)))
    agent, patient = rng.sample((he, she), 2)
    verb, state = rng.choice(tuple(MEETINGS.values())), rng.choice(STATES)
    premise = f"the {agent} {verb.past} the {patient} because {pronoun} was {state}"
    return Example((sentence(premise), sentence(f"the {meant if label else other} was {state}")), label)
