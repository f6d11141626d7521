"""Tests what a driver does with its trials, and what it says between its phases."""

import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from krona_tune.record.driver_state import read_driver_state, write_driver_state
from krona_tune.record.orders import give_order
from krona_tune.record.ownership import claim
from krona_tune.record.parquet_reader import read_trials
from krona_tune.record.remote_copy import LOCK
from krona_tune.record.sink import FanOut
from krona_tune.search import budget, driver
from krona_tune.search.artifacts import Artifacts
from krona_tune.search.budget import Amount, Budget, Rates, StudyClock
from krona_tune.search.driver import Driver, TrialLoop, await_slots, cut_short, halt_if_overtaken, left_over
from krona_tune.search.driver_options import DriverOptions
from krona_tune.search.forecast import Forecast, TaskForecast, TrialParts
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.progress.study_status import read_status
from krona_tune.search.searchers.task_searcher import Gate, StudySearcher
from krona_tune.search.startup.slots import Slots
from krona_tune.search.study_orders import StudyOrders
from krona_tune.search.study_records import OpenRecords
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import StepResult, TrialMessage
from krona_tune.search.tune_host import Phase
from krona_tune.study.devices import Devices
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OrderRequest
from krona_tune.study.request.loader import build_spec, dump_spec
from krona_tune.study.result import ScoreOnTest, Status, TrialResult
from krona_tune.study.study_state import DriverState, StudyState, asked_trials
from tests.record.events import curve, manifest
from tests.search.conftest import count_on
from tests.search.ledgers import Heard, config, ledger
from tests.search.plans import SHAPE, plan
from tests.search.rungs import RUNGS, report
from tests.train.conftest import tiny_work


@pytest.fixture
def loop() -> TrialLoop:
    return TrialLoop(ledger=ledger()[0], stopper=StudyStopper(Budget(), Amount), changed=lambda: None)


def test_a_trial_that_another_worker_goes_on_with_is_begun_once(loop: TrialLoop) -> None:
    loop.start(config(0))
    began = loop.ledger.rows["cola-000"]
    loop.start(config(0))
    assert loop.ledger.rows["cola-000"] is began


def test_a_trial_that_diverges_between_two_rungs_has_the_end_of_its_curve_in_its_row(loop: TrialLoop) -> None:
    loop.ledger = Ledger(count_on(SHAPE), Heard(), [], devices=Devices(kind="cuda", count=3.0))
    loop.start(config(0))
    end = StepResult(status=Status.DIVERGED, error="the training loss is inf", curve=curve(0.9, 4.5), seconds=7.0)
    loop.end(config(0), "tune0", end.to_dict())
    row = loop.ledger.rows["cola-000"]
    assert (row.devices, row.device_seconds, row.busy_seconds) == (3.0, 21.0, 0.0), "it had them, but has no report"
    assert (row.status, row.error, row.curve) == (Status.DIVERGED, "the training loss is inf", curve(0.9, 4.5))


def test_a_trial_whose_worker_took_too_much_memory_says_how_large_it_was(loop: TrialLoop) -> None:
    loop.lose(config(0, batch_size=64), "tune0", "Ray ended the worker", out_of_memory=True)
    row = loop.ledger.rows["cola-000"]
    assert row.status is Status.OUT_OF_MEMORY
    assert row.error.startswith("Ray ended the worker; batches of 64; ")


MORE_TIME = "to train the rest, resume the study with a larger --time-budget."


@pytest.mark.parametrize(
    ("limit", "left", "said"),
    [
        (1, 0, ""),
        (1, 1, f"The budget of time ended the search with 1 trial to go; {MORE_TIME}"),
        (1, 3, f"The budget of time ended the search with 3 trials to go; {MORE_TIME}"),
        (9, 3, ""),
    ],
)
def test_a_search_that_has_just_ended_is_not_said_to_be_cut_short(limit: float, left: int, said: str) -> None:
    stopper = StudyStopper(Budget(seconds=limit), lambda: Amount(seconds=2))
    assert cut_short(stopper, left) == said


