"""Tests that data from memory are kept as files, and that a study goes on only with the same ones."""

import math
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.api.kept_inputs import kept_tasks, naming_kept_data
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder

STARS = [3.5, math.nan, 1.0, 2.0]


def stars(shift: int = 0, **more: list[Any]) -> dict[str, list[Any]]:
    return {"body": [f"text {n + shift}" for n in range(4)], "stars": STARS, **more}


def keep(folder: StudyFolder, data: Any, **keys: Any) -> Path:
    tasks = kept_tasks({"mine": {"data": data, "text": "body", "label": "stars", **keys}}, folder)
    return Path(tasks["mine"]["data"])


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "mine")


def begin(folder: StudyFolder) -> None:
    folder.spec.touch()


@pytest.mark.parametrize("made", [pd.DataFrame, datasets.Dataset.from_dict])
def test_only_the_columns_that_a_task_reads_are_kept(made: Any, folder: StudyFolder) -> None:
    rows = made(stars(user=["a", "b", "c", "d"], more=["x"] * 4))
    kept = keep(folder, {"train": rows, "test": made(stars(9))}, split={"group": "user"})
    assert pq.read_schema(kept / "train.parquet").names == ["body", "stars", "user"]
    assert pq.read_schema(kept / "test.parquet").names == ["body", "stars"]
    with pytest.raises(Refusal, match="tasks: mine: data: no column 'user'; found body, stars, more; name one of them"):
        keep(folder, made(stars(more=["x"] * 4)), split={"group": "user"})


def test_rows_that_a_transform_makes_as_they_are_read_are_refused(folder: StudyFolder) -> None:
    rows = datasets.Dataset.from_dict(stars()).with_transform(lambda rows: {**rows, "stars": [1.0] * len(rows["body"])})
    with pytest.raises(Refusal, match="has a transform, which no file keeps; apply it with map"):
        keep(folder, rows)
    assert keep(folder, datasets.Dataset.from_dict(stars()).with_format("numpy"))


def test_a_column_of_several_kinds_matters_only_where_a_task_reads_it(folder: StudyFolder) -> None:
    odd = pd.DataFrame(stars(more=[1, "a", [2], None]))
    assert pq.read_table(keep(folder, odd) / "train.parquet").num_rows == 4
    with pytest.raises(
        Refusal, match=r"mine: data: can't be kept .*'?more.*; hold words or numbers of one kind in each column"
    ):
        keep(folder, odd, label="more")


def test_refusals_name_data_from_memory_and_not_the_files_that_keep_them(folder: StudyFolder) -> None:
    path = keep(folder, pd.DataFrame(stars())) / "train.parquet"
    with pytest.raises(Refusal, match=r"^tasks: mine: data: body: is odd; see"), naming_kept_data(folder):
        raise Refusal(f"{path}: body", "is odd", "see")
    keep(folder, {"train": pd.DataFrame(stars()), "test": pd.DataFrame(stars(9))})
    with pytest.raises(Refusal, match=r"^tasks: mine: data: holds test, no training examples; add train$"):
        keep(folder, {"test": pd.DataFrame(stars())})
    both = "tasks: mine: data: train, tasks: mine: data: test"
    with pytest.raises(Refusal, match=rf"^2 problems: {both}$"), naming_kept_data(folder):
        raise Refusal("", f"2 problems: {path}, {path.with_name('test.parquet')}")


@pytest.mark.parametrize("made", [pd.DataFrame, datasets.Dataset.from_dict])
def test_a_study_goes_on_with_the_same_values_and_no_others(made: Any, folder: StudyFolder) -> None:
    path = keep(folder, made(stars())) / "train.parquet"
    begin(folder)
    keep(folder, made(stars()))
    kind = pa.schema([("body", pa.string()), ("stars", pa.float64()), ("more", pa.int64())])
    pq.write_table(pa.table(stars(more=[1, 2, 3, 4]), schema=kind), path)  # as other versions keep it
    keep(folder, made(stars()))
    with pytest.raises(Refusal, match="tasks: mine: data: the study was begun with other rows; repeat those, or"):
        keep(folder, made(stars(1)))
    assert pq.read_table(path)["body"].to_pylist() == stars()["body"]


def test_true_and_false_are_no_numbers_and_a_begun_study_s_file_stays(folder: StudyFolder) -> None:
    numbers = pd.DataFrame({"body": ["a", "b"], "stars": [0, 1]})
    path = keep(folder, numbers) / "train.parquet"
    begin(folder)
    before = path.stat().st_mtime_ns
    with pytest.raises(Refusal, match="the study was begun with other rows"):
        keep(folder, numbers.assign(stars=[False, True]))
    keep(folder, numbers)
    assert path.stat().st_mtime_ns == before


def test_a_study_goes_on_with_the_same_parts_and_no_others(folder: StudyFolder) -> None:
    rows = pd.DataFrame(stars())
    keep(folder, {"train": rows, "test": rows})
    begin(folder)
    keep(folder, {"test": rows, "train": rows})
    for other in (rows, {"train": rows, "test": rows, "dev": rows}):
        with pytest.raises(Refusal, match=r"data: holds .*, the study was begun with test, train; repeat those, or"):
            keep(folder, other)
