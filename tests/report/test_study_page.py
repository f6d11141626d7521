"""Tests that the page says what won and by how much, names synthetic data as such, and works for an empty study."""

import re
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import pytest
import yaml

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records
from krona_tune.refusal import Refusal
from krona_tune.report.study_page import render, write_report
from krona_tune.report.study_results import StudyResults
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_duration, format_gain, format_knob
from krona_tune.study.manifest import read_manifest
from krona_tune.study.result import Status
from tests.record.events import ended, manifest, report, started
from tests.report.conftest import Empty
from tests.report.finalists import HEAD, LORA, SEARCHED, final_rows, page
from tests.report.pages import BY_LOSS, NEGATED, read, write_scores
from tests.study.final_rows import repeats


def test_the_page_says_of_a_sum_how_many_terms_it_has(study: StudyFolder) -> None:
    trial = started(7, terms=4, scaling="stable", init="cdka")
    ParquetSink(study.results).trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.9)]))
    text = read(write_report(study)).text
    assert "the best adapter is krona with A of 24×16 in 4 terms and stable scale 7.5: validation score 0.900" in text


def test_the_page_says_what_won_and_by_how_much(study: StudyFolder) -> None:
    path = write_report(study)
    assert path == study.page
    text = read(path).text
    assert re.search(r"On COLA, the best adapter is krona with A of 24×16 and scale 1.5: validation score 0.600", text)
    assert "2,001 trainable parameters (0.01 % of the backbone without the head)" in text
    assert "+0.400 against training the head alone and +0.600 against the constant answer" in text
    assert "Without a result: RTE, MRPC" in text
    assert "3 completed, 1 stopped early, 1 diverged, 1 interrupted" in text
    assert "3 of 7 trials diverged, failed or were interrupted" in text


def test_the_page_says_that_the_head_is_among_the_parameters_but_not_in_their_share(study: StudyFolder) -> None:
    best = replace(ended(started(7), Status.COMPLETED, [report(started(7), 0, 0.9)]), head_parameters=50)
    ParquetSink(study.results).trial_ended(best)
    said = "2,007 trainable parameters, the head's among them (0.01 % of the backbone without the head)"
    assert said in read(write_report(study)).text


def test_only_tasks_of_glue_are_said_to_have_a_hidden_test_set(study: StudyFolder) -> None:
    made = manifest("cola", "films")
    own = made.tasks["films"].model_copy(update={"own": True})
    for tasks, said in (({**made.tasks, "films": own}, True), ({"films": own}, False)):
        made.model_copy(update={"tasks": tasks}).write(study.manifest)
        text = read(write_report(study)).text
        assert "The data. Scores are on the validation part" in text
        assert ("validation part; GLUE's hidden test set is never used." in text) == said


def test_the_contents_name_each_titled_section_in_its_order(study: StudyFolder) -> None:
    html = write_report(study).read_text(encoding="utf-8")
    contents, main = html.split("</nav>")
    links = re.findall(r'<li><a href="#([^"]+)">([^<]+)</a>', contents)
    headings = re.findall(r'<h2 id="([^"]+)">([^<]+?) *<', main)
    assert links == headings
    assert [anchor for anchor, _ in links] == [
        "tasks", "task-cola", "task-rte", "task-mrpc", "cost", "trouble", "reproduce",
    ]  # fmt: skip


def test_a_trial_that_runs_is_no_trial_without_an_end(study: StudyFolder) -> None:
    text = read(write_report(study, runs=True)).text
    assert "1 running, 3 completed, 1 stopped early, 1 diverged" in text
    assert "2 of 7 trials diverged, failed or were interrupted" in text
    assert "1 interrupted" not in text


