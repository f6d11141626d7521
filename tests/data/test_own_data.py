"""Tests that files of one's own become three parts, drawn by a seed, a label or a group, and what is doubted."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from krona_tune.data.corpus import load
from tests.data.own_tickets import own, refusal_of, rows, texts, write_csv


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


def without_a_group(some: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "customer"} for row in some]


def test_a_group_is_asked_only_of_the_examples_that_others_are_held_out_of(tmp_path: Path) -> None:
    later = write_csv(tmp_path / "later.csv", without_a_group(rows(40)))
    (tmp_path / "data").mkdir()
    train = write_csv(tmp_path / "data" / "train.csv", rows(80))
    assert own(train, split={"group": "customer", "test": str(later)}).parts["test"].num_rows == 40
    later.rename(tmp_path / "data" / "test-1.csv")
    assert own(tmp_path / "data", split={"group": "customer"}).parts["test"].num_rows == 40
    write_csv(tmp_path / "data" / "test-0.csv", rows(20))
    assert own(tmp_path / "data", split={"group": "customer"}).parts["test"].num_rows == 60
    (tmp_path / "data" / "test-1.csv").unlink()
    warnings = own(tmp_path / "data", split={"group": "customer"}).warnings
    assert "test examples of tickets have a customer that is also in" in warnings[-1]
    write_csv(train, without_a_group(rows(80)))
    assert "train.csv: no column 'customer'; found id, body, queue" in refusal_of(train, split={"group": "customer"})


def test_groups_that_are_in_two_parts_are_told_of_however_the_other_part_is_written(tmp_path: Path) -> None:
    train, exam = write_csv(tmp_path / "train.csv", rows(80)), write_csv(tmp_path / "exam.csv", rows(20))
    written: list[Any] = [str(exam), {"data": str(exam)}, {"data": str(exam), "text": "body"}]
    said = [own(train, split={"group": "customer", "test": test}).warnings for test in written]
    assert said[0] == said[1] == said[2]
    assert "test examples of tickets have a customer that is also in" in said[0][-1]
    write_csv(exam, without_a_group(rows(20)))
    assert own(train, split={"group": "customer", "test": written[2]}).parts["test"].num_rows == 20


def test_groups_of_one_of_a_parts_files_are_told_of(tmp_path: Path) -> None:
    for name, some in {"train": rows(80), "test-0": rows(40), "test-1": without_a_group(rows(4))}.items():
        write_csv(tmp_path / f"{name}.csv", some)
    data = own(tmp_path, split={"group": "customer"})
    assert data.parts["test"].num_rows == 44
    assert "test examples of tickets have a customer that is also in train" in " ".join(data.warnings)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            "c7 ",
            "the customer 'c7' and 'c7 ' differ only in blanks, or in how their letters are encoded: if they are one",
        ),
        ("C7", ""),
    ],
)
def test_groups_that_may_be_one_are_told_of(tmp_path: Path, other: str, said: str) -> None:
    some = rows(100)
    some[30]["customer"] = other
    assert some[29]["customer"] == "c7"
    data = own(write_csv(tmp_path / "tickets.csv", some), split={"group": "customer"})
    assert " ".join(data.warnings).startswith(said)
    assert bool(data.warnings) == bool(said)


def test_numbers_that_are_written_otherwise_in_a_part_elsewhere_may_be_one_group(tmp_path: Path) -> None:
    numbered = [row | {"customer": number // 4} for number, row in enumerate(rows(80))]
    train = write_csv(tmp_path / "train.csv", numbered)
    later = write_csv(tmp_path / "later.csv", [row | {"customer": f"{row['customer']}.0"} for row in numbered[:20]])
    said = " ".join(own(train, split={"group": "customer", "test": str(later)}).warnings)
    assert "differ only in how a number is written: if they are one group of tickets, write them alike" in said


def test_a_part_elsewhere_may_have_gaps_among_its_groups(tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", rows(80))
    some = [row | {"customer": "" if number % 3 else row["customer"]} for number, row in enumerate(rows(40))]
    later = write_csv(tmp_path / "later.csv", some)
    whole = own(train, split={"group": "customer", "test": str(later)})
    assert whole.parts["test"].num_rows == 40
    assert "test examples of tickets have a customer that is also in train" in " ".join(whole.warnings)
    write_csv(train, some)
    assert "have no group, the first is row" in refusal_of(train, split={"group": "customer"})


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_is_taken_from_data_that_have_no_other(part: str, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", rows(80))
    (tmp_path / "exam").mkdir()
    write_csv(tmp_path / "exam" / f"{part}.csv", rows(40))
    assert own(train, split={part: str(tmp_path / "exam")}).parts[part].num_rows == 40
    assert "exam: no training file; found" in refusal_of(tmp_path / "exam")


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
    assert load(data.task, data).warnings[: len(data.warnings)] == data.warnings


@pytest.mark.parametrize("seed", range(8))
def test_a_large_group_is_passed_over_where_it_does_not_fit(seed: int, tmp_path: Path) -> None:
    some = [row | {"customer": "large" if n < 900 else f"c{n}"} for n, row in enumerate(rows(1000))]
    path = write_csv(tmp_path / "tickets.csv", some)
    data = own(path, split={"group": "customer", "validation": 0.04, "test": 0.04, "seed": seed})
    assert [table.num_rows for table in data.parts.values()] == [920, 40, 40]


@pytest.mark.parametrize("large", [(400, 400), (300, 300, 300)])
def test_small_groups_are_shared_by_the_parts_where_large_ones_fit_into_none(
    large: tuple[int, ...], tmp_path: Path
) -> None:
    groups = [f"large {number}" for number, count in enumerate(large) for _ in range(count)]
    groups += [f"small {number}" for number in range(1000 - len(groups))]
    some = [row | {"customer": group} for row, group in zip(rows(1000), groups, strict=True)]
    data = own(write_csv(tmp_path / "tickets.csv", some), split={"group": "customer"})
    train, validation, test = (table.num_rows for table in data.parts.values())
    assert train + validation + test == 1000
    assert min(validation, test) >= 45
    assert abs(validation - test) <= 60


@pytest.mark.parametrize(
    ("count", "split", "said"),
    [
        (6, {}, "4 train, 1 validation, 1 test"),
        (4, {}, "2 train, 1 validation, 1 test"),
        (200, {"test": 1e-9}, "1 test"),
        (200, {"test": 1}, "1 test"),
        (200, {"validation": 0.05, "test": 50}, "10 validation"),
    ],
)
def test_parts_that_are_too_small_are_doubted(count: int, split: dict[str, Any], said: str, tmp_path: Path) -> None:
    some = [{"body": f"text {number}", "queue": f"{number}.5"} for number in range(count)]
    data = own(write_csv(tmp_path / "tickets.csv", some), split=split, regression=True)
    [*_, last] = load(data.task, data).warnings
    assert last == f"tickets has only {said} examples: with so few, scores are mostly chance"


def test_parts_of_which_few_examples_are_used_are_doubted_as_small_ones_are(tmp_path: Path) -> None:
    data = own(write_csv(tmp_path / "tickets.csv", rows(400)))
    assert load(data.task, data).warnings == ()
    few = load(data.task, data, train_examples=200, validation_examples=2, test_examples=19)
    first, *lacking = few.warnings
    assert first == "tickets has only 2 validation, 19 test examples: with so few, scores are mostly chance"
    assert [said.partition(" of tickets has ")[0] for said in lacking] == ["no validation example"]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_share_of_all_examples_is_refused_and_one_example_is_not(part: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", rows())
    assert refusal_of(path, split={part: 1.0}) == (
        f"tasks.tickets.split.{part}: 1.0 is no share: a share is below 1; "
        "write 1 for one example, or a share such as 0.15"
    )
    assert own(path, split={part: 1}).parts[part].num_rows == 1
    assert own(path, split={part: 20.0}).parts[part].num_rows == 20


def test_a_share_beside_a_column_that_names_the_part_is_said_to_be_unused(tmp_path: Path) -> None:
    some = [{**row, "part": "test" if row["id"] % 50 < 10 else "train"} for row in rows()]
    data = own(write_csv(tmp_path / "tickets.csv", some), split={"column": "part", "test": 0.4, "validation": 30})
    assert data.warnings == ("split.test of tickets, 0.4, is not used: the column part names test examples",)
    assert (data.parts["test"].num_rows, data.parts["validation"].num_rows) == (20, 30)
