"""Computes what a whole study has found: its averages, what its tasks share, its methods side by side, its troubles."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from statistics import fmean
from types import MappingProxyType
from typing import Any

from krona_tune.adapters.method_table import METHODS
from krona_tune.atomic_write import read_text
from krona_tune.record.records import Records, read_records
from krona_tune.refusal import Refusal
from krona_tune.report.cost import Cost, DeviceRates, device_rates, total_cost
from krona_tune.report.task_summary import TaskSummary, summarise
from krona_tune.study.compared_methods import MethodLine, averaged, compare_methods, left_out
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import PUT_BACK, Manifest, read_manifest
from krona_tune.study.request.loader import read_section
from krona_tune.study.request.plain_yaml import read_yaml
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.result import Half, Status, TrialResult
from krona_tune.study.search_end import READ_OF_SEARCH, search_ends
from krona_tune.study.standings import Front, SharedConfiguration, Standings, front_of


@dataclass(frozen=True, kw_only=True)
class SearchAverage:
    """Means over the `tasks`: those that have a result and are averaged. A baseline's mean is None unless each of them
    has it."""

    tasks: tuple[str, ...]
    best: float
    constant: float | None
    baseline: float | None


@dataclass(frozen=True, kw_only=True)
class FinalAverage:
    """Means on the test half over the averaged tasks that have a winner; `head_only` is None unless each has it."""

    tasks: tuple[str, ...]
    test: float
    head_only: float | None
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SharedPart:
    """The configurations that were trained to the end on every task, the best average first; `begun` were begun."""

    ranked: Sequence[SharedConfiguration]
    begun: int

    @property
    def front(self) -> Front:
        """Returns (parameters, average) of those that none beats with as few."""
        return front_of([(each.parameters, each.average) for each in self.ranked], lambda point: point)


@dataclass(frozen=True, kw_only=True)
class MethodsPart:
    """The methods' table: a line per method, and what others report of it, in points, if that is comparable."""

    lines: tuple[MethodLine, ...]
    tasks: tuple[TaskSummary, ...]
    reported: Mapping[str, float]
    source: str

    @property
    def halves(self) -> set[Half]:
        return {cell.half for line in self.lines for cell in line.cells.values()}

    @property
    def alone(self) -> tuple[str, ...]:
        """Returns the titles of the tasks that some average leaves out."""
        alone = left_out({each.task: each.facts for each in self.tasks}, self.halves)
        return tuple(each.title for each in self.tasks if each.task in alone)


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """Computes what a study has found, from its manifest, its records and the text of its request; each part is
    computed once, when it is asked for. Tasks that share their configurations are judged together."""

    manifest: Manifest
    recorded: Records
    spec: str

    @cached_property
    def asked(self) -> Mapping[str, Any]:
        """Returns the request's keys and values. Raises a Refusal if its text holds none."""
        return read_yaml(self.spec, "study.yaml") or {}

    @cached_property
    def tasks(self) -> tuple[TaskSummary, ...]:
        """Returns one summary per task: those of the manifest in their order, then others that have records."""
        facts, running = self.manifest.tasks, self.recorded.running
        names = dict.fromkeys((*facts, *(trial.task for trial in self.recorded.trials)))
        return tuple(summarise(task, self.standings, facts.get(task), running) for task in names)

    @cached_property
    def standings(self) -> Standings:
        return Standings(self.recorded.trials, tuple(self.manifest.tasks) if self._search.shared else ())

    @cached_property
    def shared(self) -> SharedPart | None:
        """Returns the configurations of a study whose tasks share them; None of another."""
        begun = {row.number for row in self.recorded.trials if row.searched}
        return SharedPart(ranked=self.standings.shared, begun=len(begun)) if self._search.shared else None

    @cached_property
    def search_ends(self) -> tuple[str, ...]:
        """Returns a sentence about each task whose search ended by itself."""
        titles = {each.task: each.title for each in self.tasks}
        return search_ends(self._search, self.recorded.trials, titles)

    @cached_property
    def _search(self) -> SearchSpec:
        return read_section(self.asked, "search", SearchSpec, *READ_OF_SEARCH, "shared")

    @cached_property
    def average(self) -> SearchAverage | None:
        return average(self.tasks)

    @cached_property
    def rates(self) -> DeviceRates:
        return device_rates(self.asked, self.manifest)

    @cached_property
    def cost(self) -> Cost:
        return total_cost(self.recorded.trials, self.rates)


