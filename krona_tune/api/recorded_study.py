"""Reads a study's records in a Python session: its rows as frames, its charts, its best trials, its adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from krona_tune.record.ownership import is_running
from krona_tune.record.records import Records, read_records
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.refused_calls import refusing_at_the_caller
from krona_tune.report.record_frames import reports_frame, trials_frame
from krona_tune.report.study_page import write_report
from krona_tune.report.study_results import StudyResults, request_text
from krona_tune.report.task_summary import TaskSummary
from krona_tune.search.progress.study_status import read_status
from krona_tune.search.waiting_orders import give_checked_order
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.order import Order, What, order_request
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import Standings
from krona_tune.study.study_state import NOT_BEGUN, StudyState

if TYPE_CHECKING:
    import plotly.graph_objects as go

GONE = "the study that was here is gone"


class RecordedStudy:
    """Reads the records in a study's folder, each when it is asked for."""

    folder: StudyFolder
    """The study's folder and the files in it."""
    _seen = False
    """Whether the study had begun when it was looked at before: then a folder without it is refused, not empty."""

    @refusing_at_the_caller
    def predict(self, task: str, examples: Sequence[str | Sequence[str]]) -> list[str]:
        """Answers each example with the adapter that is chosen of the task, as `krona_tune.predict` does.

        Args:
            task: a task of the study.
            examples: one text each, or for a task of pairs two texts in the order of the task's inputs.

        Returns:
            A label, a number as text, or what the model writes, in the order of the examples.

        Raises:
            Refusal: the study has no such task or no adapter of it yet, or an example has another number of texts.
        """
        from krona_tune.train.predict import predict

        self._summary(task)
        folder = self.folder.adapter(task)
        if not folder.is_dir():
            raise Refusal(str(self.folder.root), f"holds no adapter of {task}", "run the study to its end")
        return predict(folder, examples)

    @refusing_at_the_caller
    def report(self) -> Path:
        """Writes the study's page from its records, a self-contained HTML file, and returns its path."""
        return write_report(self.folder, runs=self.running)

    @property
    def running(self) -> bool:
        """Returns whether a process has the study, here or elsewhere."""
        return is_running(self.folder)

    @property
    def manifest(self) -> Manifest:
        """Returns what the study ran with: versions, device, data and model with their fingerprints."""
        return read_manifest(self.folder.manifest)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Returns the names of the study's tasks."""
        return tuple(self.manifest.tasks)

    @property
    @refusing_at_the_caller
    def trials(self) -> pd.DataFrame:
        """Returns one row per trial, whatever its status.

        Columns: `trial_id`, `task`, `kind` (search, baseline, finalist, repeat, full_train or full_data), `number`,
        `seed`, `fingerprint`, `status`, `score` on validation, `rung`, `epochs`, `examples`, `copied_examples`,
        `adapter_parameters`, `norm_parameters`, `head_parameters`, `trainable_parameters` (all three),
        `trainable_percent` (of the backbone, without the head), `train_seconds`, `evaluation_seconds`, `device`,
        `devices`, `device_seconds`, `peak_memory_bytes`, `started_at`,
        `paused_seconds`, `ended_at`, `failed_at` (of one that was retried), `error`, `checkpoint`, every knob under its
        own name (`method`, `scale`, `a_out`, `a_in`, `learning_rate`, ...), `metric_...` for each metric, and
        `factor_shape` such as `24x16`. A searched trial's row has `proposed_by` and, if a model of the study proposed
        it, `expected_score` and `expected_deviation`. A repeat's, a finalist's and a full training's row has `of`, the
        searched trial that is trained again, and a clone's the trial that it changes. A finalist's and a `full_train`'s
        has from the test half `test_score`, `test_examples`, `test_metric_...` and `test_resampled`, its scores on
        examples drawn again (NaN for a draw that has none; `test_note` says how many have none, or why there are no
        such scores), and `validation_resampled`, the same on the validation half. The lists `curve_...` are as in
        `reports`, after the last report: a trial that diverged or was stopped between two has some.
        """
        return trials_frame(self._looked_at())

    @property
    @refusing_at_the_caller
    def reports(self) -> pd.DataFrame:
        """Returns one row per trial and report: at each rung, or also after each epoch.

        Columns: `trial_id`, `task`, `rung`, `examples`, `epochs`, `step`, `score` on validation, `train_loss`,
        `train_seconds`, `evaluation_seconds`, `peak_memory_bytes`, and `metric_...` for each metric. The lists
        `curve_examples`, `curve_loss` and `curve_learning_rate` are the training curve since the report before: after
        so many training examples, the mean loss since the last point, and the learning rate. They are empty if an
        earlier version recorded the report.
        """
        return reports_frame(self._looked_at())

    @property
    @refusing_at_the_caller
    def orders(self) -> pd.DataFrame:
        """Returns one row per order that a driver has read.

        Columns: `id`; `what`, `trial`, `settings`, `from_last_rung` and `value` as ordered; `by`, who gave it;
        `given_at` and `ended_at`, seconds since the epoch; `state`; `outcome`, what it changed or why it was refused;
        `made`, such as the trial that a clone is.
        """
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
            what: stop_trial, clone_trial, pause, continue, stop, cancel, retry, trials, max_concurrent or time_budget.
            trial: the trial that it is about.
            value: what it sets: +20 for trials, 4 for max_concurrent, 2h for time_budget.
            settings: what a clone changes, such as {"learning_rate": 0.001}.
            from_last_rung: a clone starts from the trial's last state.

        Returns:
            The order as it waits; its row in `orders` says what became of it.

        Raises:
            Refusal: it makes no sense, or nothing can be written beside the study.
        """
        changes = tuple(f"{name}={'null' if value is None else value}" for name, value in (settings or {}).items())
        request = order_request(what=what, trial=trial, value=value, settings=changes, from_last_rung=from_last_rung)
        return give_checked_order(self.folder, request)

    @property
    def summaries(self) -> dict[str, TaskSummary]:
        """Returns by task its ranking, its baselines and its finalists."""
        results = StudyResults(manifest=self.manifest, recorded=self._records(), spec=request_text(self.folder))
        return {each.task: each for each in results.tasks}

    @property
    def verdicts(self) -> dict[str, tuple[str, ...]]:
        """Returns by task, in the page's words, whether anything was learned, whether the best of a search is not
        shown to be better than the head alone, which seeds of finalists did not learn, which finalists can't be told
        apart from the winner, and which difference would have been seen."""
        return {task: each.verdicts.all for task, each in self.summaries.items()}

    @refusing_at_the_caller
    def best(self, task: str) -> TrialResult:
        """Returns the trial that won the task: of the finals the winner's best seed, else the best of the search (if
        tasks share their configurations, the one with the best average).

        Args:
            task: a task of the study.

        Raises:
            Refusal: the study has no such task, or no trial of it has a score.
        """
        return self._scored(task, self._summary(task).winner)

    @refusing_at_the_caller
    def chosen(self, task: str) -> TrialResult:
        """Returns the trial that is chosen of the task: the winner, or the default configuration or the head alone, if
        finals did not show that a finalist is better. `predict`, `train` and `krona-tune export` take its adapter.

        Args:
            task: a task of the study.

        Raises:
            Refusal: the study has no such task, or no trial of it has a score.
        """
        return self._scored(task, self._summary(task).chosen)

    def _scored(self, task: str, found: TrialResult | None) -> TrialResult:
        if found is None:
            raise Refusal(str(self.folder.root), f"no trial of {task} has a score", "wait for one, or look at .trials")
        return found

    @refusing_at_the_caller
    def charts(self, task: str) -> "dict[str, go.Figure]":
        """Returns a task's charts by name: seeds, parameters, steps, curves, losses, scale, shapes,
        importance, effects, placement.

        Those that have nothing to show are left out.

        Args:
            task: a task of the study.

        Raises:
            Refusal: the study has no such task.
        """
        from krona_tune.report.task_charts import draw_charts
        from krona_tune.study.backbone_outline import recorded_outline

        summary = self._summary(task)
        drawn = draw_charts(summary, self._records().of(task), recorded_outline(self.manifest.model))
        return {chart.name: chart.figure for chart in drawn}

    def __repr__(self) -> str:
        return f"<Study {self.folder.shown}: {self._state_text()}>"

    def _repr_html_(self) -> str:
        from rich.console import Group
        from rich.text import Text

        from krona_tune.search.terminal.cell_view import html_of
        from krona_tune.search.terminal.result_tables import build_result_tables

        said = Text(repr(self))
        if not self.folder.manifest.exists():
            return html_of(said)
        try:
            spec = load_spec(self.folder.spec)
            standings = Standings(self._records().trials, spec.shared_by)
            found = build_result_tables(standings, self.manifest.tasks, spec.search)
        except Refusal:  # the first line says it
            return html_of(said)
        return html_of(Group(said, "", found))

    def _is_finished(self, spec: StudySpec) -> bool:
        """Returns whether nothing is left to run; records that can't be read are, because a driver recovers them."""
        try:
            return self._state(spec).finished
        except Refusal:
            return False

    def _state(self, spec: StudySpec | None = None) -> StudyState:
        """Returns the state; with another request, that of a study that is asked for what this says."""
        recorded, manifest = self._records(), self.manifest
        found = read_status(
            self.folder, recorded.trials, recorded.orders, runs=self.running, manifest=manifest, spec=spec
        )
        return found.state

    def _state_text(self) -> str:
        if not self.folder.manifest.exists():
            return GONE if self._seen else "begins" if self.running else NOT_BEGUN
        try:
            state = self._state()
        except Refusal as refusal:
            return str(refusal)
        return f"{state.word}, {state.ended} trials have ended"

    def _records(self) -> Records:
        return read_records(self._looked_at().results, runs=self.running)

    def _looked_at(self) -> StudyFolder:
        """Returns the folder. Raises a Refusal if the study that was in it is gone."""
        there = self.folder.manifest.exists()
        if self._seen and not there:
            raise Refusal(str(self.folder.root), GONE, "open it where it is now")
        self._seen = there
        return self.folder

    def _summary(self, task: str) -> TaskSummary:
        found = self.summaries
        refuse_unknown(str(self.folder.root), "task", found, task)
        return found[task]
