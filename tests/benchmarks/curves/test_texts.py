"""Tests that the tasks beside GLUE's are read from the files of their package."""

from pathlib import Path

import pytest

from krona_tune.study.request.loader import load_spec
from tests.benchmarks.curves import texts
from tests.benchmarks.curves.record import DESIGN, settings

NEWS = """Number\tTopic\tContent
continuous\tdiscrete\tstring
\tclass\tmeta
1\tone\t"first, and ""quoted\"""
2\ttwo\tsecond
3\ttwo\tsecond
4\ttwo\t
"""


def test_each_text_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "news.tab"
    path.write_text(NEWS, encoding="utf-8")
    found = texts.rows(path, "Content", "Topic")
    assert found.to_dict("list") == {"text": ['first, and "quoted"', "second"], "label": ["one", "two"]}


@pytest.mark.parametrize(
    ("block", "first", "tasks"),
    [
        ("32-47", 32, '"sst2": "glue", "stsb": "glue", "reuters": {"data": "somewhere/reuters.csv"'),
        ("controls-16-31", 16, '{"cola": "glue", "mrpc": "glue", "rte": "glue", "wnli": "glue"}'),
    ],
)
def test_a_block_asks_for_its_points_on_its_tasks(block: str, first: int, tasks: str) -> None:
    asked = settings(block, Path("somewhere"))
    assert {"search.trials=16", f"search.first_point={first}"} <= set(asked)
    [found] = [each for each in asked if each.startswith("tasks=")]
    assert tasks in found


@pytest.mark.parametrize("block", ["0-31", "controls-0-15"])
def test_a_block_has_sizes_of_its_own_tasks_only(block: str, tmp_path: Path) -> None:
    asked = load_spec(DESIGN, settings(block, tmp_path))
    sizes = asked.examples.train
    assert len(asked.tasks) == 4
    assert not isinstance(sizes, dict) or sizes.keys() <= {*asked.tasks, "default"}


def test_repeats_are_of_the_first_points_of_every_task() -> None:
    assert {"search.trials=12", "search.repeats={points: 12, seeds: 3}"} <= set(settings("repeats", Path("somewhere")))