def test_several_tasks_are_averaged_in_the_headline(study: StudyFolder) -> None:
    sink = ParquetSink(study.results)
    for number, kind, score in ((7, "search", 0.8), (8, "baseline", 0.6)):
        trial = started(number, "rte", kind)  # type: ignore[arg-type]
        sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, score)]))
    text = read(write_report(study)).text
    assert "The best adapters average 0.700 on validation over 2 tasks" in text
    assert "+0.300 against training the head alone (0.400)" in text
    assert "+0.425 against constant answers (0.275)" in text
    assert "Average of 2 tasks with a result 0.700 0.275 0.400 +0.425 +0.300" in text


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize(
    ("alone", "said"),
    [
        (
            dict.fromkeys(("wiki", "news", "mrpc", "sst2"), BY_LOSS),
            [
                "On WIKI, the best adapter has a validation score of -2.300 , +0.100 against training the head alone. "
                "On NEWS, the best adapter has a validation score of -3.500 , +0.100 against",
                "On SST2, the best adapter has a validation score of 0.900",
            ],
        ),
        (
            {"wiki": BY_LOSS, "news": NEGATED},
            [
                "The best adapters average 0.800 on validation over 2 tasks. That is +0.100 against training the head",
                "On NEWS, the best adapter has a validation score of -3.500",
            ],
        ),
        (
            dict.fromkeys(("wiki", "news", "mrpc"), NEGATED),
            ["On SST2, the best adapter has a validation score of 0.900 , +0.100"],
        ),
    ],
)
def test_a_task_without_a_mean_with_others_is_told_by_itself(
    folder: StudyFolder, alone: dict[str, dict[str, object]], said: list[str], runs: bool
) -> None:
    write_scores(folder, {"wiki": -2.3, "news": -3.5, "mrpc": 0.7, "sst2": 0.9}, **alone)
    text = read(write_report(folder, runs=runs)).text
    assert [each for each in said if each not in text] == []
    assert ("average" in text[: text.index("Best validation score of each")]) == (len(alone) == 2)
    assert ("Average of 2 tasks with a result; WIKI, NEWS have no mean with them 0.800" in text) == (len(alone) == 2)


@pytest.mark.parametrize("tasks", [(), ("cola",), ("cola", "rte")])
def test_a_study_without_trials_can_be_drawn(empty: Empty, tmp_path: Path, tasks: tuple[str, ...]) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        render(StudyResults(manifest=read_manifest(empty(*tasks).manifest), recorded=Records(), spec="")),
        encoding="utf-8",
    )
    text = read(page).text
    assert "No trial has a validation score yet" in text
    assert "python run_study.py --tasks cola,rte" in text
    assert "edalati2022krona" in text


def test_a_study_of_failures_only_has_a_page(empty: Empty) -> None:
    folder = empty("cola")
    sink = ParquetSink(folder.results)
    sink.trial_ended(ended(started(0), Status.OUT_OF_MEMORY, [], error="no room"))
    text = read(write_report(folder)).text
    assert "1 out of memory" in text
    assert "no room" in text


@pytest.mark.parametrize("score", [nan, inf, -inf])
@pytest.mark.parametrize("status", [Status.DIVERGED, Status.COMPLETED])
def test_a_study_of_scores_that_are_no_numbers_has_a_page(empty: Empty, status: Status, score: float) -> None:
    folder = empty("cola")
    sink = ParquetSink(folder.results)
    for trial in (started(0), started(1, "cola", "baseline", method="head_only")):
        nothing = report(trial, 0, score)
        sink.reported(nothing)
        sink.trial_ended(ended(trial, status, [nothing]))
    text = read(write_report(folder)).text
    assert "No trial of this task has a validation score" in text
    assert "2 diverged" in text


@pytest.mark.parametrize("seconds", [nan, inf, 1e300])
def test_a_study_of_times_that_no_clock_shows_has_a_page(empty: Empty, seconds: float) -> None:
    folder = empty("cola")
    sink = ParquetSink(folder.results)
    for trial in (started(0), started(1, "cola", "baseline", method="head_only")):
        last = report(trial, 0, 0.5)
        sink.reported(last)
        odd = {"train_seconds": seconds, "evaluation_seconds": seconds, "started_at": seconds, "ended_at": seconds}
        sink.trial_ended(replace(ended(trial, Status.COMPLETED, [last]), **odd))
    assert "2 completed" in read(write_report(folder)).text


