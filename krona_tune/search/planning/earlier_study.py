"""Reads what a new study can learn from: an earlier study, or the recorded learning curves of the package."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Geometry
from krona_tune.hub import home
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.refusal import Refusal
from krona_tune.search.planning.space import Params, Space
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import read_manifest
from krona_tune.study.network import recorded_network
from krona_tune.study.request.study_spec import RECORDED_CURVES
from krona_tune.study.result import Report, Status, TrialResult
from krona_tune.study.standings import rank_trials

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class EarlierStudy:
    """The searched trials of an earlier study with their reports, and the full budget of each task in examples.

    `geometry` is its backbone's: sites by stack, layer and role, with square maps. None if the study recorded none.
    """

    name: str
    rows: tuple[TrialResult, ...]
    reports: tuple[Report, ...]
    budgets: Mapping[str, int]
    geometry: Geometry | None

    def task(self, name: str) -> str:
        """Returns the name of a task of this study among the tasks of others."""
        return f"{self.name}/{name}"


def points_by_task(rows: Iterable[TrialResult]) -> dict[str, list[Params]]:
    """Returns each task's points whose search trials ran to their end, the best first."""
    found: dict[str, list[Params]] = {}
    for row in rank_trials(row for row in rows if row.kind == TrialKind.SEARCH and row.finished):
        found.setdefault(row.task, []).append(row.params)
    return found


RUNGS = (1, 3, 9)
"""The epochs whose reports are taken."""
WHOLE = ("a_out", "a_in", "terms", "batch_size")
KNOBS = (*WHOLE, "scaling", "scale", "roles", "layers", "learning_rate", "dropout", "warmup")


def shipped_curves(without: Collection[str] = ()) -> EarlierStudy:
    """Returns the recorded points of all tasks that are learned, but some, as searched trials of one study of KronA."""
    from krona_tune.record.recorded_curves import BACKBONE, LEARNED, curves  # imports pandas, which no other plan needs

    found = curves()
    found = found[(found.kind == TrialKind.SEARCH) & found.task.isin(set(LEARNED) - set(without))]
    return EarlierStudy(
        name=RECORDED_CURVES,
        rows=tuple(_row(points) for _, points in found.groupby(["task", "number"])),
        reports=tuple(map(_report, found[found.epochs.round().isin(RUNGS)].to_dict("records"))),
        budgets={str(task): int(examples) for task, examples in found.groupby("task").examples.max().items()},
        geometry=geometry(BACKBONE),
    )


def _name(row: Any) -> str:
    return f"{row['task']}-{row['number']:03d}"


def _row(reports: "pd.DataFrame") -> TrialResult:
    last = reports.sort_values("epochs").iloc[-1]
    scores = reports.sort_values("epochs").score.dropna()
    return TrialResult(
        trial_id=_name(last),
        task=last["task"],
        kind=TrialKind.SEARCH,
        number=int(last["number"]),
        seed=int(last["seed"]),
        fingerprint="",
        params=params_of(last),
        status=Status(last["status"]),
        score=float(scores.iloc[-1]) if len(scores) else None,
        examples=int(reports.examples.fillna(0).max()),
        ended_at=float(last["number"]),
    )


def params_of(row: Any) -> dict[str, Any]:
    """Returns the point of a row of the curves: its knobs by name, the method among them."""
    norms = {"true": True, "false": False}.get(row["layer_norms"], row["layer_norms"])
    knobs = {name: int(row[name]) if name in WHOLE else row[name] for name in KNOBS}
    return {"method": "krona", **knobs, "layer_norms": norms}


def _report(row: Any) -> Report:
    return Report(
        trial_id=_name(row),
        task=row["task"],
        rung=RUNGS.index(round(row["epochs"])),
        examples=int(row["examples"]),
        epochs=row["epochs"],
        step=int(row["step"]),
        score=row["score"],
        metrics={},
        train_loss=row["train_loss"],
        train_seconds=0.0,
        evaluation_seconds=0.0,
        peak_memory_bytes=0,
    )


FLAG = "--warm-start"


def read_earlier(named: str, space: Space) -> EarlierStudy:
    """Reads what a new study of this space can use of an earlier one.

    Args:
        named: the folder of a study, or the word for the recorded curves that come with the package.

    Raises:
        Refusal: the folder holds no study, its records can't be read, or none of its trials has a method of the space.
    """
    study = shipped_curves() if named == RECORDED_CURVES else _read(home(Path(named)))
    fitting = tuple(row for row in study.rows if row.params["method"] in space.knobs)
    if not fitting:
        tried = ", ".join(sorted({str(row.params["method"]) for row in study.rows})) or "none"
        problem = f"{named} has no trial of {' or '.join(space.methods)}; its methods: {tried}"
        raise Refusal(FLAG, problem, "leave it out, or name a study of the same methods")
    kept = {row.trial_id for row in fitting}
    return replace(study, rows=fitting, reports=tuple(each for each in study.reports if each.trial_id in kept))


def _read(folder: Path) -> EarlierStudy:
    study = StudyFolder(folder)
    if not study.results.is_dir():
        raise Refusal(FLAG, f"no study with results in {folder}", f"name a study's folder, or {RECORDED_CURVES}")
    manifest = read_manifest(study.manifest)
    of_backbone = recorded_network(manifest.model)
    return EarlierStudy(
        name=study.name,
        rows=tuple(row for row in read_trials(study.results) if row.kind == TrialKind.SEARCH),
        reports=tuple(read_reports(study.results)),
        budgets={task: facts.rungs[-1] for task, facts in manifest.tasks.items()},
        geometry=replace(of_backbone.bare(), parameters=manifest.model.parameters) if of_backbone else None,
    )
