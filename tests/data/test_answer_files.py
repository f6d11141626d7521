"""Tests that answers are written beside their rows in every kind of file, whole or not at all."""

import csv
import json
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.data.answer_files import (
    answer_columns,
    answer_kind,
    answers_into,
    refuse_same_columns,
    refuse_unwritable,
)
from krona_tune.data.example_files import ExampleRows, LinesOfExamples, table_examples
from krona_tune.data.file_kinds import CSV, LINES
from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal

COLA = TASKS["cola"]
ADDED = answer_columns(COLA, scores=True)
ANSWER = {"prediction": "acceptable", "probability_unacceptable": 0.25, "probability_acceptable": 0.75}


def examples(folder: Path, rows: list[dict[str, Any]], ending: str = ".jsonl") -> ExampleRows:
    path = folder / f"rows{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    table = table_examples(path, COLA)
    assert table is not None
    return table


def test_the_columns_of_answers_are_named_after_the_labels_and_typed() -> None:
    assert list(ADDED) == list(ANSWER)
    assert answer_columns(TASKS["stsb"], scores=False) == {"prediction": pa.float64()}


def read(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".parquet":
            return pq.read_table(path).to_pylist()
        case ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        case _:
            with path.open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))


@pytest.mark.parametrize("of", [".jsonl", ".parquet"])
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_each_row_is_kept_with_its_answer(of: str, ending: str, tmp_path: Path) -> None:
    rows = [{"id": number, "sentence": f'a "{number}",\nb', "tags": [number, 3]} for number in range(2500)]
    given, out = examples(tmp_path, rows, of), tmp_path / f"out{ending}"
    with answers_into(out, given, ADDED, print) as write:
        for row in given.rows():
            write(row | ANSWER)
        assert not out.exists()
    found = read(out)
    if ending == ".csv":
        assert found[7] == {"id": "7", "sentence": rows[7]["sentence"], "tags": "[7, 3]"} | {
            name: str(value) for name, value in ANSWER.items()
        }
    else:
        assert found[7] == rows[7] | ANSWER
    assert [int(row["id"]) for row in found] == list(range(2500))
    assert list(found[0]) == ["id", "sentence", "tags", *ANSWER]


def test_without_rows_the_columns_are_there(tmp_path: Path) -> None:
    given = examples(tmp_path, [{"id": 1, "sentence": "a"}], ".parquet")
    for ending in (".csv", ".parquet"):
        with answers_into(tmp_path / f"out{ending}", given, ADDED, print):
            pass
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == ",".join(["id", "sentence", *ANSWER]) + "\n"
    assert pq.read_schema(tmp_path / "out.parquet").names == ["id", "sentence", *ANSWER]


def test_lines_are_the_answers_alone() -> None:
    said: list[str] = []
    lines = LinesOfExamples(file=BytesIO(b"a\n"), place="here", task=COLA)
    with answers_into(None, lines, ADDED, said.append) as write:
        for ends in ("\n", "\r\n", "\r"):
            write({"sentence": "a", **ANSWER, "prediction": f"two{ends}lines"})
    assert said == ["two\\nlines\t0.2500\t0.7500\n"] * 3


def put(out: Path, given: ExampleRows, rows: Iterable[dict[str, Any]]) -> None:
    with answers_into(out, given, ADDED, print) as write:
        for row in rows:
            write(row | ANSWER)


def breaking() -> Iterator[dict[str, Any]]:
    yield {"sentence": "a"}
    raise RuntimeError("of a model")


def test_an_error_leaves_no_file_and_stays_what_it_is(tmp_path: Path) -> None:
    given = examples(tmp_path, [{"sentence": "a"}])
    for ending in (".csv", ".parquet"):
        with pytest.raises(RuntimeError, match="of a model"):
            put(tmp_path / f"out{ending}", given, breaking())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_rows_that_fit_no_column_are_refused(tmp_path: Path) -> None:
    given = examples(tmp_path, [{"sentence": "a"}])
    with pytest.raises(Refusal, match="a row has 'id', which the first row lacks; write JSON Lines"):
        put(tmp_path / "out.csv", given, [{"sentence": "a"}, {"id": 3, "sentence": "b"}])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_parquet_holds_what_appears_late(tmp_path: Path) -> None:
    early = [{"sentence": "a", "id": number, "more": {"x": 1}, "tags": []} for number in range(1024)]
    late = [{"sentence": "a", "id": 2.75, "more": {"x": -0.9, "y": "b"}, "tags": [0.5]}, {"sentence": "b", "new": 7}]
    given, out = examples(tmp_path, [*early, *late]), tmp_path / "out.parquet"
    put(out, given, given.rows())
    first, *_, last_but_one, last = read(out)
    assert first == early[0] | {"more": {"x": 1, "y": None}, "new": None} | ANSWER
    assert last_but_one == late[0] | {"new": None} | ANSWER
    assert last == {"sentence": "b", "id": None, "more": None, "tags": None, "new": 7} | ANSWER


