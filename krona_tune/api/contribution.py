"""Writes the learning curves of a finished study as one file, from which new studies learn elsewhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from krona_tune import __version__
from krona_tune.api.study_request import default_to_glue
from krona_tune.record.contributed_curves import (
    POINT,
    CurvesModel,
    CurvesTask,
    Provenance,
    is_curve_file,
    write_curves,
)
from krona_tune.record.ownership import is_running
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.refusal import Refusal
from krona_tune.search.budget import Budget
from krona_tune.search.progress.study_status import read_status
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.search_spec import CURVE_FILE
from krona_tune.study.request.trial import KNOBS
from krona_tune.study.result import Report, TrialResult, grouped

METHOD = "krona"
"""The method whose points the columns can say."""
SAVES_MEMORY = {"accumulation", "gradient_checkpointing"}
"""The knobs that change no result."""
UNSAID = {
    name: field.default
    for knobs in KNOBS.values()
    for name, field in knobs.items()
    if name not in {*POINT, *SAVES_MEMORY, "method"}
}
"""The knobs that the columns can't say, with the only value that a contributed point may have."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """The numbers of what was written: points, trials and reports; and of the trials that no column can say."""

    points: int
    trials: int
    reports: int
    left_out: int


def contribute(folder: StudyFolder, path: Path) -> Contribution:
    """Writes the curves of a study's searched trials: numbers and knobs, the names of its tasks, and no text.

    Args:
        folder: the study's folder.
        path: the new file, which ends in .parquet.

    Raises:
        Refusal: the study runs or has not ended, has no trial that can be contributed, or the file can't be written.
    """
    if not is_curve_file(path.name):
        raise Refusal("--output", f"{path} does not end in {CURVE_FILE}", f"write {path.name}{CURVE_FILE}")
    manifest, trials = read_manifest(folder.manifest), read_trials(folder.results)
    spec = default_to_glue(load_spec(folder.spec))
    state = read_status(folder, trials, runs=is_running(folder), manifest=manifest, spec=spec).state
    if state.runs:
        wait = f"let it end first; krona-tune watch {folder.name}{folder.storage_flag} shows how far it is"
        raise Refusal(folder.name, f"it is {state.word}", wait)
    if state.states.to_go:
        problem = f"{state.states.to_go} of its trials have not ended"
        again = f"let it end first: krona-tune resume {folder.name}{folder.storage_flag}"
        limited = Budget.of(spec.search) != Budget()
        raise Refusal(folder.name, problem, again + ", with a higher limit if its own ended it" * limited)
    searched = [row for row in trials if row.searched]
    own = [row for row in searched if _is_said(row.params) and not row.copied_examples]
    scored = {row.task for row in own if row.score is not None}
    said = [row for row in own if row.task in scored]
    if spec.backbone.target_modules is not None or not said:
        problem = "no searched trial with a score is of the method krona, on maps that their roles name"
        fix = f"contribute a study of krona adapters, with the defaults of {', '.join(UNSAID)}"
        raise Refusal(folder.name, problem, fix)
    rows = _rows(said, read_reports(folder.results))
    tried = len({(row["task"], row["number"]) for row in rows})
    if len(rows) == tried:
        fix = "search with --set schedule.report_every=epoch, or with more rungs"
        raise Refusal(folder.name, "no trial has more than one report, which is no curve", fix)
    write_curves(path, rows, _provenance(folder, manifest, {row.task for row in said}))
    return Contribution(
        points=len({row["number"] for row in rows}),
        trials=tried,
        reports=len(rows),
        left_out=len(searched) - tried,
    )


def _is_said(params: Mapping[str, Any]) -> bool:
    """Returns whether the columns of the curves say all of a configuration that changes its results."""
    return params["method"] == METHOD and all(params.get(name, plain) == plain for name, plain in UNSAID.items())


def _rows(trials: Iterable[TrialResult], reports: Iterable[Report]) -> list[dict[str, Any]]:
    """Returns a row for each report; equal points have equal numbers on all tasks, and count once on each.

    A trial with a score of which no report is left says nothing.
    """
    of_trial, numbers = grouped(reports, lambda report: report.trial_id), dict[tuple[Any, ...], int]()
    rows, taken = [], set[tuple[str, int]]()
    for trial in sorted(trials, key=lambda row: (row.task, row.number)):
        point = {name: trial.params[name] for name in POINT}
        norms = point["layer_norms"]
        point["layer_norms"] = str(norms).lower() if isinstance(norms, bool) else norms
        number = numbers.setdefault(tuple(point.values()), len(numbers))
        found = sorted(of_trial[trial.trial_id], key=lambda report: report.examples)
        if (trial.task, number) in taken or (trial.score is not None and not found):
            continue
        taken.add((trial.task, number))
        whole = {"task": trial.task, "kind": str(TrialKind.SEARCH), "number": number, "seed": trial.seed}
        whole |= {"status": str(trial.status), **point}
        none = {"epochs": None, "examples": 0, "step": 0, "score": None, "train_loss": None}
        rows += [{**whole, **_reported(each, none)} for each in found] or [{**whole, **none}]
    return rows


def _reported(report: Report, names: Iterable[str]) -> dict[str, Any]:
    found = {name: getattr(report, name) for name in names}
    return {**found, "score": report.score if report.scored else None}


def _provenance(folder: StudyFolder, manifest: Manifest, tasks: set[str]) -> Provenance:
    model = manifest.model
    if not model.depths:
        fix = "contribute a study of this version"
        raise Refusal(folder.name, "an earlier version recorded it without the sizes of its backbone", fix)
    return Provenance(
        krona_tune=__version__,
        versions=manifest.versions,
        model=CurvesModel.model_validate(model.model_dump(include=set(CurvesModel.model_fields))),
        tasks={
            name: CurvesTask(
                **facts.model_dump(include=set(CurvesTask.model_fields) - {"budget"}), budget=facts.rungs[-1]
            )
            for name, facts in manifest.tasks.items()
            if name in tasks
        },
    )
