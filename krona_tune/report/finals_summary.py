"""Computes what the page says of the finals: the average over tasks, and the methods side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType

from krona_tune.record.records import Records
from krona_tune.report.task_summary import TaskSummary, together
from krona_tune.study.compared_values import MethodLine, compare, left_out
from krona_tune.study.manifest import Manifest
from krona_tune.study.result import Half

SOURCE = "reported by Edalati et al. (arXiv 2212.10650), as transcribed"

GLUE_AVERAGE: Mapping[str, float] = MappingProxyType(
    {
        "full": 85.65,
        "bitfit": 84.17,
        "adapter": 85.30,
        "lora": 85.73,
        "compacter": 85.82,
        "parallel_adapter": 85.86,
        "krona": 86.14,
        "krona_b": 86.28,
        "krona_b_res": 86.57,
    }
)
"""The average over GLUE with T5-base, in points (hundredths), by method; from notes that transcribe the table."""


def reported(manifest: Manifest) -> Mapping[str, float]:
    """Returns the reported averages if a study is comparable with them: T5-base on real data; else nothing."""
    name = manifest.model.name.rstrip("/").rsplit("/", maxsplit=1)[-1].lower()
    comparable = name == "t5-base" and manifest.model.model_type == "t5" and not manifest.synthetic
    return GLUE_AVERAGE if comparable else {}


@dataclass(frozen=True, kw_only=True)
class FinalAverage:
    """Means on the test half over the averaged tasks that have a winner; `head_only` is None unless each has it."""

    tasks: tuple[str, ...]
    test: float
    head_only: float | None
    seeds: tuple[int, ...]


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
        seeds=tuple(sorted({winner.seeds for _, _, winner in known})),
    )


def methods_part(recorded: Records, tasks: Sequence[TaskSummary], manifest: Manifest) -> MethodsPart | None:
    """Returns the methods side by side over the study's tasks; None if fewer than two were searched."""
    lines = compare(recorded.trials, {each.task: each.facts for each in tasks})
    beside = {method: points for method, points in reported(manifest).items() if method in {x.method for x in lines}}
    return MethodsPart(lines=lines, tasks=tuple(tasks), reported=beside, source=SOURCE) if lines else None