@pytest.mark.parametrize("odd", ["x", True, [1], 10**30, "\ud83d", {}])
def test_what_parquet_can_not_hold_is_refused_before_anything_is_answered(tmp_path: Path, odd: object) -> None:
    rows = [{"sentence": "a", "odd": {} if odd == {} else number} for number in range(1024)]
    given = examples(tmp_path, [*rows, {"sentence": "a", "odd": odd}])
    with pytest.raises(Refusal, match=r"^--output: .*odd.*; write JSON Lines, such as answers\.jsonl$"):
        put(tmp_path / "out.parquet", given, answering_nothing())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def answering_nothing() -> Iterator[dict[str, Any]]:
    raise AssertionError("an example was asked for")
    yield {}


def test_line_ends_of_every_kind_stay_within_their_cell(tmp_path: Path) -> None:
    given, text = examples(tmp_path, [{"sentence": "a"}]), "one\rtwo\nthree\r\nfour"
    put(tmp_path / "out.csv", given, [{"sentence": text}])
    assert [row["sentence"] for row in read(tmp_path / "out.csv")] == [text]
    assert (tmp_path / "out.csv").read_bytes().endswith(b"acceptable,0.25,0.75\n")


def test_a_rows_own_numbers_and_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    given = examples(tmp_path, [{"sentence": "a"}])
    row = {"sentence": "a", "time": 1700000000.25, "id": 12345678.0}
    put(tmp_path / "out.csv", given, [row])
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()[1] == (
        "a,1700000000.25,12345678.0,acceptable,0.25,0.75"
    )
    odd = {"sentence": "é", "note": "\ud83d", "score": float("nan"), "parts": [float("inf")]}
    put(tmp_path / "out.jsonl", given, [row, {"sentence": "é"}, odd])
    _, plain, found = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert "é" in plain
    assert json.loads(found) == odd | {"score": None, "parts": [None]} | ANSWER


def test_a_predicted_number_is_the_same_in_every_kind_of_file(tmp_path: Path) -> None:
    rows, number = [{"id": 0.123456789, "sentence": "a"}], 1234567.25
    given, added = examples(tmp_path, rows), answer_columns(TASKS["stsb"], scores=False)
    for ending in (".csv", ".jsonl", ".parquet"):
        with answers_into(tmp_path / f"out{ending}", given, added, print) as write:
            write({**rows[0], "prediction": number})
        assert [float(row["prediction"]) for row in read(tmp_path / f"out{ending}")] == [number]


def test_half_a_character_in_csv_is_refused(tmp_path: Path) -> None:
    given = examples(tmp_path, [{"sentence": "a"}])
    with pytest.raises(Refusal, match=r"--output: .*out\.csv can't be written \(.*; write JSON Lines"):
        put(tmp_path / "out.csv", given, [{"sentence": "a", "odd": "\ud83d"}])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_what_can_not_be_written_is_refused_before(tmp_path: Path) -> None:
    given = examples(tmp_path, [{"sentence": "a", "prediction": "b"}])
    with pytest.raises(Refusal, match=r"--output: .*rows\.jsonl is there already; name a file that is not"):
        refuse_unwritable(tmp_path / "rows.jsonl")
    with pytest.raises(Refusal, match=r"--output: there is no folder .*nowhere"):
        refuse_unwritable(tmp_path / "nowhere" / "out.csv")
    with pytest.raises(Refusal, match="--input: it has a column 'prediction', which the answers get; rename"):
        refuse_same_columns(["sentence", "prediction"], ADDED)
    with pytest.raises(Refusal, match=r"--output: out\.json is JSON as a whole, .*; write one object a line"):
        answer_kind(Path("out.json"), given)
    for name in ("out.tsv", "out.xlsx"):
        with pytest.raises(Refusal, match=rf"--output: {name} would get the answers alone, .*; end its name in \.csv"):
            answer_kind(Path(name), given)
    assert answer_kind(Path("out.txt"), given) is answer_kind(Path("out"), given) is LINES
    assert answer_kind(Path("out.csv"), given) is CSV
    with pytest.raises(Refusal, match=r"--output: Parquet is not printed; name a file such as answers\.parquet"):
        answer_kind(None, examples(tmp_path, [{"sentence": "a"}], ".parquet"))