@pytest.mark.parametrize(("limit", "how"), [(1, MORE_TIME), (9, "to train the rest, resume the study.")])
def test_finals_that_are_left_are_said_to_need_more_time_where_it_is_used_up(limit: float, how: str) -> None:
    stopper = StudyStopper(Budget(seconds=limit), lambda: Amount(seconds=2))
    assert left_over(stopper, 2, 6, "finalists") == f"Stopped with 2 of 6 finalists to go; {how}"


@pytest.mark.parametrize("left", [[], [config(0)]])
def test_a_study_whose_trials_may_not_run_waits_only_while_some_are_left(left: list[TrialMessage]) -> None:
    stopper = StudyStopper(Budget(), Amount)

    class Paused:
        looks = 0

        def slots(self) -> int:
            return 0

        def look(self) -> None:
            self.looks += 1
            stopper.ask("cancelled")

    paused: Any = Paused()
    await_slots(cast(StudyOrders, paused), StudySearcher(left, {}, {}, stopper.final_status, {}), stopper)
    assert paused.looks == len(left)


def test_a_study_that_another_driver_runs_elsewhere_ends_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopper = StudyStopper(Budget(), Amount)
    monkeypatch.setitem(driver.OVERTAKEN, tmp_path / "first", "the study is now run on another by process 8")
    halt_if_overtaken(StudyFolder(tmp_path / "second"), stopper)
    assert not stopper.interrupted
    halt_if_overtaken(StudyFolder(tmp_path / "first"), stopper)
    assert stopper.end == ("halted", "the study is now run on another by process 8")


def test_a_study_whose_folder_was_moved_ends_here(tmp_path: Path) -> None:
    stopper, folder = StudyStopper(Budget(), Amount), StudyFolder(tmp_path / "first")
    with claim(folder):
        halt_if_overtaken(folder, stopper)
        assert not stopper.interrupted
        folder.root.rename(tmp_path / "second")
        halt_if_overtaken(folder, stopper)
    assert stopper.end[0] == "halted"
    assert "was moved or replaced" in stopper.end[1]


class Killed(BaseException):
    """The driver is killed."""


class Records(FanOut):
    """The sinks of a driver that keeps its records in the study's folder only."""

    unrecorded = ""

    def __init__(self, opened: OpenRecords, *of: object) -> None:
        super().__init__([opened.sink])

    def notify_of_end(self, *how: object, **of: object) -> None: ...

    def end(self, *of: object) -> None: ...


def context_of(folder: StudyFolder, of: Plan) -> Any:
    """Returns what a driver needs of a study whose workers are never asked."""
    facts = manifest("cola", "rte")
    works = dict.fromkeys(facts.tasks, tiny_work())
    return SimpleNamespace(
        plan=of,
        folder=folder,
        manifest=facts,
        price=None,
        slots=Slots(count=1, cpus=1, gpus=0),
        room=1,
        prepared=SimpleNamespace(works=works, facts=facts.tasks, final_works=lambda: works),
        workplace=lambda folder: None,
        rates=lambda allowed: Rates(devices=1, slots=1),
    )


def test_a_study_that_is_killed_again_and_again_before_its_first_rung_uses_up_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, folder = [1000.0], StudyFolder(tmp_path)
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(driver, "StudySinks", Records)

    def train_for_a_minute(phase: object, loop: TrialLoop, **of: object) -> None:
        for _ in range(60):
            now[0] += 1
            loop.obey()
        raise Killed

    monkeypatch.setattr(driver, "tune_trials", train_for_a_minute)
    context = context_of(folder, plan())
    for drivers in (1, 2):
        with pytest.raises(Killed):
            Driver(context, DriverOptions(), None, Console(quiet=True)).run(lambda folder: folder)
        assert 60 * drivers >= StudyClock(folder.clock).seconds() > 60 * drivers - 2 * budget.SAVE_SECONDS


DRAWS = ScoreOnTest(score=0.5, metrics={}, examples=9, resampled=(0.4, 0.6), validation=(0.4, 0.6))


