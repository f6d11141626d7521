"""Tests what the charts have in common."""

import pytest

from krona_tune.report.chart import log_axis


def test_a_logarithmic_axis_is_labelled_in_words_that_people_write() -> None:
    axis = log_axis([0.003, 0.2])
    labels = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    assert (axis["type"], labels[0.001], labels[0.05]) == ("log", "0.001", "0.05")
    assert "20k" in log_axis([1500, 30_000])["ticktext"]
    assert log_axis([0])["type"] == "log"


@pytest.mark.parametrize(
    ("ends", "labels"),
    [
        ((27_900, 38_550), ["30k", "35k"]),
        ((0.0061, 0.0079), ["0.0065", "0.007", "0.0075"]),
        ((3e-4, 0.3), ["0.001", "0.01", "0.1"]),
        ((1_000, 1_000), ["1k"]),
    ],
)
def test_a_logarithmic_axis_has_two_labels_or_more_between_its_ends(
    ends: tuple[float, float], labels: list[str]
) -> None:
    axis = log_axis(ends)
    between = zip(axis["tickvals"], axis["ticktext"], strict=True)
    assert [text for value, text in between if ends[0] <= value <= ends[1]] == labels
