"""Tests that the table of tasks is consistent, and prompts and targets are T5's."""

from pathlib import Path

import pytest

from krona_tune.data.glue_files import FILES, Split
from krona_tune.data.tasks import GLUE, TASKS
from krona_tune.study.request.metric_table import METRICS

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def test_glue_is_every_task_but_wnli():
    assert {*GLUE, "wnli"} == set(TASKS)


@EVERY_TASK
def test_a_row_of_the_table_is_consistent(task):
    assert len(task.inputs) in (1, 2)
    assert set(FILES[task.name].columns) == {*task.inputs, "label"}
    assert set(task.prompt_order or task.inputs) == set(task.inputs)
    assert set(task.metrics) <= set(METRICS)
    assert bool(task.grid) == task.is_regression
    assert len(set(task.candidates)) == len(task.candidates) >= 2
    assert len(FILES[task.name].dev) == (2 if FILES[task.name].split is Split.TWO_DEV else 1)
    if FILES[task.name].label_words:
        assert {word: task.labels[index] for word, index in FILES[task.name].label_words.items()} == {
            word: word for word in task.labels
        }


@EVERY_TASK
def test_the_title_spells_the_official_folder_and_the_name_the_hubs(task):
    assert task.title.lower().replace("-", "") == task.name
    assert Path(task.title).name == task.title


@pytest.mark.parametrize(
    ("name", "texts", "prompt"),
    [
        ("cola", ["Tea grows here."], "cola sentence: Tea grows here."),
        ("mnli", ["It rains.", "It is wet."], "mnli hypothesis: It is wet. premise: It rains."),
        ("qnli", ["Who?", "Ann did."], "qnli question: Who? sentence: Ann did."),
        ("qqp", ["Why?", "How?"], "qqp question1: Why? question2: How?"),
        ("stsb", ["A cat.", "A dog."], "stsb sentence1: A cat. sentence2: A dog."),
    ],
)
def test_prompts_are_those_of_the_t5_paper(name, texts, prompt):
    assert TASKS[name].prompt(texts) == prompt


def test_a_missing_text_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        TASKS["rte"].prompt(["only one"])


@EVERY_TASK
def test_a_label_aims_at_the_candidate_that_says_it(task):
    for index, candidate in enumerate(task.candidates):
        label = float(candidate) if task.is_regression else index
        assert task.candidates[task.target(label)] == candidate


@pytest.mark.parametrize(
    ("score", "text"), [(0.0, "0.0"), (5.0, "5.0"), (2.57, "2.6"), (3.667, "3.6"), (4.889, "4.8"), (4.9001, "5.0")]
)
def test_a_score_is_rounded_to_the_nearest_fifth(score, text):
    stsb = TASKS["stsb"]
    assert stsb.candidates[stsb.target(score)] == text
