"""Tests that a probe's figures, and what the page says of them, are those of the recorded curves."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from krona_tune.search.planning.expected_score import GAINED
from tests.benchmarks.search.probed_trainings import THIRD, Cell, foretell, quantiles, recorded_cells, regret, report

PAGE = Path(__file__).parents[3] / "docs" / "how_it_searches.md"


@cache
def cells() -> list[Cell]:
    return recorded_cells()


def cell(task: str, backbone: str, shares: list[list[float]], foretold: list[float] | None) -> Cell:
    told = None if foretold is None else np.array(foretold)
    return Cell(backbone=backbone, task=task, foretold=told, shares=np.array(shares))


def test_what_the_product_says_of_a_probe_are_the_quantiles_of_all_recorded_backbones() -> None:
    assert quantiles(cells(), THIRD) == pytest.approx(GAINED, abs=0.005)


def test_a_cell_counts_alike_however_many_points_it_has() -> None:
    one = cell("a", "x", [[0.0, 0.0, 0.0, 0.5]] * 8, None)
    many = cell("b", "y", [[0.0, 0.0, 0.0, 0.1]] * 80, None)
    assert quantiles([one, one, many], THIRD) == pytest.approx((0.1, 0.5, 0.5))


def test_neither_its_backbone_nor_its_task_foretells_a_cell() -> None:
    own = cell("a", "x", [[0.0, 0.0, 0.0, 0.9]], [1.0])
    same_backbone, same_task = (cell(*of, [[0.0, 0.0, 0.0, 0.9]], [1.0]) for of in (("b", "x"), ("a", "y")))
    other = cell("b", "y", [[0.0, 0.0, 0.0, 0.1]], [1.0])
    found = foretell(own, [own, same_backbone, same_task, other], THIRD)
    assert (found.held, found.points) == (0, 1)
    assert found.wrong == pytest.approx(0.8)


def test_the_best_of_three_is_the_one_that_is_best_when_the_probe_ends() -> None:
    of = cell("a", "x", [[0.2, 0.2, 0.5], [0.3, 0.3, 0.9], [0.1, 0.1, 0.7], [0.9, 0.9, 1.0]], [4.0, 3.0, 2.0, 1.0])
    assert regret(of, 1, tried=1) == pytest.approx((1.0 - 0.5) / (1.0 - 0.8))
    assert regret(of, 1, tried=3) == pytest.approx((1.0 - 0.9) / (1.0 - 0.8))


def test_the_page_says_what_the_benchmark_prints() -> None:
    written = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in report().splitlines() if line.startswith(("| one epoch", "| three epochs"))]
    assert rows
    for row in rows:
        assert row.replace("0.", ".") in written
