"""Tests the worker: each step is a rung, each failure a result, and a warm worker is equal to a new one."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from math import isfinite, nan
from pathlib import Path

import pytest
import torch

from krona_tune.record.driver_state import TrialProgress, ask_to_stop, forget_to_stop
from krona_tune.record.ownership import lock_of
from krona_tune.record.trial_checkpoints import latest_checkpoint
from krona_tune.refusal import Refusal
from krona_tune.search.trial_message import StepResult
from krona_tune.search.worker import trainable
from krona_tune.search.worker.trainable import (
    KronaTrial,
    Workplace,
    describe,
    status_of_error,
)
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Report, ScoreOnTest, Status
from krona_tune.train.backbone import Backbone, warm_backbone
from krona_tune.train.evaluate import Diverged
from krona_tune.train.loop import TrialRun
from tests.search.workers import WORKS, Workers, all_steps, config, measured


def hooks(backbone: Backbone) -> int:
    """Returns how many modules an adapter acts on, by a hook or by replacing their forward."""
    # private: torch lists a module's hooks nowhere else
    return sum(bool(module._forward_hooks) or "forward" in vars(module) for module in backbone.whole.modules())


def test_a_step_is_a_rung_and_the_last_one_is_done(worker: Workers) -> None:
    results = all_steps(worker(config()))
    assert [r["examples"] for r in results] == [48, 96, 192]
    assert [r["report"]["rung"] for r in results] == [0, 1, 2]
    assert [r["done"] for r in results] == [False, False, True]
    assert [r.get("status") for r in results] == [None, None, "completed"]
    assert [r["score"] for r in results] == [r["report"]["score"] for r in results]


def test_what_crosses_the_border_is_plain_and_makes_the_same_report(worker: Workers) -> None:
    for result in all_steps(worker(config(task="stsb"))):
        assert json.loads(json.dumps(result)) == result
        report = Report.from_dict(result["report"])
        assert report.curve[-1].examples == report.examples
        assert (report.trial_id, report.task) == ("stsb-000", "stsb")
        assert set(report.metrics) == {"pearson", "spearman"}


def test_a_warm_worker_gives_the_scores_of_a_new_one(worker: Workers, backbone: Backbone) -> None:
    warm_backbone.cache_clear()
    cold = all_steps(worker(config(1, roles="query+output", layer_norms=True)))
    warm = worker(config(2, method="krona_b", dropout=0.5))
    warm.step()
    assert warm.reset_config(config(3, "stsb", learning_rate=3e-2))
    warm.step()
    assert warm.reset_config(config(4, roles="query+output", layer_norms=True))
    assert measured(all_steps(warm)) == measured(cold)


def test_a_trial_stopped_between_two_rungs_leaves_the_backbone_as_it_was(worker: Workers, backbone: Backbone) -> None:
    before = hooks(backbone)
    stopped = worker(config())
    stopped.step()
    assert hooks(backbone) > before
    stopped.reset_config(config(1))
    assert hooks(backbone) == before


def test_a_trial_taken_up_again_repeats_its_last_report_and_ends_as_if_never_stopped(worker: Workers) -> None:
    whole = all_steps(worker(config(0)))
    first = worker(config(1))
    told = [first.step(), first.step()]
    first.cleanup()
    again = all_steps(worker(config(1)))
    assert again[0] == told[1]
    assert measured([*told, *again[1:]]) == measured(whole)
    assert again[-1]["status"] == "completed"


def test_a_trial_that_had_ended_says_so_again(worker: Workers) -> None:
    ended = all_steps(worker(config()))[-1]
    assert worker(config()).step() == ended


def test_frozen_layers_are_stored_for_the_machines_later_trials_and_stop_at_any_rung(
    worker: Workers, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = config(layers="last 1", dropout=0.0)
    expected = all_steps(worker(above))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    storing = worker(above, stored_bytes=10**9, checkpoints=str(tmp_path / "other"))
    found = measured(all_steps(storing))
    assert [score for _, score, _ in found] == pytest.approx([score for _, score, _ in measured(expected)])
    assert len(list((tmp_path / "cache" / "krona_tune" / "hidden_states").glob("*.safetensors"))) == 3
    storing.reset_config(above | {"trial_id": "rte-001"})
    storing.step()
    before = hooks(backbone)
    storing.reset_config(config(2))
    assert before > 0 == hooks(backbone)
    storing.cleanup()


def test_only_the_last_rungs_state_is_kept(worker: Workers, tmp_path: Path) -> None:
    running = worker(config())
    for rung in (1, 2):
        checkpoint = running.step()["checkpoint"]
        assert checkpoint == str(tmp_path / "rte-000" / f"rung-{rung}")
        assert {path.name for path in (tmp_path / "rte-000").iterdir()} == {"progress", f"rung-{rung}"}
    running.step()
    assert [path.name for path in (tmp_path / "rte-000").iterdir()] == ["rung-3"], "the trial is at its end"
    running.cleanup()


def test_between_two_rungs_a_trial_has_a_note_of_its_curve_until_its_worker_leaves_it(
    worker: Workers, tmp_path: Path
) -> None:
    running = worker(config())
    running.step()
    note = TrialProgress.model_validate_json((tmp_path / "rte-000" / "progress").read_bytes())
    assert (note.share, [point.examples for point in note.curve]) == (0.25, [24, 48])
    running.reset_config(config(1))
    assert not (tmp_path / "rte-000" / "progress").exists()


def test_an_unfinished_state_is_passed_over(worker: Workers, tmp_path: Path) -> None:
    expected = all_steps(worker(config(0)))
    (tmp_path / "rte-001" / ".unfinished-1").mkdir(parents=True)
    assert measured(all_steps(worker(config(1)))) == measured(expected)
    assert not list((tmp_path / "rte-001").glob(".*"))


def test_the_highest_rung_is_the_latest(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nothing") is None
    for name in ("rung-2", "rung-10", "rung-9", ".unfinished-11"):
        (tmp_path / name).mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "rung-10"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Diverged("the training loss is nan before step 6"), Status.DIVERGED),
        (MemoryError("no room"), Status.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), Status.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), Status.OUT_OF_MEMORY),
        (RuntimeError("could not create a primitive"), Status.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), Status.OUT_OF_MEMORY),
        (RuntimeError("could not create a primitive descriptor for a matmul"), Status.FAILED),
        (RuntimeError("shapes do not match"), Status.FAILED),
        (KeyError("label"), Status.FAILED),
    ],
)
def test_a_failure_is_a_result_and_the_worker_lives_on(
    worker: Workers, backbone: Backbone, monkeypatch: pytest.MonkeyPatch, error: Exception, status: Status
) -> None:
    def fail(run: TrialRun, stop_asked: object) -> Report:
        raise error

    before = hooks(backbone)
    failing = worker(config())
    with monkeypatch.context() as patched:
        patched.setattr(TrialRun, "advance", fail)
        result = failing.step()
    assert (result["status"], result["done"]) == (str(status), True)
    assert result["error"].startswith(f"{type(error).__name__}: {error}")
    assert "fail" in result["error"]
    assert "score" not in result
    assert json.loads(json.dumps(result)) == result
    assert hooks(backbone) == before
    failing.reset_config(config(1))
    assert failing.step()["report"]["rung"] == 0
    failing.cleanup()


def test_a_worker_that_is_asked_to_stop_does_so_within_a_rung_and_lives_on(worker: Workers, tmp_path: Path) -> None:
    asked = worker(config())
    asked.step()
    ask_to_stop(tmp_path, config()["trial_id"])
    result = asked.step()
    assert (result["status"], result["done"], result["error"]) == ("stopped_by_user", True, "")
    assert not {"score", "curve"} & result.keys(), "the first rung's report has the curve"
    forget_to_stop(tmp_path, config()["trial_id"])
    asked.reset_config(config(1))
    assert asked.step()["report"]["rung"] == 0
    asked.cleanup()


def test_a_rung_that_finds_no_room_waits_at_the_rung_below(
    worker: Workers, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(run: TrialRun, folder: Path) -> None:
        (folder / "half").touch()
        raise OSError(28, "No space left on device")

    expected = all_steps(worker(config(0)))
    before = hooks(backbone)
    trial = worker(config(1))
    trial.step()
    with monkeypatch.context() as patched:
        patched.setattr("krona_tune.train.checkpoint.save", full)
        result = trial.step()
    assert result.pop("seconds") > 0
    assert result == {
        "status": "interrupted",
        "done": True,
        "error": "the state of rte-001 could not be kept: OSError: [Errno 28] No space left on device",
    }
    assert hooks(backbone) == before
    assert measured(all_steps(worker(config(1)))) == measured(expected)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_worker_whose_study_was_renamed_makes_no_folder_under_its_old_name(
    worker: Workers, tmp_path: Path, *, replaced: bool
) -> None:
    study, renamed = StudyFolder(tmp_path / "a"), StudyFolder(tmp_path / "b")
    expected = all_steps(worker(config(0)))
    with lock_of(study):
        trial = worker(config(1), checkpoints=str(study.checkpoints))
        told = trial.step()
    study.root.rename(renamed.root)
    if replaced:
        with lock_of(study):
            pass
    before = list(tmp_path.rglob("*"))
    late = [] if replaced else [worker(config(2), checkpoints=str(study.checkpoints))]
    for each in (trial, *late):
        ended = each.step()
        assert (ended["status"], ended["done"]) == ("interrupted", True)
        assert f"could not be kept: {study.root} was moved or replaced" in ended["error"]
        each.cleanup()
    assert list(tmp_path.rglob("*")) == before
    again = all_steps(worker(config(1), checkpoints=str(renamed.checkpoints)))
    assert measured([told, *again[1:]]) == measured(expected)


class Loading:
    """Takes the place of what loads a backbone: its first tries fail."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.tries = list(errors), 0

    def __call__(self, *place: object) -> Backbone:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return warm_backbone(*place)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loading]:
    """Returns a function that lets the next tries to load the backbone fail with these errors, without pauses."""

    def make(*errors: Exception) -> Loading:
        loading = Loading(*errors)
        monkeypatch.setattr(trainable, "warm_backbone", loading)
        monkeypatch.setattr(trainable, "LOADING_PAUSES", (0.0, 0.0))
        return loading

    return make


