"""Tests a comparison of studies as CSV and as LaTeX."""

import csv
from io import StringIO
from pathlib import Path

import pytest

from krona_tune.api.comparison_tables import comparison_csv, comparison_latex
from krona_tune.report.comparison import Comparison, read_comparison
from tests.record.events import manifest
from tests.report.compared import final_rows, final_study, write_study
from tests.study.final_rows import row

LOW, HIGH = (0.70, 0.72, 0.71), (0.80, 0.815, 0.812)


@pytest.fixture
def three(tmp_path: Path) -> Comparison:
    """A study of two tasks, one that is better on RTE, and one with nothing but a search."""
    both = [*final_rows(LOW, rank=3), *final_rows(LOW, task="cola", rank=3)]
    a = write_study(tmp_path / "a_1", manifest("rte", "cola", synthetic=True), both)
    b = final_study(tmp_path / "b&b", HIGH, rank=5)
    c = write_study(tmp_path / "c", manifest("rte"), [row("000", "search", 0.9)])
    return read_comparison([a, b, c])


def test_every_column_is_in_the_csv_with_whole_numbers_whole(three: Comparison) -> None:
    rows = list(csv.DictReader(StringIO(comparison_csv(three))))
    assert [(each["task"], each["study"], each["rank"], each["half"]) for each in rows] == [
        ("rte", "a_1", "3", "test"),
        ("rte", "b&b", "5", "test"),
        ("rte", "c", "", "validation"),
        ("cola", "a_1", "3", "test"),
    ]
    assert rows[1]["verdict"] == "is better than a_1 by 0.099 on test"
    assert [each["synthetic"] for each in rows] == ["True", "False", "False", "True"]


def test_the_latex_has_a_row_a_study_marks_what_is_told_apart_and_escapes_names(three: Comparison) -> None:
    text = comparison_latex(three)
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert lines == [
        r"Study & Parameters & RTE & COLA \\",
        r"a\_1 & 700 & 0.710 {\scriptsize $\pm$ 0.010} & 0.710 {\scriptsize $\pm$ 0.010} \\",
        r"b\&b & 700 & 0.809\textsuperscript{*} {\scriptsize $\pm$ 0.008} & -- \\",
        r"c & 700 & 0.900\textsuperscript{v} & -- \\",
    ]
    assert r"\begin{tabular}{lrrr}" in text
    assert r"\caption{Synthetic data: " in text
    assert r"95 \% intervals" in text


def test_the_average_is_over_the_tasks_of_all(tmp_path: Path) -> None:
    made = manifest("rte", "cola")
    folders = [
        write_study(tmp_path / name, made, [*final_rows(scores), *final_rows(LOW, task="cola")])
        for name, scores in (("a", LOW), ("b", HIGH))
    ]
    lines = comparison_latex(read_comparison(folders)).splitlines()
    assert [line.split(" & ")[-1] for line in lines if " & " in line] == [
        r"Average \\", r"0.710 \\", r"0.760 \\",
    ]  # fmt: skip
