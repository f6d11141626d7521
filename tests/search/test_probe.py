"""Tests that a probe trains the first third of the recommended training, and what it foretells, or why nothing."""

from pathlib import Path
from typing import Any

import pytest

from krona_tune.processor import torch_threads
from krona_tune.record.recorded_curves import CONSTANT
from krona_tune.search.planning.expected_score import BEST, GAINED, score_at_the_end
from krona_tune.search.planning.plan import Plan, make_plan, trial_seed
from krona_tune.search.planning.recommendation import Probe, Recommendation, recommend_point, with_probes
from krona_tune.search.startup.probe import probe_tasks
from krona_tune.search.startup.slots import Slots
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Report
from krona_tune.train import loop
from krona_tune.train.backbone import load_backbone
from krona_tune.train.device import this_device
from krona_tune.train.evaluate import Diverged
from krona_tune.train.loop import TrialRun, train_trial
from tests.search.models import saved_bert, saved_t5

SPACE: dict[str, Any] = {
    "adapter": {"a_out": [2, 4], "a_in": [2, 4], "scale": 1},
    "training": {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}, "batch_size": 32},
    "schedule": {"epochs": 9, "grace_epochs": 3},
    "examples": {"max_length": 40},
    "precision": "fp32",
}
WORDS = {"good": "warm bright kind", "bad": "cold dull mean"}


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return str(saved_bert(tmp_path / "bert"))


@pytest.fixture
def reviews(tmp_path: Path) -> dict[str, Any]:
    """Writes a task of one's own that a word of the text answers."""
    folder = tmp_path / "reviews"
    folder.mkdir()
    for part, size in {"train": 256, "validation": 40, "test": 40}.items():
        rows = [("good", "bad")[row % 2] for row in range(size)]
        lines = [f"{WORDS[label].split()[row % 3]} day {part} {row},{label}" for row, label in enumerate(rows)]
        (folder / f"{part}.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return {"data": str(folder), "text": "text", "label": "label"}


def planned(model: str, tasks: Any, **more: Any) -> Plan:
    """Returns a plan whose trainings see as many examples as recorded ones at least; `more` may make them shorter."""
    asked = build_spec({"model": model, "tasks": tasks, **SPACE, **more}, "x.yaml")
    return make_plan(asked.settled(), "x.yaml")


SLOTS = Slots(cpus=1, gpus=0, count=2)
FEW: dict[str, Any] = {"schedule": {"epochs": 1}, "examples": {"train": 48, "validation": 24, "max_length": 40}}


def probed(plan: Plan) -> Recommendation:
    return probe_tasks(recommend_point(plan), SLOTS, lambda task: None)


def test_a_probe_is_the_first_third_of_the_training_that_a_study_does_and_foretells_its_end(
    bert: str, reviews: dict[str, Any]
) -> None:
    begun: list[str] = []
    found = recommend_point(planned(bert, {"reviews": {**reviews, "metric": "accuracy"}}, seed=3))
    [answer] = probe_tasks(found, SLOTS, begun.append).answers
    plan, device = found.trains, this_device("fp32", gpu=False)
    work = prepare_data(plan, bert).works["reviews"]
    reports: list[Report] = []
    trial = check_trial("reviews", trial_seed(plan.spec, "reviews"), found.point)
    with torch_threads(1):
        train_trial("whole", trial, work, load_backbone(bert, device, plan.geometry), reports.append)
    assert [each.epochs for each in reports] == [3, 9]
    assert answer.probe is not None
    assert (answer.probe.score, answer.probe.share) == (reports[0].score, pytest.approx(1 / 3))
    assert (answer.constant, answer.probe.constant, answer.probe.examples) == (0.5, 0.5, 40)
    assert answer.expected is not None
    assert answer.expected.score == score_at_the_end(reports[0].score, 0.5).score
    assert answer.expected.low < answer.expected.score
    assert (begun, answer.unknown) == (["  reviews"], "")


def test_what_the_recorded_data_say_nothing_of_stays_unknown_after_a_probe(bert: str, reviews: dict[str, Any]) -> None:
    [few] = probed(planned(bert, {"reviews": reviews}, **FEW)).answers
    assert few.unknown.startswith("the recorded trainings had ")
    rows = [f"warm day {row},good" for row in range(40)]
    Path(reviews["data"], "validation.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    [alike] = probed(planned(bert, {"reviews": {**reviews, "metric": "accuracy"}}, **FEW)).answers
    assert alike.unknown == "all validation examples have the same label"
    for answer in (few, alike):
        assert answer.expected is None
        assert answer.probe is not None
        assert answer.probe.score is not None


@pytest.mark.parametrize(("examples", "least"), [(20, 0.9), (2000, 0.99)])
def test_all_right_answers_to_few_examples_are_not_all_right_answers(
    bert: str, reviews: dict[str, Any], examples: int, least: float
) -> None:
    found = recommend_point(planned(bert, {"reviews": {**reviews, "metric": "accuracy"}}))
    [answer] = with_probes(found, {"reviews": Probe(constant=0.5, examples=examples, seconds=1.0, score=1.0)}).answers
    assert answer.expected is not None
    assert least - 0.05 < answer.expected.low < 1
    assert answer.expected.high == 1


def test_no_test_example_is_read(bert: str, reviews: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialRun, "evaluate_on_test", lambda run: pytest.fail("the test half was read"))
    monkeypatch.setattr(loop, "evaluate_on_test", lambda *_: pytest.fail("the test half was read"))
    assert probed(planned(bert, {"reviews": reviews}, **FEW)).answers[0].probe


def test_a_training_that_fails_is_what_is_known_of_its_task_and_the_next_one_goes_on(
    bert: str, reviews: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = TrialRun.advance

    def failing(run: TrialRun) -> Report:
        if run.work.task.name == "first":
            raise Diverged("the training loss is nan before step 2")
        return advance(run)

    monkeypatch.setattr(TrialRun, "advance", failing)
    first, second = probed(planned(bert, {"first": reviews, "second": reviews}, schedule={"epochs": 9})).answers
    assert first.expected is None
    assert first.unknown == "its training failed: Diverged: the training loss is nan before step 2"
    assert second.probe is not None
    assert second.expected is not None


def test_a_model_that_writes_and_synthetic_data_have_a_score_but_nothing_foretells_its_end(
    tmp_path: Path, bert: str
) -> None:
    [writes] = probed(planned(str(saved_t5(tmp_path / "t5")), ["cola"], data="mini", **FEW)).answers
    [synthetic] = probed(planned(bert, ["cola"], data="mini", **FEW)).answers
    for answer, why in ((writes, "answer with a head"), (synthetic, "mini-GLUE is synthetic")):
        assert answer.probe is not None
        assert answer.probe.score is not None
        assert answer.expected is None
        assert why in answer.unknown


@pytest.mark.parametrize("constant", [0.0, *CONSTANT.values(), 0.99])
@pytest.mark.parametrize("share", [-0.5, 0.0, 0.4, 1.0])
def test_what_is_missing_after_a_third_is_closed_in_part(constant: float, share: float) -> None:
    _, middle, high = GAINED
    score = constant + share * (BEST - constant)
    end = score_at_the_end(score, constant)
    assert constant - 0.1 * (BEST - constant) <= end.low <= end.score <= end.high <= BEST
    if share >= 0:
        assert end.score == pytest.approx(score + middle * (BEST - score))
        assert end.high == pytest.approx(score + high * (BEST - score))
