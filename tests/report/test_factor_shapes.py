"""Tests the picture of the factor shapes."""

import pytest

from krona_tune.report.factor_shapes import factor_shapes
from tests.report.many_trials import BERT, subject


def test_a_known_width_turns_equal_products_into_parameters() -> None:
    chart = factor_shapes(subject(200, BERT))
    assert chart is not None
    trace, *lines = chart.figure.data
    products = [2 ** (line.x[1] + line.y[1]) for line in lines]
    told = [float(line.text[1].replace(",", "")) for line in lines]
    assert told == pytest.approx([product + 384 * 384 / product for product in products])
    assert list(chart.figure.layout.xaxis.ticktext) == ["8", "12", "16", "24", "32", "48"]
    assert len(lines) <= 9
    assert len(trace.x) == 6
