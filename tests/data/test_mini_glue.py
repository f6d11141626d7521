"""Tests that the synthetic miniature is reproducible, balanced, cleanly split and not solvable by a simple cue."""

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from krona_tune.data.mini_glue import ERRORS, WEIGHTS, WRITERS, Clause, generate
from krona_tune.data.mini_grammar import ANIMALS, CITIES, NUMBERS, PEOPLE, Example
from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal
from tests.data.mini_digest import digest

SPLITS = {"train": 512, "validation": 256, "test": 512}


DIGEST = "e1a3ba7cfd2411d5"


every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


every_pair_task = pytest.mark.parametrize(
    "task", [task for task in TASKS.values() if len(task.inputs) == 2], ids=lambda task: task.name
)


every_classification = pytest.mark.parametrize(
    "task", [task for task in TASKS.values() if not task.is_regression], ids=lambda task: task.name
)


def texts(table: pa.Table, columns: tuple[str, ...]) -> list[str]:
    """Returns the columns of each row as one text."""
    return [" ".join(row) for row in zip(*(table[name].to_pylist() for name in columns), strict=True)]


def sentences(table: pa.Table, task: Task) -> set[str]:
    return {text for name in task.inputs for text in table[name].to_pylist()}


def bag_of_words(task: Task, columns: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, LogisticRegression | Ridge]:
    """Returns the test split's word counts and labels, and a linear model fitted to those of the training split."""
    tables = generate(task)
    words = CountVectorizer(token_pattern=r"\w+")
    train = words.fit_transform(texts(tables["train"], columns))
    model = Ridge() if task.is_regression else LogisticRegression(max_iter=1000)
    model.fit(train, tables["train"]["label"].to_numpy())
    return words.transform(texts(tables["test"], columns)), tables["test"]["label"].to_numpy(), model


def test_the_same_arguments_give_the_same_examples_everywhere() -> None:
    assert digest() == digest() == DIGEST


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_examples_do_not_depend_on_the_hash_seed_of_the_process(hash_seed: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", "from tests.data.mini_digest import digest; print(digest())"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == DIGEST


@every_task
def test_another_seed_gives_other_examples(task: Task) -> None:
    assert generate(task, seed=0)["train"] != generate(task, seed=1)["train"]


@every_task
def test_columns_types_and_sizes_are_as_asked(task: Task) -> None:
    tables = generate(task)
    assert list(tables) == list(SPLITS)
    assert {split: table.num_rows for split, table in tables.items()} == SPLITS
    label = pa.float64() if task.is_regression else pa.int64()
    for table in tables.values():
        assert table.schema == pa.schema([*((name, pa.string()) for name in task.inputs), ("label", label)])


@every_task
def test_no_text_stands_in_two_splits_and_no_example_twice_in_one(task: Task) -> None:
    tables = generate(task, train=2000, test=1000)
    assert (tables["train"].num_rows, tables["test"].num_rows) == (2000, 1000)
    train, validation, test = (sentences(table, task) for table in tables.values())
    assert train.isdisjoint(validation)
    assert train.isdisjoint(test)
    assert validation.isdisjoint(test)
    for table in tables.values():
        rows = texts(table, task.inputs)
        assert len(set(rows)) == len(rows)


@every_task
def test_a_larger_training_split_leaves_validation_and_test_as_they_are(task: Task) -> None:
    small, large = generate(task, train=32), generate(task, train=600)
    assert small["validation"] == large["validation"]
    assert small["test"] == large["test"]


@every_classification
def test_the_labels_are_balanced(task: Task) -> None:
    for table in generate(task).values():
        counts = Counter(table["label"].to_pylist())
        assert set(counts) == set(range(len(task.labels)))
        assert max(counts.values()) - min(counts.values()) <= 1


def test_similarity_uses_the_whole_scale_and_lies_on_the_grid() -> None:
    scores = np.array(generate(TASKS["stsb"])["train"]["label"].to_pylist())
    assert (scores.min(), scores.max()) == (0.0, 5.0)
    assert np.histogram(scores, bins=[0, 1, 2, 3, 4, 5.01])[0].min() >= 0.1 * len(scores)
    assert set(scores) <= set(TASKS["stsb"].grid)


@every_task
def test_texts_are_short_and_end_with_a_stop(task: Task) -> None:
    for text in sentences(generate(task)["test"], task):
        assert text[-1] in ".?"
        assert text[0].isupper()
        assert 3 <= len(text.split()) <= 16


@every_classification
def test_a_bag_of_words_does_not_solve_a_task(task: Task) -> None:
    words, labels, model = bag_of_words(task, task.inputs)
    assert model.score(words, labels) <= 0.62


def test_a_bag_of_words_says_nothing_of_similarity() -> None:
    task = TASKS["stsb"]
    words, scores, model = bag_of_words(task, task.inputs)
    assert abs(np.corrcoef(model.predict(words), scores)[0, 1]) <= 0.3


@every_pair_task
def test_the_second_text_alone_says_nothing(task: Task) -> None:
    words, labels, model = bag_of_words(task, task.inputs[1:])
    if task.is_regression:
        assert abs(np.corrcoef(model.predict(words), labels)[0, 1]) <= 0.3
    else:
        assert model.score(words, labels) <= 1 / len(task.labels) + 0.12


def test_more_examples_than_the_vocabulary_allows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WRITERS, "cola", lambda rng, level: Example((f"This is sentence {rng.randrange(10)}.",), level))
    assert generate(TASKS["cola"], train=2, validation=4, test=4)["train"].num_rows == 2
    with pytest.raises(Refusal) as refusal:
        generate(TASKS["cola"], train=3, validation=4, test=4)
    assert str(refusal.value) == (
        "mini-GLUE cola: the vocabulary gave 2 distinct examples for train, 3 were asked for; ask for smaller splits"
    )


