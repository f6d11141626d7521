"""Tests that a probe times steps like those of trials, and leaves the backbone unchanged."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from krona_tune.processor import torch_threads
from krona_tune.train import step_times as module
from krona_tune.train.step_times import SIZES, sequences, sizes_of, time_steps
from tests.train.conftest import WORDS, tiny_backbone, tiny_trial, tiny_work


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_steps_of_three_sizes_are_timed_and_a_prediction_of_each_task(name: str) -> None:
    backbone = tiny_backbone(name)
    before = {key: tensor.clone() for key, tensor in backbone.whole.state_dict().items()}
    words = WORDS if name == "t5" else ()
    works = {task: tiny_work(task, candidates=words) for task in ("rte", "mrpc")}
    found = time_steps(backbone, works, tiny_trial())
    longest = backbone.geometry.positions or 1000
    assert [(step.rows, step.length) for step in found.steps] == [(n, min(length, longest)) for n, length in SIZES]
    assert all(step.seconds > 0 for step in found.steps)
    assert found.forward_shares.keys() == works.keys()
    assert name == "t5" or found.forward_shares["rte"] == found.forward_shares["mrpc"]
    assert (found.head_share is None) == (name == "t5")
    assert name == "t5" or 0 < found.head_share < 1
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.whole.state_dict().items())


def test_a_step_of_another_trial_is_timed_beside() -> None:
    trial, works = tiny_trial(), {"rte": tiny_work()}
    assert time_steps(tiny_backbone(), works, trial).usual_share == 1.0
    assert time_steps(tiny_backbone(), works, trial, trial).usual_share == 1.0
    found = time_steps(tiny_backbone(), works, trial, tiny_trial(layers="last 1"))
    assert found.usual_share > 0
    assert found.usual_share != 1.0


def test_long_texts_are_timed_at_their_length_in_few_rows() -> None:
    work = tiny_work()
    assert sizes_of({"rte": work}) == list(SIZES)
    for length, rows in ((200, 8), (1_000, 2), (4_000, 1)):
        long = replace(work, train=sequences(work, 10, length))
        assert sizes_of({"rte": work, "mrpc": long}) == [*SIZES[:2], (rows, length)]


def test_a_metric_that_has_no_value_on_a_few_rows_does_not_prevent_timing(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text("def judge(labels, answers):\n    return 1 / (len(labels) // 100)\n")
    work = tiny_work()
    task = replace(work.task, metrics=("judge",), functions=(("judge", f"{tmp_path}/judge.py:judge"),))
    assert time_steps(tiny_backbone(), {"rte": replace(work, task=task)}, tiny_trial()).forward_shares["rte"] > 0


@pytest.mark.parametrize(
    ("threads", "own", "clock"), [(1, False, "thread_time"), (1, True, "perf_counter"), (2, False, "perf_counter")]
)
def test_one_thread_is_timed_by_its_own_clock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int, own: bool, clock: str
) -> None:
    """Each look at the right clock is one second later, so that everything takes one second."""
    (tmp_path / "judge.py").write_text("def judge(labels, answers):\n    return 1.0\n")
    work = tiny_work()
    functions = (("judge", f"{tmp_path}/judge.py:judge"),) if own else ()
    work = replace(work, task=replace(work.task, functions=functions, metrics=("judge",) if own else work.task.metrics))
    seconds = count()
    monkeypatch.setattr(module, "time", SimpleNamespace(**{clock: lambda: float(next(seconds))}))
    with torch_threads(threads):
        found = time_steps(tiny_backbone(), {"rte": work}, tiny_trial())
    assert [step.seconds for step in found.steps] == [1.0] * 3
    assert (found.forward_shares["rte"], found.head_share) == (1.0, 1.0)


def test_a_baseline_that_trains_nothing_is_not_asked_for() -> None:
    with pytest.raises(AssertionError):
        time_steps(tiny_backbone("t5"), {"rte": tiny_work(candidates=WORDS)}, tiny_trial(method="head_only"))


def test_sequences_are_the_tasks_rows_over_and_over_at_one_length() -> None:
    work = tiny_work(rows=5)
    table = sequences(work, 7, 11)
    assert [len(ids) for ids in table["input_ids"].to_pylist()] == [11] * 7
    assert table["label"].to_pylist() == [work.train["label"][row].as_py() for row in (0, 1, 2, 3, 4, 0, 1)]
    first = work.train["input_ids"][0].as_py()
    assert table["input_ids"][5].as_py()[: len(first)] == first[:11]
