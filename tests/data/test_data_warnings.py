"""Tests that data that can be read but teach nothing get a warning before training."""

from typing import Any

import pyarrow as pa
import pytest

from krona_tune.data.corpus import TaskData, find_warnings, load
from krona_tune.data.tasks import TASKS


def data(name: str, **parts: Any) -> TaskData:
    """Returns data of three rows per part; `parts` replaces columns of the named parts."""
    task = TASKS[name]
    usual = {text: ["a", "", "c"] for text in task.inputs} | {
        "label": [0.0, 1.0, 1.0] if task.is_regression else [0, 1, 1]
    }
    tables = {part: pa.table(usual | parts.get(part, {})) for part in ("train", "validation", "test")}
    return TaskData(task=task, **tables, provenance="", synthetic=False, fingerprint="")


@pytest.mark.parametrize(
    ("name", "parts", "said"),
    [
        ("rte", {}, []),
        (
            "rte",
            {"train": {"sentence2": ["", " ", "\t\u00a0"]}},
            ["the 3 train examples of RTE have no sentence2: all are empty"],
        ),
        ("cola", {"train": {"label": [1, 1, 1]}}, ["the 3 train examples of CoLA all have the label 'acceptable'"]),
        ("rte", {"test": {"label": [1, 1, 1]}}, ["the 3 test examples of RTE all have the label 'not_entailment'"]),
        (
            "stsb",
            {"validation": {"label": [2.5, 2.5, 2.5], "sentence1": ["", "", ""]}},
            [
                "the 3 validation examples of STS-B have no sentence1: all are empty",
                "the 3 validation examples of STS-B all have the score 2.5",
            ],
        ),
    ],
)
def test_empty_texts_and_constant_labels_are_doubted(name: str, parts: dict[str, Any], said: list[str]) -> None:
    assert list(find_warnings(data(name, **parts))) == said


@pytest.mark.parametrize("name", TASKS)
def test_the_miniature_is_not_doubted(name: str) -> None:
    sizes = {"train_examples": 40, "validation_examples": 20, "test_examples": 20}
    assert not list(find_warnings(load(TASKS[name], "mini", **sizes)))