def test_synthetic_data_are_marked_at_the_top_and_once_in_each_part(study: StudyFolder) -> None:
    manifest("cola", "rte", synthetic=True).write(study.manifest)
    text = read(write_report(study)).text
    assert text.index("Synthetic data: mini-GLUE.") < text.index("Adapters for tiny")
    html = study.page.read_text(encoding="utf-8")
    headings = dict(re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', html, re.DOTALL))
    marked = {name for name, text in headings.items() if "synthetic data: mini-GLUE" in text}
    assert marked == {"tasks", "task-cola", "task-rte", "cost"}
    assert html.count("synthetic data: mini-GLUE") == len(marked)


def test_real_data_carry_no_such_mark(study: StudyFolder) -> None:
    assert "synthetic" not in read(write_report(study)).text.lower()


def test_a_synthetic_task_beside_a_real_one_is_marked_alone(study: StudyFolder) -> None:
    both = manifest("cola", "rte")
    facts = {**both.tasks, "rte": both.tasks["rte"].model_copy(update={"synthetic": True})}
    both.model_copy(update={"tasks": facts}).write(study.manifest)
    write_report(study)
    html = study.page.read_text(encoding="utf-8")
    heading = {name: re.findall(rf'<h2 id="task-{name}">.*?</h2>', html, re.DOTALL)[0] for name in ("cola", "rte")}
    assert "synthetic" in heading["rte"]
    assert "synthetic" not in heading["cola"]
    assert "The sentences of RTE were generated" in read(study.page).text


def test_the_ranking_shows_ten_trials_and_only_the_knobs_that_differ(empty: Empty) -> None:
    folder = empty("cola")
    sink = ParquetSink(folder.results)
    for number in range(14):
        trial = started(number)
        sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, number / 20)]))
    page = read(write_report(folder))
    assert "the best 10 of 14 scored trials" in page.text
    assert "cola-0013" in page.text
    assert "cola-0003" not in page.text
    head = page.text[page.text.index("Place") : page.text.index("State")]
    assert "scale" in head
    assert "learning rate" not in head
    assert "learning rate 0.003" in page.text


def test_the_other_trials_wait_in_the_page_to_be_shown(empty: Empty) -> None:
    folder = empty("cola")
    sink = ParquetSink(folder.results)
    for number in range(14):
        trial = started(number)
        sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, number / 20)]))
    html = write_report(folder).read_text(encoding="utf-8")
    [waiting] = re.findall(r"<template>(.*?)</template>", html, re.DOTALL)
    assert re.findall(r"cola-\d{4}", waiting) == ["cola-0003", "cola-0002", "cola-0001", "cola-0000"]
    assert "Show all 14 trials" in html


def test_what_failed_the_same_way_stands_in_one_row(empty: Empty) -> None:
    folder = empty("cola", "rte")
    sink = ParquetSink(folder.results)
    for number, task, error in ((0, "cola", "a\nboom"), (1, "rte", "b\nboom"), (2, "rte", "gone")):
        sink.trial_ended(ended(started(number, task), Status.FAILED, [], error=error))
    text = read(write_report(folder)).text
    assert "2 failed boom a boom COLA, RTE cola-0000 , rte-0001" in text
    assert "1 failed gone RTE rte-0002" in text


def test_the_page_says_how_to_cite_method_and_software(empty: Empty) -> None:
    folder = empty("cola")
    changed = manifest("cola")
    changed.model_copy(update={"versions": {"krona_tune": "3.2.1"}}).write(folder.manifest)
    ParquetSink(folder.results).trial_started(started(0))
    text = read(write_report(folder)).text
    assert "@software{krona_tune" in text
    assert "version = {3.2.1}" in text


def test_a_folder_without_a_study_is_refused(folder: StudyFolder) -> None:
    with pytest.raises(
        Refusal,
        match=r"first-study: no study is here \(no manifest.json\); run it first, or name the folder of a study",
    ):
        write_report(folder)


