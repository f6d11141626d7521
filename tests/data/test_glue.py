"""Tests that every layout of GLUE gives the same parts, despite its traps, and that wrong data are refused by name."""

import re

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krona_tune.data import corpus, glue
from krona_tune.data.glue_files import FILES, Split
from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal
from tests.data.glue_examples import EVERY_TASK, examples_of, refusal_of


def assert_is_divided_as_the_protocol_says(task, data, held):
    """Checks the split; `held` are the official files' examples by file name."""
    parts = {name: examples_of(task, getattr(data, name)) for name in ("train", "validation", "test")}
    dev = [sorted(held[name]) for name in FILES[task.name].dev]
    if FILES[task.name].split is Split.HALVED:
        assert parts["train"] == held["train"]
        assert len(parts["validation"]) == len(held["dev"]) // 2
        assert sorted(parts["validation"] + parts["test"]) == dev[0]
    elif FILES[task.name].split is Split.HELD_OUT:
        assert len(parts["validation"]) == len(held["train"]) // 2
        assert sorted(parts["validation"] + parts["train"]) == sorted(held["train"])
        assert sorted(parts["test"]) == dev[0]
    else:
        assert parts["train"] == held["train"]
        assert parts["validation"] == held["dev_mismatched"]
        assert parts["test"] == held["dev_matched"]


def approximately(held):
    return {name: [(texts, float(np.float32(label))) for texts, label in examples] for name, examples in held.items()}


@EVERY_TASK
@pytest.mark.parametrize(
    "spelling", [str, str.lower, lambda title: title.replace("-", "")], ids=["title", "low", "no-"]
)
def test_the_official_layout_is_read_and_divided(task, spelling, write_tsv, tmp_path):
    held = write_tsv(task, spelling(task.title))
    data = corpus.load(task, str(tmp_path))
    assert_is_divided_as_the_protocol_says(task, data, held)
    assert data.train.schema.names == [*task.inputs, "label"]
    assert data.train.schema.field("label").type == (pa.float64() if task.is_regression else pa.int64())
    assert not data.synthetic
    assert str(tmp_path) in data.provenance
    corpus.check(str(tmp_path), [task.name])


@EVERY_TASK
def test_the_hubs_parquet_layout_is_read_and_divided(task, write_parquet, tmp_path):
    held = write_parquet(task)
    data = corpus.load(task, str(tmp_path))
    assert_is_divided_as_the_protocol_says(task, data, approximately(held) if task.is_regression else held)
    assert "parquet" in data.provenance
    corpus.check(str(tmp_path), [task.name])