TUNE_IDS = map("tune{}".format, count())
"""Gives each trial another name, as Tune does."""


def train(phase: Phase, loop: TrialLoop, *, failing: str = "", **of: object) -> None:
    """Takes the place of Ray Tune: trains all that the phase's searcher gives, one after the other; trials of the kind
    that is `failing` fail at once."""
    while isinstance(given := phase.searcher.suggest(tune_id := next(TUNE_IDS)), dict):
        message = TrialMessage.from_dict(given)
        loop.start(message)
        if message.kind == failing:
            step = StepResult(status=Status.FAILED, error="the disk is full")
        else:
            reached = report(message.trial_id, 0, 0.9 - message.number / 100, message.task)
            test = DRAWS if message.kind == "finalist" else None
            step = StepResult(report=reached, status=Status.COMPLETED, test=test)
            loop.report(message, step)
        loop.end(message, tune_id, step.to_dict())
        phase.searcher.on_trial_complete(tune_id, step.to_dict())


def small_plan(trials: int, rates: Sequence[float], **search: Any) -> Plan:
    """Returns the plan of a study whose space holds a point for each learning rate, with one finalist and two seeds."""
    shape, finalists = {"method": "krona", "a_out": 4, "a_in": 4}, {"top": 1, "seeds": 2}
    asked = {"model": "m", "name": "s", "tasks": ["cola", "rte"], "adapter": shape, "finalists": finalists}
    search |= {"trials": trials, "sampler": "random"}
    made = build_spec({**asked, "training": {"learning_rate": list(rates)}, "search": search}, "x.yaml")
    return replace(plan(), spec=made, space=resolve(made, SHAPE, "x.yaml"))


def no_artifacts(*of: object) -> Artifacts:
    return Artifacts()


def stop_at_once(phase: Phase, loop: TrialLoop, **of: object) -> None:
    loop.stopper.ask("interrupted")


def begin_one(phase: Phase, loop: TrialLoop, **of: object) -> None:
    """Begins the next trial, if there is one, and stops the study."""
    if isinstance(given := phase.searcher.suggest("tune"), dict):
        loop.start(TrialMessage.from_dict(given))
        loop.changed()
        loop.stopper.ask("interrupted")


def driven(folder: StudyFolder, of: Plan) -> tuple[DriverState, list[TrialResult], StudyState]:
    """Runs a driver to its end; returns what it wrote last, the rows, and the study's state."""
    folder.spec.write_text(dump_spec(of.spec), encoding="utf-8")
    Driver(context_of(folder, of), DriverOptions(), None, Console(quiet=True)).run(lambda folder: folder)
    last, rows = read_driver_state(folder), read_trials(folder.results)
    assert last
    return last, rows, read_status(folder, rows, runs=False, manifest=manifest("cola", "rte")).state


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, instead in {"StudySinks": Records, "tune_trials": train, "write_artifacts": no_artifacts}.items():
        monkeypatch.setattr(driver, name, instead)


def test_a_driver_whose_folder_was_replaced_leaves_the_other_one_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    folder, of = StudyFolder(tmp_path / "study"), small_plan(1, [1e-3])

    def replace_folder(phase: Phase, loop: TrialLoop, **of: object) -> None:
        folder.root.rename(tmp_path / "aside")
        folder.root.mkdir()
        (folder.root / LOCK).touch()
        loop.obey()

    monkeypatch.setattr(driver, "tune_trials", replace_folder)
    with claim(folder):
        folder.spec.write_text(dump_spec(of.spec), encoding="utf-8")
        outcome = Driver(context_of(folder, of), DriverOptions(), None, Console(quiet=True)).run(lambda folder: folder)
    assert "was moved or replaced" in outcome.halted
    assert [path.name for path in folder.root.iterdir()] == [LOCK]


