"""Tests that W&B has one run a trial, whatever was interrupted, and that its failures stop nothing."""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from krona_tune.record import background
from krona_tune.record.records import Records
from krona_tune.record.sink import FanOut
from krona_tune.record.wandb_sink import WandbSink, WandbStore, refuse_no_account
from krona_tune.refusal import Refusal
from krona_tune.study.order import Order
from krona_tune.study.result import Status
from tests.record.events import RUNGS, curve, ended, manifest, report, started
from tests.record.offline_runs import offline_runs

OpenSink = Callable[..., WandbSink]


@dataclass
class FakeRun:
    """A run of W&B at its server: a step that it has is never written again."""

    asked: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)
    step: int = 0
    opened: int = 0
    ended: Callable[[], None] = lambda: None

    def define_metric(self, name: str, step_metric: str | None = None) -> None: ...

    def log(self, values: dict[str, float], step: int, commit: bool) -> None:
        assert step >= self.step, "W&B would ignore it"
        assert commit
        self.history[step] = dict(values)
        self.summary |= values
        self.step = step + 1

    def finish(self, exit_code: int) -> None:
        self.exits.append(exit_code)
        self.ended()


class Config(dict[str, Any]):
    def update(self, values: dict[str, Any], allow_val_change: bool = False) -> None:  # type: ignore[override]
        assert allow_val_change
        super().update(values)


@dataclass
class FakeWandb:
    """Stands in for the package: `init` continues the run of an id, and fails as often as a test says.

    The id of a run that could not begin is taken until `teardown`, as it is in wandb's own process.
    """

    mode: str = "online"
    key: bool = True
    failures: int = 0
    runs: dict[str, FakeRun] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def teardown(self) -> None:
        self.taken.clear()

    def setup(self) -> Any:
        return SimpleNamespace(settings=SimpleNamespace(mode=self.mode))

    def login(self, *, prompt: bool, verify: bool) -> bool:
        assert (prompt, verify) == (False, False)
        return self.key

    def Settings(self, **asked: Any) -> Any:  # noqa: N802
        return asked

    def init(self, **asked: Any) -> FakeRun:
        if asked["id"] in self.taken:
            raise RuntimeError("run ID is in use")
        self.taken.add(asked["id"])
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no route")
        assert (asked["resume"], asked["reinit"]) == ("allow", "create_new")
        run = self.runs.setdefault(asked["id"], FakeRun(asked, Config(asked["config"])))
        run.opened += 1
        run.ended = lambda: self.taken.discard(asked["id"])
        return run

    def named(self, name: str) -> FakeRun:
        [run] = [run for run in self.runs.values() if run.asked["name"] == name]
        return run


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(background, "DRAIN_SECONDS", 10.0)
    return fake


@pytest.fixture
def opened(tmp_path: Path) -> OpenSink:
    """Returns a function that opens the sink of one study, each time as a new session would."""

    def open_sink(*, project: str = "mine", earlier: Records | None = None) -> WandbSink:
        facts = manifest("cola", "rte", synthetic=True)
        return WandbSink(WandbStore(project=project, study="first-study", manifest=facts, folder=tmp_path), earlier)

    return open_sink


def test_a_trial_is_a_run_in_the_group_of_its_study(wandb: FakeWandb, opened: OpenSink, tmp_path: Path) -> None:
    trial = started(3)
    reports = [report(trial, 0, 0.25), report(trial, 1, 0.5)]
    sink = opened(project="team/mine")
    sink.trial_started(trial)
    for each in reports:
        sink.reported(each)
    sink.trial_ended(ended(trial, Status.STOPPED_EARLY, reports))
    sink.study_ended([tmp_path])
    run = wandb.named("cola-0003")
    kept = {name: run.asked[name] for name in ("entity", "project", "group", "job_type", "tags", "dir")}
    assert kept == {
        "entity": "team",
        "project": "mine",
        "group": "first-study",
        "job_type": "cola",
        "tags": ["synthetic data"],
        "dir": str(tmp_path),
    }
    assert run.config.items() >= {"task": "cola", "seed": 10, "kind": "search", **trial.params}.items()
    assert {step: (values["score"], values["epochs"]) for step, values in run.history.items()} == {
        RUNGS[0]: (0.25, 1.0),
        RUNGS[1]: (0.5, 3.0),
    }
    assert run.summary.items() >= {"score": 0.5, "status": "stopped_early", "trainable_parameters": 2003.0}.items()
    assert (run.exits, run.opened) == ([0], 1)


