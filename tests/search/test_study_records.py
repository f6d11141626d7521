"""Tests damaged records: rows are restored, and no trial's id is given to another point."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.sink import NullSink
from krona_tune.search import study_records
from krona_tune.search.budget import Amount, Budget
from krona_tune.search.driver_options import DriverOptions
from krona_tune.search.ledger import Ledger
from krona_tune.search.phases import SearchedStudy, search_phase
from krona_tune.search.planning.plan import Plan, trial_seed
from krona_tune.search.resume import known_trials, numbers_left
from krona_tune.search.searchers.asha import AshaPerGroup
from krona_tune.search.searchers.open_samplers import open_samplers, open_shared_sampler
from krona_tune.search.searchers.shared_searcher import shared_id
from krona_tune.search.start_options import StartOptions
from krona_tune.search.study_records import OpenRecords, StudySinks, open_records
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import TrialMessage, repeat_of
from krona_tune.search.tune_host import Phase
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.order import Order
from krona_tune.study.request.schedule import make_schedule
from krona_tune.study.result import Status
from krona_tune.study.study_state import End
from tests.record.damage import other_bytes
from tests.search.conftest import count_on, never
from tests.search.plans import SHAPE, plan
from tests.search.rungs import CONTINUE, STOP, added, at, report
from tests.study.final_rows import row

ORDER = "20260101T000000000000Z-00000000"
KINDS: dict[str, dict[str, Any]] = {
    "by task": {},
    "per method": {"per_method": True},
    "shared": {"shared": True},
}


def asked(of: Plan, folder: StudyFolder) -> Callable[[str, int], dict[str, Any] | None]:
    """Returns a function that asks Optuna for a task's trial of a given number."""
    request = (of.spec, of.space, folder.journal, never)
    if of.spec.search.shared:
        shared = open_shared_sampler(*request)
        return lambda task, number: shared.ask(shared_id(number), number)
    samplers = open_samplers(*request)
    return lambda task, number: samplers[task].ask(f"{task}-{number:03d}", number)


def trained(of: Plan, folder: StudyFolder, trials: int = 3, last: float = 0.375) -> dict[str, dict[str, Any]]:
    """Runs trials of CoLA: each has two reports and an end, the last one only a start.

    Returns their points, by id.
    """
    ask, sink = asked(of, folder), ParquetSink(folder.results)
    book, points = Ledger(count_on(SHAPE), sink, []), {}
    for number in range(trials):
        trial_id, point = f"cola-{number:03d}", ask("cola", number)
        assert point is not None
        points[trial_id] = point
        book.started(TrialMessage(trial_id, "cola", number, "search", trial_seed(of.spec, "cola"), point))
        if number < trials - 1:
            for rung, score in enumerate((0.25, last)):
                book.reported(report(trial_id, rung, score), f"there/rung-{rung + 1}")
            book.ended(trial_id, Status.COMPLETED)
    sink.study_ended([])
    return points


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def ledger(opened: OpenRecords) -> Ledger:
    book = Ledger(count_on(SHAPE), opened.sink, list(opened.records.trials))
    book.lost = opened.lost
    return book


@pytest.mark.parametrize("search", KINDS.values(), ids=KINDS.keys())
def test_rows_of_a_damaged_file_are_taken_back_with_their_points(tmp_path: Path, search: dict[str, Any]) -> None:
    of, folder = plan(**search), StudyFolder(tmp_path)
    points = trained(of, folder)
    before = {row.trial_id: row for row in read_trials(folder.results)}
    half(folder.results / "trials.parquet")
    opened = open_records(of, folder)
    rows = {row.trial_id: row for row in opened.records.trials}
    assert set(rows) == {"cola-000", "cola-001"}
    for trial_id, now in rows.items():
        then = before[trial_id]
        assert (now.status, now.ended_at) == (Status.INTERRUPTED, None)
        assert (now.params, now.proposed_by) == (points[trial_id], "even draw")
        for same in ("number", "task", "kind", "seed", "fingerprint", "score", "rung", "examples", "train_seconds"):
            assert getattr(now, same) == getattr(then, same)
        assert now.trainable_parameters == then.trainable_parameters
        assert now.checkpoint == str(folder.checkpoints.resolve() / trial_id / "rung-2")
    assert opened.message == (
        "Unreadable files of the records, renamed in their folder: 1.\n"
        "Trials whose rows were lost, restored from their reports and Optuna's journal: 2.\n"
        "Of these, trials whose end is not known: 2."
    )
    assert {row.trial_id for row in read_trials(folder.results)} == set(rows)


