"""Tests that examples and the names of columns are read from each kind of file, and what is neither is refused."""

import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from krona_tune.data.example_files import MOST_COLUMNS, LinesOfExamples, column_names, table_examples
from krona_tune.data.own_files import file_of_csv
from krona_tune.data.separated_text import LONGEST_LINE
from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal

COLA, STSB = TASKS["cola"], TASKS["stsb"]
ROWS = [{"id": 7, "sentence": 'Sam, he said "no".'}, {"id": 11, "sentence": "two\nlines"}]


def written(folder: Path, ending: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    path = folder / f"rows{ending}"
    match ending:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1)
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
        case ".csv":
            pa_csv.write_csv(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(("ending", "number"), [(".csv", "7"), (".jsonl", 7), (".parquet", 7)])
def test_a_table_gives_its_rows_with_all_columns_as_often_as_asked(ending: str, number: object, tmp_path: Path) -> None:
    table = table_examples(written(tmp_path, ending), COLA)
    assert table is not None
    for _ in range(2):
        found = list(table.rows())
        assert [row["sentence"] for row in found] == [row["sentence"] for row in ROWS]
        assert found[0] == {"id": number, "sentence": ROWS[0]["sentence"]}


def test_named_columns_hold_the_texts_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text('right\tleft\nb "\ta\n', encoding="utf-8")
    assert table_examples(tmp_path / "pairs.tsv", STSB) is None
    table = table_examples(tmp_path / "pairs.tsv", STSB, ["left", "right"])
    assert table is not None
    assert table.columns == ("left", "right")
    assert list(table.rows()) == [{"right": 'b "', "left": "a"}]
    with pytest.raises(Refusal, match="--columns: 'left' is named twice; name one for each text"):
        table_examples(tmp_path / "pairs.tsv", STSB, ["left", "left"])


def test_lines_are_rows_of_the_tasks_inputs() -> None:
    file = BytesIO(b"read\na\tb\nc\td\n")
    file.readline()
    lines = LinesOfExamples(file=file, place="here", task=STSB)
    assert list(lines.rows()) == list(lines.rows())
    assert list(lines.rows())[1] == {"sentence1": "c", "sentence2": "d"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,text\n1,a\n", r"a\.csv: no column 'sentence'; found id, text; name the columns .* --columns"),
        ("a.csv", "", r"a\.csv: the file is empty"),
        ("a.csv", 'sentence\na\n" "\n', r"a\.csv:3: sentence is empty; write a text there"),
        ("a.csv", 'sentence,id\na,1\n"b,2\nc,3\n', r"a\.csv: a quote that opens in row 2 is never closed; close it"),
        ("a.csv", 'sentence,id\n"a" ,"b\nc,3\nd,4\n', r"a\.csv: a quote that opens in row 1 is never closed; close it"),
        ("a.csv", 'sentence,id\nx,"b"b\nc,"d', r"a\.csv: a quote that opens in row 2 is never closed; close it"),
        ("a.csv", 'sentence,id\na,1\n""\nb,2\n', r"a\.csv:3: sentence is empty"),
        (
            "a.csv",
            'sentence,id\n"say \\"a\\" now",1\n',
            r"a\.csv:2: has quotes with a backslash before them; write a q",
        ),
        ("a.csv", "id,sentence\n1,a\n\r,b\n", r"a\.csv:4: the empty line before it ends in a carriage return alone"),
        (
            "a.jsonl",
            '{"sentence": "a", "sentence": "b"}\n',
            r"a\.jsonl:1: is no JSON \(a key stands twice in one object",
        ),
        ("a.tsv", "sentence\na\nb\n", r"a\.tsv:1: the line holds the names of columns, .* --columns sentence"),
        ("a.csv", "sentence,sentence\na,b\n", r"the column 'sentence' appears 2 times"),
        ("a.jsonl", '{"sentence": "a"}\n{"sentence": 3}\n', r"a\.jsonl:2: sentence is 3, not a text"),
        ("a.jsonl", '{"sentence": "a"}\n{"text": "b"}\n', r"a\.jsonl:2: no column 'sentence'; found text"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: \[1\] is no object; write one object a line"),
        ("a.jsonl", "{\n", r"a\.jsonl:1: is no JSON"),
        ("a.json", '[{"sentence": "a"}]', r"--input: a\.json is JSON as a whole, .* in a file \.jsonl"),
        ("a.parquet", "nothing", r"a\.parquet: can't be read as Parquet"),
    ],
)
def test_what_is_no_example_is_refused_with_its_row(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(Refusal, match=message):
        for _ in table_examples(tmp_path / name, COLA).rows():  # type: ignore[union-attr]
            pass


def test_names_of_the_inputs_in_any_order_and_among_others_are_no_example(tmp_path: Path) -> None:
    """Else each pair would be answered with its texts exchanged."""
    for number, line in enumerate(("sentence2\tsentence1", "id\tsentence1\tsentence2")):
        path = tmp_path / f"{number}.tsv"
        path.write_text(f"{line}\na\tb\n", encoding="utf-8")
        with pytest.raises(
            Refusal, match=r"\.tsv:1: the line holds the names of columns.*--columns sentence1,sentence2"
        ):
            table_examples(path, STSB)


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    table = pa.table([["a"], [1], [2]], names=["sentence", "x", "x"])
    pq.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(Refusal, match=r"twice\.parquet: the column 'x' appears 2 times"):
        table_examples(tmp_path / "twice.parquet", COLA)


def test_separators_at_the_ends_of_lines_are_no_columns(tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text("sentence,id,,\na cat,1,,\na dog,2\n", encoding="utf-8")
    found = table_examples(tmp_path / "sheet.csv", COLA)
    assert found.schema is not None
    assert found.schema.names == ["sentence", "id"]
    assert list(found.rows()) == [{"sentence": "a cat", "id": "1"}, {"sentence": "a dog", "id": "2"}]
    (tmp_path / "sheet.csv").write_text("sentence,id,,\na cat,1,,\na dog,2,x\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"sheet\.csv:3: 'x' is in a column without a name; name it in the first line"):
        list(table_examples(tmp_path / "sheet.csv", COLA).rows())


def test_a_line_of_blanks_is_no_row_as_in_training(tmp_path: Path) -> None:
    (tmp_path / "blank.csv").write_text("sentence,id\na cat,1\n   \n\n ,3\n", encoding="utf-8")
    found, read = table_examples(tmp_path / "blank.csv", COLA), file_of_csv(tmp_path / "blank.csv", ["sentence", "id"])
    assert read.table["id"].to_pylist() == ["1", "3"]
    with pytest.raises(Refusal, match=r"blank\.csv:5: "):
        list(found.rows())


def test_columns_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ".csv")
    with pytest.raises(Refusal, match="--columns: 1 named, STS-B takes sentence1 and sentence2; name one for each"):
        table_examples(path, STSB, ["sentence"])
    with pytest.raises(Refusal, match=r"--columns: rows\.txt holds lines, which have no columns"):
        table_examples(path.rename(tmp_path / "rows.txt"), COLA, ["sentence"])


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", '\ufefftext,"a, b",label\n1,2\n', ["text", "a, b", "label"]),
        ("a.csv", "text;label;more, or less\n", ["text", "label", "more, or less"]),
        ("A.CSV", "text|label\n", ["text", "label"]),
        ("a.csv", "text\n1\n", ["text"]),
        ("a.tsv", '"text\tlabel, or not\n', ['"text', "label, or not"]),
        ("a.jsonl", '\n{"text": "x", "label": 1}\n{"label": 2, "more": null}\n', ["text", "label", "more"]),
        ("a.ndjson", '{"text": "x"}', ["text"]),
    ],
)
def test_the_columns_stand_in_the_first_lines(name: str, content: str, columns: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert column_names(tmp_path / name) == columns


def test_the_columns_of_parquet_are_those_of_its_schema(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"], "label": [1]}), tmp_path / "a.parquet")
    assert column_names(tmp_path / "a.parquet") == ["text", "label"]


def test_only_the_beginning_is_read_and_a_line_that_it_cuts_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n' + f'{{"late": "{"é" * LONGEST_LINE}"}}\n')
    assert column_names(path) == ["text"]
    os.truncate(path, 1 << 40)
    assert column_names(path) == ["text"]
    path.with_suffix(".csv").write_text(",".join(f"c{n}" for n in range(2 * MOST_COLUMNS)))
    assert len(column_names(path.with_suffix(".csv"))) == MOST_COLUMNS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "its beginning names no column"),
        ("a.jsonl", b"[1]\n", "its columns can't be read"),
        ("a.jsonl", b"null\n", "its columns can't be read"),
        ("a.jsonl", b"\n\n", "names no column"),
        ("a.csv", b"caf\xe9,label\n", "can't be read .*; save it as UTF-8"),
        ("a.parquet", b"PAR1 but no more", "can't be read"),
        ("a.csv", b"x" * (LONGEST_LINE + 1), "names no column"),
        ("a.txt", b"text,label\n", "unknown ending '.txt'"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_a_file_without_readable_columns_is_refused(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refusal, match=said) as refused:
        column_names(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(Refusal, match="is no file"):
        column_names(tmp_path / "a.csv")
