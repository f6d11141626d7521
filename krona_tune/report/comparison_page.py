"""Writes a page that compares several studies: what each found on each task, and how their requests differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import cycle
from pathlib import Path

import yaml

from krona_tune.refusal import Refusal
from krona_tune.report.chart import SCORE, Chart, Colour, empty_figure, log_axis
from krona_tune.report.html import framed, rendered, write_page
from krona_tune.report.score_charts import PARAMETERS, front_line, task_front
from krona_tune.report.study_results import (
    FinalAverage,
    SearchAverage,
    StudyResults,
    average,
    final_average,
    read_results,
)
from krona_tune.report.task_summary import TaskSummary
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import NOTHING
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.standings import Front, average_front

COLOURS = (Colour.BLUE, Colour.ORANGE, Colour.GREEN, Colour.PURPLE, Colour.RED)


@dataclass(frozen=True, kw_only=True)
class ComparedStudy:
    """One study of several. `average` and `final_average` are over the averaged tasks on which all have a result."""

    name: str
    results: StudyResults

    @cached_property
    def tasks(self) -> Mapping[str, TaskSummary]:
        return {each.task: each for each in self.results.tasks}

    def average(self, common: Sequence[str]) -> SearchAverage | None:
        return average([self.tasks[task] for task in common])

    def final_average(self, common: Sequence[str]) -> FinalAverage | None:
        found = final_average([self.tasks[task] for task in common])
        return found if found and len(found.tasks) == len(common) else None


@dataclass(frozen=True, kw_only=True)
class ComparedTask:
    """One task over the studies that have it. `same_data`: all of them saw the same examples."""

    task: str
    title: str
    studies: tuple[tuple[ComparedStudy, TaskSummary], ...]
    same_data: bool
    chart: Chart | None

    @property
    def averages(self) -> bool:
        """Returns whether the scores of all studies on validation have a mean with those of other tasks."""
        return all(s.facts is None or s.facts.averages_on("validation") for _, s in self.studies)

    @property
    def synthetic(self) -> bool:
        return any(summary.synthetic for _, summary in self.studies)


def write_comparison(folders: Sequence[StudyFolder], to: Path) -> Path:
    """Writes the page about two or more studies to the file `to`.

    Raises:
        Refusal: fewer than two different studies are named, or one of the folders holds none, or no trial.
    """
    different = list({folder.root.resolve(): folder for folder in folders}.values())
    if len(different) < 2:
        named = ", ".join(str(folder.root) for folder in different) or "no study"
        raise Refusal("studies", f"{named} is nothing to compare", "name two studies or more")
    studies = [ComparedStudy(name=name, results=read_results(folder)) for folder, name in _named(different)]
    return write_page(to, render_comparison(studies))


def render_comparison(studies: Sequence[ComparedStudy]) -> str:
    """Returns the page's HTML. Everything from records or files is escaped."""
    tasks = [_task(task, studies) for task in dict.fromkeys(task for study in studies for task in study.tasks)]
    known = [each for each in tasks if len(each.studies) == len(studies) and all(s.best for _, s in each.studies)]
    common = [each.task for each in known if len(known) == 1 or each.averages]
    front = _draw_average(studies, common)
    body = rendered(
        "comparison.html.j2",
        {
            "studies": studies,
            "tasks": tasks,
            "common": common,
            "apart": [each.title for each in known if each.task not in common],
            "titles": {each.task: each.title for each in tasks},
            "front": front,
            "synthetic": any(study.results.manifest.synthetic for study in studies),
            "differences": differences({study.name: study.results.spec for study in studies}),
            "backbones": tuple(dict.fromkeys(study.results.manifest.model.fingerprint for study in studies)),
            "version": studies[0].results.manifest.versions.get("krona_tune"),
        },
    )
    return framed(f"{' and '.join(study.name for study in studies)}: Kronecker adapters", body)


def differences(specs: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Returns the keys in which the studies' requests differ, with each study's value; its name is left out."""
    flat = [_flat(yaml.safe_load(text) or {}) for text in specs.values()]
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = {key: tuple(each.get(key, NOTHING) for each in flat) for key in keys if key != "name"}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _flat(value: object, above: str = "") -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        text = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
        return {above: text.removesuffix("...\n").strip()}
    below = (_flat(each, f"{above}.{key}" if above else str(key)) for key, each in value.items())
    return {key: text for each in below for key, text in each.items()}


def _named(folders: Sequence[StudyFolder]) -> list[tuple[StudyFolder, str]]:
    """Returns each study with its name, or with its path if another one has the same name."""
    names = [folder.root.resolve().name for folder in folders]
    return [
        (folder, name if names.count(name) == 1 else str(folder.root))
        for folder, name in zip(folders, names, strict=True)
    ]


def _task(task: str, studies: Sequence[ComparedStudy]) -> ComparedTask:
    having = tuple((study, study.tasks[task]) for study in studies if task in study.tasks)
    fronts = {study.name: task_front(summary) for study, summary in having}
    title = having[0][1].title
    chart = _draw_fronts(
        "front", f"{title}: score against trainable parameters", "The Pareto front of each study's search.", fronts
    )
    same = len({_data(summary.facts) for _, summary in having}) == 1
    return ComparedTask(task=task, title=title, studies=having, same_data=same, chart=chart)


def _data(facts: TaskFacts | None) -> object:
    return (facts.fingerprint, facts.train_examples, facts.validation_examples) if facts else None


def _draw_average(studies: Sequence[ComparedStudy], common: Sequence[str]) -> Chart | None:
    fronts = {study.name: average_front([task_front(study.tasks[task]) for task in common]) for study in studies}
    caption = f"At each size the mean over {len(common)} tasks of the best score with at most that many parameters."
    return _draw_fronts("average", "The average against trainable parameters", caption, fronts) if common else None


def _draw_fronts(name: str, title: str, caption: str, fronts: Mapping[str, Front]) -> Chart | None:
    if not any(fronts.values()):
        return None
    figure = empty_figure(PARAMETERS, SCORE)
    for (study, front), colour in zip(fronts.items(), cycle(COLOURS), strict=False):
        figure.add_trace(front_line(escape(study, quote=False), front, colour))
    figure.update_xaxes(log_axis([size for front in fronts.values() for size, _ in front]))
    return Chart(name=name, title=title, caption=caption, figure=figure)