def test_a_training_curve_is_history_once_also_in_a_later_session(wandb: FakeWandb, opened: OpenSink) -> None:
    trial = started(3)
    first = replace(report(trial, 0, 0.25), curve=curve(0.9, 0.7))
    last = replace(ended(trial, Status.DIVERGED, [first]), curve=curve(0.8, after=RUNGS[0], to=RUNGS[1]))
    sink = opened()
    sink.trial_started(trial)
    sink.reported(first)
    sink.study_ended([])
    sink = opened(earlier=Records(trials=(trial,), reports=(first,)))
    sink.trial_ended(last)
    sink.study_ended([])
    history = wandb.named("cola-0003").history
    seen = {step: (each["epochs"], each["train_loss"], each.get("score")) for step, each in history.items()}
    assert seen == {170: (0.5, 0.9, None), 340: (1.0, 0.7, 0.25), 1020: (3.0, 0.8, None)}
    assert [each["learning_rate"] for each in history.values()] == pytest.approx([0.00983, 0.00966, 0.00898])


@pytest.mark.parametrize(
    ("status", "code"), [(Status.COMPLETED, 0), (Status.STOPPED_BY_USER, 0), (Status.DIVERGED, 1), (Status.FAILED, 1)]
)
def test_the_exit_code_tells_a_failure(wandb: FakeWandb, opened: OpenSink, status: Status, code: int) -> None:
    sink = opened()
    sink.trial_ended(ended(started(1), status, []))
    sink.study_ended([])
    run = wandb.named("cola-0001")
    assert (run.summary["status"], run.exits) == (str(status), [code])


def test_an_interrupted_trial_goes_on_in_the_same_run(wandb: FakeWandb, opened: OpenSink) -> None:
    done, cut = started(0), started(1)
    sink = opened()
    sink.trial_ended(ended(done, Status.COMPLETED, []))
    sink.trial_started(cut)
    sink.reported(report(cut, 0, 0.25))
    sink.study_ended([])
    assert wandb.named("cola-0001").summary["status"] == "interrupted"
    rows = (ended(done, Status.COMPLETED, []), cut)
    sink = opened(earlier=Records(trials=rows, reports=(report(cut, 0, 0.25),)))
    sink.trial_started(cut)
    sink.reported(report(cut, 1, 0.5))
    sink.trial_ended(ended(cut, Status.COMPLETED, [report(cut, 1, 0.5)]))
    sink.study_ended([])
    assert len(wandb.runs) == 2
    run = wandb.named("cola-0001")
    assert {step: values["score"] for step, values in run.history.items()} == {RUNGS[0]: 0.25, RUNGS[1]: 0.5}
    assert (run.summary["status"], run.exits, run.opened) == ("completed", [1, 0], 2)
    assert wandb.named("cola-0000").opened == 1, "W&B had its end"


def test_a_trial_that_starts_again_has_one_run(wandb: FakeWandb, opened: OpenSink) -> None:
    """As after a node was lost: it repeats a rung, whose first score stays."""
    trial = started(1)
    sink = opened()
    for score in (0.25, 0.375):
        sink.trial_started(trial)
        sink.reported(report(trial, 0, score))
        sink.reported(report(trial, 1, 0.5))
    sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 1, 0.5)]))
    sink.study_ended([])
    [run] = wandb.runs.values()
    assert set(run.history) == {RUNGS[0], RUNGS[1]}
    assert (run.summary["score"], run.exits) == (0.5, [0])


