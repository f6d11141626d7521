"""Tests the comparison of studies in Python and in a terminal."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import krona_tune
from krona_tune import Refusal
from krona_tune.api.study_comparison import compared, tables_of
from tests.report.compared import final_study

LOW, HIGH = (0.70, 0.72, 0.71), (0.80, 0.815, 0.812)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    final_study(tmp_path / "plain", LOW, rank=3, scale=4.0)
    final_study(tmp_path / "[red]wide", HIGH, rank=5, scale=4.0)
    return tmp_path


def test_the_frame_has_a_row_a_study_with_the_difference_in_numbers_and_words(two: Path) -> None:
    frame = krona_tune.compare([two / "plain", str(two / "[red]wide")])
    assert frame.study.tolist() == ["plain", "[red]wide"]
    assert frame.score.tolist() == pytest.approx([0.71, 0.809])
    assert frame["rank"].tolist() == [3, 5]
    _, second = frame.to_dict("records")
    assert (second["half"], second["winner"], second["seeds"], second["reference"]) == ("test", "rte-000", 3, "plain")
    assert second["difference"] == pytest.approx(0.099)
    assert second["difference_low"] < 0.099 < second["difference_high"]
    assert second["apart"] is True
    assert second["verdict"] == "is better than plain by 0.099 on test"
    assert frame.verdict.isna().tolist() == [True, False]


def test_the_terminal_shows_scores_differences_and_knobs_and_takes_names_as_text(two: Path) -> None:
    console = Console(file=StringIO(), width=110, record=True)
    console.print(tables_of(compared([str(two / "plain"), str(two / "[red]wide")], str(two))))
    text = " ".join(console.export_text().split())
    assert "RTE plain 0.710±0.010" in text
    assert "[red]wide 0.809±0.008 +0.099" in text
    assert "RTE: [red]wide is better than plain by 0.099 on test (paired by seed and test example)." in text
    assert "RTE rank 3 5" in text
    assert "scale" not in text


def test_no_table_of_knobs_is_shown_where_the_winners_have_the_same(tmp_path: Path) -> None:
    for name, scores in (("one", LOW), ("other", HIGH)):
        final_study(tmp_path / name, scores, rank=3, scale=4.0)
    console = Console(file=StringIO(), width=110, record=True)
    console.print(tables_of(compared([str(tmp_path / "one"), str(tmp_path / "other")], str(tmp_path))))
    text = console.export_text()
    assert "The winners of each task" in text
    assert "knobs" not in text


def test_one_study_and_a_word_for_a_list_are_refused(two: Path) -> None:
    with pytest.raises(Refusal, match=r"only .*plain is named; name two studies or more"):
        krona_tune.compare(["plain", two / "plain"], two)
    with pytest.raises(Refusal, match="studies: 'plain' is of the type str; give a list"):
        krona_tune.compare("plain")
    with pytest.raises(Refusal, match="nobody"):
        krona_tune.compare(["plain", "nobody"], two)