def test_a_task_without_a_builder_is_refused() -> None:
    with pytest.raises(Refusal, match=r"mini-GLUE: unknown task 'colo', did you mean 'cola'\?"):
        generate(replace(TASKS["cola"], name="colo"))


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_spoils_the_sentence(error: str) -> None:
    clause = Clause(subject=("the", "tall", "pilots"), verb=("are", "sleeping"), place=("in", "the", "old", "barn"))
    _, spoil = ERRORS[error]
    assert str(clause) == "The tall pilots are sleeping in the old barn."
    assert str(spoil(clause)) != str(clause)


def test_two_sentences_that_agree_in_every_part_score_five() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(5.0)


NAMED = {noun.many: kind for kind, nouns in {"animals": ANIMALS, "people": PEOPLE}.items() for noun in nouns.values()}


def judged(premise: str, hypothesis: str) -> int:
    """Returns the label of an MNLI pair, derived from the words of both sentences."""
    said, noun, _, _, scene, _, doing = premise.lower().strip(".").split()
    claimed, other_noun, _, other_doing, _, _, other_scene = hypothesis.lower().strip(".").split()
    narrow, wide = (noun, other_noun) if said != "no" else (other_noun, noun)
    if (doing, scene) != (other_doing, other_scene) or wide not in (narrow, NAMED.get(narrow)):
        return 1
    return 0 if (said == "no") == (claimed == "no") else 2


def test_inference_labels_follow_from_the_words() -> None:
    for row in generate(TASKS["mnli"])["train"].to_pylist():
        assert judged(row["premise"], row["hypothesis"]) == row["label"], row


def test_a_conclusion_stands_in_the_premise_exactly_if_it_is_entailed() -> None:
    for row in generate(TASKS["rte"])["train"].to_pylist():
        premise, conclusion = (row[name].lower().strip(".") for name in TASKS["rte"].inputs)
        clauses = [clause.split(" in ")[0] for clause in premise.split(" and ")]
        assert (conclusion in clauses) == (row["label"] == 0), row


def test_an_answer_tells_of_the_thing_and_the_deed_that_were_asked_for() -> None:
    told = {"who": "by the", "where": "in", "when": "on"}
    for row in generate(TASKS["qnli"])["train"].to_pylist():
        asked = row["question"].split()[0].lower()
        deed = row["question"].strip("?").split(" the ")[1].split()
        same = row["sentence"].replace(" was", "").split()[1 : 1 + len(deed)] == deed
        if asked != "who" or not same:  # who: the question has the past tense, the sentence the participle
            assert (same and f" {told[asked]} " in row["sentence"]) == (row["label"] == 0), row


def test_equivalent_sentences_name_the_same_city_and_number() -> None:
    for row in generate(TASKS["mrpc"])["train"].to_pylist():
        first, second = (set(re.findall(r"\w+", row[name])) for name in TASKS["mrpc"].inputs)
        cities = first & set(CITIES), second & set(CITIES)
        numbers = first & set(NUMBERS), second & set(NUMBERS)
        if row["label"] == 1:
            assert cities[0] == cities[1], row
            assert numbers[0] == numbers[1], row