@pytest.mark.parametrize(
    ("value", "written"),
    [(4.04, "4 s"), (4.24, "4.2 s"), (41.3, "41 s"), (125, "2 min 05 s"), (3600 + 180, "1 h 03 min")],
)
def test_seconds_are_written_for_people(value: float, written: str) -> None:
    assert format_duration(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(None, "default"), (True, "yes"), (0.00123456, "0.00123"), (24, "24"), ("all", "all")]
)
def test_knobs_are_written_for_people(value: object, written: str) -> None:
    assert format_knob(value) == written


def test_a_loss_has_a_true_minus() -> None:
    assert (format_gain(-0.1234), format_gain(0.5), format_gain(None)) == ("−0.123", "+0.500", "–")


def test_full_trainings_are_listed_beside_the_search_and_rank_nowhere(study: StudyFolder) -> None:
    sink = ParquetSink(study.results)
    for number, kind, score in ((91, "full_train", 0.95), (92, "full_data", float("nan"))):
        trial = started(number, kind=kind)
        last = report(trial, 1, score)
        sink.trial_started(trial)
        sink.reported(last)
        sink.trial_ended(replace(ended(trial, Status.COMPLETED, [last]), score=None if number == 92 else score))
    page = read(write_report(study))
    assert "Trained on all examples" in page.text
    assert "all training examples" in page.text
    assert "all examples of train, validation and test together" in page.text
    assert "the best 4 of 4 scored trials" in page.text
    assert "nan" not in page.text.lower().split()


def test_the_page_says_which_share_of_the_examples_was_cut(study: StudyFolder) -> None:
    before = read_manifest(study.manifest)
    facts = before.tasks["cola"].model_copy(update={"max_length": 64, "cut_examples": 33})
    before.model_copy(update={"tasks": {**before.tasks, "cola": facts}}).write(study.manifest)
    assert "7.5 % at 64 tokens" in read(write_report(study)).text  # of 340 and 100 examples


@pytest.mark.parametrize(("tasks", "folded"), [(("cola", "rte"), False), (("cola", "rte", "mrpc"), True)])
def test_of_more_than_two_tasks_the_search_and_the_charts_are_folded_and_the_best_stays_in_view(
    folder: StudyFolder, tasks: tuple[str, ...], folded: bool
) -> None:
    write_scores(folder, dict.fromkeys(tasks, 0.7))
    html = write_report(folder).read_text(encoding="utf-8")
    assert html.count('<details class="search">') == (3 if folded else 0)
    assert html.count('<details class="search" open>') == (0 if folded else 2)
    best = "The best of the search is krona: 0.700 on validation (constant 0.550, head only 0.600), one seed, rte-000"
    assert (best in read(folder.page).text) is folded


def test_trainings_of_finalists_are_counted_apart_from_the_search(empty: Empty) -> None:
    folder = empty("rte")
    assert "2 trials (1 searched, 1 finalist), begun" in page(folder, [SEARCHED, final_rows()[0]]).text
    text = page(folder, [SEARCHED, LORA, HEAD, *final_rows()]).text
    assert "11 trials (2 searched, 8 finalists, 1 head only), begun" in text
    assert "Trials searched Trainings of finalists RTE accuracy" in text
    assert "700 (0.07 %) 2 8" in text


def test_constants_heads_and_single_seeds_stand_beside_winners(empty: Empty) -> None:
    folder = empty("rte")
    text = page(folder, [SEARCHED, HEAD, *repeats("rte-000", (0.7,), (0.72,))]).text
    assert "The constant answer has 0.550 on validation." in text
    assert "0.720 one seed" in text
    assert "constant 0.550 –" in text


def test_the_page_cites_authors_year_and_address_as_the_file_of_the_checkout_does(study: StudyFolder) -> None:
    text = read(write_report(study)).text
    citation = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    [paper] = citation["references"]
    assert f"author = {{{{{citation['authors'][0]['name']}}}}}" in text
    assert "year = {2025}" in text  # of the study
    assert f"url = {{{paper['url']}}}" in text
    assert f"doi = {{{paper['identifiers'][0]['value']}}}" in text
