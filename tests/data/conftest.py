"""Writes small GLUE folders in the official TSV layout and in the hub's parquet layout."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.data.glue_files import FILES
from krona_tune.data.tasks import Task

Example = tuple[tuple[str, ...], float]
"""The texts in the order of `task.inputs`, and the label."""

_MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
)
HEADERS = {
    "sst2": "sentence\tlabel",
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "stsb": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
    "mnli": f"{_MNLI}\tsentence1\tsentence2\tlabel1\tgold_label",
    "qnli": "index\tquestion\tsentence\tlabel",
    "rte": "index\tsentence1\tsentence2\tlabel",
    "wnli": "index\tsentence1\tsentence2\tlabel",
}
MNLI_DEV = f"{_MNLI}\tsentence1\tsentence2\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label"


def _some_examples(task: Task, count: int, word: str) -> list[Example]:
    """Returns examples whose texts all differ, some with a lone quotation mark; every label occurs."""

    def label(i: int) -> float:
        return (i % 26) / 5 if task.is_regression else i % len(task.labels)

    texts = ['the keeper counted {} "lanterns {} {}', "{} boats came home late {} {}"]
    return [
        (tuple(text.format(i, word, name) for text, name in zip(texts, task.inputs, strict=False)), label(i))
        for i in range(count)
    ]


def _tsv_lines(task: Task, examples: list[Example], header: str | None) -> list[str]:
    """Returns the official file's lines; columns that are not read hold other values than those that are."""
    words = {index: word for word, index in (FILES[task.name].label_words or {}).items()}
    lines = [header] if header else []
    for texts, label in examples:
        values = dict(zip(task.inputs, texts, strict=True)) | {"label": words.get(label, f"{label:g}")}
        by_column = {column: values[name] for name, column in FILES[task.name].columns.items()}
        names = header.split("\t") if header else range(4)
        lines.append("\t".join(by_column.get(column, "other") for column in names))
    return lines


@pytest.fixture
def headers() -> dict[str, str]:
    return HEADERS


@pytest.fixture
def some_examples() -> Callable[[Task, int, str], list[Example]]:
    return _some_examples


@pytest.fixture
def write_tsv(tmp_path: Path) -> Callable[..., dict[str, list[Example]]]:
    """Writes a task's official folder below tmp_path and returns its contents, by file name."""

    def write(
        task: Task, folder: str | None = None, *, train: int = 12, dev: int = 7, end: str = "\n"
    ) -> dict[str, list[Example]]:
        path = tmp_path / (folder or task.title)
        path.mkdir(parents=True)
        held = {"train": _some_examples(task, train, "train")}
        held |= {name: _some_examples(task, dev, name) for name in FILES[task.name].dev}
        for name, examples in held.items():
            header = MNLI_DEV if (task.name, name[:3]) == ("mnli", "dev") else HEADERS.get(task.name)
            mark = b"\xef\xbb\xbf" if task.name == "mrpc" else b""
            lines = _tsv_lines(task, examples, header)
            (path / f"{name}.tsv").write_bytes(mark + "".join(line + end for line in lines).encode())
        return held

    return write


@pytest.fixture
def write_parquet(tmp_path: Path) -> Callable[..., dict[str, list[Example]]]:
    """Writes a task's hub folder below tmp_path, the train split in two shards, and returns its contents."""

    def write(task: Task, folder: str | None = None, *, train: int = 12, dev: int = 7) -> dict[str, list[Example]]:
        path = tmp_path / (folder or task.name)
        path.mkdir(parents=True)
        held = {"train": _some_examples(task, train, "train")}
        held |= {name: _some_examples(task, dev, name) for name in FILES[task.name].dev}
        for name, examples in held.items():
            split, shards = name.replace("dev", "validation"), 2 if name == "train" else 1
            table = hub_table(task, examples)
            for shard in range(shards):
                some = table.slice(shard * (len(examples) // 2), len(examples) // 2) if shards == 2 else table
                pq.write_table(some, path / f"{split}-{shard:05d}-of-{shards:05d}.parquet")
        hidden = [(texts, -1.0) for texts, _ in held["train"]]
        pq.write_table(hub_table(task, hidden), path / "test-00000-of-00001.parquet")
        return held

    return write


def hub_table(task: Task, examples: list[Example]) -> pa.Table:
    texts = {name: [texts[at] for texts, _ in examples] for at, name in enumerate(task.inputs)}
    label = pa.array([label for _, label in examples], pa.float32() if task.is_regression else pa.int64())
    return pa.table({**texts, "label": label, "idx": pa.array(range(len(examples)), pa.int32())})
