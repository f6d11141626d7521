"""Makes up events of a study, and the manifest that goes with them."""

from dataclasses import replace
from typing import Any

from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import Manifest, ModelFacts, TaskFacts
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Curve, CurvePoint, Report, Status, TrialResult

RUNGS = (340, 1020, 3060)


def started(number: int, task: str = "cola", kind: str = TrialKind.SEARCH, **params: Any) -> TrialResult:
    config = check_trial(task, 7 + number, {"scale": 0.5 + number, "a_out": 24, "a_in": 16, **params}, kind)
    return TrialResult(
        trial_id=f"{task}-{number:04d}",
        task=task,
        kind=kind,
        number=number,
        seed=config.seed,
        fingerprint=config.fingerprint,
        params=config.params(),
        started_at=1_700_000_000.0 + 10 * number,
    )


def report(trial: TrialResult, rung: int, score: float) -> Report:
    examples = RUNGS[rung]
    return Report(
        trial_id=trial.trial_id,
        task=trial.task,
        rung=rung,
        examples=examples,
        epochs=examples / 340,
        step=examples // 17,
        score=score,
        metrics={"matthews": score},
        train_loss=0.7 - 0.1 * rung,
        train_seconds=2.5,
        evaluation_seconds=0.25,
        peak_memory_bytes=1_000_003,
    )


def curve(*losses: float, after: int = 0, to: int = RUNGS[0]) -> Curve:
    """Returns a curve with these losses at equal distances; its learning rate falls."""
    seen = [after + (to - after) * number // len(losses) for number in range(1, len(losses) + 1)]
    return tuple(CurvePoint(each, loss, 0.01 - each / 10**6) for each, loss in zip(seen, losses, strict=True))


def ended(trial: TrialResult, status: Status, reports: list[Report], error: str = "") -> TrialResult:
    last = reports[-1] if reports else None
    return replace(
        trial,
        status=status,
        score=last.score if last else None,
        rung=last.rung if last else None,
        epochs=last.epochs if last else 0.0,
        examples=last.examples if last else 0,
        metrics=last.metrics if last else {},
        trainable_parameters=2000 + trial.number,
        trainable_percent=0.01,
        train_seconds=2.5 * len(reports),
        evaluation_seconds=0.25 * len(reports),
        peak_memory_bytes=1_000_003 if reports else 0,
        ended_at=trial.started_at + 9,
        error=error,
    )


def manifest(*tasks: str, synthetic: bool = False) -> Manifest:
    return Manifest(
        name="first-study",
        created_at="2025-01-02T03:04:05+00:00",
        command="python run_study.py --tasks cola,rte",
        seed=7,
        precision="fp32",
        device="a processor",
        workers=2,
        versions={"torch": "2.9"},
        model=ModelFacts(name="tiny", source="here", model_type="bert", parameters=1_000_000, fingerprint="abc123"),
        tasks={
            task: TaskFacts(
                title=task.upper(),
                metrics=("matthews",) if task == "cola" else ("accuracy",),
                provenance="made up",
                synthetic=synthetic,
                fingerprint=f"f-{task}",
                train_examples=340,
                validation_examples=100,
                constant_score=0.0 if task == "cola" else 0.55,
                rungs=RUNGS,
            )
            for task in tasks
        },
    )
