"""Tests that every kind of file gives the same examples, and others are refused with place and fix."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.data.own_files import read_file
from tests.data.own_tickets import own, refusal_of, rows, texts, write_csv

LABELLED = [{"body": f"null {number}", "queue": "null" if number % 2 else "x"} for number in range(40)]


@pytest.mark.parametrize("kind", ["csv", "semicolons", "tsv", "json", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_examples(kind: str, tmp_path: Path) -> None:
    expected = own(write_csv(tmp_path / "expected.csv", rows()))
    path = tmp_path / f"tickets.{'csv' if kind == 'semicolons' else kind}"
    match kind:
        case "csv" | "semicolons" | "tsv":
            write_csv(path, rows(), {"csv": ",", "semicolons": ";", "tsv": "\t"}[kind])
        case "json":
            path.write_text(json.dumps(rows()))
        case "jsonl":
            path.write_text("\n".join(map(json.dumps, rows())))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows()), path)
    found = own(path)
    assert found.task == expected.task
    assert {part: texts(found, part) for part in found.parts} == {part: texts(expected, part) for part in found.parts}


def test_values_of_a_csv_stay_the_text_that_they_are(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text(
        'body,queue\n"first line\nsecond, line",007\nNA,1\n"a ""quoted"" word",007\nnull,1\n' + "x,1\n" * 10
    )
    data = own(path, split={"validation": 1, "test": 1})
    assert data.task.labels == ("1", "007")
    found = {text for part in data.parts for text in texts(data, part)}
    assert found == {"first line\nsecond, line", "NA", 'a "quoted" word', "null", "x"}


@pytest.mark.parametrize(("header", "ending"), [("body,queue,stars", ",3,"), ("body,queue", ","), ("body,queue", ",,")])
def test_rows_of_a_csv_may_end_with_a_separator(header: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text(f"{header}\n" + "".join(f"text {n},{'ab'[n % 2]}{ending}\n" for n in range(20)))
    data = own(path)
    assert data.task.labels == ("a", "b")
    assert {text for part in data.parts for text in texts(data, part)} == {f"text {n}" for n in range(20)}


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text("body,queue\n" + "a,x\nb,y\n" * 10, encoding="utf-8-sig")
    assert own(path).task.inputs == ("body",)


def test_classes_of_a_parquet_file_have_the_names_that_it_stores(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"body": datasets.Value("string"), "queue": datasets.ClassLabel(names=["x", "y"])})
    some = datasets.Dataset.from_dict({"body": [f"t{n}" for n in range(40)], "queue": [0, 1] * 20}, features)
    some.to_parquet(tmp_path / "train.parquet")
    assert own(tmp_path).task.labels == ("x", "y")
    whole = pq.read_table(tmp_path / "train.parquet")
    more = pa.array([[("key", "value")]] * 40, pa.map_(pa.string(), pa.string()))
    pq.write_table(whole.append_column("more", more), tmp_path / "train.parquet")
    assert own(tmp_path).task.labels == ("x", "y"), "a column of a type that `datasets` lacks was in the way"
    assert refusal_of(tmp_path, label="none").endswith("no column 'none'; found body, queue, more; name one of them")


def broken(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


FILE = "body,queue\n" + "a,x\nb,y\n" * 10


WRONG_FILES = [
    ("text,queue\na,x\n", "tickets.csv: no column 'body'; found text, queue; name one of them"),
    ("body,body,queue\na,b,x\n", "tickets.csv: the column 'body' appears 2 times; leave one of them"),
    ("", "tickets.csv: the file is empty; give it rows, or name another"),
    ("body,queue\n", "tickets.csv: no row"),
    ("body,queue\na,x\nb,x\n", "tickets.csv: queue: every example has the label 'x'; two or more are needed"),
    (FILE + " ,x\n", "tickets.csv: body: 1 row has no text, the first is row 21; fill it in, or take it out"),
    (FILE + "\u200b,x\n", "tickets.csv: body: 1 row has no text, the first is row 21; fill it in, or take it out"),
    (FILE + "c\n", "tickets.csv: queue: 1 row has no label, the first is row 21; fill it in, or take it out"),
    (
        FILE + "c,x \n",
        "tickets.csv: queue: the labels 'x' and 'x ' differ only in blanks; write them alike",
    ),
    (
        FILE.encode() + b"caf\xe9,x\n",
        "tickets.csv:22: not UTF-8 text (byte 95 of the file); save the file as UTF-8",
    ),
    (
        FILE + "Hello, I want it back,x\n",
        "tickets.csv:22: 3 fields, the header has 2; put a text that holds the separator in quotes",
    ),
    (
        FILE + '"never closed,x\nc,y\n',
        "tickets.csv: a quote that opens in row 21 is never closed; close it, or write a quote within a text twice",
    ),
]


@pytest.mark.parametrize(("content", "message"), WRONG_FILES, ids=[message[:60] for _, message in WRONG_FILES])
def test_a_wrong_file_is_refused_with_its_place(content: str | bytes, message: str, tmp_path: Path) -> None:
    assert refusal_of(broken(tmp_path, content)) == message


def test_a_data_set_of_the_hub_has_its_splits_and_the_names_of_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features({"body": datasets.Value("string"), "queue": datasets.ClassLabel(names=["x", "y"])})
    made = {
        split: datasets.Dataset.from_dict(
            {"body": [f"{split} {n}" for n in range(count)], "queue": [0, 1] * (count // 2)}, features
        )
        for split, count in {"train": 40, "eval": 10, "extra": 6, "test": 20}.items()
    }
    asked: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *words: asked.append(words) or datasets.DatasetDict(made))
    data = own("hub:someone/tickets:small")
    assert asked == [("someone/tickets", "small")]
    assert [table.num_rows for table in data.parts.values()] == [40, 10, 20]
    assert data.task.labels == ("x", "y")


def test_what_datasets_saved_to_disk_is_read(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"body": datasets.Value("string"), "queue": datasets.ClassLabel(names=["x", "y"])})
    some = datasets.Dataset.from_dict({"body": [f"t{n}" for n in range(40)], "queue": [0, 1] * 20}, features)
    datasets.DatasetDict(train=some, test=some.select(range(10))).save_to_disk(tmp_path / "parts")
    some.save_to_disk(tmp_path / "whole")
    assert [table.num_rows for table in own(tmp_path / "parts").parts.values()] == [34, 6, 10]
    assert [table.num_rows for table in own(tmp_path / "whole").parts.values()] == [28, 6, 6]
    assert own(tmp_path / "whole").task.labels == ("x", "y")
    assert refusal_of(tmp_path / "parts", label="none").startswith("parts: train: no column 'none'; found body, queue")
    (tmp_path / "parts" / "dataset_dict.json").write_text("{")
    assert "parts: can't be read as what save_to_disk wrote (" in refusal_of(tmp_path / "parts")


def test_a_hub_that_can_not_be_reached_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*words: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    assert refusal_of("hub:tickets") == (
        "hub:tickets: can't be fetched (ConnectionError: no network); "
        "give a folder with its files, or check its name and the network"
    )


def test_a_file_that_changed_under_its_old_date_is_read_again(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", rows())
    before, date = own(path), path.stat()
    write_csv(path, [row | {"body": f"new {row['body']}"} for row in rows()])
    os.utime(path, ns=(date.st_atime_ns, date.st_mtime_ns))
    assert texts(before, "test")[0].startswith("text")
    assert all(text.startswith("new text") for text in texts(own(path), "test"))


@pytest.mark.parametrize(
    "names",
    [
        ("my_train", "my_test"),
        ("reviews-train-2024", "reviews-test-2024"),
        ("ReviewsTrain", "ReviewsTest"),
        ("XTrain", "XTest"),
        ("TRAIN2024", "TEST2024"),
        ("trainset", "testset"),
        ("traindata", "testdata"),
        ("training", "testing"),
    ],
)
def test_a_files_part_is_any_word_of_its_name(names: tuple[str, str], tmp_path: Path) -> None:
    for name, count in zip(names, (40, 20), strict=True):
        write_csv(tmp_path / f"{name}.csv", rows(count))
    (tmp_path / ".~lock.train.csv").write_text("x")
    assert own(tmp_path, split={"validation": 10}).parts["test"].num_rows == 20


def test_evaluation_is_validation_unless_another_word_says_it_too(tmp_path: Path) -> None:
    for name, count in {"train": 40, "eval": 30}.items():
        write_csv(tmp_path / f"{name}.csv", rows(count))
    assert own(tmp_path).parts["validation"].num_rows == 30
    write_csv(tmp_path / "dev.csv", rows(20))
    assert refusal_of(tmp_path).endswith(": dev and eval both mean validation; say it with one word, or take one out")
    some = [row | {"part": ["train", "dev", "Eval"][n % 3]} for n, row in enumerate(rows(60))]
    tickets = write_csv(tmp_path / "tickets.csv", some)
    assert "part: dev and eval both mean validation" in refusal_of(tickets, split={"column": "part"})


def test_two_files_that_may_hold_the_same_examples_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", rows())
    write_csv(tmp_path / "train.tsv", rows(), "\t")
    assert "train.csv and train.tsv may hold the same examples; take one out" in refusal_of(tmp_path)


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ("null", 1),
        ("\ufeffnull", 1),
        ('{"body": "a", "queue": "x"}\n null, \n', 2),
        ('[null, {"body": "a", "queue": "x"}]', 1),
        ('\n [{"body": "null", "queue": "null"},\n null]', 2),
    ],
)
def test_an_example_in_json_that_is_null_is_refused(content: str, row: int, tmp_path: Path) -> None:
    path = tmp_path / "tickets.json"
    path.write_text(content, encoding="utf-8")
    assert refusal_of(path) == f"tickets.json: row {row} is null, not an example; take it out"


FORMS: dict[str, Callable[[list[Any]], str]] = {
    "list": json.dumps,
    "indented list": partial(json.dumps, indent=1),
    "list after a blank": lambda some: f" \n{json.dumps(some)}",
    "list after a mark": lambda some: f"\ufeff{json.dumps(some)}",
    "lines": lambda some: "\r\n\n".join(json.dumps(row, ensure_ascii=False) for row in some),
    "indented objects": lambda some: "\n".join(json.dumps(row, indent=2) for row in some),
}
"""Ways in which people and programs write examples in a file."""


@pytest.mark.parametrize("form", FORMS)
def test_numbers_and_texts_in_json_are_read_as_they_are_written(form: str, tmp_path: Path) -> None:
    numbers = [4.5e-11, 0.1234567890123456, -7, 2**60 + 1, 1e22]
    dates = ["2020-01-01", "2020-01-01T10:00:00Z", "1577836800", "007", "tab\tline\u2028"]
    path = tmp_path / "tickets.json"
    given: list[dict[str, Any]] = [{"date": date, "kd": kd} for date, kd in zip(dates, numbers, strict=True)]
    given += [{"more": [1], "date": date, "kd": 1} for date in dates]
    path.write_text(FORMS[form](given), encoding="utf-8")
    read = read_file(path, ("date", "kd")).table
    assert read["date"].to_pylist() == [row["date"] for row in given]
    assert read["kd"].to_pylist() == [float(row["kd"]) for row in given]


def test_json_of_whole_numbers_and_of_truths_keeps_their_kinds(tmp_path: Path) -> None:
    path = tmp_path / "tickets.json"
    path.write_text('[{"id": 9007199254740993, "late": true}, {"id": null}, {"id": -1, "late": false}]')
    table = read_file(path, ("id", "late")).table
    assert table.to_pydict() == {"id": [2**53 + 1, None, -1], "late": [True, None, False]}
    path.write_text('{"id": 36893488147419103232, "late": NaN}')
    assert read_file(path, ("id", "late")).table.to_pydict() == {"id": [2.0**65], "late": [None]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"body": "a", "queue": "x"},\n{"body": "b", queue}]', "tickets.json:2: is no JSON (Expecting property name"),
        ('[{"body": "a"}', "tickets.json:1: is no JSON (Expecting ',' delimiter); write a list of objects, or one"),
        (
            '{"body": "a"}\n{"body": "a",\n{"body": "b"}',
            "tickets.json:2: is no JSON (Expecting property name enclosed in double quotes, in line 3)",
        ),
        ('{"body": "a"}\n{"body": "a", "body": "b"}', "tickets.json:2: is no JSON (a key stands twice in one object)"),
        ('["a", "b"]', "tickets.json: row 1 is 'a', not an example; take it out"),
        ("[]", "tickets.json: no row"),
        (" \n", "tickets.json: no row"),
        (
            '[{"body": "\\ud800", "queue": "x"}]',
            "tickets.json: body: holds a text that is not UTF-8 (UnicodeEncodeError",
        ),
        ('[{"body": "a"}]', "tickets.json: no column 'queue'; found body; name one of them"),
    ],
)
def test_json_that_holds_no_examples_is_refused_with_its_place(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tickets.json"
    path.write_text(content, encoding="utf-8")
    assert refusal_of(path).startswith(message)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tickets.jsonl"
    path.write_text('{"body": "a", "queue": "x"}\n' * 40 + '{"body": "b", queue}\n')
    assert refusal_of(path).startswith("tickets.jsonl:41: is no JSON (Expecting property name")


def test_a_test_file_without_labels_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(FILE)
    (tmp_path / "test.csv").write_text("body\na\n")
    assert refusal_of(tmp_path).endswith(
        "test.csv: no column 'queue'; found body; name one of them, "
        "or hold another part out in its place with split: {test: 0.15}"
    )
    data = own(tmp_path, split={"test": 0.15})
    assert {part: table.num_rows for part, table in data.parts.items()} == {"train": 14, "validation": 3, "test": 3}


def test_a_word_null_is_a_word(tmp_path: Path) -> None:
    for number, text in enumerate(("\n".join(map(json.dumps, LABELLED)), json.dumps(LABELLED, indent=1))):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        assert own(path).task.labels == ("null", "x")


@pytest.mark.parametrize("name", ["a[1].csv", "a*b?.csv", "{a}.csv", "zip:__x.csv"])
def test_a_files_name_is_no_pattern(name: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / name, rows(30))
    write_csv(tmp_path / "a1.csv", rows(40))
    assert sum(table.num_rows for table in own(path).parts.values()) == 30


@pytest.mark.parametrize("kind", ["dangling", "folder", "fifo"])
def test_what_is_called_as_a_part_but_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    """Left out, a part would be held out in its place without a word."""
    (tmp_path / "data").mkdir()
    write_csv(tmp_path / "data" / "train.csv", rows())
    test = tmp_path / "data" / "test.csv"
    {"dangling": lambda: test.symlink_to("nowhere"), "folder": test.mkdir, "fifo": lambda: os.mkfifo(test)}[kind]()
    assert "data/test.csv: has the name of a file, but is none that can be read" in refusal_of(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("validation.jsonl.gz", "its name says validation, but .gz is not read"),
        ("my-test.xlsx", "its name says test, but .xlsx is not read"),
        ("dev", "its name says validation, but its ending is not read"),
    ],
)
def test_a_part_whose_ending_is_not_read_is_never_passed_over(name: str, problem: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_csv(folder / "train.csv", rows())
    (folder / name).write_bytes(b"packed")
    assert refusal_of(folder) == f"data/{name}: {problem}; unpack it, or take it out"


def test_what_lies_beside_the_parts_and_says_none_is_no_matter(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", rows())
    for name in ("README.md", "contest.txt", ".test.swp", "train.log", "test_model.py"):
        (tmp_path / name).write_text("x")
    (tmp_path / "test").mkdir()
    for name in ("test_reading.py", ".hidden"):
        (tmp_path / "test" / name).write_text("x")
    assert sum(table.num_rows for table in own(tmp_path).parts.values()) == 100


@pytest.mark.parametrize("name", ["part-0.csv", "part-0.jsonl.gz", "part-0"])
def test_a_folder_that_says_a_part_is_not_passed_over_beside_files(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "test").mkdir(parents=True)
    write_csv(folder / "train.csv", rows())
    write_csv(folder / "test" / name, rows())
    assert refusal_of(folder) == (
        f"data/test: its name says test, but there are files beside it: {name} is not read; "
        "put all parts into one folder, or take it out"
    )


def test_a_folder_of_folders_is_refused_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "data" / "plain").mkdir(parents=True)
    write_csv(tmp_path / "data" / "plain" / "train.csv", rows())
    assert refusal_of(tmp_path / "data").endswith("; name the folder that has them; there are plain")


@pytest.mark.parametrize("form", FORMS)
def test_dates_in_json_stay_the_text_that_they_are(form: str, tmp_path: Path) -> None:
    some = [
        {"body": f"2020-02-{number % 28 + 1:02}", "queue": f"2020-01-0{number % 2 + 1}", "more": "a\u2028b"}
        for number in range(60)
    ]
    path = tmp_path / "tickets.json"
    path.write_text(FORMS[form](some), encoding="utf-8")
    data = own(path)
    assert data.task.labels == ("2020-01-01", "2020-01-02")
    assert "2020-02-28" in {text for part in data.parts for text in texts(data, part)}


@pytest.mark.parametrize(
    ("early", "late"),
    [({}, {"more": 1}), ({"more": None}, {"more": "x"}), ({"more": 1}, {"more": 1.5}), ({"more": 1}, {"more": "x"})],
    ids=["absent", "null", "whole", "number"],
)
def test_a_column_of_json_may_appear_late_or_change_its_type(
    early: dict[str, Any], late: dict[str, Any], tmp_path: Path
) -> None:
    """The file has more than the ten megabytes of which the types are inferred by default."""
    body, last = "x" * 3_000, 3_900
    some = [
        {"body": f"{n} {body}", "queue": "2020-01-01"} | early if n < last else {"body": body, "queue": "x"} | late
        for n in range(4_000)
    ]
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(map(json.dumps, some)))
    data = own(path)
    assert data.task.labels == ("2020-01-01", "x")
    assert sum(table.num_rows for table in data.parts.values()) == 4_000


def test_a_parquet_file_without_a_row_is_refused(tmp_path: Path) -> None:
    none = pa.array([], pa.string())
    pq.write_table(pa.table({"body": none, "queue": none}), tmp_path / "tickets.parquet")
    assert refusal_of(tmp_path / "tickets.parquet") == "tickets.parquet: no row"


@pytest.mark.parametrize(
    "column", [pa.array([np.float16(number % 2) for number in range(60)]), pa.array(["a", "b"] * 30, pa.string_view())]
)
def test_odd_types_of_parquet_are_labels_like_others(column: pa.Array, tmp_path: Path) -> None:
    body = pa.array([f"text {number}" for number in range(60)], pa.string_view())
    pq.write_table(pa.table({"body": body, "queue": column}), tmp_path / "tickets.parquet")
    assert len(own(tmp_path / "tickets.parquet").task.labels) == 2


def test_a_hub_name_without_a_name_is_refused() -> None:
    assert refusal_of("hub:") == "hub:: names no data set; write hub:NAME, or hub:NAME:CONFIGURATION"
