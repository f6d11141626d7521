"""Tests which configuration a full training takes, and that wrong words are refused."""

from pathlib import Path
from typing import Any

import pytest

from krona_tune.refusal import Refusal
from krona_tune.search.full_training import FullTraining, configuration
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.study.request.loader import build_spec
from krona_tune.study.result import TrialResult
from tests.rows import row
from tests.search.models import saved_bert


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    asked = {
        "model": str(saved_bert(tmp_path / "bert")),
        "data": "mini",
        "tasks": ["cola", "rte"],
        "examples": {"max_length": 32},
    }
    return make_plan(build_spec(asked, "x.yaml"), "x.yaml")


def tried(trial_id: str, score: float | None, **more: Any) -> TrialResult:
    params = {"method": "krona", "learning_rate": 0.01}
    return row(trial_id.partition("-")[0], score=score, trial_id=trial_id, params=params, **more)


ROWS = [
    tried("cola-000", 0.2),
    tried("cola-001", 0.4),
    tried("rte-000", 0.5),
    tried("rte-head-0", 0.9, kind="baseline"),
]


def test_the_winner_is_trained_unless_a_trial_is_named(plan: Plan) -> None:
    assert configuration(ROWS, plan.spec, {}, "cola", None).trial_id == "cola-001"
    assert configuration(ROWS, plan.spec, {}, None, "cola-000").trial_id == "cola-000"


@pytest.mark.parametrize(
    ("task", "trial", "message"),
    [
        (None, None, "--task: the study has cola, rte; choose one with --task"),
        ("colaa", None, "--task: unknown task 'colaa', did you mean 'cola'?"),
        (None, "rte-head", "--trial: unknown trial 'rte-head', did you mean 'rte-head-0'?"),
        ("rte", "cola-000", "--trial: cola-000 is of cola; leave --task out"),
    ],
)
def test_a_wrong_word_is_refused(plan: Plan, task: str | None, trial: str | None, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        configuration(ROWS, plan.spec, {}, task, trial)
    assert str(refused.value) == message


def test_a_task_without_a_result_is_refused(plan: Plan) -> None:
    with pytest.raises(Refusal, match="no trial of cola has a score; resume the study"):
        configuration([tried("cola-000", None), ROWS[2]], plan.spec, {}, "cola", None)


def test_every_seed_has_an_id_and_a_seed_of_its_own(plan: Plan) -> None:
    final = tried("cola-final-1-s2", 0.4, kind="finalist", of="cola-001")
    two, three = (FullTraining(of=final, seeds=seeds, everything=True).trials(0) for seeds in (2, 3))
    assert [message.trial_id for message in three] == [f"cola-001-full-data-s{index}" for index in (1, 2, 3)]
    assert two == three[:2]
    assert len({message.seed for message in three}) == 3
