"""Tests that the test half is evaluated after the last rung, in its own order, without an effect on training."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from krona_tune.data.batches import Batch
from krona_tune.data.metrics import measure
from krona_tune.data.tasks import TASKS
from krona_tune.study.kinds import TrialKind
from krona_tune.study.randomness import RESAMPLES
from krona_tune.train import checkpoint
from krona_tune.train.evaluate import evaluate, predict
from krona_tune.train.loop import TrialRun
from tests.train.conftest import WORDS, table, tiny_backbone, tiny_trial, tiny_work


def finished(task: str = "rte", name: str = "bert", *, test_rows: int = 44) -> TrialRun:
    regression = TASKS[task].is_regression
    words = WORDS if name == "t5" else ()
    work = replace(tiny_work(task, epochs=2, candidates=words), test=table(test_rows, 3, regression))
    run = TrialRun("t1", tiny_trial(task), work, tiny_backbone(name))
    while not run.finished:
        run.advance()
    return run


@pytest.mark.parametrize(("task", "name"), [("rte", "bert"), ("stsb", "bert"), ("rte", "t5")])
def test_the_score_is_that_of_an_ordinary_evaluation(task: str, name: str) -> None:
    run = finished(task, name)
    look = run.evaluate_on_test()
    assert run.work.test is not None
    expected = evaluate(run.answer, run.work.task, run.work.test, run.work.pad_token_id, run.backbone.device)
    assert {"score": look.score, **look.metrics} == expected
    assert (look.examples, len(look.resampled)) == (44, RESAMPLES)


@pytest.mark.parametrize(("task", "name"), [("rte", "bert"), ("stsb", "bert"), ("rte", "t5")])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("no room")])
def test_batches_that_memory_does_not_hold_are_evaluated_in_parts(task: str, name: str, error: Exception) -> None:
    run, entered = finished(task, name), []

    def full(of: pa.Table, batch: Batch) -> None:
        if len(batch.rows) > 3:
            raise error
        entered.extend(batch.rows.tolist())

    work, device, whole = run.work, run.backbone.device, run.work.test
    assert whole is not None
    expected = predict(run.answer, work.task, whole, work.pad_token_id, device)
    found = predict(run.answer, work.task, whole, work.pad_token_id, device, full)
    assert found == pytest.approx(expected, abs=1e-5)
    assert sorted(entered) == list(range(44))
    assert evaluate(run.answer, work.task, whole, work.pad_token_id, device, full) == pytest.approx(
        evaluate(run.answer, work.task, whole, work.pad_token_id, device), abs=1e-6
    )


@pytest.mark.parametrize(
    ("error", "rows"), [(torch.OutOfMemoryError("CUDA out of memory"), "1"), (ValueError("odd"), "[0-9]{2}")]
)
def test_one_row_that_memory_does_not_hold_and_any_other_error_are_raised(error: Exception, rows: str) -> None:
    def full(of: pa.Table, batch: Batch) -> None:
        raise error

    run = finished()
    with pytest.raises(type(error)) as caught:
        evaluate(run.answer, run.work.task, run.work.validation, 0, run.backbone.device, full)
    [note] = caught.value.__notes__[-1:]
    assert re.fullmatch(rf"in a batch of {rows} × \d+ tokens", note)


def test_resampled_scores_scatter_about_the_score_as_chance_has_it() -> None:
    """For a share p on n examples the standard deviation is √(p(1−p)/n)."""
    run = finished(test_rows=64)
    look = run.evaluate_on_test()
    assert np.mean(look.resampled) == pytest.approx(look.score, abs=0.02)
    assert np.std(look.resampled) == pytest.approx(np.sqrt(look.score * (1 - look.score) / 64), rel=0.15)


def test_every_finalist_of_a_task_has_the_same_draws_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trials that are right on the same rows have the same resampled scores."""
    runs = finished(), finished()
    monkeypatch.setattr("krona_tune.train.evaluate.predict", lambda *_: np.arange(44) % 3 // 2)
    first, second = (run.evaluate_on_test() for run in runs)
    assert first.resampled == second.resampled
    assert len(set(first.resampled)) > 5


def test_a_finalist_predicts_no_half_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What its last evaluation found is drawn from; a trial that was resumed after that finds it again."""
    ended = finished()
    checkpoint.save(ended, tmp_path)
    resumed = TrialRun("t1", ended.trial, ended.work, tiny_backbone())
    checkpoint.load(resumed, tmp_path)
    seen: list[int] = []
    usual = predict

    def counted(answer: object, task: object, of: pa.Table, *given: object) -> object:
        seen.append(len(of))
        return usual(answer, task, of, *given)  # type: ignore[arg-type]

    monkeypatch.setattr("krona_tune.train.evaluate.predict", counted)
    draws = []
    for run in (ended, resumed):
        run.trial = run.trial.model_copy(update={"kind": TrialKind.FINALIST})
        draws.append(run.evaluate_on_test().validation)
    assert seen == [44, 44, len(ended.work.validation)]
    assert len(draws[0]) == RESAMPLES
    assert draws[0] == draws[1]


def test_predictions_stand_in_the_tables_order() -> None:
    run = finished("stsb")
    work, whole = run.work, run.work.test
    assert whole is not None
    every = predict(run.answer, work.task, whole, work.pad_token_id, run.backbone.device)
    some = predict(run.answer, work.task, whole.slice(30, 9), work.pad_token_id, run.backbone.device)
    assert every[30:39] == pytest.approx(some, abs=1e-4)
    assert measure(work.task, every, whole.column("label").to_numpy())["score"] == run.evaluate_on_test().score


def test_there_is_no_look_before_the_end_or_without_a_test_half() -> None:
    work = replace(tiny_work(), test=table(44, 3))
    early = TrialRun("t1", tiny_trial(), work, tiny_backbone())
    with pytest.raises(ValueError, match="t1: it has not ended or has no test half"):
        early.evaluate_on_test()
    early.close()
    ended = TrialRun("t2", tiny_trial(), tiny_work(epochs=1), tiny_backbone())
    ended.advance()
    with pytest.raises(ValueError, match="has no test half"):
        ended.evaluate_on_test()