def read_results(folder: StudyFolder, *, runs: bool = False) -> StudyResults:
    """Returns what a study has recorded so far; `runs`: another process is running it.

    Raises:
        Refusal: there is no study in the folder, it can't be read, or it names no task or holds no trial, so that no
            good page gives way to an empty one.
    """
    manifest, recorded = read_manifest(folder.manifest), read_records(folder.results, runs=runs)
    results = StudyResults(manifest=manifest, recorded=recorded, spec=request_text(folder))
    if not manifest.tasks:
        raise Refusal(str(folder.manifest), "names no task", PUT_BACK)
    if not recorded.trials:
        fix = "put the study's records back; a study that has just begun has no page before its first trial"
        raise Refusal(str(folder.results), "holds no trial", fix)
    return results


def request_text(folder: StudyFolder) -> str:
    """Returns the text of study.yaml, empty if it is missing. Raises a Refusal if it holds anything but keys."""
    fix = "put back what the study was begun with"
    text = read_text(folder.spec, fix)
    if not isinstance(read_yaml(text, str(folder.spec)), dict | None):
        raise Refusal(str(folder.spec), "holds no keys and values", fix)
    return text


def together(tasks: Sequence[TaskSummary], half: Half) -> list[TaskSummary]:
    """Returns those of a study's tasks whose scores on a half have a mean, and fit on one axis."""
    names = averaged({each.task: each.facts for each in tasks}, half)
    return [each for each in tasks if each.task in names]


def average(tasks: Sequence[TaskSummary]) -> SearchAverage | None:
    """Returns the mean best score over the tasks that have one and are averaged, and the same mean for both baselines;
    None if there is no such task."""
    scored = [each for each in together(tasks, "validation") if each.best is not None]
    if not scored:
        return None
    return SearchAverage(
        tasks=tuple(each.task for each in scored),
        best=sum(each.best.score for each in scored if each.best) / len(scored),
        constant=_mean([each.constant_score for each in scored]),
        baseline=_mean([each.baseline_score for each in scored]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and isfinite(value)]
    return sum(known) / len(known) if len(known) == len(values) else None


def final_average(tasks: Sequence[TaskSummary]) -> FinalAverage | None:
    """Returns the winners' mean test score over the tasks that have finalists and are averaged; None if none is."""
    won = [(each.task, each.finals, each.finals.winner) for each in together(tasks, "test")]
    known = [(task, finals, winner) for task, finals, winner in won if winner is not None]
    if not known:
        return None
    heads = [finals.head_only.test.mean for _, finals, _ in known if finals.head_only]
    return FinalAverage(
        tasks=tuple(task for task, _, _ in known),
        test=fmean([winner.test.mean for _, _, winner in known]),
        head_only=fmean(heads) if len(heads) == len(known) else None,
        seeds=tuple(sorted({len(winner.learned) for _, _, winner in known})),
    )


SOURCE = "reported by Edalati et al. (arXiv 2212.10650), as transcribed"

GLUE_AVERAGE: Mapping[str, float] = MappingProxyType(
    {method.name: method.glue_average for method in METHODS.values() if method.glue_average is not None}
)
"""The average over GLUE with T5-base, in points (hundredths), by method; from notes that transcribe the table."""


def reported(manifest: Manifest) -> Mapping[str, float]:
    """Returns the reported averages if a study is comparable with them: T5-base on real data; else nothing."""
    name = manifest.model.name.rstrip("/").rsplit("/", maxsplit=1)[-1].lower()
    comparable = name == "t5-base" and manifest.model.model_type == "t5" and not manifest.synthetic
    return GLUE_AVERAGE if comparable else {}


def methods_part(results: StudyResults) -> MethodsPart | None:
    """Returns the methods side by side over the study's tasks; None if fewer than two were searched."""
    facts = {each.task: each.facts for each in results.tasks}
    lines = compare_methods(results.standings.rows, facts, results.standings.shared_by)
    searched, known = {line.method for line in lines}, reported(results.manifest)
    beside = {method: points for method, points in known.items() if method in searched}
    return MethodsPart(lines=lines, tasks=results.tasks, reported=beside, source=SOURCE) if lines else None


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Trials with the same status and reason (the last line of their error); `text` is the first whole error."""

    status: Status
    reason: str
    text: str
    tasks: tuple[str, ...]
    trials: tuple[TrialResult, ...]


def troubles(tasks: Iterable[TaskSummary]) -> tuple[Trouble, ...]:
    """Returns the troubles, the most frequent first."""
    together: dict[tuple[Status, str], list[tuple[str, TrialResult]]] = defaultdict(list)
    for summary in tasks:
        for trial in summary.troubled:
            together[trial.status, trial.reason].append((summary.title, trial))
    found = [
        Trouble(
            status=status,
            reason=reason,
            text=pairs[0][1].error.strip(),
            tasks=tuple(dict.fromkeys(title for title, _ in pairs)),
            trials=tuple(trial for _, trial in pairs),
        )
        for (status, reason), pairs in together.items()
    ]
    return tuple(sorted(found, key=lambda each: -len(each.trials)))
