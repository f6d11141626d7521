"""Makes an earlier study of the recorded learning curves that come with the package."""

from collections.abc import Collection
from typing import Any

import pandas as pd

from krona_tune.backbones.find_geometry import geometry
from krona_tune.record.recorded_curves import BACKBONE, LEARNED, curves
from krona_tune.search.planning.earlier_study import EarlierStudy
from krona_tune.study.request.study_spec import RECORDED_CURVES
from krona_tune.study.result import Report, Status, TrialResult

RUNGS = (1, 3, 9)
"""The epochs whose reports are taken."""
WHOLE = ("a_out", "a_in", "terms", "batch_size")
KNOBS = (*WHOLE, "scaling", "scale", "roles", "layers", "learning_rate", "dropout", "warmup")


def shipped_curves(without: Collection[str] = ()) -> EarlierStudy:
    """Returns the recorded points of all tasks that are learned, but some, as searched trials of one study of KronA."""
    found = curves()
    found = found[(found.kind == "search") & found.task.isin(set(LEARNED) - set(without))]
    return EarlierStudy(
        name=RECORDED_CURVES,
        rows=tuple(_row(points) for _, points in found.groupby(["task", "number"])),
        reports=tuple(map(_report, found[found.epochs.round().isin(RUNGS)].to_dict("records"))),
        budgets={str(task): int(examples) for task, examples in found.groupby("task").examples.max().items()},
        geometry=geometry(BACKBONE),
    )


def _name(row: Any) -> str:
    return f"{row['task']}-{row['number']:03d}"


def _row(reports: pd.DataFrame) -> TrialResult:
    last = reports.sort_values("epochs").iloc[-1]
    scores = reports.sort_values("epochs").score.dropna()
    return TrialResult(
        trial_id=_name(last),
        task=last["task"],
        kind="search",
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
