"""Reads what a new study can learn from: an earlier study, or the recorded learning curves of the package."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Geometry
from krona_tune.hub import home
from krona_tune.record.contributed_curves import AGAIN, WHOLE_KNOBS, is_curve_file, read_curves
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.record.recorded_curves import BACKBONE, LEARNED, curve_table
from krona_tune.refusal import Refusal
from krona_tune.search.planning.space import Params, Space
from krona_tune.study.backbone_outline import BackboneOutline, recorded_outline
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import read_manifest
from krona_tune.study.request.search_spec import RECORDED_CURVES
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Report, Status, TrialResult, grouped
from krona_tune.study.standings import rank_trials

BY_LOSS = ("the loss of the targets",)
"""Stands for the metrics of a task whose trials are compared by that."""


@dataclass(frozen=True, kw_only=True)
class EarlierStudy:
    """The searched trials of an earlier study with their reports, and the full budget of each task in examples.

    `geometry` is its backbone's: sites by stack, layer and role, with square maps. None if the study recorded none.
    `contents` are the hashes of the tasks' data, `metrics` how they are scored, `constants` the scores of their best
    constant answers and `synthetic` those of generated data, as far as curves say it. `left_out` are tasks from which
    nothing is taken, because nothing was learned on them.
    """

    name: str
    rows: tuple[TrialResult, ...]
    reports: tuple[Report, ...]
    budgets: Mapping[str, int]
    geometry: Geometry | None
    contents: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    synthetic: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()

    @property
    def unlearned(self) -> frozenset[str]:
        """Returns the tasks on which no trial is known to score above the constant answer."""
        better = {
            row.task
            for row in self.rows
            if row.score is not None and row.score > self.constants.get(row.task, math.inf)
        }
        return frozenset(self.constants.keys() - better)

    def without(self, tasks: Collection[str]) -> "EarlierStudy":
        """Returns this study without the trials of some tasks."""
        rows = tuple(row for row in self.rows if row.task not in tasks)
        return replace(
            self,
            rows=rows,
            reports=tuple(each for each in self.reports if each.trial_id in {row.trial_id for row in rows}),
            budgets={task: budget for task, budget in self.budgets.items() if task not in tasks},
            constants={task: score for task, score in self.constants.items() if task not in tasks},
            synthetic=self.synthetic - set(tasks),
        )

    def task(self, name: str) -> str:
        """Returns the name of a task of this study among the tasks of others."""
        return f"{self.name}/{name}"


def points_by_task(rows: Iterable[TrialResult]) -> dict[str, list[Params]]:
    """Returns each task's points whose search trials ran to their end, the best first."""
    found: dict[str, list[Params]] = {}
    for row in rank_trials(row for row in rows if row.searched and row.finished):
        found.setdefault(row.task, []).append(row.params)
    return found


RUNGS = (1, 3, 9)
"""The epochs whose reports are taken."""
TAUGHT_KNOBS = (*WHOLE_KNOBS, "scaling", "scale", "roles", "layers", "learning_rate", "dropout", "warmup")


def shipped_curves(without: Collection[str] = ()) -> EarlierStudy:
    """Returns the recorded points of all tasks that are learned, but some, as searched trials of one study of KronA."""
    learned = set(LEARNED) - set(without)
    found = [row for row in curve_table().to_pylist() if row["kind"] == TrialKind.SEARCH and row["task"] in learned]
    rows = _trials(found)
    return EarlierStudy(
        name=RECORDED_CURVES,
        rows=rows,
        reports=tuple(
            _report(row, RUNGS.index(round(row["epochs"])))
            for row in found
            if row["epochs"] and round(row["epochs"]) in RUNGS
        ),
        budgets={
            task: max(row.examples for row in rows if row.task == task) for task in sorted({row.task for row in rows})
        },
        geometry=geometry(BACKBONE),
        contents={task: contents for task, contents in LEARNED.items() if task in learned},
    )


def contributed_curves(named: str) -> EarlierStudy:
    """Returns the curves of a file that somebody contributed, as searched trials of one study of KronA.

    Raises:
        Refusal: it is no such file, or holds what no study leaves.
    """
    path = home(Path(named))
    curves = read_curves(path)
    model, tasks = curves.provenance.model, curves.provenance.tasks
    rows = [row for row in curves.rows if row["kind"] == TrialKind.SEARCH]
    reported = sorted((row for row in rows if row["epochs"] is not None), key=itemgetter("epochs"))
    by_trial = grouped(reported, itemgetter("task", "number"))
    reports = [_report(row, rung) for group in by_trial.values() for rung, row in enumerate(group)]
    found = _trials(rows)
    for each in {row.number: row for row in found}.values():
        _refuse_odd_point(str(path), each)
    there = sorted({row.task for row in found})
    return EarlierStudy(
        name=path.name,
        rows=found,
        reports=tuple(reports),
        budgets={task: tasks[task].budget for task in there},
        geometry=replace(BackboneOutline(width=model.width, depths=model.depths).bare(), parameters=model.parameters),
        contents={task: tasks[task].contents for task in there},
        metrics={task: BY_LOSS if tasks[task].compared_by_loss else tasks[task].metrics for task in there},
        constants={task: tasks[task].constant_score for task in there},
        synthetic=frozenset(task for task in there if tasks[task].synthetic),
    )


