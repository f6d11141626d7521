"""Opens a study in a notebook: its rows as frames, its charts as figures, its best trials."""

from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from krona_tune.record.ownership import is_running
from krona_tune.record.records import Records, read_records
from krona_tune.refusal import Refusal, unknown
from krona_tune.report.charts.seeds import seeds_chart
from krona_tune.report.charts.task_charts import charts
from krona_tune.report.frame import reports_frame, trials_frame
from krona_tune.report.pages.study_page import spec_of
from krona_tune.report.summary.shared_summary import judged_together, shared_part
from krona_tune.report.summary.task_summary import TaskSummary, summaries
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.network import network
from krona_tune.study.result import TrialResult


@dataclass(frozen=True)
class Study:
    """The records of a study; each property shows them as they were when it was first read."""

    folder: StudyFolder
    manifest: Manifest

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.summaries)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """Returns one row per trial; the columns are those of `krona_tune.report.frame.trials_frame`."""
        return trials_frame(self.folder)

    @cached_property
    def reports(self) -> pd.DataFrame:
        """Returns one row per trial and report; the columns are those of `krona_tune.report.frame.reports_frame`."""
        return reports_frame(self.folder)

    @cached_property
    def summaries(self) -> dict[str, TaskSummary]:
        """Returns by task its ranking, its baselines and its finalists."""
        shared = shared_part(self._records, self.manifest, spec_of(self.folder))
        return {each.task: each for each in judged_together(summaries(self._records, self.manifest), shared)}

    def best(self, task: str) -> TrialResult:
        """Returns the trial that won the task: of the finals the winner's best seed, else the best of the search (if
        tasks share their configurations, the one with the best average).

        Raises:
            Refusal: the study has no such task, or no trial of it has a score.
        """
        summary = self._summary(task)
        if summary.finals.winner:
            return summary.finals.winner.best_row
        if summary.best is None:
            raise Refusal(str(self.folder.root), f"no trial of {task} has a score", "wait for one, or look at .trials")
        return summary.best.trial

    def charts(self, task: str) -> dict[str, go.Figure]:
        """Returns a task's charts by name: parameters, steps, curves, scale, shapes, importance, placement, seeds.

        Those that have nothing to show are left out.

        Raises:
            Refusal: the study has no such task.
        """
        summary = self._summary(task)
        drawn = charts(summary, self._records.of(task), network(self.manifest.model))
        final = seeds_chart(summary.finals)
        return {chart.name: chart.figure for chart in (*drawn, *((final,) if final else ()))}

    @cached_property
    def _records(self) -> Records:
        return read_records(self.folder.results, runs=is_running(self.folder))

    def _summary(self, task: str) -> TaskSummary:
        if task not in self.summaries:
            raise unknown(str(self.folder.root), "task", task, self.summaries)
        return self.summaries[task]


def open_study(folder: str | PathLike[str]) -> Study:
    """Opens the study in a folder such as `studies/NAME`; it may still run.

    Raises:
        Refusal: there is no study in the folder.
    """
    place = StudyFolder(Path(folder))
    return Study(folder=place, manifest=read_manifest(place.manifest))
