"""Tests that a fact changes by one word, keeps its meaning where it is reworded, and is told in plain English."""

from dataclasses import asdict
from random import Random

import pytest

from krona_tune.data.mini_grammar import SYNONYMS, WORDS, a, as_question, change, draw, reword, sentence


@pytest.mark.parametrize("slot", WORDS)
def test_a_changed_fact_differs_in_one_word_that_is_no_synonym(slot: str) -> None:
    rng = Random(5)
    for _ in range(50):
        fact = draw(rng)
        other = change(rng, fact, slot)
        old, new = getattr(fact, slot), getattr(other, slot)
        assert new not in (old, SYNONYMS.get(old))
        assert asdict(other) == asdict(fact) | {slot: new}


def test_a_reworded_fact_has_about_half_of_its_words_replaced_by_their_synonyms_and_no_other() -> None:
    rng = Random(5)
    pairs: list[tuple[str, str]] = []
    for _ in range(400):
        fact = draw(rng)
        pairs += zip(asdict(fact).values(), asdict(reword(rng, fact)).values(), strict=True)
    assert all(new in (old, SYNONYMS.get(old)) for old, new in pairs)
    replaced = [old != new for old, new in pairs if old in SYNONYMS]
    assert 0.4 < sum(replaced) / len(replaced) < 0.6


def test_a_synonym_is_one_in_both_directions() -> None:
    assert {word: SYNONYMS[other] for word, other in SYNONYMS.items()} == {word: word for word in SYNONYMS}


def test_a_sentence_begins_with_a_capital_and_ends_with_its_sign() -> None:
    assert (sentence("ann came"), as_question("who came")) == ("Ann came.", "Who came?")
    assert (a("apple"), a("boat")) == ("an apple", "a boat")