def _refuse_odd_point(place: str, row: TrialResult) -> None:
    try:
        check_trial(row.task, 0, row.params)
    except ValidationError as error:
        name = ".".join(map(str, error.errors()[0]["loc"]))
        raise Refusal(place, f"the point {row.number} can't be trained: {name}", AGAIN) from None


def _trials(rows: Iterable[Any]) -> tuple[TrialResult, ...]:
    """Returns the trials of rows of curves, in the order of their tasks and numbers."""
    points = grouped(rows, itemgetter("task", "number"))
    return tuple(_row(points[key]) for key in sorted(points))


def _name(row: Any) -> str:
    return TrialKind.SEARCH.facts.id_of(task=row["task"], number=row["number"])


def _row(reports: Sequence[Any]) -> TrialResult:
    ordered = sorted(reports, key=lambda row: row["epochs"] or 0.0)
    last, scores = ordered[-1], [row["score"] for row in ordered if row["score"] is not None]
    return TrialResult(
        trial_id=_name(last),
        task=last["task"],
        kind=TrialKind.SEARCH,
        number=last["number"],
        seed=last["seed"],
        fingerprint="",
        params=params_of(last),
        status=Status(last["status"]),
        score=scores[-1] if scores else None,
        examples=max(row["examples"] or 0 for row in reports),
        ended_at=float(last["number"]),
    )


def params_of(row: Any) -> dict[str, Any]:
    """Returns the point of a row of the curves: its knobs by name, the method among them, without what is its model's
    own."""
    norms = {"true": True, "false": False}.get(row["layer_norms"], row["layer_norms"])
    knobs = {
        name: int(row[name]) if name in WHOLE_KNOBS else row[name] for name in TAUGHT_KNOBS if row[name] is not None
    }
    return {"method": "krona", **knobs, "layer_norms": norms}


def _report(row: Any, rung: int) -> Report:
    return Report(
        trial_id=_name(row),
        task=row["task"],
        rung=rung,
        examples=row["examples"],
        epochs=row["epochs"],
        step=row["step"],
        score=math.nan if row["score"] is None else row["score"],
        metrics={},
        train_loss=math.nan if row["train_loss"] is None else row["train_loss"],
        train_seconds=0.0,
        evaluation_seconds=0.0,
        peak_memory_bytes=0,
    )


FLAG = "--warm-start"


def read_earlier(named: str, space: Space) -> EarlierStudy:
    """Reads what a new study of this space can use of an earlier one.

    Args:
        named: the folder of a study, a file of contributed curves, or the word for the recorded curves that come with
            the package.

    Raises:
        Refusal: the folder holds no study, or the file no curves; its records can't be read, or none of its trials
            has a method of the space.
    """
    study = _named(named)
    unlearned = study.unlearned
    if unlearned and not (study := replace(study.without(unlearned), left_out=tuple(sorted(unlearned)))).rows:
        raise Refusal(FLAG, f"no trial of {named} scores above the constant answer", "leave it out")
    fitting = tuple(row for row in study.rows if row.params["method"] in space.knobs)
    if not fitting:
        tried = ", ".join(sorted({str(row.params["method"]) for row in study.rows})) or "none"
        problem = f"{named} has no trial of {' or '.join(space.methods)}; its methods: {tried}"
        raise Refusal(FLAG, problem, "leave it out, or name a study of the same methods")
    kept = {row.trial_id for row in fitting}
    return replace(study, rows=fitting, reports=tuple(each for each in study.reports if each.trial_id in kept))


def _named(named: str) -> EarlierStudy:
    if named == RECORDED_CURVES:
        return shipped_curves()
    return contributed_curves(named) if is_curve_file(named) else _read(home(Path(named)))


def _read(folder: Path) -> EarlierStudy:
    study = StudyFolder(folder)
    if not study.results.is_dir():
        raise Refusal(FLAG, f"no study with results in {folder}", f"name a study's folder, or {RECORDED_CURVES}")
    manifest = read_manifest(study.manifest)
    of_backbone = recorded_outline(manifest.model)
    return EarlierStudy(
        name=study.name,
        rows=tuple(row for row in read_trials(study.results) if row.searched),
        reports=tuple(read_reports(study.results)),
        budgets={task: facts.rungs[-1] for task, facts in manifest.tasks.items()},
        geometry=replace(of_backbone.bare(), parameters=manifest.model.parameters) if of_backbone else None,
    )
