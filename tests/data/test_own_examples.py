"""Tests which texts and labels of one's own files are examples, and which are refused or doubted."""

import json
import math
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.data.corpus import PARTS, find_warnings, load
from krona_tune.data.own_examples import doubt_labels, sorted_labels
from tests.data.own_tickets import labelled, own, refusal_of, rows, write_csv


def test_a_label_that_train_lacks_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", rows(40))
    write_csv(tmp_path / "test.csv", [*rows(4), {"id": 9, "body": "b", "queue": "sales", "customer": "c"}])
    assert refusal_of(tmp_path / "train.csv", split={"test": str(tmp_path / "test.csv")}) == (
        "test.csv: queue: row 5: the label 'sales' of a test example is that of no training example; "
        "correct it, add training examples of it, or hold others out with split.seed"
    )


def test_a_label_that_train_lacks_is_found_in_the_second_of_two_files(tmp_path: Path) -> None:
    odd = {"id": 9, "body": "b", "queue": "sales", "customer": "c"}
    for name, some in {"train": rows(40), "test-0": rows(9), "test-1": [*rows(4), odd]}.items():
        write_csv(tmp_path / f"{name}.csv", some)
    assert "test-1.csv: queue: row 5: the label 'sales'" in refusal_of(tmp_path)


def test_more_than_two_gibibytes_of_text_have_a_type_of_their_own(tmp_path: Path) -> None:
    """Of a column of `pa.string()` with so much text no rows can be taken, which a quick test can't show."""
    table = pa.Table.from_pylist(rows(40)).cast(
        pa.schema([("id", pa.int64()), ("body", pa.string()), ("queue", pa.string()), ("customer", pa.string())])
    )
    pq.write_table(table, tmp_path / "tickets.parquet")
    for answer, kind in (({"label": "queue"}, pa.int64()), ({"label": None, "target": "queue"}, pa.large_string())):
        for part in own(tmp_path / "tickets.parquet", **answer).parts.values():
            assert part.schema.types == [pa.large_string(), kind]


def test_numbers_in_one_file_and_words_in_another_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", rows(40))
    write_csv(tmp_path / "test.csv", [row | {"queue": n % 3} for n, row in enumerate(rows(40))])
    assert refusal_of(tmp_path / "train.csv", split={"test": str(tmp_path / "test.csv")}) == (
        "test.csv: queue: its labels are numbers, those of train.csv are words; write the same labels in all files"
    )


def test_lists_are_refused_by_the_name_of_their_task(tmp_path: Path) -> None:
    several = tmp_path / "several.jsonl"
    several.write_text("\n".join(json.dumps(row | {"queue": ["a", "b"]}) for row in rows(10)))
    assert "multi-label classification is not supported" in refusal_of(several)
    tokens = tmp_path / "tokens.jsonl"
    tokens.write_text("\n".join(json.dumps(row | {"body": ["a", "b"]}) for row in rows(10)))
    assert "token labelling is not supported" in refusal_of(tokens)


def test_a_text_column_called_label_is_an_input_too(tmp_path: Path) -> None:
    some = [{"label": f"text {n}", "queue": n % 2} for n in range(40)]
    data = own(write_csv(tmp_path / "tickets.csv", some), text="label")
    assert data.task.inputs == ("text",)
    assert data.parts["train"].column_names == ["text", "label"]


def test_a_second_text_called_label_replaces_no_other(tmp_path: Path) -> None:
    some = [{"text": f"text {n}", "label": f"second {n}", "queue": n % 2} for n in range(40)]
    data = own(write_csv(tmp_path / "tickets.csv", some), text=["text", "label"])
    assert data.task.inputs == ("text", "text2")
    first = data.parts["train"].slice(0, 1).to_pylist()[0]
    assert first["text"].replace("text", "second") == first["text2"]


