"""Tests that the page says of recommendations what the benchmark prints."""

from pathlib import Path

import pytest

from krona_tune.record.recorded_curves import LEARNED
from tests.benchmarks.search.recommend import left_out, over_tasks

PAGE = Path(__file__).parents[3] / "docs" / "how_it_searches.md"
TITLES = {"newsgroups": "Newsgroups", "reuters": "Reuters", "sst2": "SST-2", "stsb": "STS-B"}


@pytest.mark.parametrize("task", LEARNED)
def test_a_row_of_the_page_is_what_the_other_tasks_foretell(task: str) -> None:
    found = left_out(task)
    row = [f"{each:.2f}".lstrip("0") for each in (found.regret, found.share, found.expected, found.width)]
    regret, share, expected, width = row
    start = f"| {TITLES[task]} | {regret} | {share}, {expected} | {found.held / found.points:.2f}".replace("0.", ".")
    [line] = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(start)]
    assert line.endswith(f" | {width} |")


def test_an_interval_over_tasks_is_students_t() -> None:
    assert over_tasks([0.1, 0.2, 0.3]) == "0.20 (-0.05 to 0.45)"