@EVERY_TASK
def test_the_hub_itself_is_read_and_divided(task, some_examples, monkeypatch):
    held = {name: some_examples(task, 12, name) for name in ("train", *FILES[task.name].dev)}
    label = datasets.Value("float32") if task.is_regression else datasets.ClassLabel(names=list(task.labels))
    features = datasets.Features({name: datasets.Value("string") for name in task.inputs} | {"label": label})

    def split(examples):
        columns = {name: [texts[at] for texts, _ in examples] for at, name in enumerate(task.inputs)}
        return datasets.Dataset.from_dict({**columns, "label": [label for _, label in examples]}, features=features)

    def load_dataset(repository, name):
        assert (repository, name) == ("nyu-mll/glue", task.name)
        return datasets.DatasetDict({n.replace("dev", "validation"): split(some) for n, some in held.items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = corpus.load(task, "hub")
    assert_is_divided_as_the_protocol_says(task, data, approximately(held) if task.is_regression else held)
    assert "nyu-mll/glue" in data.provenance


def test_held_out_rows_are_a_thousand_where_there_are_enough(write_tsv, tmp_path):
    held = write_tsv(TASKS["sst2"], train=2_345)
    data = corpus.load(TASKS["sst2"], str(tmp_path))
    assert (data.train.num_rows, data.validation.num_rows, data.test.num_rows) == (1_345, 1_000, 7)
    texts = [set(table["sentence"].to_pylist()) for table in (data.train, data.validation)]
    assert not texts[0] & texts[1]
    assert len(texts[0] | texts[1]) == len(held["train"])


def test_the_rows_of_a_part_do_not_depend_on_the_seed_and_are_shuffled(write_tsv, tmp_path):
    held = write_tsv(TASKS["cola"], dev=40)
    first, second = (corpus.load(TASKS["cola"], str(tmp_path), seed=seed) for seed in (1, 2))
    assert first.fingerprint == second.fingerprint
    assert examples_of(TASKS["cola"], first.validation) != held["dev"][:20]
    order = np.random.default_rng(42).permutation(40)[:20]
    assert examples_of(TASKS["cola"], first.validation) == [held["dev"][i] for i in order]


def test_windows_line_ends_and_quotes_are_no_part_of_the_text(write_tsv, tmp_path):
    held = write_tsv(TASKS["sst2"], end="\r\n")
    data = corpus.load(TASKS["sst2"], str(tmp_path))
    assert sorted(examples_of(TASKS["sst2"], data.test)) == sorted(held["dev"])
    assert all('"' in text for text in data.train["sentence"].to_pylist())


def test_only_a_newline_ends_a_line(tmp_path):
    text = 'one\u2028two\x85three\x0bfour\rfive "six'
    (tmp_path / "dev.tsv").write_bytes(f"sentence\tlabel\n{text}\t1\n\nlast\t0".encode())
    assert examples_of(TASKS["sst2"], glue.read_tsv(TASKS["sst2"], tmp_path / "dev.tsv").table) == [
        ((text,), 1),
        (("last",), 0),
    ]


def test_a_few_malformed_rows_are_left_out_and_counted(write_tsv, tmp_path):
    held = write_tsv(TASKS["qqp"], train=60)
    path = tmp_path / "QQP" / "train.tsv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:9], "31\t4\tbroken", *lines[9:], "1\t2\t3\ta\tb\t1\ttoo many"]))
    data = corpus.load(TASKS["qqp"], str(tmp_path))
    assert data.train.num_rows + data.validation.num_rows == len(held["train"])
    assert "2 malformed rows of train.tsv left out" in data.provenance


def test_a_file_with_many_malformed_rows_is_refused_with_the_first_of_them(write_tsv, tmp_path):
    write_tsv(TASKS["rte"], train=8)
    path = tmp_path / "RTE" / "train.tsv"
    path.write_text(path.read_text() + "a\tb\n")
    message = refusal_of(corpus.load, TASKS["rte"], str(tmp_path))
    assert message == f"{path}:10: 1 of 9 rows have not 4 columns, this one is the first; fetch the file again"


def test_rows_on_which_the_annotators_disagreed_are_left_out(write_tsv, tmp_path):
    held = write_tsv(TASKS["mnli"], dev=9)
    path = tmp_path / "MNLI" / "dev_matched.tsv"
    path.write_text(path.read_text().replace("\tneutral\n", "\t-\n"))
    data = corpus.load(TASKS["mnli"], str(tmp_path))
    assert examples_of(TASKS["mnli"], data.test) == [example for example in held["dev_matched"] if example[1] != 1]
    assert data.validation.num_rows == 9
    assert "3 unlabelled rows of dev_matched.tsv left out" in data.provenance


def test_elsewhere_a_dash_is_no_label(write_tsv, tmp_path):
    write_tsv(TASKS["rte"])
    path = tmp_path / "RTE" / "dev.tsv"
    path.write_text(path.read_text().replace("\tentailment\n", "\t-\n", 1))
    assert refusal_of(corpus.load, TASKS["rte"], str(tmp_path)) == (
        f"{path}:2: unknown RTE label '-'; known: entailment, not_entailment"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rte", "", "{path}: the file is empty; fetch it again"),
        ("rte", "index\tsentence1\tsentence2\tlabel\n", "{path}: no labelled row; fetch the file again"),
        (
            "rte",
            "index\tsentence1\tsentence2\n0\ta\tb\n",
            "{path}:1: no column 'label' for RTE's label; found 'index', 'sentence1', 'sentence2'; "
            "use the official file",
        ),
        (
            "mrpc",
            "quality\t#1 String\t#2 String\n",
            "{path}:1: no column 'Quality' for MRPC's label; found 'quality', '#1 String', '#2 String'; "
            "use the official file",
        ),
        ("cola", "tea\n", "{path}:1: no column 4 for CoLA's sentence; found 1 columns; use the official file"),
        ("cola", "a\t1\t\tb\na\tlabel\t\tb\n", "{path}:2: unknown CoLA label 'label'; known: 0, 1"),
        ("sst2", "sentence\tlabel\nfine\t2\n", "{path}:2: unknown SST-2 label '2'; known: 0, 1"),
        (
            "qnli",
            "question\tsentence\tlabel\na\tb\tnot_entailment \n",
            "{path}:2: the QNLI label 'not_entailment ' has blanks around it; take them out",
        ),
        (
            "rte",
            "sentence1\tsentence2\tlabel\na\tb\t\u00a0entailment\n",
            "{path}:2: the RTE label '\\xa0entailment' has blanks around it; take them out",
        ),
        (
            "qnli",
            "question\tsentence\tlabel\na\tb\tnot  entailment\n",
            "{path}:2: unknown QNLI label 'not  entailment', did you mean 'not_entailment'?",
        ),
        (
            "mnli",
            "sentence1\tsentence2\tgold_label\na\tb\tneutrl\n",
            "{path}:2: unknown MNLI label 'neutrl', did you mean 'neutral'?",
        ),
        (
            "stsb",
            "sentence1\tsentence2\tscore\na\tb\t5.2\n",
            "{path}:2: STS-B score '5.2' is not a number from 0 to 5",
        ),
        (
            "stsb",
            "sentence1\tsentence2\tscore\na\tb\tnan\n",
            "{path}:2: STS-B score 'nan' is not a number from 0 to 5",
        ),
        (
            "stsb",
            "sentence1\tsentence2\tscore\na\tb\thigh\n",
            "{path}:2: STS-B score 'high' is not a number from 0 to 5",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_refused_with_place_value_and_fix(name, text, message, tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text(text)
    assert refusal_of(glue.read_tsv, TASKS[name], path) == message.format(path=path)


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_bytes(b"sentence\tlabel\nfine\t1\ncaf\xe9\t1\n")
    said = f"{path}:3: not UTF-8 text (byte 26 of the file); save the file as UTF-8"
    assert refusal_of(glue.read_tsv, TASKS["sst2"], path) == said


def test_a_file_that_can_not_be_read_is_refused(tmp_path):
    assert refusal_of(glue.read_tsv, TASKS["sst2"], tmp_path) == f"{tmp_path}: can't be read (Is a directory)"


@EVERY_TASK
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.data())
def test_whatever_the_bytes_are_there_is_a_table_or_a_refusal(task, content, tmp_path, headers):
    header = headers.get(task.name, "x\t1\t\ty").encode() + b"\n"
    words = [*(FILES[task.name].label_words or {}), "0", "1", "-", "4.5", "1e999", "x", '"', ""]
    cells = st.lists(st.sampled_from(words), min_size=1, max_size=10).map(lambda row: "\t".join(row).encode())
    pieces = st.lists(st.one_of(st.binary(max_size=30), cells), max_size=8)
    path = tmp_path / "fuzz.tsv"
    path.write_bytes(content.draw(st.sampled_from([b"", header])) + b"\n".join(content.draw(pieces)))
    try:
        table = glue.read_tsv(task, path).table
    except Refusal as refusal:
        place = refusal.place
    else:
        place = str(path)
        table.validate(full=True)
        assert table.num_rows > 0
        assert table.schema.names == [*task.inputs, "label"]
        assert all(column.null_count == 0 for column in table.columns)
    assert place.split(":")[0] == str(path)


def test_check_reads_the_header_but_not_the_rows(write_tsv, tmp_path):
    write_tsv(TASKS["rte"])
    path = tmp_path / "RTE" / "dev.tsv"
    path.write_bytes(path.read_bytes() + b"\xff\xff\n")
    corpus.check(str(tmp_path), ["rte"])
    path.write_text("index\tsentence1\tlabel\n")
    assert f"{path}:1: no column 'sentence2'" in refusal_of(corpus.check, str(tmp_path), ["rte"])


def test_a_damaged_parquet_file_is_refused(write_parquet, tmp_path):
    write_parquet(TASKS["rte"])
    path = tmp_path / "rte" / "validation-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[4:300] = b"\xff" * 296
    path.write_bytes(bytes(content))
    assert refusal_of(corpus.load, TASKS["rte"], str(tmp_path)).startswith(f"{path}: can't be read as a parquet file (")
    path.write_bytes(bytes(content[:50]))
    assert refusal_of(corpus.check, str(tmp_path), ["rte"]).startswith(f"{path}: can't be read as a parquet file")


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        (
            "rte",
            {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": pa.array([0, -1], pa.int64())},
            "{path}: label: row 2: -1 is not from 0 to 1; -1 marks GLUE's hidden test set; give the labelled splits",
        ),
        (
            "rte",
            {"sentence1": ["a"], "label": pa.array([0], pa.int64())},
            "{path}: no column 'sentence2'; found sentence1, label; RTE has it on the hub",
        ),
        (
            "sst2",
            {"sentence": ["a"], "label": ["0"]},
            "{path}: label: holds string with 0 gaps, not a int64 in every row",
        ),
        (
            "sst2",
            {"sentence": ["a", "b"], "label": pa.array([1, None], pa.int64())},
            "{path}: label: holds int64 with 1 gaps, not a int64 in every row",
        ),
        (
            "sst2",
            {"sentence": ["a", None], "label": pa.array([1, 1], pa.int64())},
            "{path}: sentence: 1 rows have no text",
        ),
        ("sst2", {"sentence": [1], "label": pa.array([1], pa.int64())}, "{path}: sentence: holds int64, not text"),
        (
            "sst2",
            {"sentence": pa.array([], pa.string()), "label": pa.array([], pa.int64())},
            "{path}: no row; fetch it again",
        ),
    ],
)
def test_what_is_wrong_in_a_parquet_file_is_refused(name, columns, message, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    for split in ("train", "validation"):
        pq.write_table(pa.table(columns), folder / f"{split}-00000-of-00001.parquet")
    path = folder / "validation-00000-of-00001.parquet"
    assert refusal_of(corpus.load, TASKS[name], str(tmp_path)) == message.format(path=path)


@pytest.mark.parametrize("column", ["sentence", "label"])
def test_a_parquet_file_with_a_column_twice_is_refused(column, tmp_path):
    columns = {"sentence": pa.array(["a"]), "label": pa.array([1])}
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.table([*columns.values(), columns[column]], names=[*columns, column]), path)
    message = f"{path}: the column '{column}' appears 2 times; leave one of them"
    assert refusal_of(glue.check_parquet, TASKS["sst2"], path) == message
    assert refusal_of(glue.read_parquet, TASKS["sst2"], [path]) == message


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_texts_of_a_parquet_file_that_are_not_utf8_are_refused_with_their_row(kind, tmp_path):
    offsets = pa.array([0, 2, 4], pa.int32()).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ok\xff\xfe")])
    path = tmp_path / "bytes.parquet"
    pq.write_table(pa.table({"sentence": texts.cast(kind), "label": [1, 0]}), path)
    message = refusal_of(glue.read_parquet, TASKS["sst2"], [path])
    assert message.startswith(f"{path}: sentence: not UTF-8 text (ArrowInvalid: ")
    assert "at string index 1); write the texts in UTF-8" in message


def test_a_hub_that_is_out_of_reach_is_refused_with_the_other_ways(monkeypatch):
    def load_dataset(repository, name):
        raise ConnectionError(f"Couldn't reach '{repository}' on the Hub (offline)\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert refusal_of(corpus.load, TASKS["qnli"], "hub") == (
        "--data hub: nyu-mll/glue (qnli) can't be fetched (ConnectionError: "
        "Couldn't reach 'nyu-mll/glue' on the Hub (offline)); "
        "give a folder that holds it with --data DIR, or take the generated miniature with --data mini"
    )


@pytest.mark.parametrize("name", ["cola", "sst2"])
def test_a_set_too_small_to_be_divided_is_refused(name, write_tsv, tmp_path):
    write_tsv(TASKS[name], train=1, dev=1)
    message = refusal_of(corpus.load, TASKS[name], str(tmp_path))
    assert re.fullmatch(r"(CoLA|SST-2): 1 row is too few to be divided; give at least 2 in each file", message)
