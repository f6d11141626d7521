"""Tests that a trial trains from rung to rung, learns, resumes exactly and leaves the backbone unchanged."""

from dataclasses import replace
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from krona_tune.adapters.method_table import METHODS
from krona_tune.study.request.schedule import make_schedule
from krona_tune.study.result import Report, ScoreOnTest
from krona_tune.train import checkpoint
from krona_tune.train.device import Device
from krona_tune.train.evaluate import Diverged
from krona_tune.train.loop import TrialRun, share, train_trial
from tests.train.conftest import WORDS, tiny_backbone, tiny_trial, tiny_work

OF_PEFT = ("peft:HiRA", "peft:DoRA", "peft:VeRA")


def test_reports_come_at_the_rungs_and_the_loss_falls() -> None:
    reports: list[Report] = []
    train_trial("t1", tiny_trial(), tiny_work(), tiny_backbone(), reports.append)
    assert [r.examples for r in reports] == [48, 96, 192]
    assert [r.step for r in reports] == [6, 12, 24]
    assert [r.rung for r in reports] == [0, 1, 2]
    assert reports[-1].train_loss < reports[0].train_loss
    assert set(reports[0].metrics) == {"accuracy"}
    assert reports[0].peak_memory_bytes > 10**7


def test_a_sum_of_terms_learns_more_than_one_and_leaves_the_backbone_untouched() -> None:
    backbone, losses = tiny_backbone(), []
    before = {name: tensor.clone() for name, tensor in backbone.whole.state_dict().items()}
    for knobs in ({}, {"terms": 4}, {"terms": 4, "init": "cdka", "scaling": "stable", "scale": 8.0}):
        reports: list[Report] = []
        train_trial("t1", tiny_trial(**knobs), tiny_work(), backbone, reports.append)
        losses.append(reports[-1].train_loss)
    assert max(losses[1:]) < losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.whole.state_dict().items())


@pytest.mark.parametrize("method", [*METHODS, *OF_PEFT])
def test_every_method_trains_and_leaves_the_backbone_untouched(method: str) -> None:
    backbone = tiny_backbone()
    before = {name: tensor.clone() for name, tensor in backbone.whole.state_dict().items()}
    trial = tiny_trial(method=method, layer_norms=method != "head_only", dropout=0.3)
    train_trial("t1", trial, tiny_work(epochs=1), backbone, lambda report: None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.whole.state_dict().items())
    assert {m.p for m in backbone.base.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}


@pytest.mark.parametrize("layer_norms", [False, True])
@pytest.mark.parametrize("name", ["bert", "t5", "deberta-v2"])
@pytest.mark.parametrize("method", [*(name for name in METHODS if name != "head_only"), *OF_PEFT])
def test_every_method_trains_in_bfloat16(name: str, method: str, layer_norms: bool) -> None:
    backbone = tiny_backbone(name, Device(kind="cpu", dtype=torch.bfloat16))
    work = tiny_work(epochs=1, candidates=WORDS if name == "t5" else ())
    run = TrialRun("t1", tiny_trial(method=method, layer_norms=layer_norms), work, backbone)
    before = {key: tensor.clone() for key, tensor in run.state().items()}
    while not run.finished:
        run.advance()
    after = run.state()
    run.close()
    assert after.keys() == before.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    moved = [key for key, tensor in after.items() if not torch.equal(tensor, before[key])]
    assert len(moved) > len(after) / 2
    assert {p.dtype for p in backbone.base.parameters()} == {torch.bfloat16}


def test_a_text_to_text_baseline_trains_nothing_and_is_judged_all_the_same() -> None:
    reports: list[Report] = []
    work = tiny_work(candidates=WORDS)
    train_trial("t1", tiny_trial(method="head_only"), work, tiny_backbone("t5"), reports.append)
    assert len({r.score for r in reports}) == 1
    assert reports[-1].train_loss == 0


@pytest.mark.parametrize(
    "knobs",
    [
        {"batch_size": 8},
        {"batch_size": 7},
        {"terms": 3, "init": "cdka"},
        {"method": "peft:DoRA", "peft_r": 2, "peft_lora_dropout": 0.2},
        {"method": "peft:RandLoRA", "peft_r": 2},
    ],
)
def test_a_run_resumed_from_a_rung_ends_as_if_never_interrupted(tmp_path: Path, knobs: dict[str, object]) -> None:
    trial, work, backbone = (
        tiny_trial(dropout=0.2, layer_norms=True, **knobs),
        tiny_work(),
        tiny_backbone(),
    )
    whole = TrialRun("t1", trial, work, backbone)
    expected = [whole.advance() for _ in range(3)]
    state = whole.state()
    whole.close()

    first = TrialRun("t1", trial, work, backbone)
    first.advance()
    checkpoint.save(first, tmp_path)
    first.close()
    second = TrialRun("t1", trial, work, backbone)
    checkpoint.load(second, tmp_path)
    got = [second.advance() for _ in range(2)]
    second.close()

    assert [r.score for r in got] == [r.score for r in expected[1:]]
    assert [r.train_loss for r in got] == [r.train_loss for r in expected[1:]]
    assert [r.curve for r in got] == [r.curve for r in expected[1:]]
    assert all(torch.equal(tensor, state[name]) for name, tensor in second.state().items())


def test_a_checkpoint_of_another_trial_is_refused(tmp_path: Path) -> None:
    run = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    checkpoint.save(run, tmp_path)
    run.close()
    other = TrialRun("t2", tiny_trial(scale=3.0), tiny_work(), tiny_backbone())
    with pytest.raises(checkpoint.Unusable, match="is of trial"):
        checkpoint.load(other, tmp_path)