def test_a_row_that_is_taken_back_has_the_end_that_optuna_knows(tmp_path: Path) -> None:
    """Optuna knows the ends of three trials, one of which has a report less than it knows, and one that failed."""
    of, folder = plan(), StudyFolder(tmp_path)
    trained(of, folder, trials=5)
    sampler = open_samplers(of.spec, of.space, folder.journal, never)["cola"]
    for number, status in enumerate((Status.COMPLETED, Status.STOPPED_EARLY, Status.COMPLETED, Status.FAILED)):
        for rung in range(3 if number == 2 else 2):
            sampler.report(f"cola-{number:03d}", report("cola-000", rung, 0.375).examples, 0.375)
        sampler.tell(f"cola-{number:03d}", status, 0.375)
    half(folder.results / "trials.parquet")
    opened = open_records(of, folder)
    assert {row.trial_id: (row.status, row.score) for row in opened.records.trials} == {
        "cola-000": (Status.COMPLETED, 0.375),
        "cola-001": (Status.STOPPED_EARLY, 0.375),
        "cola-002": (Status.INTERRUPTED, 0.375),
        "cola-003": (Status.INTERRUPTED, 0.375),
    }
    assert opened.message.endswith("Of these, trials whose end is not known: 2.")
    assert {row.trial_id: row.status for row in read_trials(folder.results)} == {
        row.trial_id: row.status for row in opened.records.trials
    }


def test_the_row_of_a_full_training_is_taken_back_and_one_that_is_chosen_again_is_counted(tmp_path: Path) -> None:
    of, folder = plan(), StudyFolder(tmp_path)
    trained(of, folder)
    sink = ParquetSink(folder.results)
    book = Ledger(count_on(SHAPE), sink, list(read_trials(folder.results)))
    source = book.rows["cola-001"]
    again = [
        repeat_of(source, TrialKind.FULL_TRAIN, "cola-001", 2, of.spec.seed),
        repeat_of(source, TrialKind.REPEAT, "cola-001", 1, of.spec.seed),
    ]
    for message in again:
        book.started(message)
        book.reported(report(message.trial_id, 0, 0.5), "there/rung-1")
        book.ended(message.trial_id, Status.COMPLETED)
    sink.study_ended([])
    before = dict(book.rows)
    half(folder.results / "trials.parquet")
    opened = open_records(of, folder)
    rows = {row.trial_id: row for row in opened.records.trials}
    assert set(rows) == {"cola-000", "cola-001", again[0].trial_id}
    now, then = rows[again[0].trial_id], before[again[0].trial_id]
    for same in ("kind", "of", "number", "seed", "params", "fingerprint", "score"):
        assert getattr(now, same) == getattr(then, same)
    assert "Trials whose rows were lost, restored if finals or repeats train them again: 1." in opened.message