def test_a_study_whose_space_is_used_up_is_finished_when_its_driver_has_trained_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    """Four trials a task are asked for: two points are left out, and no row tells that. Then two more are asked for."""
    folder, of, more = StudyFolder(tmp_path), *(small_plan(trials, [1e-3, 1e-2]) for trials in (4, 6))
    last, rows, state = driven(folder, of)
    assert sum(row.kind == "search" for row in rows) == 2 * 2
    assert state.finished
    assert last.trials == last.ended == len(rows) == state.trials == 2 * (2 + 1 + 2 * 2)
    monkeypatch.setattr(driver, "tune_trials", stop_at_once)
    last, again, state = driven(folder, more)
    assert (last.fulfilled, len(again), state.word) == (asked_trials(of.spec, of.planned), len(rows), "stopped")


def test_a_study_whose_search_went_on_is_not_finished_before_its_finals_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    """The second driver begins what is more of the search, and is stopped then."""
    folder, of, more = StudyFolder(tmp_path), *(small_plan(trials, [1e-3, 1e-2, 1e-1]) for trials in (2, 3))
    assert driven(folder, of)[0].fulfilled

    monkeypatch.setattr(driver, "tune_trials", begin_one)
    assert driven(folder, more)[0].fulfilled is None


def test_a_study_whose_finalist_is_retried_is_not_finished_before_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    folder, of = StudyFolder(tmp_path), small_plan(2, [1e-3, 1e-2])
    monkeypatch.setattr(driver, "tune_trials", partial(train, failing="finalist"))
    assert driven(folder, of)[0].fulfilled
    give_order(folder, OrderRequest(what="retry"))
    monkeypatch.setattr(driver, "tune_trials", begin_one)
    assert driven(folder, of)[0].fulfilled is None