def test_what_a_killed_driver_could_not_send_is_sent_first(wandb: FakeWandb, opened: OpenSink) -> None:
    trials = [ended(started(number), Status.COMPLETED, [report(started(number), 0, 0.5)]) for number in range(2)]
    reports = tuple(report(trial, 0, 0.5) for trial in trials)
    opened(earlier=Records()).study_ended([])
    sink = opened(earlier=Records(trials=tuple(trials), reports=reports))
    sink.trial_started(started(2))
    sink.study_ended([])
    assert {run.asked["name"] for run in wandb.runs.values()} == {"cola-0000", "cola-0001", "cola-0002"}
    assert wandb.named("cola-0000").history[RUNGS[0]]["score"] == 0.5
    assert wandb.named("cola-0001").summary["status"] == "completed"


def test_another_project_gets_everything(wandb: FakeWandb, opened: OpenSink) -> None:
    trial = ended(started(0), Status.COMPLETED, [])
    sink = opened()
    sink.trial_ended(trial)
    sink.study_ended([])
    for project in ("mine", "other"):
        sink = opened(project=project, earlier=Records(trials=(trial,)))
        sink.trial_started(started(1))
        sink.study_ended([])
    names = {project: {run.asked["name"] for run in wandb.runs.values() if run.asked["project"] == project}
             for project in ("mine", "other")}  # fmt: skip
    assert names == {"mine": {"cola-0000", "cola-0001"}, "other": {"cola-0000", "cola-0001"}}


def test_two_studies_of_one_name_share_no_run(wandb: FakeWandb, tmp_path: Path) -> None:
    for created in ("2025-01-02T03:04:05+00:00", "2026-01-02T03:04:05+00:00"):
        facts = manifest("cola").model_copy(update={"created_at": created})
        sink = WandbSink(WandbStore(project="mine", study="first", manifest=facts, folder=tmp_path / created[:4]))
        sink.trial_started(started(0))
        sink.study_ended([])
    assert len(wandb.runs) == 2


def test_an_order_about_a_trial_is_said_in_its_run(wandb: FakeWandb, opened: OpenSink) -> None:
    trial = started(1)
    order = Order(id="20250102T030405Z-0a1b2c", by="me", what="stop_trial", trial=trial.trial_id, given_at=1.0)
    sink = opened()
    sink.ordered(order)
    sink.trial_started(trial)
    sink.trial_ended(ended(trial, Status.STOPPED_BY_USER, []))
    sink.study_ended([])
    assert wandb.named(trial.trial_id).summary[f"krona.order.{order.id}"].startswith("me: ")


def test_a_server_that_comes_back_gets_everything(wandb: FakeWandb, opened: OpenSink) -> None:
    wandb.failures = 2
    trial = started(1)
    sink = opened()
    sink.trial_started(trial)
    sink.trial_ended(ended(trial, Status.COMPLETED, []))
    sink.study_ended([])
    assert (sink.unsent, wandb.named("cola-0001").exits) == (0, [0])


def test_a_run_that_was_under_way_when_another_could_not_begin_goes_on(wandb: FakeWandb, opened: OpenSink) -> None:
    first, second, third = started(0), started(1), started(2)
    sink = opened()
    for trial in (first, third):
        sink.trial_started(trial)
        sink.reported(report(trial, 0, 0.25))
    while sink.unsent:
        threading.Event().wait(0.01)
    wandb.failures = 1
    sink.trial_started(second)
    while sink.unsent:
        threading.Event().wait(0.01)
    sink.reported(report(first, 1, 0.5))
    sink.trial_ended(ended(first, Status.COMPLETED, [report(first, 1, 0.5)]))
    sink.study_ended([])
    run = wandb.named("cola-0000")
    assert (set(run.history), run.exits, run.opened) == ({RUNGS[0], RUNGS[1]}, [0], 2)
    assert {wandb.named(f"cola-000{number}").summary["status"] for number in (1, 2)} == {"interrupted"}


def test_a_server_that_stays_away_stops_no_study_and_is_told_at_the_end(
    wandb: FakeWandb, opened: OpenSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 60)  # longer than the end waits: it tries once
    wandb.failures = 1_000_000
    sinks = FanOut([opened()])
    sinks.trial_started(started(1))
    sinks.trial_ended(ended(started(1), Status.COMPLETED, []))
    sinks.study_ended([])
    said = "NotSentError: W&B at mine lacks 2 of 2 events (ConnectionError: no route); the Parquet records have them, "
    assert sinks.failures == {"W&B": f"{said}and resuming the study with --wandb sends them"}