def test_the_last_report_of_a_trial_comes_back_from_its_state(tmp_path: Path) -> None:
    of, folder = plan(), StudyFolder(tmp_path)
    trained(of, folder)
    row = read_trials(folder.results)[0]
    state = folder.checkpoints / row.trial_id / "rung-2"
    state.mkdir(parents=True)
    last = report(row.trial_id, 1, 0.375)
    progress = {"rung": 2, "fingerprint": row.fingerprint, "report": last.to_dict()}
    (state / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
    half(folder.results / "reports.parquet")
    opened = open_records(of, folder)
    assert opened.records.reports == (last,) == tuple(read_reports(folder.results))
    assert {each.trial_id: each.rung for each in opened.records.trials}[row.trial_id] == 1, "so it is not judged yet"
    assert opened.message.endswith(
        "Trials whose reports were lost but for the last one, which their states have: 1.\n"
        "Trials whose reports were lost: 1."
    )
    assert open_records(of, folder).message == "", "it is said once"


def test_reports_that_never_came_are_not_lost_with_another_table(tmp_path: Path) -> None:
    of, folder = plan(), StudyFolder(tmp_path)
    ask, sink = asked(of, folder), ParquetSink(folder.results)
    message = TrialMessage("cola-000", "cola", 0, "search", trial_seed(of.spec, "cola"), ask("cola", 0) or {})
    book = Ledger(count_on(SHAPE), sink, [])
    book.started(message)
    sink.ordered(Order(id=ORDER, state="done", what="stop_trial", trial="cola-000"))
    sink.study_ended([])
    state = folder.checkpoints / "cola-000" / "rung-1"
    state.mkdir(parents=True)
    progress = {"fingerprint": book.rows["cola-000"].fingerprint, "report": report("cola-000", 0, 0.5).to_dict()}
    (state / "progress.json").write_text(json.dumps({"rung": 1, **progress}), encoding="utf-8")
    half(folder.results / "orders.parquet")
    opened = open_records(of, folder)
    assert opened.message == "Unreadable files of the records, renamed in their folder: 1."
    assert not opened.records.reports


@pytest.mark.parametrize("search", KINDS.values(), ids=KINDS.keys())
def test_no_id_is_given_to_another_point(tmp_path: Path, search: dict[str, Any]) -> None:
    """The third trial has no report; Optuna knows the end of the second."""
    of, folder = plan(**search), StudyFolder(tmp_path)
    points = trained(of, folder)
    half(folder.results / "trials.parquet")
    half(folder.results / "reports.parquet")
    opened = open_records(of, folder)
    assert opened.records.trials == ()
    ask = asked(of, folder)
    assert {trial_id: ask("cola", int(trial_id[-3:])) for trial_id in points} == points
    assert ask("cola", 3) not in points.values()


def test_a_trial_whose_end_optuna_knows_is_asked_for_again_as_the_same_point(tmp_path: Path) -> None:
    of, folder = plan(), StudyFolder(tmp_path)
    sampler = open_samplers(of.spec, of.space, folder.journal, never)["cola"]
    points = []
    for number, status in enumerate((Status.COMPLETED, Status.STOPPED_EARLY, Status.DIVERGED)):
        points.append(sampler.ask(f"cola-{number:03d}", number))
        sampler.report(f"cola-{number:03d}", 60, 0.5)
        sampler.tell(f"cola-{number:03d}", status, 0.5)
    ask = asked(of, folder)
    assert [ask("cola", number) for number in range(3)] == points


def one_unknown_status(path: Path) -> None:
    table = pq.read_table(path)
    status = pa.array(["sleeping", *table["status"].to_pylist()[1:]])
    pq.write_table(table.set_column(table.column_names.index("status"), "status", status), path)


@pytest.mark.parametrize("damage", [half, other_bytes, one_unknown_status])
def test_the_trials_that_were_taken_back_go_on_and_their_numbers_are_not_asked_for(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    of, folder = plan(), StudyFolder(tmp_path)
    points = trained(of, folder)
    damage(folder.results / "trials.parquet")
    book = ledger(open_records(of, folder))
    assert {each.trial_id: each.params for each in known_trials(of, book) if each.kind == "search"} == {
        trial_id: points[trial_id] for trial_id in ("cola-000", "cola-001")
    }
    assert numbers_left(of, book, "cola") == [2, 3]


@pytest.mark.parametrize("search", [KINDS["by task"], KINDS["shared"]], ids=["by task", "shared"])
def test_others_take_the_place_of_trials_whose_points_nobody_knows(tmp_path: Path, search: dict[str, Any]) -> None:
    of, folder = plan(**search), StudyFolder(tmp_path)
    trained(of, folder)
    half(folder.results / "trials.parquet")
    folder.journal.write_bytes(b"{}\n")
    opened = open_records(of, folder)
    assert opened.records.trials == ()
    assert opened.lost == {("cola", 0), ("cola", 1)}
    assert opened.message.endswith("Trials whose rows and points were lost, replaced by new trials: 2.")
    assert numbers_left(of, ledger(opened), "cola") == [2, 3, 4, 5]
    assert numbers_left(of, ledger(opened), "rte") == [0, 1, 2, 3]
    assert numbers_left(of, ledger(opened)) == [2, 3, 4, 5]


def test_of_a_shared_configuration_one_trial_goes_on_at_a_time(tmp_path: Path) -> None:
    """The other trial follows after its end, with its own id and the same point; also if the records are reopened."""
    of, folder = plan(shared=True), StudyFolder(tmp_path)
    sink, point = ParquetSink(folder.results), asked(of, folder)("cola", 0)
    assert point is not None
    for task in ("cola", "rte"):
        sink.reported(report(f"{task}-000", 0, 0.5, task))
    for _ in range(2):
        [row] = open_records(of, folder).records.trials
        assert (row.trial_id, row.params) == ("cola-000", point)


def test_a_baseline_is_known_by_the_request_and_a_finalist_by_the_finals(tmp_path: Path) -> None:
    of, folder = plan(), StudyFolder(tmp_path)
    sink = ParquetSink(folder.results)
    [head, *_] = of.baselines("cola")
    for trial_id in (head.trial_id, "cola-final-1-s1"):
        sink.reported(report(trial_id, 0, 0.5))
    opened = open_records(of, folder)
    [row] = opened.records.trials
    assert (row.trial_id, row.kind, row.params, row.rung) == (head.trial_id, "baseline", head.params, 0)
    assert opened.lost == frozenset()


def test_a_clone_is_taken_back_with_its_source(tmp_path: Path) -> None:
    of, folder = plan(), StudyFolder(tmp_path)
    points, sink = trained(of, folder), ParquetSink(folder.results)
    sink.reported(report("cola-clone-0", 0, 0.9))
    asked = {"what": "clone_trial", "trial": "cola-000", "settings": ("learning_rate=0.0031",)}
    sink.ordered(Order(id=ORDER, state="done", made="cola-clone-0", **asked))
    sink.study_ended([])
    sampler = open_samplers(of.spec, of.space, folder.journal, never)["cola"]
    sampler.recall("cola-clone-0", {**points["cola-000"], "learning_rate": 0.0031}, Status.INTERRUPTED, {})
    sampler.report("cola-clone-0", report("cola-clone-0", 0, 0.9).examples, 0.9)
    sampler.tell("cola-clone-0", Status.STOPPED_EARLY, 0.9)
    half(folder.results / "trials.parquet")
    opened = open_records(of, folder)
    rows = {row.trial_id: row for row in opened.records.trials}
    assert rows["cola-clone-0"].status == Status.STOPPED_EARLY
    assert set(rows) == {"cola-000", "cola-001", "cola-clone-0"}
    assert rows["cola-clone-0"].params == {**points["cola-000"], "learning_rate": 0.0031}
    assert rows["cola-clone-0"].score == 0.9


def test_whole_records_are_opened_without_a_word(tmp_path: Path) -> None:
    of, folder = plan(), StudyFolder(tmp_path)
    trained(of, folder)
    before = read_trials(folder.results)
    opened = open_records(of, folder)
    assert (list(opened.records.trials), opened.lost, opened.message) == (before, frozenset(), "")


@pytest.mark.parametrize("score", [nan, inf, -inf])
@pytest.mark.parametrize("search", [*KINDS.values(), {"sampler": "study_model"}], ids=[*KINDS, "study model"])
def test_a_study_that_holds_a_score_that_is_no_number_goes_on(
    tmp_path: Path, search: dict[str, Any], score: float
) -> None:
    """An earlier version called such a trial completed and halted when Optuna refused its score, at each resume."""
    of, folder = plan(**search), StudyFolder(tmp_path)
    trained(of, folder, last=score)
    schedule = make_schedule(examples_per_epoch=60, epochs=4, grace_epochs=1, reduction=2)
    works: Any = {task: SimpleNamespace(schedule=schedule) for task in of.spec.tasks}
    book = ledger(open_records(of, folder))
    assert {book.rows[name].status for name in ("cola-000", "cola-001")} == {Status.DIVERGED}
    stopper = StudyStopper(Budget(), Amount)
    phase = search_phase(SearchedStudy(plan=of, works=works, folder=folder, ledger=book, stopper=stopper))
    asked = [phase.searcher.suggest(f"tune-{number}") for number in range(5)]
    assert len([message for message in asked if message and message["kind"] == "search"]) >= 2
    assert not stopper.halted


def test_a_resumed_search_goes_on_with_the_task_whose_turn_it_is(tmp_path: Path) -> None:
    """Three trials of one task and two of the other have ended, each after a whole round of both but the last."""
    of, folder = plan(trials=5), StudyFolder(tmp_path)
    schedule = make_schedule(examples_per_epoch=60, epochs=4, grace_epochs=1, reduction=2)
    works: Any = {task: SimpleNamespace(schedule=schedule) for task in of.spec.tasks}

    def next_ones(count: int) -> list[dict[str, Any]]:
        book, stopper = ledger(open_records(of, folder)), StudyStopper(Budget(), Amount)
        phase = search_phase(SearchedStudy(plan=of, works=works, folder=folder, ledger=book, stopper=stopper))
        asked = (phase.searcher.suggest(f"tune-{number}") for number in range(40))
        return [each for each in asked if isinstance(each, dict) and each["kind"] == "search"][:count]

    whole = next_ones(7)
    sink = ParquetSink(folder.results)
    for each in whole[:5]:
        named = each["trial_id"].removeprefix(f"{each['task']}-")
        sink.trial_ended(row(named, "search", 0.5, task=each["task"], number=each["number"], params=each["params"]))
    sink.study_ended([])
    assert [each["trial_id"] for each in next_ones(2)] == [each["trial_id"] for each in whole[5:]]


@pytest.mark.parametrize("exact", [True, False])
def test_a_search_is_judged_by_the_cutoff_of_its_plan(tmp_path: Path, *, exact: bool) -> None:
    """The last of eleven reports the score of the fourth best, on which the cutoff falls, with a lower loss."""
    scores, stopper = [*range(10), 6], StudyStopper(Budget(), Amount)
    schedule = make_schedule(examples_per_epoch=60, epochs=4, grace_epochs=1, reduction=3)

    def searching(**search: Any) -> Phase:
        of = replace(plan(trials=11, sampler="random", baseline_learning_rates=(), **search), exact_cutoff=exact)
        works: Any = {task: SimpleNamespace(schedule=schedule) for task in of.spec.tasks}
        book = ledger(open_records(of, folder := StudyFolder(tmp_path)))
        return search_phase(SearchedStudy(plan=of, works=works, folder=folder, ledger=book, stopper=stopper))

    asha = searching().scheduler
    assert isinstance(asha, AshaPerGroup)
    judged = [at(asha, added(asha, number), 0, score / 50, 1 / (number + 1)) for number, score in enumerate(scores)]
    assert judged[-1] == (CONTINUE if exact else STOP)
    shared, reached = searching(shared=True).searcher, set()
    while isinstance(told := shared.suggest(f"tune-{len(reached)}"), dict):
        shared.on_trial_complete(f"tune-{len(reached)}", {"score": scores[told["number"]] / 50, "status": "completed"})
        reached.add((told["task"], told["number"]))
    assert len({number for _, number in reached}) == len(scores)
    assert (("cola", 10) in reached and ("rte", 10) in reached) is exact


class Told(NullSink):
    """Notifications that keep what they are asked to tell."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def halted(self, reason: str) -> None:
        self.ends.append(reason)

    def stopped(self) -> None:
        self.ends.append("stopped")

    def goes_on(self) -> None:
        self.ends.append("goes on")


@pytest.mark.parametrize(
    ("how", "reason", "alone", "queued"),
    [
        ("finished", "", [], []),
        ("cancelled", "", ["stopped"], ["stopped"]),
        ("interrupted", "", ["stopped"], ["stopped"]),
        ("terminated", "", ["stopped"], ["goes on"]),
        ("halted", "the disk is full", ["the disk is full"], ["goes on"]),
        ("lost", "Ray ended", ["Ray ended"], ["goes on"]),
    ],
)
def test_an_end_after_which_the_queue_starts_the_next_driver_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: End, reason: str, alone: list[str], queued: list[str]
) -> None:
    monkeypatch.setattr(study_records, "MlflowSink", lambda *_: NullSink())
    study = plan()
    folder = StudyFolder(tmp_path)
    context: Any = SimpleNamespace(plan=study, folder=folder, manifest=None)
    for share, told in ((None, alone), (0, queued)):
        notifications = Told()
        monkeypatch.setattr(study_records, "Notifications", lambda *_, here=notifications, **__: here)
        options = DriverOptions(start=StartOptions(share=share, notify=("json://here",)))
        sinks = StudySinks(open_records(study, folder), context, options)
        sinks.notify_of_end(how, reason, no_page="")
        sinks.end([], within=None)
        assert notifications.ends == told


def test_without_an_address_nothing_follows_the_rows_to_tell_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saves a ranking of all rows at each trial's end, which tells what is better than the head alone."""
    monkeypatch.setattr(study_records, "MlflowSink", lambda *_: NullSink())
    study, folder, again = plan(), StudyFolder(tmp_path), cast(Any, object())
    context: Any = SimpleNamespace(plan=study, folder=folder, manifest=None)
    start = StartOptions(notify=("json://here",))
    for options in (DriverOptions(start=StartOptions()), DriverOptions(start=start, again=again)):
        made = list[object]()
        monkeypatch.setattr(study_records, "Notifications", lambda *given, here=made, **_: here.append(given))
        sinks = StudySinks(open_records(study, folder), context, options)
        sinks.notify_of_end("interrupted", "", no_page="no")
        sinks.end([], within=None)
        assert made == []
