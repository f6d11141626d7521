"""Tests that the tasks beside GLUE's are read from the files of their package."""

from pathlib import Path

import pytest

from tests.benchmarks.curves import texts
from tests.benchmarks.curves.record import _settings

TWEETS = """Is retweet\tAuthor\tContent
discrete\tdiscrete\tstring
\tclass\tmeta
False\tone\t"first, and ""quoted\"""
True\tone\tnot mine
False\ttwo\tsecond
False\ttwo\tsecond
False\ttwo\t
"""


def test_each_text_is_there_once_and_retweets_are_not(tmp_path: Path) -> None:
    path = tmp_path / "tweets.tab"
    path.write_text(TWEETS, encoding="utf-8")
    found = texts.rows(path, "Content", "Author")
    assert found.to_dict("list") == {"text": ['first, and "quoted"', "second"], "label": ["one", "two"]}


@pytest.mark.parametrize(
    ("block", "first", "tasks"),
    [
        ("0-15", 0, None),
        ("32-47", 32, "tasks=[sst2, stsb]"),
        ("controls-16-31", 16, "tasks=[cola, rte, wnli]"),
        ("texts-16-31", 16, '"reuters": {"data": "somewhere/reuters.csv"'),
    ],
)
def test_a_block_asks_for_its_points_on_its_tasks(block: str, first: int, tasks: str | None) -> None:
    asked = _settings(block, Path("somewhere"))
    assert {"search.trials=16", f"search.first_point={first}"} <= set(asked)
    found = [each for each in asked if each.startswith("tasks=")]
    assert len(found) == (tasks is not None)
    assert tasks is None or tasks in found[0]