@pytest.mark.parametrize("name", ["group", "part"])
def test_a_text_may_be_called_like_what_divides_the_examples(name: str, tmp_path: Path) -> None:
    keys = (name, "queue", "user", "fold")
    some = [dict(zip(keys, (f"text {n}", n % 2, f"u{n // 4}", PARTS[n // 4 % 3]), strict=True)) for n in range(60)]
    path = write_csv(tmp_path / "tickets.csv", some)
    for split in ({"group": "user"}, {"column": "fold"}, {"column": "fold", "group": "user"}):
        data = own(path, text=name, split=split)
        found = {text for table in data.parts.values() for text in table[name].to_pylist()}
        assert found == {f"text {n}" for n in range(60)}
        assert not any("word for word" in said or "user" in said for said in data.warnings)


def test_a_hidden_test_set_of_the_hub_is_refused(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"body": datasets.Value("string"), "queue": datasets.ClassLabel(names=["x", "y"])})
    for part, labels in (("train", [0, 1] * 20), ("test", [-1] * 10)):
        some = {"body": [f"{part} {n}" for n in range(len(labels))], "queue": labels}
        datasets.Dataset.from_dict(some, features).to_parquet(tmp_path / f"{part}.parquet")
    assert refusal_of(tmp_path).endswith(
        "queue: 10 rows have no label, the first is row 1; "
        "if it is the test part, hold another one out with split: {test: 0.15}"
    )
    assert own(tmp_path, split={"test": 0.25}).parts["test"].num_rows == 10


def test_a_class_that_has_no_name_is_refused_with_its_row(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"body": datasets.Value("string"), "queue": datasets.ClassLabel(names=["no", "yes"])})
    some = datasets.Dataset.from_dict({"body": [f"t{n}" for n in range(40)], "queue": [0, 1] * 20}, features)
    table = some.data.table.set_column(1, "queue", pa.array([0, 1, 0, 2] * 10, pa.int64()))
    pq.write_table(table, tmp_path / "tickets.parquet")
    assert refusal_of(tmp_path / "tickets.parquet") == (
        "tickets.parquet: queue: row 4: 2 has no name: the file has those of 2 classes, from 0; "
        "correct it, or store the names of all classes"
    )


ODD = [
    (["a", True], "tickets.jsonl: queue: row 2: holds true, row 1 holds 'a': they are of different kinds"),
    ([{"x": 1}, {"y": "a"}], "tickets.jsonl: queue: holds objects, not one label a row"),
    ([{"x": 1}, {"x": 2}], "holds objects, not one label a row"),
    ([1.0, math.nan], "10 rows have no label, the first is row 2; fill it in"),
    ([1e300, 2e300], "is no name of a label"),
    ([1.5, 2.5], "for numbers as labels write metric: pearson"),
]


@pytest.mark.parametrize(("labels", "message"), ODD, ids=[str(labels) for labels, _ in ODD])
def test_labels_of_an_odd_kind_are_refused(labels: list[Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(json.dumps({"body": f"t{n}", "queue": labels[n % 2]}) for n in range(20)))
    assert message in refusal_of(path)


def test_a_table_that_pandas_writes_by_columns_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "tickets.json"
    path.write_text(json.dumps({name: {str(n): "text" for n in range(300)} for name in ("body", "queue")}))
    assert refusal_of(path) == (
        "tickets.json: body: holds objects, not one text a row; name a column with texts, "
        "or write one object a line: to_json(orient='records', lines=True)"
    )


def test_a_table_of_lists_is_refused_with_how_to_write_it(tmp_path: Path) -> None:
    path = tmp_path / "tickets.json"
    path.write_text(json.dumps({name: ["one", "two"] * 50 for name in ("body", "queue")}))
    assert refusal_of(path).startswith("tickets.json: body: holds a list, not one text a row; write one object a line")


def test_a_number_that_train_lacks_may_be_no_label_at_all(tmp_path: Path) -> None:
    numbers = [{"body": f"text {n}", "queue": f"{n / 7:.3f}"} for n in range(60)]
    said = refusal_of(write_csv(tmp_path / "tickets.csv", numbers))
    assert "is that of no training example; for numbers as labels write metric: pearson" in said


def test_numbers_with_a_decimal_comma_are_told_from_names(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    numbers = (f"{n / 7:.3f}".replace(".", ",") for n in range(60))
    path.write_text("body;queue\n" + "".join(f"text {each};{each}\n" for each in numbers), encoding="utf-8")
    assert "for numbers as labels write metric: pearson" in refusal_of(path)
    assert refusal_of(path, metric="pearson") == (
        "tickets.csv: queue: row 1: '0,000' has a decimal comma; write a point in its place, in all rows"
    )


@pytest.mark.parametrize("numbers", [["7", "7"], ["1", "1e300"], ["1", "inf"], ["1", "1_000"]])
def test_numbers_that_can_not_be_learned_are_refused(numbers: list[str], tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": numbers[n % 2]} for n in range(40)]
    assert "tickets.csv: queue" in refusal_of(write_csv(tmp_path / "tickets.csv", some), metric="pearson")


@pytest.mark.parametrize("decimals", [1.25, 3.0])
def test_decimal_numbers_of_a_database_are_numbers_and_whole_ones_are_labels(tmp_path: Path, decimals: float) -> None:
    prices = pa.array([decimals, 2.0] * 20, pa.float64()).cast(pa.decimal128(9, 2))
    table = pa.table({"body": [f"text {n}" for n in range(40)], "queue": prices})
    pq.write_table(table, tmp_path / "tickets.parquet")
    assert own(tmp_path / "tickets.parquet", regression=True).task.grid[0] == min(decimals, 2.0)
    if decimals == 3.0:
        assert own(tmp_path / "tickets.parquet").task.labels == ("2", "3")
    else:
        assert "1.25 is no name of a label" in refusal_of(tmp_path / "tickets.parquet", metric="accuracy")


def test_numbers_are_judged_over_all_training_examples(tmp_path: Path) -> None:
    for name, number in {"train-0": 1.5, "train-1": 2.5, "dev": 2.5, "test": 1.5}.items():
        count = 1 if name == "test" else 40
        write_csv(tmp_path / f"{name}.csv", [{"body": f"{name} {n}", "queue": number} for n in range(count)])
    data = own(tmp_path, regression=True)
    assert data.task.centre == 2
    said = list(find_warnings(load(data.task, data)))
    assert "the 40 validation examples of tickets all have the score 2.5" in said
    (tmp_path / "train-1.csv").unlink()
    assert refusal_of(tmp_path, regression=True).endswith(
        "train-0.csv: queue: every training example has the label 1.5; add others, or divide them otherwise"
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("Access", "access", "billing"), "the labels 'Access' and 'access' differ only in upper and lower case"),
        (("1", "1.0", "01"), "the labels '01' and '1' (and 1 more) differ only in how a number is written"),
        (("caf\u00e9", "cafe\u0301"), "differ only in blanks, or in how their letters are encoded"),
        (("a b", "a  b"), "differ only in blanks, or in how"),
        (("Yes", "yes "), "the labels 'Yes' and 'yes ' differ only in upper and lower case, and in blanks"),
        (("ab", "a\u200bb"), "differ only in blanks, or in how"),
        (("False", "True"), "True and False as labels, so called in CSV, and 'false' and 'true' in JSON or"),
        (("0.0", "1.0"), "has whole numbers with a point as labels, so called in CSV, and '0' and '1' in"),
        (
            ("0.5", "1.5"),
            "has numbers such as 0.5 for names of labels, which JSON and Parquet refuse unless as texts; for",
        ),
        ((" a", " b"), "every label of tickets begins or ends with a blank, such as ' a'"),
        (("a", "x y" * 4_000), "a label of tickets has 12,000 characters, 'x yx y"),
    ],
    ids=[
        "case",
        "numbers",
        "encoding",
        "blanks",
        "case and blanks",
        "unseen",
        "truths",
        "floats",
        "fractions",
        "outer blanks",
        "long",
    ],
)
def test_labels_that_may_mean_one_thing_or_be_a_text_are_doubted(
    labels: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    [warning] = own(labelled(tmp_path / "tickets.csv", *labels)).warnings
    assert said in warning
    assert len(warning) < 400
    assert own(labelled(tmp_path / "plain.csv", "access", "billing")).warnings == ()


def test_long_numbers_that_differ_in_a_digit_are_two_labels() -> None:
    assert list(doubt_labels(["9007199254740992", "9007199254740993"], "tickets")) == []
    assert list(doubt_labels(["0e1234567890123456789012345", "7"], "tickets")) == [], "an exponent beyond any decimal"
    [warning] = doubt_labels(["9007199254740993", "9007199254740993.0"], "tickets")
    assert "differ only in how a number is written" in warning


def test_labels_that_a_part_lacks_are_said(tmp_path: Path) -> None:
    some = [*rows(200), {**rows()[0], "queue": "queue"}, {**rows()[0], "body": "new", "queue": "total"}]
    data = own(write_csv(tmp_path / "tickets.csv", some))
    assert [each for each in load(data.task, data).warnings if each.startswith("no ")] == [
        "no validation example of tickets has 2 of the 5 labels, such as 'queue'",
        "no test example of tickets has 2 of the 5 labels, such as 'queue'",
    ]


def test_labels_of_one_number_have_one_order() -> None:
    for labels in permutations(["1", "1.0", "01", "0"]):
        assert sorted_labels(labels) == ["0", "01", "1", "1.0"]