AWAY = Refusal("google-t5/t5-small", "can't be loaded (OSError: the hub does not answer)", "save the model again")


def test_a_machine_without_the_backbone_uses_up_no_trials(worker: Workers, loads: Callable[..., Loading]) -> None:
    """A node that joins later was not looked at before the start: each trial there would fail within seconds."""
    loading, trial = loads(*[AWAY] * 3), worker(config())
    result = trial.step()
    said = f"{socket.gethostname()} can't load the backbone: Refusal: {AWAY}"
    assert (result["status"], result["done"], result["error"], loading.tries) == ("interrupted", True, said, 3)


@pytest.mark.parametrize(
    ("cause", "ends"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), None),
    ],
)
def test_what_a_refused_backbone_met_decides_about_the_trial_and_its_worker(
    worker: Workers, loads: Callable[..., Loading], cause: Exception, ends: str | None
) -> None:
    """Quantised weights are put onto the GPU where they are loaded."""
    refusal = Refusal("m", "can't be loaded")
    refusal.__cause__ = cause
    loads(refusal)
    trial = worker(config())
    if ends:
        assert trial.step()["status"] == ends
    else:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            trial.step()  # Ray ends the worker, whose GPU no later trial can use


def test_a_trial_on_a_share_of_a_gpu_takes_no_more_of_its_memory(
    worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    worker(config()).step()
    worker(config(), share=0.5).step()
    assert shares == [0.5]


def test_a_hub_that_is_away_for_a_moment_is_waited_for(worker: Workers, loads: Callable[..., Loading]) -> None:
    loading, trial = loads(AWAY, AWAY), worker(config())
    assert (trial.step()["report"]["rung"], loading.tries) == (0, 3)
    trial.cleanup()


def test_memory_that_a_backbone_does_not_find_is_the_trial_s_own_end(
    worker: Workers, loads: Callable[..., Loading]
) -> None:
    loading = loads(torch.OutOfMemoryError("CUDA out of memory"))
    assert (worker(config()).step()["status"], loading.tries) == ("out_of_memory", 1)


def test_memory_that_runs_out_while_a_state_is_kept_is_no_matter_of_the_disk(
    worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(run: TrialRun, folder: Path) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("krona_tune.train.checkpoint.save", full)
    result = worker(config()).step()
    assert (result["status"], result["seconds"] > 0) == ("out_of_memory", True), "no report counts them"


def test_a_loss_that_explodes_is_told_as_diverged(worker: Workers) -> None:
    result = worker(config(learning_rate=1e30, clip_norm=1e30)).step()
    assert (result["status"], result["done"]) == ("diverged", True)
    assert "the training loss is" in result["error"]
    [point] = StepResult.from_dict(result).curve
    assert (point.examples, isfinite(point.loss)) == (24, False)


@pytest.mark.parametrize("again", [False, True], ids=["at its rung", "taken up from a state of before"])
def test_a_score_that_is_no_number_gives_a_row_that_diverged_and_no_score(
    worker: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    trial = worker(config())
    if again:
        trial.step()
        progress = tmp_path / "rte-000" / "rung-1" / "progress.json"
        held = json.loads(progress.read_text())
        held["report"]["score"] = nan
        progress.write_text(json.dumps(held))
        trial = worker(config())
    else:
        monkeypatch.setattr("krona_tune.train.loop.measured", lambda *given: {"score": nan})
    result = trial.step()
    assert (result["status"], result["done"]) == ("diverged", True)
    assert [point[0] for point in result.get("curve", ())] == ([] if again else [24, 48])
    assert result["error"].startswith("Diverged: the score on validation is nan at step")
    assert not {"score", "report"} & result.keys()


def test_a_checkpoint_of_another_trial_is_set_aside_and_the_trial_begins_anew(worker: Workers, tmp_path: Path) -> None:
    expected = all_steps(worker(config(1, scale=3.0)))
    other = worker(config(0))
    other.step()
    other.cleanup()
    assert measured(all_steps(worker(config(0, scale=3.0)))) == measured(expected)
    assert (tmp_path / "rte-000" / "unusable-rung-1").is_dir()


@pytest.mark.parametrize("keeps", [True, False])
def test_a_broken_gpu_ends_the_worker_and_not_the_trial(
    worker: Workers, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    """Ray then replaces the worker; torch before 2.8 has no separate class for this error."""

    def fail(*_: object) -> Report:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    broken = worker(config())
    with monkeypatch.context() as patched:
        patched.setattr(*((TrialRun, "advance", fail) if keeps else ("krona_tune.train.checkpoint.save", fail)))
        with pytest.raises(RuntimeError, match="CUDA error"):
            broken.step()
    broken.cleanup()


def test_a_trial_that_is_none_is_a_failure(worker: Workers) -> None:
    result = worker(config(scale=-1.0)).step()
    assert result["status"] == "failed"
    assert "greater than 0" in result["error"]


def test_a_baseline_trains_the_head_alone(worker: Workers) -> None:
    results = all_steps(worker(config(kind="baseline", method="head_only")))
    assert results[-1]["status"] == "completed"
    assert results[0]["report"]["train_loss"] > 0


def test_an_error_tells_where_it_happened() -> None:
    def inner() -> None:
        raise ValueError("7 is not 8")

    with pytest.raises(ValueError, match="7 is not 8") as caught:
        inner()
    assert describe(caught.value).startswith("ValueError: 7 is not 8 (test_trainable.py:")
    assert status_of_error(caught.value) is Status.FAILED


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError(f'about {labels[0]}')", "failed (ValueError at judge.py:2); it takes labels and answers"),
        ("raise SystemExit(3)", "it ended its process (SystemExit)"),
    ],
)
def test_what_a_users_metric_does_fails_its_trial_and_no_text_of_the_data_gets_into_the_row(
    worker: Workers, body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "judge.py").write_text(f"def judge(labels, answers):\n    {body}\n")
    place, work = f"{tmp_path}/judge.py:judge", WORKS["rte"]
    task = replace(work.task, metrics=("judge",), functions=(("judge", place),))
    monkeypatch.setitem(WORKS, "rte", replace(work, task=task))
    ended = worker(config()).step()
    assert ended["status"] == "failed"
    assert "tasks.rte.metric: " in ended["error"]
    assert said in ended["error"]
    assert "entailment" not in ended["error"]


def test_a_finalists_last_result_alone_has_its_look_at_the_test_half(worker: Workers) -> None:
    results = all_steps(worker(config(kind="finalist")))
    assert ["test" in result for result in results] == [False, False, True]
    look = ScoreOnTest(**results[-1]["test"])
    assert (look.examples, set(look.metrics)) == (44, {"accuracy"})
    assert look.score == look.metrics["accuracy"]
    assert worker(config(kind="finalist")).step()["test"] == results[-1]["test"]


@pytest.mark.parametrize("kind", ["search", "baseline"])
def test_nobody_else_ever_looks_at_the_test_half(worker: Workers, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(run: TrialRun) -> ScoreOnTest:
        raise AssertionError("the test half was looked at")

    monkeypatch.setattr(TrialRun, "evaluate_on_test", look)
    assert all_steps(worker(config(kind=kind)))[-1]["status"] == "completed"


def test_a_finalist_without_a_test_half_fails_at_its_end(worker: Workers) -> None:
    result = all_steps(worker(config(task="stsb", kind="finalist")))[-1]
    assert result["status"] == "failed"
    assert "has no test half" in result["error"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Diverged("what the model answers with is not finite"), Status.DIVERGED),
        (torch.OutOfMemoryError("CUDA out of memory"), Status.OUT_OF_MEMORY),
        (ValueError("about the test half"), Status.FAILED),
    ],
)
@pytest.mark.parametrize("again", [False, True], ids=["at its end", "taken up at its end"])
def test_a_trial_whose_test_alone_fails_keeps_its_last_report_and_its_state(
    worker: Workers, monkeypatch: pytest.MonkeyPatch, error: Exception, status: Status, again: bool
) -> None:
    def fail(run: TrialRun) -> ScoreOnTest:
        raise error

    whole = all_steps(worker(config(1, kind="finalist")))
    monkeypatch.setattr(TrialRun, "evaluate_on_test", fail)
    found = all_steps(worker(config(1, kind="finalist"))) if again else all_steps(worker(config(2, kind="finalist")))
    result = found[-1]
    assert (result["status"], result["done"]) == (str(status), True)
    assert result["error"].startswith(f"{type(error).__name__}: {error}")
    assert not {"test", "curve"} & result.keys(), "the curve is the report's"
    assert measured([result])[0][0] == measured(whole)[-1][0] == result["report"]["examples"]
    assert result["report"]["curve"]
    assert latest_checkpoint(Path(result["checkpoint"]).parent) == Path(result["checkpoint"])


def test_a_gpu_that_is_full_is_a_row_that_names_the_batch_and_the_adapter(
    worker: Workers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*words: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    busy = worker(config(1))
    with monkeypatch.context() as patch:
        patch.setattr(TrialRun, "train_on", full)
        result = busy.step()
    assert (result["status"], result["done"]) == (Status.OUT_OF_MEMORY, True)
    assert "OutOfMemoryError: CUDA out of memory" in result["error"]
    assert "in a batch of 8 × " in result["error"]
    assert "krona, 4×6" in result["error"]
    assert busy.reset_config(config(2))
    assert all_steps(busy)[-1]["status"] == Status.COMPLETED


def worker_at(location: str, checkpoints: Path, elsewhere: Path) -> KronaTrial:
    place = Workplace(
        folder=location,
        name="nowhere",
        precision="fp32",
        gpu=False,
        threads=1,
        checkpoints=str(checkpoints),
        elsewhere=f"file://{elsewhere}",
    )
    made = object.__new__(KronaTrial)
    made.config = config(7)
    made.setup(made.config, works=WORKS, workplace=place)
    return made


def test_a_trial_goes_on_from_the_rung_that_another_machine_kept(location: str, tmp_path: Path) -> None:
    undisturbed = measured(all_steps(worker_at(location, tmp_path / "alone", tmp_path / "nothing")))
    first = worker_at(location, tmp_path / "a", tmp_path / "bucket")
    before = measured([first.step()])
    first.cleanup()
    second = worker_at(location, tmp_path / "b", tmp_path / "bucket")
    repeated, *rest = measured(all_steps(second))
    assert [repeated] == before
    assert [repeated, *rest] == undisturbed
    assert [path.name for path in (tmp_path / "bucket" / "rte-007").iterdir()] == ["rung-3.zip"]


def test_a_machine_without_the_driver_keeps_no_trial_that_the_bucket_has(location: str, tmp_path: Path) -> None:
    here, bucket = tmp_path / "study" / "checkpoints", tmp_path / "bucket"
    first = worker_at(location, here, bucket)
    told = measured([first.step()])
    assert [path.name for path in here.iterdir()] == ["rte-007"]
    first.reset_config(config(8))
    assert list(here.iterdir()) == []
    first.reset_config(config(7))
    assert measured([first.step()]) == told, "the worker that sent it takes it up again"
    StudyFolder(here.parent).spec.touch()  # as of a study that was listed here
    with lock_of(StudyFolder(here.parent)):
        first.cleanup()
    assert [path.name for path in (here / "rte-007").iterdir()] == ["rung-1"], "here the driver removes it"


def test_a_state_that_the_bucket_lacks_stays_where_it_is(location: str, tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("no folder", encoding="utf-8")
    alone = worker_at(location, tmp_path / "a", tmp_path / "bucket")
    alone.step()
    alone.cleanup()
    assert [path.name for path in (tmp_path / "a" / "rte-007").iterdir()] == ["rung-1"]


def test_a_state_that_is_damaged_here_is_taken_from_there(location: str, tmp_path: Path) -> None:
    first = worker_at(location, tmp_path / "a", tmp_path / "bucket")
    before = measured([first.step()])
    with lock_of(StudyFolder(tmp_path)):
        first.cleanup()
    (kept,) = (tmp_path / "a" / "rte-007").glob("rung-*")
    (kept / "adapter.safetensors").write_bytes(b"half")
    second = worker_at(location, tmp_path / "a", tmp_path / "bucket")
    assert measured([second.step()]) == before
    with lock_of(StudyFolder(tmp_path)):
        second.cleanup()
    assert (kept.parent / f"unusable-{kept.name}").is_dir()
    assert kept.is_dir()
