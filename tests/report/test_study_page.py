"""Tests that the page is self-contained and escaped, names synthetic data as such, and works for an empty study."""

import base64
import gzip
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from math import inf, nan
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records, read_records
from krona_tune.refusal import Refusal
from krona_tune.report.score_charts import average_chart
from krona_tune.report.study_charts import overview_chart
from krona_tune.report.study_page import render, write_report
from krona_tune.report.study_results import StudyResults, summaries
from krona_tune.study.devices import devices_of, price_of
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_duration, format_gain, format_knob, format_money
from krona_tune.study.manifest import read_manifest
from krona_tune.study.request.study_spec import ResourcesSpec
from krona_tune.study.result import Status
from tests.record.events import ended, manifest, report, started
from tests.report.conftest import Empty
from tests.study.final_rows import row

LOADS = {"src", "href", "srcset", "data", "poster", "action"}
VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclass
class Page(HTMLParser):
    """The page's elements, its visible text, and whether tags are closed in the right order."""

    loads: list[str] = field(default_factory=list)
    tags: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    attributes: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))
        self.loads += [value or "" for name, value in attrs if name in LOADS]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and not {"script", "style", "template"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_the_page_says_of_a_sum_how_many_terms_it_has(study: StudyFolder) -> None:
    trial = started(7, terms=4, scaling="stable", init="cdka")
    ParquetSink(study.results).trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.9)]))
    text = read(write_report(study)).text
    assert "the best adapter is krona with A of 24×16 in 4 terms and stable scale 7.5: validation score 0.900" in text


def test_the_page_says_what_won_and_by_how_much(study: StudyFolder) -> None:
    path = write_report(study)
    assert path == study.report
    text = read(path).text
    assert re.search(r"On COLA, the best adapter is krona with A of 24×16 and scale 1.5: validation score 0.600", text)
    assert "2,001 trainable parameters" in text
    assert "+0.400 against training the head alone and +0.600 against the constant answer" in text
    assert "Without a result: RTE, MRPC" in text
    assert "3 completed, 1 stopped early, 1 diverged, 1 interrupted" in text
    assert "3 of 7 trials diverged, failed or were interrupted" in text


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


def write_scores(folder: StudyFolder, scores: dict[str, float], **alone: dict[str, object]) -> None:
    """Writes a study whose tasks have a trial with this score, and a head that is one tenth worse; `alone` changes the
    facts of tasks."""
    made = manifest(*scores)
    facts = {task: facts.model_copy(update=alone.get(task)) for task, facts in made.tasks.items()}
    folder.root.mkdir(exist_ok=True)
    made.model_copy(update={"tasks": facts}).write(folder.manifest)
    sink = ParquetSink(folder.results)
    for task, score in scores.items():
        sink.trial_ended(row("000", "search", score, task=task))
        sink.trial_ended(row("head-0", "baseline", score - 0.1, task=task, params={"method": "head_only"}))


BY_LOSS: dict[str, object] = {"compared_by_loss": True}
NEGATED: dict[str, object] = {"averages": False}


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


def test_accuracies_and_negated_scores_are_on_no_common_axis(folder: StudyFolder) -> None:
    write_scores(folder, {"wiki": -12.3, "mrpc": 0.7, "sst2": 0.9}, wiki=NEGATED)
    charts = read(write_report(folder)).text
    assert "WIKI would not fit on this axis" in charts
    tasks = summaries(read_records(folder.results), read_manifest(folder.manifest))
    overview, average = overview_chart(tasks), average_chart(tasks)
    assert overview is not None
    assert average is not None
    assert list(overview.figure.layout.yaxis.ticktext) == ["MRPC", "SST2"]
    assert list(average.figure.data[0].y) == [pytest.approx(0.8)]


def test_nothing_is_loaded_from_outside(study: StudyFolder) -> None:
    page = read(write_report(study))
    assert [load for load in page.loads if not load.startswith(("#", "data:"))] == []
    assert page.loads
    style = re.findall(r"<style>.*?</style>", study.report.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert "url(" not in style
    assert "@import" not in style


def test_plotly_is_there_once_and_each_chart_has_its_figure(study: StudyFolder) -> None:
    page = read(write_report(study))
    [packed] = re.findall(r'id="plotly">(.*?)</script>', study.report.read_text(encoding="utf-8"), re.DOTALL)
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
    figures = {tag["data-figure"] for _, tag in page.attributes if "data-figure" in tag}
    own = {f"cola-{name}" for name in ("parameters", "steps", "curves", "scale", "shapes")}
    assert figures == own | {"all-overview", "all-cost"}
    assert figures <= set(page.ids)


def test_what_a_trial_said_is_text_and_not_markup(study: StudyFolder) -> None:
    page = read(write_report(study))
    assert '<script>alert("x")' not in study.report.read_text(encoding="utf-8")
    assert 'ValueError: <script>alert("x")</script> & </pre>' in page.text
    assert page.tags["script"] == 4 + page.tags["figure"]


def test_names_from_files_are_escaped_too(study: StudyFolder) -> None:
    changed = manifest("cola").model_copy(update={"command": "run --name '<b>x</b>'", "name": "<i>n</i>"})
    changed.write(study.manifest)
    study.spec.write_text("model: </code><script>1</script>\n", encoding="utf-8")
    page = read(write_report(study))
    assert "run --name '<b>x</b>'" in page.text
    assert "model: </code><script>1</script>" in page.text
    assert page.tags["i"] == 0


def test_a_figure_can_not_end_its_script(study: StudyFolder) -> None:
    sink = ParquetSink(study.results)
    trial = started(6, roles="query")
    hostile = {**trial.params, "method": "</script><b>"}
    trial = trial.__class__(**{**trial.__dict__, "params": hostile, "trial_id": "</script><b>"})
    sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.9)]))
    page = read(write_report(study))
    assert page.tags["script"] == 4 + page.tags["figure"]


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