def test_equal_trials_give_equal_scores_warm_or_cold() -> None:
    work, warm = tiny_work(epochs=2), tiny_backbone()

    def scores(backbone: object) -> list[tuple[float, float]]:
        reports: list[Report] = []
        train_trial("t", tiny_trial(), work, backbone, reports.append)  # type: ignore[arg-type]
        return [(r.score, r.train_loss) for r in reports]

    first = scores(warm)
    train_trial("other", tiny_trial(method="krona_b", dropout=0.5), work, warm, lambda report: None)
    assert scores(warm) == first == scores(tiny_backbone())


def test_the_scale_matters() -> None:
    work = tiny_work(epochs=1)
    losses = []
    for scale in (0.01, 20.0):
        train_trial("t", tiny_trial(scale=scale), work, tiny_backbone(), lambda r: losses.append(r.train_loss))
    assert losses[0] != losses[1]


def test_each_report_has_its_part_of_the_training_curve() -> None:
    trial, reports = tiny_trial(warmup=0.25), []
    train_trial("t1", trial, tiny_work(), tiny_backbone(), reports.append)
    curves = [r.curve for r in reports]
    assert [[point.examples for point in curve] for curve in curves] == [[24, 48], [72, 96], [128, 160, 192]]
    for report in reports:  # the points of one report are means of equally many steps here
        losses = [point.loss for point in report.curve]
        assert sum(losses) / len(losses) == pytest.approx(report.train_loss)
    rates = [point.learning_rate for curve in curves for point in curve]
    at = share(warmup_steps=6, total_steps=24)
    assert rates == pytest.approx([1e-2 * at(step - 1) for step in (3, 6, 9, 12, 16, 20, 24)])


def test_a_loss_that_explodes_is_told_apart_before_the_rung_and_leaves_its_curve() -> None:
    trial = tiny_trial(learning_rate=1e30, clip_norm=1e30)
    run = TrialRun("t", trial, tiny_work(), tiny_backbone())
    with pytest.raises(Diverged, match=r"the training loss is .* before step 3"):
        run.advance()
    run.close()
    [point] = run.curve.unreported
    assert (point.examples, isfinite(point.loss)) == (24, False)


def test_a_parameter_that_the_last_step_before_a_rung_makes_no_number_is_a_divergence() -> None:
    run = TrialRun("t", tiny_trial(), tiny_work(), tiny_backbone())
    assert run.optimiser
    first = run.optimiser.parameters[0]
    first.register_hook(lambda gradient: gradient * (nan if run.step == 5 else 1))
    with pytest.raises(Diverged, match="a trained parameter is not finite after step 6"):
        run.advance()
    run.close()


@pytest.mark.parametrize(("task", "name"), [("rte", "bert"), ("stsb", "bert"), ("rte", "t5")])
def test_outputs_that_are_no_numbers_are_a_divergence(task: str, name: str) -> None:
    """The largest of logits that are NaN is the first, and the correlation of NaN counts as 0."""
    words = WORDS if name == "t5" else ()
    run = TrialRun("t", tiny_trial(task), tiny_work(task, candidates=words), tiny_backbone(name))

    def spoil(module: nn.Module, given: Any, output: Any) -> None:
        if not module.training:
            output.logits[-1] = nan

    run.answer.model.register_forward_hook(spoil)
    with pytest.raises(Diverged, match="what the model answers with is not finite"):
        run.advance()
    run.close()


@pytest.mark.parametrize("score", [nan, inf, -inf])
def test_a_score_that_is_no_number_is_told_as_a_divergence(monkeypatch: pytest.MonkeyPatch, score: float) -> None:
    reports: list[Report] = []
    measured = iter([0.5, score])
    monkeypatch.setattr("krona_tune.train.loop.measured", lambda *given: {"score": next(measured)})
    with pytest.raises(Diverged, match=f"the score on validation is {score} at step"):
        train_trial("t", tiny_trial(), tiny_work(), tiny_backbone(), reports.append)
    assert [each.score for each in reports] == [0.5]


def test_a_score_that_is_no_number_on_the_test_half_is_told_as_a_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    run = TrialRun("t", tiny_trial(), replace(tiny_work(), test=tiny_work().validation), tiny_backbone())
    while not run.finished:
        run.advance()
    monkeypatch.setattr(
        "krona_tune.train.loop.evaluate_on_test", lambda *given: ScoreOnTest(score=nan, metrics={}, examples=9)
    )
    with pytest.raises(Diverged, match="the score on test is nan"):
        run.evaluate_on_test()
    run.close()


def test_two_rungs_within_one_step_are_both_reported() -> None:
    work = tiny_work(rows=20)
    rungs = make_schedule(examples_per_epoch=20, epochs=1, grace_epochs=0.3, reduction=2)
    reports: list[Report] = []
    train_trial("t", tiny_trial(batch_size=16), replace(work, schedule=rungs), tiny_backbone(), reports.append)
    assert [(r.examples, r.step) for r in reports] == [(6, 1), (12, 1), (20, 2)]
    assert reports[0].train_loss == reports[1].train_loss


def test_a_regression_is_trained_and_judged_by_correlation() -> None:
    reports: list[Report] = []
    train_trial("t", tiny_trial("stsb"), tiny_work("stsb", epochs=2), tiny_backbone(), reports.append)
    assert set(reports[0].metrics) == {"pearson", "spearman"}


def test_the_share_rises_linearly_and_falls_linearly_to_zero() -> None:
    at = share(warmup_steps=4, total_steps=14)
    assert [at(step) for step in (0, 1, 4, 9, 14, 15)] == pytest.approx([0, 0.25, 1, 0.5, 0, 0])


def test_without_a_warmup_it_begins_at_one() -> None:
    assert [share(0, 3)(step) for step in range(4)] == pytest.approx([1, 2 / 3, 1 / 3, 0])
