"""Tests several studies on one page: compared if that is fair, with a warning if not."""

import json
import os
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from krona_tune.refusal import Refusal
from krona_tune.report.comparison_page import LEGEND_WIDTH, write_comparison
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status, TrialResult
from tests.record.events import manifest
from tests.report.compared import final_study, write_study
from tests.report.pages import read
from tests.study.final_rows import row


def searched(task: str, score: float, size: int) -> TrialResult:
    return replace(row("000", "search", score, task=task, metrics={"accuracy": score}), trainable_parameters=size)


@pytest.fixture
def two(tmp_path: Path) -> list[StudyFolder]:
    rows = [searched("rte", 0.6, 700), searched("cola", 0.2, 900)]
    first = write_study(tmp_path / "first", manifest("rte", "cola"), rows)
    other = manifest("rte", synthetic=True)
    facts = {"rte": other.tasks["rte"].model_copy(update={"fingerprint": "others"})}
    second = write_study(
        tmp_path / "second",
        other.model_copy(update={"tasks": facts}),
        [searched("rte", 0.75, 1700)],
        "model: tiny\nseed: 2\n",
    )
    return [first, second]


def test_each_study_has_a_row_and_averages_are_over_common_tasks(two: list[StudyFolder], tmp_path: Path) -> None:
    path = write_comparison(two, tmp_path / "comparison.html")
    text = read(path).text
    assert path == tmp_path / "comparison.html"
    assert "Averages are over the 1 task on which all of them have a result: RTE" in text
    studies = text[text.index("What each study found") : text.index("The average against")]
    assert "first tiny" in studies
    assert "0.600" in studies
    assert "0.750" in studies
    assert "0.200" not in studies
    assert "0.200" in text[text.index("COLA: each study") :]


def test_an_average_of_studies_leaves_out_what_has_no_mean_with_others(tmp_path: Path) -> None:
    made = manifest("rte", "wiki")
    alone = made.tasks | {"wiki": made.tasks["wiki"].model_copy(update={"averages": False})}
    rows = [searched("rte", 0.6, 700), searched("wiki", -12.3, 700)]
    both = [write_study(tmp_path / name, made.model_copy(update={"tasks": alone}), rows) for name in ("one", "other")]
    text = read(write_comparison(both, tmp_path / "comparison.html")).text
    assert "Averages are over the 1 task on which all of them have a result: RTE. WIKI has no mean with other" in text
    assert "-12.3" not in text[: text.index("RTE: each study")]


def test_a_shared_study_is_compared_by_the_configuration_that_it_would_deploy(tmp_path: Path) -> None:
    """Configuration 0 is better on RTE, configuration 1 on the average of both tasks."""
    scores = {("rte", 0): 0.9, ("cola", 0): 0.1, ("rte", 1): 0.7, ("cola", 1): 0.5}
    rows = [
        replace(
            row(f"00{number}", "search", score, task=task, number=number), params={"method": "krona", "rank": number}
        )
        for (task, number), score in scores.items()
    ]
    made = manifest("rte", "cola")
    shared = write_study(tmp_path / "shared", made, rows, "model: tiny\nsearch: {shared: true}\n")
    each = write_study(tmp_path / "each", made, rows)
    text = read(write_comparison([shared, each], tmp_path / "comparison.html")).text
    rte = text[text.index("RTE: each study") : text.index("COLA: each study")]
    assert re.search(r"shared 0.700", rte)
    assert re.search(r"each 0.900", rte)
    assert "0.600" in text[: text.index("The average against")]  # average of 0.7 and 0.5
    assert "0.700" in text[: text.index("The average against")]  # average of 0.9 and 0.5


def test_other_examples_and_synthetic_data_are_warned_of(two: list[StudyFolder], tmp_path: Path) -> None:
    path = write_comparison(two, tmp_path / "comparison.html")
    text = read(path).text
    assert "On RTE the studies did not see the same examples" in text
    assert "The sentences of at least one study were generated" in text
    assert "different backbones" not in text


def test_the_page_is_self_contained(two: list[StudyFolder], tmp_path: Path) -> None:
    page = read(write_comparison(two, tmp_path / "comparison.html"))
    assert [load for load in page.loads if not load.startswith(("#", "data:"))] == []
    assert len(page.ids) == len(set(page.ids))
    assert page.tags["script"] == 4 + page.tags["figure"]