def test_synthetic_data_are_marked_at_the_top_and_at_each_table(study: StudyFolder) -> None:
    manifest("cola", "rte", synthetic=True).write(study.manifest)
    text = read(write_report(study)).text
    assert text.index("Synthetic data: mini-GLUE.") < text.index("Adapters for tiny")
    html = study.report.read_text(encoding="utf-8")
    captions = re.findall(r"<caption.*?</caption>", html, re.DOTALL)
    assert len(captions) == 5
    assert all("synthetic data: mini-GLUE" in caption for caption in captions)


def test_real_data_carry_no_such_mark(study: StudyFolder) -> None:
    assert "synthetic" not in read(write_report(study)).text.lower()


def test_a_synthetic_task_beside_a_real_one_is_marked_alone(study: StudyFolder) -> None:
    both = manifest("cola", "rte")
    facts = {**both.tasks, "rte": both.tasks["rte"].model_copy(update={"synthetic": True})}
    both.model_copy(update={"tasks": facts}).write(study.manifest)
    write_report(study)
    html = study.report.read_text(encoding="utf-8")
    heading = {name: re.findall(rf'<h2 id="{name}">.*?</h2>', html, re.DOTALL)[0] for name in ("cola", "rte")}
    assert "synthetic" in heading["rte"]
    assert "synthetic" not in heading["cola"]
    assert "The sentences of RTE were generated" in read(study.report).text


def test_tables_can_be_read_aloud_and_reached_by_keyboard(study: StudyFolder) -> None:
    page = read(write_report(study))
    assert page.tags["table"] == page.tags["caption"] == page.tags["thead"] == 5
    assert all(tag.get("scope") in {"col", "row"} for name, tag in page.attributes if name == "th")
    regions = [tag for _, tag in page.attributes if tag.get("class") == "scroll"]
    assert all(tag.get("tabindex") == "0" and tag.get("aria-labelledby") in page.ids for tag in regions)
    assert max(Counter(page.ids).values()) == 1


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
    head = page.text[page.text.index("Place") : page.text.index("Ended")]
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


def test_time_and_what_early_stopping_saved_are_told(study: StudyFolder) -> None:
    text = read(write_report(study)).text
    table = text[text.index("Device hours sum") :]
    assert "COLA 6 3 completed, 1 stopped early, 1 diverged, 1 interrupted 22 s 2.2 s 0.01 45 s 1.0 MB 30 %" in table


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
        Refusal, match=r"first-study: no study is here \(no manifest.json\); name the folder of a study"
    ):
        write_report(folder)


def test_a_page_that_can_not_be_written_is_refused(study: StudyFolder) -> None:
    study.report.mkdir()
    with pytest.raises(Refusal, match=r"report.html: the page can.t be written \(IsADirectoryError.*; make room"):
        write_report(study)


def test_the_report_needs_neither_ray_nor_torch_nor_mlflow() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'optuna'}"
    code = f"import sys, krona_tune.report.study_page as _; print(sorted({heavy} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


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


@pytest.mark.parametrize("cores", [1, 4])
def test_with_a_price_money_stands_beside_device_hours(study: StudyFolder, cores: int) -> None:
    plain = write_report(study).read_text(encoding="utf-8")
    written = f"resources: {{cpus_per_trial: {cores}, price_per_hour: 1000}}\n"
    study.spec.write_text(f"model: tiny\n{written}", encoding="utf-8")
    page = write_report(study).read_text(encoding="utf-8")
    manifest = read_manifest(study.manifest)
    resources = ResourcesSpec(cpus_per_trial=cores, price_per_hour=1000)
    had, price = devices_of(resources, gpu=manifest.device == "cuda"), price_of(resources)
    assert price
    whole = price.of(map(had.counted, read_records(study.results).trials))
    assert whole > 0
    section = page[page.index('<h2 id="cost">') :].partition("</table>")[0]
    assert '<th scope="col" class="number">Money</th>' in section
    assert f'<td class="number" data-value="{whole}">{format_money(whole)}</td>' in section.partition("<tfoot>")[2]
    assert "money is 1,000.00 a device hour" in section
    assert f"times the devices of each ({had.said})" in section
    hours = f'<td class="number">{whole / 1000:.2f}</td>'
    assert hours in section.partition("<tfoot>")[2]
    assert section.count("</td>") == plain[plain.index('<h2 id="cost">') :].partition("</table>")[0].count("</td>") + 4
    assert "Money" not in plain
    assert "money" not in plain.partition('<h2 id="cost">')[2].partition("</table>")[0]


def test_odd_resources_of_an_edited_request_are_refused(study: StudyFolder) -> None:
    study.spec.write_text("resources: {price_per_hour: cheap}\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"study\.yaml: its resources can't be read"):
        write_report(study)
