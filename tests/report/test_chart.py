"""Tests what the charts have in common."""

from krona_tune.report.chart import log_axis


def test_a_logarithmic_axis_is_labelled_in_words_that_people_write() -> None:
    axis = log_axis([0.003, 0.2])
    labels = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    assert (axis["type"], labels[0.001], labels[0.05]) == ("log", "0.001", "0.05")
    assert "20k" in log_axis([1500, 30_000])["ticktext"]
    assert log_axis([0])["type"] == "log"