def test_studies_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    failed = replace(searched("rte", 0.5, 700), status=Status.FAILED, score=None)
    folders = [write_study(tmp_path / place / "same", manifest("rte"), [failed]) for place in ("here", "there")]
    text = read(write_comparison(folders, tmp_path / "comparison.html")).text
    assert str(tmp_path / "here" / "same") in text
    assert "No task has a result in all of them" in text


def test_one_study_has_none_to_be_compared_with(two: list[StudyFolder], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"only .*first is named; name two studies or more"):
        write_comparison([two[0], two[0]], tmp_path / "comparison.html")
    with pytest.raises(Refusal, match="no study is here"):
        write_comparison([two[0], StudyFolder(tmp_path / "empty")], tmp_path / "comparison.html")


def test_a_study_whose_records_are_gone_is_refused(two: list[StudyFolder], tmp_path: Path) -> None:
    page = write_comparison(two, tmp_path / "comparison.html")
    before = page.read_text(encoding="utf-8")
    two[1].results.rename(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="second/results: holds no trial; put the study's records back"):
        write_comparison(two, page)
    assert page.read_text(encoding="utf-8") == before


def test_a_page_replaces_pages_and_empty_files_but_nothing_else(two: list[StudyFolder], tmp_path: Path) -> None:
    page = write_comparison(two, tmp_path / "comparison.html")
    page.write_text("", encoding="utf-8")
    assert write_comparison(two, page) == write_comparison(two, page)
    os.mkfifo(pipe := tmp_path / "pipe")
    for other in (two[0].manifest, two[0].spec, pipe):
        before = other.read_bytes() if other.is_file() else b""
        with pytest.raises(Refusal, match="is no page, and a page would replace it; name another file"):
            write_comparison(two, other)
        assert (other.read_bytes() if other.is_file() else b"") == before
    assert pipe.is_fifo()


def test_winners_are_held_against_the_first_studys_in_words_and_numbers(tmp_path: Path) -> None:
    both = [
        final_study(tmp_path / "one", (0.70, 0.72, 0.71), scale=4.0, terms=3),
        final_study(tmp_path / "<b>two", (0.80, 0.815, 0.812), scale=2.0, terms=3),
    ]
    page = read(path := write_comparison(both, tmp_path / "comparison.html"))
    rte = page.text[page.text.index("RTE: <b>two") :]
    assert rte.startswith("RTE: <b>two is better than one by 0.099 on test (paired by seed and test example).")
    assert "The same in all: method krona, " in rte
    assert "terms 3" in rte
    assert "one 0.710 ± 0.010" in rte
    assert "<b>two 0.809 ± 0.008 0.7" in rte
    assert "+0.099 +0.090 to +0.108" in rte
    assert "<b>two" not in path.read_text(encoding="utf-8")


def test_nothing_is_the_same_in_all_where_only_one_study_has_a_winner(two: list[StudyFolder], tmp_path: Path) -> None:
    none = write_study(tmp_path / "none", manifest("rte"), [row("000", "search", None, status=Status.FAILED)])
    text = read(write_comparison([two[0], none], tmp_path / "comparison.html")).text
    assert "RTE: each study's best" in text
    assert "same in all" not in text
    assert "the configurations are the same" not in text


def test_long_names_that_differ_at_their_ends_are_whole_in_a_legend(tmp_path: Path) -> None:
    names = [f"krona-and-lora-with-seeds-of-the-first-week-{end}" for end in ("<i>a", "b")]
    studies = [write_study(tmp_path / name, manifest("rte"), [searched("rte", 0.6, 700)]) for name in names]
    page = write_comparison(studies, tmp_path / "comparison.html").read_text(encoding="utf-8")
    [figure] = [json.loads(text) for text in re.findall(r'type="application/json"[^>]*>(.*?)</script>', page)]
    legend = [trace["name"].split("<br>") for trace in figure["data"]]
    assert ["".join(lines) for lines in legend] == [names[0].replace("<i>", "&lt;i&gt;"), names[1]]
    assert all(len(unescape(line)) <= LEGEND_WIDTH for lines in legend for line in lines)
