"""Tests that a replayed study is judged at other points than those that teach, and how its rows are kept."""

from pathlib import Path

import pandas as pd
import pytest

from tests.benchmarks.search.replay import run, split
from tests.benchmarks.search.replay.leak import halves
from tests.benchmarks.search.replay.recorded import recorded_tasks
from tests.benchmarks.search.replay.rivals import REFERENCE, TAUGHT
from tests.benchmarks.search.replay.run import COLUMNS, tasks_of
from tests.benchmarks.search.replay.split import LEAKING, SEARCHES, elsewhere, instances, main, one_study, where_judged


def test_no_point_that_teaches_is_judged_and_the_control_learns_at_those_that_are() -> None:
    study, (judged, other) = tasks_of(101), halves(101)
    for each in instances(101).values():
        assert set(each.landscape.chosen) <= judged
    found = elsewhere(study, 101)
    assert {row.number for row in found.rows} == other
    assert {row.task for row in found.rows} == {*recorded_tasks()} - {*study}
    assert {row.number for row in where_judged(study, 101).rows} == judged


def test_the_taught_search_tries_what_its_teachers_found_best_first() -> None:
    made = {name: SEARCHES[name](101, dict.fromkeys(tasks_of(101), 0.0)) for name in (TAUGHT, LEAKING)}
    task = tasks_of(101)[0]
    first = {name: each[task].next().params for name, each in made.items()}
    numbers = {name: _numbers(point) for name, point in first.items()}
    judged, other = halves(101)
    assert numbers[TAUGHT] <= other
    assert numbers[LEAKING] <= judged
    assert numbers[TAUGHT]
    assert numbers[LEAKING]


def _numbers(point: object) -> set[int]:
    [found, *_] = recorded_tasks().values()
    return {number for number, each in found.by_number().items() if each == point}


def test_every_search_of_a_seed_has_a_row_for_each_task_budget_and_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BUDGETS", (2.0,))
    for name in (REFERENCE, TAUGHT):
        rows = pd.DataFrame(one_study(name, 100), columns=COLUMNS)
        assert [*dict.fromkeys(rows.task)] == tasks_of(100)
        assert (rows.rival == name).all()
        assert rows.regret.between(0, 3).all()


def test_the_rows_are_written_and_the_tables_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(split, "every_row", lambda seeds: [
        (name, seed, task, budget, rule, 0.1 * (1 + place) + 0.001 * seed)
        for place, name in enumerate(SEARCHES)
        for seed in seeds
        for task in ("reuters", "stsb")
        for budget in (5.0, 10.0)
        for rule in ("last score", "highest rung first")
    ])  # fmt: skip
    main(4, 6, tmp_path)
    kept = pd.read_parquet(tmp_path / "split-4-6.parquet")
    assert list(kept.columns) == COLUMNS
    assert set(kept.rival) == set(SEARCHES)
    assert f"| {LEAKING} | " in capsys.readouterr().out
