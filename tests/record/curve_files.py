"""Makes up contributed curves of two points on CoLA."""

from typing import Any

from krona_tune.backbones.geometry import Stack
from krona_tune.record.contributed_curves import CurvesModel, CurvesTask, Provenance
from krona_tune.record.recorded_curves import COLUMNS

EPOCHS = (1.0, 3.0)


def task(metrics: tuple[str, ...] = ("matthews",)) -> CurvesTask:
    """Returns what is known of CoLA's data."""
    return CurvesTask(
        contents="c" * 64,
        synthetic=False,
        metrics=metrics,
        constant_score=0.0,
        train_examples=600,
        validation_examples=400,
        budget=1800,
    )


def provenance() -> Provenance:
    """Returns where the curves are from: a backbone of the packaged one's sizes."""
    depths = {Stack.ENCODER: 6}
    model = CurvesModel(fingerprint="f", model_type="bert", parameters=22_713_216, width=384, depths=depths)
    return Provenance(krona_tune="0.1.0", versions={"torch": "2"}, model=model, tasks={"cola": task()})


def rows(scores: tuple[float, ...] = (0.2, 0.5), **point: Any) -> list[dict[str, Any]]:
    """Returns a point for each final score, with a learning rate of its own, and a report after each of EPOCHS."""
    shape = {"a_out": 24.0, "a_in": 16.0, "terms": 1.0, "scaling": "plain", "scale": 2.0, "roles": "value+output"}
    plain = {**shape, "layers": "last 2", "layer_norms": "false", "batch_size": 32.0, "dropout": 0.0, "warmup": 0.06}
    found = [
        {
            **{"task": "cola", "kind": "search", "number": number, "seed": 3, "status": "completed", **plain, **point},
            "learning_rate": 1e-3 * (1 + number),
            **{"epochs": epochs, "examples": int(600 * epochs), "step": int(19 * epochs)},
            **{"score": score * epochs / EPOCHS[-1], "train_loss": 0.6},
        }
        for number, score in enumerate(scores)
        for epochs in EPOCHS
    ]
    return [{name: row[name] for name in COLUMNS} for row in found]
