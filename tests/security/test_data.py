"""Tests that data files of any content, TSV bytes or parquet shards, become tables or are refused in bounded memory."""

import io
import resource
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.data import glue
from krona_tune.data.corpus import load
from krona_tune.data.glue_files import FILES
from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal
from tests.data.conftest import HEADERS, hub_table
from tests.security.hostile import HOSTILE, clean, damaged

MOST_MORE_BYTES = 2**30
EXAMPLES = [(("a clause", "another"), 1.0), (("the third", "a fourth one"), 0.0), (("five", "six"), 1.0)]


def official(task: Task) -> bytes:
    """Returns a correct file of the task: its header and a few rows."""
    header = HEADERS.get(task.name)
    width = len(header.split("\t")) if header else 4
    label = next(iter(FILES[task.name].label_words or {"1": 1}))
    rows = ["\t".join([label] * width)] * 7
    return "\n".join([*([header] if header else []), *rows, ""]).encode()


def shard(task: Task) -> bytes:
    out = io.BytesIO()
    pq.write_table(hub_table(task, [(texts[: len(task.inputs)], label) for texts, label in EXAMPLES]), out)
    return out.getvalue()


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """Checks that this process's peak memory hardly grew, however many inputs were read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MOST_MORE_BYTES


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def tables(task: Task, path: Path) -> pa.Table:
    return glue.read_tsv(task, path).table if path.suffix == ".tsv" else glue.read_parquet(task, [path])


def looks_right(task: Task, found: object) -> None:
    if isinstance(found, pa.Table):
        assert found.column_names == [*task.inputs, "label"]
        assert found.num_rows
        assert not any(column.null_count for column in found.columns)


@HOSTILE
@given(st.sampled_from(list(TASKS.values())), st.data())
def test_any_tsv_is_a_table_or_refused(place: Path, task: Task, data: st.DataObject) -> None:
    path = place / f"{task.name}.tsv"
    path.write_bytes(data.draw(damaged(official(task)) | st.binary(max_size=300)))
    clean(lambda: glue.check_tsv(task, path))
    looks_right(task, clean(lambda: tables(task, path)))


@HOSTILE
@given(st.sampled_from(["cola", "mrpc", "stsb"]).map(TASKS.__getitem__), st.data())
def test_any_parquet_is_a_table_or_refused(place: Path, task: Task, data: st.DataObject) -> None:
    path = place / f"{task.name}.parquet"
    path.write_bytes(data.draw(damaged(shard(task)) | st.binary(max_size=300)))
    clean(lambda: glue.check_parquet(task, path))
    looks_right(task, clean(lambda: tables(task, path)))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["a"], ["b"]]),
        pa.array([{"a": "b"}, None]),
        pa.array([1, 2]),
        pa.array(["a", None]),
        pa.nulls(2),
        pa.array(["a", "b"]).dictionary_encode(),
    ],
    ids=["lists", "structs", "numbers", "gaps", "nothing", "dictionary"],
)
def test_a_column_of_another_kind_is_refused(place: Path, column: pa.Array) -> None:
    path = place / "kind.parquet"
    pq.write_table(pa.table({"sentence": column, "label": pa.array([0, 1])}), path)
    found = clean(lambda: tables(TASKS["cola"], path))
    assert isinstance(found, Refusal) or found["sentence"].type == pa.string()


def test_a_line_without_an_end_is_refused_and_its_message_stays_short(place: Path) -> None:
    path = place / "long.tsv"
    path.write_bytes(b"sentence\tlabel\n" + b"x" * 30_000_000 + b"\t7\n")
    with pytest.raises(Refusal) as refused:
        glue.read_tsv(TASKS["sst2"], path)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    "source", ["/", "/proc", "/dev", "..", "mini/../..", "/etc/passwd", "a\x00b", "~nobody-at-all/x"]
)
def test_a_folder_that_holds_no_data_is_refused(source: str) -> None:
    with pytest.raises(Refusal):
        load(TASKS["cola"], source)


def test_a_link_that_leads_nowhere_or_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "CoLA").mkdir()
    for name, target in (("train.tsv", "train.tsv"), ("dev.tsv", "nowhere.tsv")):
        (tmp_path / "CoLA" / name).symlink_to(target)
    with pytest.raises(Refusal):
        load(TASKS["cola"], str(tmp_path))
    (tmp_path / "CoLA" / "CoLA").symlink_to(tmp_path / "CoLA")
    with pytest.raises(Refusal):
        load(TASKS["cola"], str(tmp_path))
