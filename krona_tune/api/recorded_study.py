"""Reads a study's records in a Python session: its rows as frames, its charts, its best trials, its adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from krona_tune.record.ownership import is_running
from krona_tune.record.records import Records, read_records
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.refused_calls import refusing_at_the_caller
from krona_tune.report.frame import reports_frame, trials_frame
from krona_tune.report.study_page import write_report
from krona_tune.report.study_results import StudyResults, spec_of
from krona_tune.report.task_summary import TaskSummary
from krona_tune.search.waiting_orders import give_checked_order
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.order import Order, What, order_request
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import Standings
from krona_tune.study.study_state import NOT_BEGUN, StudyState, TrialStates, not_begun

if TYPE_CHECKING:
    import plotly.graph_objects as go


class RecordedStudy:
    """The records in a study's folder; each is read when it is asked for."""

    folder: StudyFolder
    _seen = False
    """Whether the study had begun when it was looked at before: then a folder without it is refused, not empty."""

    @refusing_at_the_caller
    def predict(self, task: str, examples: Sequence[str | Sequence[str]]) -> list[str]:
        """Returns an answer for each example with the task's best adapter; see `krona_tune.predict`."""
        from krona_tune.train.predict import predict

        self._summary(task)
        folder = self.folder.adapter(task)
        if not folder.is_dir():
            raise Refusal(str(self.folder.root), f"holds no adapter of {task}", "run the study to its end")
        return predict(folder, examples)

    @refusing_at_the_caller
    def report(self) -> Path:
        """Writes the study's page from its records, and returns its path."""
        return write_report(self.folder, runs=self.running)

    @property
    def running(self) -> bool:
        """Returns whether a process has the study, here or elsewhere."""
        return is_running(self.folder)

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.folder.manifest)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.manifest.tasks)

    @property
    @refusing_at_the_caller
    def trials(self) -> pd.DataFrame:
        """Returns one row per trial; the columns are those of `krona_tune.report.frame.trials_frame`."""
        return trials_frame(self._looked_at())

    @property
    @refusing_at_the_caller
    def reports(self) -> pd.DataFrame:
        """Returns one row per trial and report; the columns are those of `krona_tune.report.frame.reports_frame`."""
        return reports_frame(self._looked_at())

    @property
    @refusing_at_the_caller
    def orders(self) -> pd.DataFrame:
        """Returns one row per order that a driver has read; the columns are those of `krona_tune.study.order.Order`."""
        return pd.DataFrame([order.row() for order in self._records().orders], columns=list(Order.model_fields))

    @refusing_at_the_caller
    def order(
        self,
        what: What,
        trial: str = "",
        *,
        value: str = "",
        settings: Mapping[str, object] | None = None,
        from_last_rung: bool = False,
    ) -> Order:
        """Orders something of the study while it runs, such as `order("stop_trial", "cola-003")`.

        Args:
            what: a row of `krona_tune.study.order.OrderKind`, such as stop_trial, pause or trials.
            trial: the trial that it is about. value: +20 for trials, 4 for max_concurrent, 2h for time_budget.
            settings: what a clone changes, such as {"learning_rate": 0.001}.
            from_last_rung: a clone starts from the trial's last state.

        Returns:
            The order as it waits; its row in `orders` says what became of it.

        Raises:
            Refusal: it makes no sense, or nothing can be written beside the study.
        """
        changes = tuple(f"{name}={value}" for name, value in (settings or {}).items())
        request = order_request(what=what, trial=trial, value=value, settings=changes, from_last_rung=from_last_rung)
        return give_checked_order(self.folder, request)

    @property
    def summaries(self) -> dict[str, TaskSummary]:
        """Returns by task its ranking, its baselines and its finalists."""
        results = StudyResults(manifest=self.manifest, recorded=self._records(), spec=spec_of(self.folder))
        return {each.task: each for each in results.tasks}

    @refusing_at_the_caller
    def best(self, task: str) -> TrialResult:
        """Returns the trial that won the task: of the finals the winner's best seed, else the best of the search (if
        tasks share their configurations, the one with the best average)."""
        summary = self._summary(task)
        if summary.finals.winner:
            return summary.finals.winner.best_row
        if summary.best is None:
            raise Refusal(str(self.folder.root), f"no trial of {task} has a score", "wait for one, or look at .trials")
        return summary.best.trial

    @refusing_at_the_caller
    def charts(self, task: str) -> "dict[str, go.Figure]":
        """Returns a task's charts by name: parameters, steps, curves, scale, shapes, importance, placement, seeds.

        Those that have nothing to show are left out.
        """
        from krona_tune.report.study_charts import seeds_chart
        from krona_tune.report.task_charts import charts
        from krona_tune.study.network import network

        summary = self._summary(task)
        drawn = charts(summary, self._records().of(task), network(self.manifest.model))
        final = seeds_chart(summary.finals, one_scale=summary.one_scale)
        return {chart.name: chart.figure for chart in (*drawn, *((final,) if final else ()))}

    def __repr__(self) -> str:
        return f"<Study {self.folder.root}: {self._said()}>"

    def _repr_html_(self) -> str:
        from rich.console import Group

        from krona_tune.search.terminal.cell_view import html_of
        from krona_tune.search.terminal.result_tables import result_tables

        if not self.folder.manifest.exists():
            return html_of(repr(self))
        spec = load_spec(self.folder.spec)
        standings = Standings(self._records().trials, spec.shared_by)
        return html_of(Group(repr(self), "", result_tables(standings, self.manifest.tasks, fronts=spec.search.pareto)))

    def _is_finished(self, spec: StudySpec) -> bool:
        """Returns whether nothing is left to run; records that can't be read are, because a driver recovers them."""
        try:
            return self._state(spec).finished
        except Refusal:
            return False

    def _state(self, spec: StudySpec | None) -> StudyState:
        """Returns the state, without what is to come if the request is not given."""
        rows, to_come = self._records().trials, None
        if spec:
            to_come = sum(not_begun(spec, rows, text_to_text=self.manifest.model.text_to_text).values())
        return StudyState(runs=self.running, counts=TrialStates.of(rows, to_come=to_come))

    def _said(self) -> str:
        if not self.folder.manifest.exists():
            return NOT_BEGUN
        state = self._state(None if self.running else load_spec(self.folder.spec))
        return f"{state.word}, {state.ended} trials have ended"

    def _records(self) -> Records:
        return read_records(self._looked_at().results, runs=self.running)

    def _looked_at(self) -> StudyFolder:
        """Returns the folder. Raises a Refusal if the study that was in it is gone."""
        there = self.folder.manifest.exists()
        if self._seen and not there:
            raise Refusal(str(self.folder.root), "the study that was here is gone", "open it where it is now")
        self._seen = there
        return self.folder

    def _summary(self, task: str) -> TaskSummary:
        found = self.summaries
        refuse_unknown(str(self.folder.root), "task", found, task)
        return found[task]