def test_a_search_that_an_order_ends_leaves_only_its_finals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    """The order comes when one trial of eighty has been trained, and the best one runs."""
    seen: list[DriverState] = []

    def tune(phase: Phase, loop: TrialLoop, **of: object) -> None:
        for number in range(0 if seen else 4):
            message = TrialMessage.from_dict(cast(dict[str, Any], phase.searcher.suggest(f"tune{number}")))
            done = Status.COMPLETED if number < 3 else None
            step = StepResult(report=report(message.trial_id, 0, number / 10, message.task), status=done)
            loop.start(message)
            loop.report(message, step)
            loop.stopper.ended = "" if done else "a person"
            loop.end(message, f"tune{number}", step.to_dict())
            phase.searcher.on_trial_complete(f"tune{number}", step.to_dict())
        loop.obey()
        state = read_driver_state(folder)
        assert state
        seen.append(state)
        train(phase, loop)

    monkeypatch.setattr(driver, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(driver, "STATE_SHARE", 1e9)
    monkeypatch.setattr(driver, "tune_trials", tune)
    folder = StudyFolder(tmp_path)
    of = small_plan(40, [rate / 1000 for rate in range(1, 41)], time_budget=100)
    folder.spec.write_text(dump_spec(of.spec), encoding="utf-8")
    schedule, parts = tiny_work().schedule, TrialParts(epoch=2 * 48 / RUNGS[0], evaluation=0.0)
    each = TaskForecast(schedule=schedule, adapter=parts, head=parts)
    forecast = Forecast(tasks={"cola": each, "rte": each})
    Driver(context_of(folder, of), DriverOptions(), forecast, Console(quiet=True)).run(lambda folder: folder)
    rows, last = read_trials(folder.results), read_driver_state(folder)
    finals = {row.of for row in rows if row.kind == "finalist"}
    assert last
    assert finals == {"cola-head-0", "rte-head-0", "cola-000", "rte-000"}
    assert {row.trial_id for row in rows if not row.ended} == {"rte-000"}
    assert last.trials == last.ended == len(rows) - 1 == 3 + 8
    assert seen[0].trials == asked_trials(of.spec, of.planned) == 2 * (40 + 1 + 4), "with the finals"
    assert seen[0].left == seen[0].trials - seen[0].ended - 8, "which only follow the search"
    assert seen[1].left == seen[1].trials - seen[1].ended == 8
    in_search, in_finals = (cast(float, state.seconds_left) for state in seen[:2])
    assert in_search <= 100, "the budget of time ends the study"
    assert in_finals == pytest.approx(8 * 4 * parts.epoch)


def test_a_forecast_is_made_for_a_share_of_the_time_and_once_for_all_who_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    made, shown = list[float](), set[str]()

    class Counted(Forecast):
        def left(self, *of: object, **how: object) -> float:
            made.append(4000.0)
            return made[-1]

    def tune(phase: Phase, loop: TrialLoop, **of: object) -> None:
        for _ in range(5):
            loop.obey()
            console = Console(width=200)
            with console.capture() as seen:
                console.print(made_driver.view)
            shown.add(seen.get().strip().partition("about ")[2])
        raise Killed

    monkeypatch.setattr(driver, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(driver, "STATE_SHARE", 1e-9)
    monkeypatch.setattr(driver, "tune_trials", tune)
    context = context_of(StudyFolder(tmp_path), plan())
    made_driver = Driver(context, DriverOptions(), Counted(tasks={}), Console(quiet=True))
    with pytest.raises(Killed):
        made_driver.run(lambda folder: folder)
    assert (len(made), shown) == (1, {"1 h 06 min left"})


def test_a_second_request_at_the_end_is_a_persons_and_the_study_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    folder, of, told = StudyFolder(tmp_path), small_plan(4, [1e-3, 1e-2]), list[tuple[str, ...]]()
    driven(folder, of)

    def press_twice(*_: object) -> Artifacts:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return Artifacts()

    monkeypatch.setattr(driver, "write_artifacts", press_twice)
    monkeypatch.setattr(Records, "notify_of_end", lambda _, *words, **of: told.append(words))
    last, _, state = driven(folder, of)
    assert (last.stage, last.end, last.reason) == ("end", "interrupted", "")
    assert (state.states.to_go, state.word) == (0, "stopped")
    assert told == [("interrupted", "")]


class RecordsWithCopy(Records):
    """Removes the state of an earlier driver, as the sink of a copy elsewhere does."""

    def __init__(self, opened: OpenRecords, context: Any, *of: object) -> None:
        super().__init__(opened)
        context.folder.state.unlink()


@pytest.mark.parametrize("lost", [False, True], ids=["whole", "with a part that can't be read"])
def test_what_an_earlier_driver_has_met_is_kept_unless_records_were_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None, lost: bool
) -> None:
    folder, of = StudyFolder(tmp_path), small_plan(4, [1e-3, 1e-2])
    fulfilled = driven(folder, of)[0].fulfilled
    if lost:
        (folder.results / "parts" / "trials-000000001-0aa.parquet").write_text("torn")
    monkeypatch.setattr(driver, "StudySinks", RecordsWithCopy)
    monkeypatch.setattr(driver, "tune_trials", stop_at_once)
    assert (fulfilled, driven(folder, of)[0].fulfilled) == (
        asked_trials(of.spec, of.planned),
        None if lost else fulfilled,
    )


def test_a_shared_study_in_which_something_was_stopped_ends_with_as_many_trials_as_it_has(
    tmp_path: Path, without_ray: None
) -> None:
    """The second configuration is worse on the first task, so it does not come to the second."""
    folder, of = StudyFolder(tmp_path), small_plan(2, [1e-3, 1e-2, 1e-1], shared=True)
    last, rows, state = driven(folder, of)
    assert [row.number for row in rows if row.kind == "search"].count(1) == 1
    assert last.trials == last.ended == len(rows) == state.trials == 2 + 1 + 2 + 2 * 2 * 2
    assert state.finished
    write_driver_state(folder, last.model_copy(update={"fulfilled": None}))
    assert read_status(folder, rows, runs=False, manifest=manifest("cola", "rte")).state.finished


def test_shared_configurations_that_are_left_keep_the_states_of_what_they_have_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    """An order ends the search when both configurations have trained on the first task."""
    folder, of = StudyFolder(tmp_path), small_plan(2, [1e-3, 1e-2, 1e-1], shared=True)
    of = replace(of, spec=of.spec.model_copy(update={"finalists": of.spec.finalists.model_copy(update={"top": 0})}))

    def tune(phase: Phase, loop: TrialLoop, **of: object) -> None:
        if loop.ledger.rows:
            train(phase, loop)
            return
        phase.searcher.gate = Gate()  # all run at once
        begun = [TrialMessage.from_dict(cast(Any, phase.searcher.suggest(f"tune{number}"))) for number in range(4)]
        for number, message in enumerate(begun):
            (folder.checkpoints / message.trial_id / "rung-1").mkdir(parents=True)
            score = report(message.trial_id, 0, 0.5 + number / 9, message.task)
            step = StepResult(report=score, status=Status.COMPLETED)
            loop.start(message)
            loop.report(message, step)
            loop.end(message, f"tune{number}", step.to_dict())
            phase.searcher.on_trial_complete(f"tune{number}", step.to_dict())
        loop.stopper.ended = "a person"

    monkeypatch.setattr(driver, "tune_trials", tune)
    _, rows, _ = driven(folder, of)
    searched = {row.trial_id for row in rows if row.kind == "search"}
    assert {row.task for row in rows if row.kind == "search"} == {"cola"}
    assert len(searched) == 2
    assert {path.name for path in folder.checkpoints.iterdir()} >= searched


@pytest.mark.usefixtures("without_ray")
def test_more_seeds_of_a_task_begin_while_the_finals_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same run of Tune, whose workers are warm: four trials are in it, and four more seeds follow."""
    folder, runs, first_more = StudyFolder(tmp_path), list[int](), list[str]()

    def end(phase: Phase, loop: TrialLoop, tune_id: str, message: TrialMessage) -> None:
        score = report(message.trial_id, 0, 0.9 - message.number / 100, message.task)
        step = StepResult(report=score, status=Status.COMPLETED, test=DRAWS)
        loop.report(message, step)
        loop.end(message, tune_id, step.to_dict())
        phase.searcher.on_trial_complete(tune_id, step.to_dict())

    def tune(phase: Phase, loop: TrialLoop, **of: object) -> None:
        runs.append(len(phase.searcher.waiting))
        if not any(message.kind == "finalist" for message in phase.searcher.waiting):
            train(phase, loop)
            return
        phase.searcher.gate = Gate()  # all run at once
        begun = {}
        for number in range(4):
            begun[f"tune{number}"] = TrialMessage.from_dict(cast(Any, phase.searcher.suggest(f"tune{number}")))
            loop.start(begun[f"tune{number}"])
        assert phase.searcher.suggest("none") is None, "nothing follows before a task's trials have ended"
        for task in ("cola", "rte"):
            for tune_id, message in begun.items():
                if message.task == task:
                    end(phase, loop, tune_id, message)
            following = TrialMessage.from_dict(cast(Any, phase.searcher.suggest(f"{task}-more")))
            first_more.append(following.trial_id)
            loop.start(following)
            end(phase, loop, f"{task}-more", following)
        train(phase, loop)

    monkeypatch.setattr(driver, "tune_trials", tune)
    of = small_plan(2, [1e-3, 1e-2])
    finalists = of.spec.finalists.model_copy(update={"seeds": 1, "budget": 4})
    last, rows, state = driven(folder, replace(of, spec=of.spec.model_copy(update={"finalists": finalists})))
    assert (runs[1:], first_more) == ([4, 0], ["cola-final-1-s2", "cola-final-head-s2"])
    assert sum(row.kind == "finalist" for row in rows) == 2 * 2 * 2
    assert last.trials == last.ended == len(rows)
    assert state.finished


@pytest.mark.usefixtures("prompt_inbox", "without_ray")
@pytest.mark.parametrize("ordered", ["10min", "null", ""])
def test_a_time_budget_that_is_ordered_in_the_finals_pays_for_more_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordered: str
) -> None:
    """The first seeds of the finals leave a second of the time budget, and a second seed of each takes longer."""
    now, folder = [1000.0], StudyFolder(tmp_path)
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])

    def tune(phase: Phase, loop: TrialLoop, **of: object) -> None:
        if now[0] < 1099 and any(message.kind == "finalist" for message in phase.searcher.waiting):
            now[0] = 1099
            if ordered:
                give_order(folder, OrderRequest(what="time_budget", value=ordered))
            loop.obey()
        train(phase, loop)

    monkeypatch.setattr(driver, "tune_trials", tune)
    of = small_plan(2, [1e-3, 1e-2], time_budget=100)
    finalists = of.spec.finalists.model_copy(update={"seeds": 1, "budget": 4})
    driven(folder, replace(of, spec=of.spec.model_copy(update={"finalists": finalists})))
    rows = read_trials(folder.results)
    assert sum(row.kind == "finalist" for row in rows) == 2 * 2 * (2 if ordered else 1)


def test_a_trial_that_the_end_of_the_search_cuts_off_ends_then_with_the_rung_that_it_reached_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    """A person ends the search; Tune waits for the running steps, and tells nothing of them."""
    folder, in_finals = StudyFolder(tmp_path), set[str]()

    def tune(phase: Phase, loop: TrialLoop, **of: object) -> None:
        if any(row.kind == "search" for row in loop.ledger.rows.values()):
            in_finals.update(loop.ledger.running)
            train(phase, loop)
            return
        message = TrialMessage.from_dict(cast(dict[str, Any], phase.searcher.suggest("tune")))
        while message.kind != "search":
            loop.start(message)
            step = StepResult(report=report(message.trial_id, 0, 0.5, message.task), status=Status.COMPLETED)
            loop.report(message, step)
            loop.end(message, "tune", step.to_dict())
            phase.searcher.on_trial_complete("tune", step.to_dict())
            message = TrialMessage.from_dict(cast(dict[str, Any], phase.searcher.suggest("tune")))
        loop.start(message)
        first, second = (report(message.trial_id, rung, 0.5 + rung / 10, message.task) for rung in (0, 1))
        loop.report(message, StepResult(report=first, checkpoint="rung-1"))
        kept = folder.checkpoints / message.trial_id / "rung-2"
        kept.mkdir(parents=True)
        progress = {"fingerprint": message.checked().fingerprint, "report": second.to_dict()}
        (kept / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
        loop.stopper.ended = "a person"

    monkeypatch.setattr(driver, "tune_trials", tune)
    _, rows, _ = driven(folder, small_plan(4, [1e-3, 1e-2]))
    assert in_finals == set()
    [cut] = [row for row in rows if row.kind == "search"]
    assert (cut.status, cut.rung, cut.score, Path(cut.checkpoint or "").name) == (
        Status.INTERRUPTED,
        1,
        0.6,
        "rung-2",
    )
    assert {row.of for row in rows if row.kind == "finalist"} >= {"cola-head-0"}


def test_a_request_while_the_records_end_leaves_something_for_the_next_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    folder, of = StudyFolder(tmp_path), small_plan(4, [1e-3, 1e-2])

    def press(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Records, "end", press)
    last, _, state = driven(folder, of)
    assert (last.stage, last.end, last.cut_short) == ("end", "finished", True)
    assert (state.states.to_go, state.word) == (0, "stopped")
    monkeypatch.undo()


def test_a_request_between_the_decision_and_the_end_of_the_records_ends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ray: None
) -> None:
    folder, of, ended = StudyFolder(tmp_path), small_plan(4, [1e-3, 1e-2]), list[object]()
    told = iter([lambda: signal.raise_signal(signal.SIGINT), lambda: None])
    monkeypatch.setattr(Records, "notify_of_end", lambda *_, **__: next(told)())
    monkeypatch.setattr(Records, "end", lambda _, paths, within: ended.append(within))
    last, _, _ = driven(folder, of)
    assert (last.end, last.cut_short, len(ended)) == ("finished", True, 1)
