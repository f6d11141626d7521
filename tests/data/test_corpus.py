"""Tests how a task's data are drawn, identified, and doubted where they can be read but teach nothing."""

import sys
import types
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from krona_tune.data import corpus
from krona_tune.data.corpus import PARTS, TaskData, find_warnings, load
from krona_tune.data.glue import divide
from krona_tune.data.tasks import TASKS
from tests.data.glue_examples import examples_of, refusal_of


def test_the_two_layouts_and_the_order_of_chunks_give_one_fingerprint(write_tsv, write_parquet, tmp_path):
    write_tsv(TASKS["rte"], "tsv/RTE")
    write_parquet(TASKS["rte"], "parquet/rte")
    first, second = (corpus.load(TASKS["rte"], str(tmp_path / layout)) for layout in ("tsv", "parquet"))
    assert first.fingerprint == second.fingerprint
    assert first.contents == second.contents
    assert first.provenance != second.provenance


@pytest.mark.parametrize(
    ("old", "new"), [("\tentailment\n", "\tnot_entailment\n"), ("late", "later"), ("boats", "boat s")]
)
def test_one_changed_text_or_label_changes_the_fingerprint(old, new, write_tsv, tmp_path):
    write_tsv(TASKS["rte"])
    before = corpus.load(TASKS["rte"], str(tmp_path))
    path = tmp_path / "RTE" / "train.tsv"
    path.write_text(path.read_text().replace(old, new, 1))
    after = corpus.load(TASKS["rte"], str(tmp_path))
    assert after.fingerprint != before.fingerprint
    assert after.contents != before.contents


def test_a_text_that_moves_to_the_next_row_changes_the_fingerprint(tmp_path, write_tsv):
    write_tsv(TASKS["sst2"])
    path = tmp_path / "SST-2" / "dev.tsv"
    path.write_text("sentence\tlabel\nab\t1\nc\t1\n")
    before = corpus.load(TASKS["sst2"], str(tmp_path)).fingerprint
    path.write_text("sentence\tlabel\na\t1\nbc\t1\n")
    assert corpus.load(TASKS["sst2"], str(tmp_path)).fingerprint != before


def test_wanted_examples_are_drawn_by_the_seed_and_never_held_out_ones(write_tsv, tmp_path):
    task = TASKS["qqp"]
    write_tsv(task, train=400, dev=30)
    whole = corpus.load(task, str(tmp_path))
    wanted = {"train_examples": 50, "validation_examples": 20, "test_examples": 10}
    some, more, other = (
        corpus.load(task, str(tmp_path), **w, seed=seed)
        for w, seed in ((wanted, 3), (wanted | {"train_examples": 80}, 3), (wanted, 4))
    )
    assert (some.train.num_rows, some.validation.num_rows, some.test.num_rows) == (50, 20, 10)
    assert some.train == more.train.slice(0, 50)
    assert some.train != other.train
    assert some.train != whole.train.slice(0, 50)
    for part in ("train", "validation", "test"):
        assert set(examples_of(task, getattr(some, part))) <= set(examples_of(task, getattr(whole, part)))
    assert "train 50 of 200, validation 20 of 200, test 10 of 30" in some.provenance
    assert len({data.fingerprint for data in (whole, some, more, other)}) == 4
    assert len({data.contents for data in (whole, some, more, other)}) == 1


def test_more_examples_than_there_are_is_all_of_them(write_tsv, tmp_path):
    write_tsv(TASKS["rte"])
    data = corpus.load(TASKS["rte"], str(tmp_path), train_examples=10_000)
    assert data.train.num_rows == 12
    assert "train 12," in data.provenance


def test_a_number_of_examples_below_one_is_refused(tmp_path):
    message = refusal_of(corpus.load, TASKS["rte"], str(tmp_path), validation_examples=0)
    assert message == "validation_examples: 0 is not a number of examples; give 1 or more"


def test_the_miniature_is_asked_for_what_is_wanted_only(monkeypatch):
    asked = {}

    def generate(task, *, train=6, validation=4, test=5, seed=0):
        asked.update(train=train, validation=validation, test=test, seed=seed)
        sizes = {"train": train, "validation": validation, "test": test}
        return {
            part: pa.table({"sentence": ["dawn"] * size, "label": pa.array([1] * size, pa.int64())})
            for part, size in sizes.items()
        }

    module = types.ModuleType("krona_tune.data.mini_glue")
    module.generate = generate
    monkeypatch.setitem(sys.modules, "krona_tune.data.mini_glue", module)
    monkeypatch.setattr("krona_tune.data.mini_glue", module, raising=False)
    data = corpus.load(TASKS["cola"], "mini", train_examples=3, seed=9)
    assert asked == {"train": 3, "validation": 4, "test": 5, "seed": 9}
    assert data.synthetic
    assert data.provenance == "generated miniature, seed 9; train 3, validation 4, test 5"


def test_mini_and_hub_are_not_checked():
    corpus.check("mini", TASKS)
    corpus.check("hub", TASKS)


def test_the_parts_are_named_once():
    table = pa.table({"sentence": ["a", "b"], "label": [0, 1]})
    assert tuple(divide(TASKS["cola"], table, (table,))) == PARTS


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


def test_labels_without_a_training_example_are_doubted() -> None:
    some = data("rte")
    three = replace(some, task=replace(some.task, labels=("a", "b", "c")))
    assert list(find_warnings(three)) == [
        "the 3 train examples of RTE have 1 of its 3 labels not once; use more of them"
    ]


@pytest.mark.parametrize("name", TASKS)
def test_the_miniature_is_not_doubted(name: str) -> None:
    sizes = {"train_examples": 40, "validation_examples": 20, "test_examples": 20}
    assert not list(find_warnings(load(TASKS[name], "mini", **sizes)))
