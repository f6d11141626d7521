"""Tests that files of one's own become a task with three parts, and that wrong ones are refused with place and fix."""

import json
import os
import re
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.data.corpus import OwnData, load
from krona_tune.data.metrics import measure
from krona_tune.data.own_data import load_own
from krona_tune.data.own_examples import sorted_labels
from krona_tune.refusal import Refusal
from krona_tune.study.request.task_spec import TaskSpec

QUEUES = ["billing"] * 6 + ["hardware"] * 3 + ["access"]


def rows(count: int = 100) -> list[dict[str, Any]]:
    return [
        {"id": number, "body": f"text {number}", "queue": QUEUES[number % 10], "customer": f"c{number // 4}"}
        for number in range(count)
    ]


LABELLED = [{"body": f"null {number}", "queue": "null" if number % 2 else "x"} for number in range(40)]


def write_csv(path: Path, some: list[dict[str, Any]], separator: str = ",") -> Path:
    lines = [separator.join(some[0]), *(separator.join(map(str, row.values())) for row in some)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def own(data: Path | str, **keys: Any) -> OwnData:
    spec = TaskSpec.model_validate({"data": str(data), "text": "body", "label": "queue", **keys})
    return load_own("tickets", spec.beside(Path("/")), "tasks.tickets")


def refusal_of(data: Path | str, **keys: Any) -> str:
    with pytest.raises(Refusal) as refused:
        own(data, **keys)
    return str(refused.value).replace(f"{Path(data).parent}/", "")


def texts(data: OwnData, part: str) -> list[str]:
    found: list[str] = data.parts[part]["body"].to_pylist()
    return found


def test_labels_are_found_and_held_out_in_proportion(tmp_path: Path) -> None:
    data = own(write_csv(tmp_path / "tickets.csv", rows(1000)))
    assert data.task.labels == ("access", "billing", "hardware")
    assert {part: table.num_rows for part, table in data.parts.items()} == {
        "train": 700,
        "validation": 150,
        "test": 150,
    }
    for table in data.parts.values():
        shares = np.bincount(table["label"].to_numpy()) / table.num_rows
        np.testing.assert_allclose(shares, [0.1, 0.6, 0.3], atol=0.01)
    assert data.shares == pytest.approx((0.1, 0.6, 0.3), abs=0.01)
    every = [text for part in data.parts for text in texts(data, part)]
    assert Counter(every) == Counter(row["body"] for row in rows(1000))


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


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text("body,queue\n" + "a,x\nb,y\n" * 10, encoding="utf-8-sig")
    assert own(path).task.inputs == ("body",)


def test_a_folder_has_its_parts_by_name(tmp_path: Path) -> None:
    for name, count in {"train-00": 40, "train-01": 20, "dev": 20, "test": 20}.items():
        write_csv(tmp_path / f"{name}.csv", rows(count))
    data = own(tmp_path)
    assert [table.num_rows for table in data.parts.values()] == [60, 20, 20]


def test_a_column_names_the_parts(tmp_path: Path) -> None:
    some = [row | {"part": ["train", "Dev", "test", "train"][n // 10 % 4]} for n, row in enumerate(rows(80))]
    data = own(write_csv(tmp_path / "tickets.csv", some), split={"column": "part"})
    assert [table.num_rows for table in data.parts.values()] == [40, 20, 20]
    assert data.parts["test"].column_names == ["body", "label"]


def test_other_files_are_validation_and_test(tmp_path: Path) -> None:
    for name, count in {"all": 60, "later": 20}.items():
        write_csv(tmp_path / f"{name}.csv", rows(count))
    data = own(tmp_path / "all.csv", split={"test": str(tmp_path / "later.csv"), "validation": 0.25})
    assert [table.num_rows for table in data.parts.values()] == [45, 15, 20]


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_never_divided(seed: int, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", rows(400))
    data = own(path, split={"group": "customer", "seed": seed})
    of = {row["body"]: row["customer"] for row in rows(400)}
    groups = [{of[text] for text in texts(data, part)} for part in data.parts]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 100
    assert abs(data.parts["test"].num_rows - 60) <= 4
    assert not data.warnings


def test_another_seed_draws_another_split_and_the_same_one_the_same(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", rows())
    first, again, other = (texts(own(path, split={"seed": seed}), "test") for seed in (1, 1, 2))
    assert first == again != other


def test_the_only_example_of_a_label_stays_in_train(tmp_path: Path) -> None:
    some = [*rows(), {"id": 100, "body": "alone", "queue": "rare", "customer": "x"}]
    for seed in range(5):
        data = own(write_csv(tmp_path / "tickets.csv", some), split={"seed": seed})
        assert "alone" in texts(data, "train")


def test_duplicates_across_parts_are_said(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", rows(40))
    write_csv(tmp_path / "test.csv", [*rows(3), *({**row, "body": f"new {row['body']}"} for row in rows(10))])
    data = own(tmp_path, split={"validation": 0.1})
    assert any("of the 13 test examples of tickets are also in train, word for word" in said for said in data.warnings)
    assert load(data.task, data).warnings == data.warnings


def test_a_regression_has_its_numbers_and_their_scale(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": n * 1.5} for n in range(100)]
    data = own(write_csv(tmp_path / "prices.csv", some), metric=["pearson", "spearman"])
    labels = data.parts["train"]["label"].to_numpy()
    assert data.task.is_regression
    assert (data.task.centre, data.task.spread) == pytest.approx((labels.mean(), labels.std()))
    assert len(data.task.candidates) == len(data.task.grid) == 26
    assert not data.shares


def test_stars_are_a_regressions_own_grid(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": 1 + n % 5} for n in range(100)]
    data = own(write_csv(tmp_path / "stars.csv", some), metric="spearman")
    assert data.task.candidates == ("1", "2", "3", "4", "5")


def test_weights_words_and_the_positive_label(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": "no" if n % 4 else "alarm"} for n in range(100)]
    path = write_csv(tmp_path / "alarms.csv", some)
    data = own(path, class_weights="balanced", words={"alarm": "fire"}, positive="alarm", metric="f1")
    assert data.task.labels == ("no", "alarm")
    assert data.task.candidates == ("no", "fire")
    assert data.task.class_weights == pytest.approx((2 / 3, 2.0), rel=0.05)
    given = own(path, class_weights={"alarm": 3})
    assert given.task.class_weights == (3.0, 1.0)


def test_classes_of_a_parquet_file_have_the_names_that_it_stores(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"body": datasets.Value("string"), "queue": datasets.ClassLabel(names=["x", "y"])})
    some = datasets.Dataset.from_dict({"body": [f"t{n}" for n in range(40)], "queue": [0, 1] * 20}, features)
    some.to_parquet(tmp_path / "train.parquet")
    assert own(tmp_path).task.labels == ("x", "y")


def test_an_own_metric_gets_labels_and_answers(tmp_path: Path) -> None:
    (tmp_path / "costs.py").write_text(
        "def cost(labels, answers):\n    return 3.0 * ((labels == 'access') & (answers != 'access')).sum()\n"
    )
    path = write_csv(tmp_path / "tickets.csv", rows())
    spec = TaskSpec.model_validate(
        {"data": "tickets.csv", "text": "body", "label": "queue", "metric": "costs:cost", "direction": "lower"}
    )
    task = load_own("tickets", spec.beside(tmp_path), "tasks.tickets").task
    assert measure(task, np.array([1, 1, 0, 0]), np.array([0, 1, 0, 1])) == {"cost": 3.0, "score": -3.0}
    of_sklearn = own(path, metric=["accuracy", "sklearn.metrics:balanced_accuracy_score"]).task
    measured = measure(of_sklearn, np.array([1, 1, 1, 1]), np.array([1, 1, 1, 0]))
    assert measured == {"accuracy": 0.75, "balanced_accuracy_score": 0.5, "score": 0.625}


def test_a_function_that_has_no_value_on_many_draws_of_validation_labels_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text("def judge(labels, answers):\n    return 1 / list(labels).count('access')\n")
    path = write_csv(tmp_path / "tickets.csv", rows(100))
    _few, warning = own(path, metric=f"{tmp_path}/judge.py:judge").warnings
    assert warning.startswith(
        "finalists of tickets, tried on its validation labels: no interval: tasks.tickets.metric: no value for "
    )
    assert own(path, split={"validation": 60, "test": 20}, metric=f"{tmp_path}/judge.py:judge").warnings == ()


def test_a_function_that_is_too_slow_for_all_draws_is_warned_of_without_trying_them(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(
        "import time\n\ndef judge(labels, answers):\n    time.sleep(0.1)\n    return 1\n"
    )
    path = write_csv(tmp_path / "tickets.csv", rows(200))
    [warning] = own(path, metric=f"{tmp_path}/judge.py:judge").warnings
    assert re.search(r"no interval: a call takes 0\.\d+ s, 500 of them have 30 s$", warning)


def broken(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


FILE = "body,queue\n" + "a,x\nb,y\n" * 10
WRONG_FILES = [
    ("text,queue\na,x\n", "tickets.csv: no column 'body'; found text, queue; name one of them"),
    ("body,body,queue\na,b,x\n", "tickets.csv: the column 'body' appears 2 times; leave one of them"),
    ("", "tickets.csv: the file is empty"),
    ("body,queue\n", "tickets.csv: no row"),
    ("body,queue\na,x\nb,x\n", "tickets.csv: queue: every example has the label 'x'; two or more are needed"),
    (FILE + " ,x\n", "tickets.csv: body: 1 row has no text, the first is row 21; fill it in, or take it out"),
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


WRONG_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"metric": "f2"}, "tasks.tickets.metric: unknown metric 'f2', did you mean 'f1'?"),
    ({"metric": "f1"}, "tasks.tickets.metric: f1 is about one of two labels, there are 3; write macro_f1"),
    (
        {"metric": ["accuracy", "pearson"]},
        "tasks.tickets.metric: accuracy is of labels, not of numbers; choose metrics of one kind",
    ),
    ({"metric": "pearson"}, "tickets.csv: queue: row 1: 'billing' is not a number to 1e+30; write a number there"),
    (
        {"metric": "nowhere:cost"},
        "tasks.tickets.metric: nowhere:cost can't be imported (ModuleNotFoundError: No module named 'nowhere'); "
        "write MODULE:FUNCTION, or FILE.py:FUNCTION beside the YAML file",
    ),
    (
        {"metric": "math:sqrt"},
        "tasks.tickets.metric: math:sqrt failed "
        "(TypeError: math.sqrt() takes exactly one argument (2 given)); "
        "it takes labels and answers, and returns a number",
    ),
    (
        {"direction": "lower"},
        "tasks.tickets.direction: lower is about one MODULE:FUNCTION, accuracy has 0; "
        "leave it out, or write one function",
    ),
    ({"positive": "biling"}, "tasks.tickets.positive: unknown label 'biling', did you mean 'billing'?"),
    ({"class_weights": {"acces": 2}}, "tasks.tickets.class_weights: unknown label 'acces', did you mean 'access'?"),
    (
        {"words": {"access": "billing"}},
        "tasks.tickets.words: billing, billing, hardware are not different words; give each label its own",
    ),
    (
        {"split": {"validation": 60, "test": 40}},
        "tasks.tickets.split: 40 for test and 60 for validation of 100 examples leave none to train; hold out fewer",
    ),
    (
        {"split": {"test": "/nowhere/test.csv"}},
        "/nowhere/test.csv: no such file or folder; paths are relative to the YAML file that names them",
    ),
    (
        {"split": {"group": "customer", "validation": 2, "test": 0.2}},
        "tasks.tickets.split.group: no value of customer has so few examples that 2 for validation can be held out; "
        "hold out more, or leave group out",
    ),
    ({"split": {"column": "id"}}, "tickets.csv: id: '0' is no part; write train, validation or test in each row"),
]


@pytest.mark.parametrize(("keys", "message"), WRONG_KEYS, ids=[str(keys) for keys, _ in WRONG_KEYS])
def test_a_wrong_key_is_refused_with_its_place(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert refusal_of(write_csv(tmp_path / "tickets.csv", rows()), **keys) == message


def test_a_metric_file_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "costs.py")
    write_csv(tmp_path / "tickets.csv", rows())
    asked = {"data": "tickets.csv", "text": "body", "label": "queue", "metric": "costs:cost"}
    with pytest.raises(Refusal, match=r"tasks.tickets.metric: .*/costs.py is no regular file; name a file of Python"):
        load_own("tickets", TaskSpec.model_validate(asked).beside(tmp_path), "tasks.tickets")


def test_a_label_that_train_lacks_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", rows(40))
    write_csv(tmp_path / "test.csv", [*rows(4), {"id": 9, "body": "b", "queue": "sales", "customer": "c"}])
    assert refusal_of(tmp_path / "train.csv", split={"test": str(tmp_path / "test.csv")}) == (
        "test.csv: queue: row 5: the label 'sales' of a test example is that of no training example; "
        "correct it, add training examples of it, or hold others out with split.seed"
    )


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


def test_a_data_set_of_the_hub_has_its_splits_and_the_names_of_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features({"body": datasets.Value("string"), "queue": datasets.ClassLabel(names=["x", "y"])})
    made = {
        split: datasets.Dataset.from_dict(
            {"body": [f"{split} {n}" for n in range(count)], "queue": [0, 1] * (count // 2)}, features
        )
        for split, count in {"train": 40, "validation_matched": 10, "extra": 6, "test": 20}.items()
    }
    asked: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *words: asked.append(words) or datasets.DatasetDict(made))
    data = own("hub:someone/tickets:small")
    assert asked == [("someone/tickets", "small")]
    assert [table.num_rows for table in data.parts.values()] == [40, 10, 20]
    assert data.task.labels == ("x", "y")


def test_a_hub_that_can_not_be_reached_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*words: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    assert refusal_of("hub:tickets") == (
        "hub:tickets: can't be fetched (ConnectionError: no network); "
        "give a folder with its files, or check its name and the network"
    )


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


@pytest.mark.parametrize("seed", range(8))
def test_a_large_group_is_passed_over_where_it_does_not_fit(seed: int, tmp_path: Path) -> None:
    some = [row | {"customer": "large" if n < 900 else f"c{n}"} for n, row in enumerate(rows(1000))]
    path = write_csv(tmp_path / "tickets.csv", some)
    data = own(path, split={"group": "customer", "validation": 0.04, "test": 0.04, "seed": seed})
    assert [table.num_rows for table in data.parts.values()] == [920, 40, 40]


def test_a_file_that_changed_under_its_old_date_is_read_again(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", rows())
    before, date = own(path), path.stat()
    write_csv(path, [row | {"body": f"new {row['body']}"} for row in rows()])
    os.utime(path, ns=(date.st_atime_ns, date.st_mtime_ns))
    assert texts(before, "test")[0].startswith("text")
    assert all(text.startswith("new text") for text in texts(own(path), "test"))


@pytest.mark.parametrize("names", [("my_train", "my_test"), ("reviews-train-2024", "reviews-test-2024")])
def test_a_files_part_is_any_word_of_its_name(names: tuple[str, str], tmp_path: Path) -> None:
    for name, count in zip(names, (40, 20), strict=True):
        write_csv(tmp_path / f"{name}.csv", rows(count))
    (tmp_path / ".~lock.train.csv").write_text("x")
    assert own(tmp_path, split={"validation": 10}).parts["test"].num_rows == 20


ODD = [
    (["a", True], "no label"),
    ([{"x": 1}, {"x": 2}], "no label"),
    ([1e300, 2e300], "is no name of a label"),
    ([1.5, 2.5], "for numbers as labels write metric: pearson"),
]


@pytest.mark.parametrize(("labels", "message"), ODD, ids=[str(labels) for labels, _ in ODD])
def test_labels_of_an_odd_kind_are_refused(labels: list[Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(json.dumps({"body": f"t{n}", "queue": labels[n % 2]}) for n in range(20)))
    assert message in refusal_of(path)


@pytest.mark.parametrize("numbers", [["7", "7"], ["1", "1e300"], ["1", "inf"], ["1", "1_000"]])
def test_numbers_that_can_not_be_learned_are_refused(numbers: list[str], tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": numbers[n % 2]} for n in range(40)]
    assert "tickets.csv: queue" in refusal_of(write_csv(tmp_path / "tickets.csv", some), metric="pearson")


def test_regression_without_a_metric_is_judged_by_pearson(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": n} for n in range(40)]
    assert own(write_csv(tmp_path / "tickets.csv", some), regression=True).task.metrics == ("pearson",)


def test_the_positive_label_may_be_yamls_true(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": str(n % 3 == 0)} for n in range(40)]
    data = own(write_csv(tmp_path / "tickets.csv", some), metric="f1", positive=True)
    assert data.task.labels == ("False", "True")


def labelled(path: Path, *labels: str, each: int = 80) -> Path:
    """Writes a file that has each label as often."""
    return write_csv(path, [{"body": f"text {n} {label[:9]}", "queue": label} for n in range(each) for label in labels])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("Access", "access", "billing"), "the labels 'Access' and 'access' differ only in upper and lower case"),
        (("1", "1.0", "01"), "the labels '01' and '1' (and 1 more) differ only in how a number is written"),
        (("caf\u00e9", "cafe\u0301"), "differ only in blanks, or in how their letters are encoded"),
        (("a b", "a  b"), "differ only in blanks, or in how"),
        (("ab", "a\u200bb"), "differ only in blanks, or in how"),
        (("a", "x y" * 4_000), "a label of tickets has 12,000 characters, 'x yx y"),
    ],
    ids=["case", "numbers", "encoding", "blanks", "unseen", "long"],
)
def test_labels_that_may_mean_one_thing_or_be_a_text_are_doubted(
    labels: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    [warning] = own(labelled(tmp_path / "tickets.csv", *labels)).warnings
    assert said in warning
    assert len(warning) < 400
    assert own(labelled(tmp_path / "plain.csv", "access", "billing")).warnings == ()


def test_labels_that_a_part_lacks_are_said(tmp_path: Path) -> None:
    some = [*rows(200), {**rows()[0], "queue": "queue"}, {**rows()[0], "body": "new", "queue": "total"}]
    warnings = own(write_csv(tmp_path / "tickets.csv", some)).warnings
    assert [each for each in warnings if each.startswith("no ")] == [
        "no validation example of tickets has 2 of the 5 labels, such as 'queue'",
        "no test example of tickets has 2 of the 5 labels, such as 'queue'",
    ]


def test_labels_of_one_number_have_one_order() -> None:
    for labels in permutations(["1", "1.0", "01", "0"]):
        assert sorted_labels(labels) == ["0", "01", "1", "1.0"]


@pytest.mark.parametrize(
    ("count", "split", "said"),
    [
        (6, {}, "4 train, 1 validation, 1 test"),
        (3, {}, "1 train, 1 validation, 1 test"),
        (200, {"test": 1e-9}, "1 test"),
        (200, {"test": 1}, "1 test"),
        (200, {"validation": 0.05, "test": 50}, "10 validation"),
    ],
)
def test_parts_that_are_too_small_are_doubted(count: int, split: dict[str, Any], said: str, tmp_path: Path) -> None:
    some = [{"body": f"text {number}", "queue": "2.5" if number % 2 else "1.5"} for number in range(count)]
    warnings = own(write_csv(tmp_path / "tickets.csv", some), split=split, regression=True).warnings
    assert warnings[0] == f"tickets has only {said} examples: with so few, scores are mostly chance"


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_share_of_all_examples_is_refused_and_one_example_is_not(part: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", rows())
    assert refusal_of(path, split={part: 1.0}) == (
        f"tasks.tickets.split.{part}: 1.0 is no share: a share is below 1; "
        "write 1 for one example, or a share such as 0.15"
    )
    assert own(path, split={part: 1}).parts[part].num_rows == 1
    assert own(path, split={part: 20.0}).parts[part].num_rows == 20


def test_two_files_that_may_hold_the_same_examples_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", rows())
    write_csv(tmp_path / "train.tsv", rows(), "\t")
    assert "train.csv and train.tsv may hold the same examples; take one out" in refusal_of(tmp_path)


def test_a_refusal_shows_no_long_label_whole(tmp_path: Path) -> None:
    path = labelled(tmp_path / "tickets.csv", *(f"{letter} y" * 4_000 for letter in "abc"))
    for keys in ({"positive": "d"}, {"words": {"e": "f"}}, {"class_weights": {"a y" * 4_000 + "z": 2}}):
        assert len(refusal_of(path, **keys)) < 1_000


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
    """Reading it would end the process by a fault of memory."""
    path = tmp_path / "tickets.json"
    path.write_text(content, encoding="utf-8")
    assert refusal_of(path) == f"tickets.json: row {row} is null, not an example; take it out"


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


def test_a_folder_of_folders_is_refused_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "data" / "plain").mkdir(parents=True)
    write_csv(tmp_path / "data" / "plain" / "train.csv", rows())
    assert refusal_of(tmp_path / "data").endswith("; name the folder that has them; there are plain")


@pytest.mark.parametrize("listed", [False, True], ids=["lines", "list"])
def test_dates_in_json_stay_the_text_that_they_are(listed: bool, tmp_path: Path) -> None:
    some = [
        {"body": f"2020-02-{number % 28 + 1:02}", "queue": f"2020-01-0{number % 2 + 1}", "more": "a\u2028b"}
        for number in range(60)
    ]
    path = tmp_path / "tickets.json"
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in some)
    path.write_text(json.dumps(some, indent=1) if listed else lines, encoding="utf-8")
    data = own(path)
    assert data.task.labels == ("2020-01-01", "2020-01-02")
    assert "2020-02-28" in {text for part in data.parts for text in texts(data, part)}


def test_a_text_late_among_dates_in_json_is_refused_in_words(tmp_path: Path) -> None:
    """The file has more than one of the blocks that are read at once."""
    queues = ["2020-01-01"] * 3_700 + ["x"] * 300
    some = [{"body": f"{number} {'x' * 3_000}", "queue": queue} for number, queue in enumerate(queues)]
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(map(json.dumps, some)))
    assert refusal_of(path).startswith("tickets.jsonl: a column holds dates at first, later other texts")


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


def test_a_share_beside_a_column_that_names_the_part_is_said_to_be_unused(tmp_path: Path) -> None:
    some = [{**row, "part": "test" if row["id"] % 50 < 10 else "train"} for row in rows()]
    data = own(write_csv(tmp_path / "tickets.csv", some), split={"column": "part", "test": 0.4, "validation": 30})
    assert data.warnings == ("split.test of tickets, 0.4, is not used: the column part names test examples",)
    assert (data.parts["test"].num_rows, data.parts["validation"].num_rows) == (20, 30)


def test_numbers_that_differ_late_have_words_of_their_own(tmp_path: Path) -> None:
    close = own(write_csv(tmp_path / "close.csv", stars(100_000, 1e-3)), metric="pearson").task
    assert close.words == ("100000", "100000.001", "100000.002", "100000.003", "100000.004")
    assert own(write_csv(tmp_path / "far.csv", stars(0, 0.5)), metric="pearson").task.words == (
        "0", "0.5", "1", "1.5", "2",
    )  # fmt: skip


def stars(low: float, step: float) -> list[dict[str, Any]]:
    return [{"body": f"text {number}", "queue": repr(low + number % 5 * step)} for number in range(200)]


def test_a_title_is_one_line_that_a_terminal_can_show(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", rows())
    assert own(path, title="All\n my\x1b[31m tickets ").task.title == "All my [31m tickets"
    assert own(path, title="\n").task.title == "tickets"


def test_a_hub_name_without_a_name_is_refused() -> None:
    assert refusal_of("hub:") == "hub:: names no data set; write hub:NAME, or hub:NAME:CONFIGURATION"
