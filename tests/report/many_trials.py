"""Makes up the records of a study with many trials, without writing a file."""

from dataclasses import replace
from math import log10
from random import Random

from krona_tune.backbones.geometry import Stack
from krona_tune.record.records import Records
from krona_tune.report.chart import Subject
from krona_tune.report.task_summary import summarise
from krona_tune.study.backbone_outline import BackboneOutline
from krona_tune.study.result import Report, Status, TrialResult
from krona_tune.study.standings import Standings
from tests.record.events import ended, manifest, report, started

SIZES = (8, 12, 16, 24, 32, 48)


def crowd(trials: int, task: str = "cola") -> Records:
    """Returns this many searched trials of a task; two thirds stop at the first rung; the learning rate decides."""
    random = Random(11)
    rows: list[TrialResult] = []
    reports: list[Report] = []
    for number in range(trials):
        trial = _trial(random, number, task)
        reached = 3 if number % 3 == 0 else 1
        score = 0.6 - 0.2 * abs(log10(trial.params["learning_rate"]) + 2.5) + random.uniform(-0.05, 0.05)
        own = [report(trial, rung, score - 0.05 * (2 - rung)) for rung in range(reached)]
        status = Status.COMPLETED if reached == 3 else Status.STOPPED_EARLY
        cost = trial.params["a_out"] * trial.params["a_in"] + 147_456 // (trial.params["a_out"] * trial.params["a_in"])
        rows.append(replace(ended(trial, status, own), trainable_parameters=12 * cost))
        reports += own
    return Records(trials=tuple(rows), reports=tuple(reports))


def _trial(random: Random, number: int, task: str) -> TrialResult:
    return started(
        number,
        task,
        scale=random.choice((1.0, 2.0, 4.0, 8.0)),
        a_out=random.choice(SIZES),
        a_in=random.choice(SIZES),
        learning_rate=10 ** random.uniform(-4, -1),
        roles=random.choice(("query+value", "query+key+value+output")),
        layers=random.choice(("all", "last 3")),
    )


FACTS = manifest("cola").tasks["cola"]
BERT = BackboneOutline(width=384, depths={Stack.ENCODER: 6})
T5 = BackboneOutline(width=768, depths={Stack.ENCODER: 3, Stack.DECODER: 3})


def subject(trials: int, backbone: BackboneOutline | None = None) -> Subject:
    """Returns a task with this many trials, as its charts are drawn from it."""
    recorded = crowd(trials)
    return Subject(summary=summarise("cola", Standings(recorded.trials), FACTS), recorded=recorded, backbone=backbone)


def subject_of(*trials: TrialResult) -> Subject:
    """Returns cola with these trials, as its charts are drawn from it."""
    return Subject(summary=summarise("cola", Standings(trials), None), recorded=Records(trials=trials))


_STUDY = manifest("cola", synthetic=True)
T5_STUDY = _STUDY.model_copy(
    update={
        "model": _STUDY.model.model_copy(update={"width": 384, "depths": {Stack.ENCODER: 6, Stack.DECODER: 6}}),
    }
)
"""The manifest of a study of a T5 with six layers in each stack."""