def test_a_run_that_can_not_be_ended_is_opened_again(
    wandb: FakeWandb, opened: OpenSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, failures = FakeRun.finish, [TimeoutError("still uploading")]

    def fail_once(run: FakeRun, exit_code: int) -> None:
        if failures:
            raise failures.pop()
        finish(run, exit_code)

    monkeypatch.setattr(FakeRun, "finish", fail_once)
    sink = opened()
    sink.trial_ended(ended(started(1), Status.COMPLETED, []))
    sink.study_ended([])
    run = wandb.named("cola-0001")
    assert (run.opened, run.exits) == (2, [0])


@pytest.mark.parametrize(
    ("fake", "project", "said"),
    [
        (FakeWandb(), "a/b/c", "--wandb: 'a/b/c' is no project of W&B; write PROJECT or TEAM/PROJECT"),
        (FakeWandb(), "a:b", "--wandb: 'a:b' is no project of W&B; write PROJECT or TEAM/PROJECT"),
        (None, "mine", "--wandb: the package wandb is not installed; pip install 'krona_tune[wandb]'"),
        (FakeWandb(mode="disabled"), "mine", "--wandb: WANDB_MODE is disabled; unset it, or leave --wandb out"),
        (FakeWandb(key=False), "mine", "--wandb: no key of W&B is known; run `wandb login`, or set WANDB_API_KEY, or "),
    ],
)
def test_what_can_not_be_sent_to_is_refused_before_a_study(
    monkeypatch: pytest.MonkeyPatch, fake: FakeWandb | None, project: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    with pytest.raises(Refusal) as refused:
        refuse_no_account(project)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("fake", [FakeWandb(), FakeWandb(mode="offline", key=False)], ids=["a key", "offline"])
def test_a_known_key_or_none_offline_passes(monkeypatch: pytest.MonkeyPatch, fake: FakeWandb) -> None:
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    refuse_no_account("team/mine")
    refuse_no_account(None)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sets the real package offline, without anything of this machine's user."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")


@pytest.mark.usefixtures("real")
def test_offline_the_runs_are_on_disk_and_a_resumed_study_replaces_them(opened: OpenSink, tmp_path: Path) -> None:
    import wandb

    refuse_no_account("mine")
    done, cut = started(0), started(1)
    last = ended(done, Status.COMPLETED, [report(done, 0, 0.5)])
    sink = opened()
    sink.trial_started(done)
    sink.reported(report(done, 0, 0.5))
    sink.trial_ended(last)
    sink.trial_started(cut)
    sink.reported(report(cut, 0, 0.25))
    sink.study_ended([])
    wandb.teardown()  # now everything is on disk
    first, second = offline_runs(tmp_path / "wandb")
    assert (first["name"], first["project"], first["group"], first["task"]) == (
        "cola-0000",
        "mine",
        "first-study",
        "cola",
    )
    assert first["config"].items() >= {"seed": 7, "method": "krona", "a_out": 24, "model": "tiny"}.items()
    assert (first["history"][RUNGS[0]]["score"], first["history"][RUNGS[0]]["epochs"]) == (0.5, 1.0)
    assert first["summary"].items() >= {"score": 0.5, "status": "completed", "trainable_parameters": 2000.0}.items()
    assert (first["exit"], second["exit"], second["summary"]["status"]) == (0, 1, "interrupted")
    earlier = Records(trials=(last, cut), reports=(report(done, 0, 0.5), report(cut, 0, 0.25)))
    sink = opened(earlier=earlier)
    sink.trial_started(cut)
    sink.reported(report(cut, 1, 0.75))
    sink.trial_ended(ended(replace(cut), Status.COMPLETED, [report(cut, 1, 0.75)]))
    sink.study_ended([])
    wandb.teardown()
    again, continued = offline_runs(tmp_path / "wandb")
    assert again == first
    assert continued["id"] == second["id"]
    assert {step: values["score"] for step, values in continued["history"].items()} == {RUNGS[0]: 0.25, RUNGS[1]: 0.75}
    assert (continued["exit"], continued["summary"]["status"], continued["summary"]["score"]) == (0, "completed", 0.75)
