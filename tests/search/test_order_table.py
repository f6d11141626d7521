"""Tests that the table of orders is whole, what its orders do, and that nothing else spells the name of one."""

import ast
import json
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from ray.tune.search import Searcher
from safetensors.torch import save_file

import krona_tune
from krona_tune.cli.steering import WORDS
from krona_tune.record.orders import give_order
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import read_records
from krona_tune.refusal import Refusal
from krona_tune.search import budget, order_table
from krona_tune.search.full_training import FullTraining
from krona_tune.search.order_table import ORDER_ACTIONS
from krona_tune.search.searchers.asha_rule import SharedAverages
from krona_tune.search.searchers.open_samplers import open_samplers, open_shared_sampler
from krona_tune.search.searchers.shared_searcher import SharedSearcher
from krona_tune.search.searchers.task_searcher import ChosenSearcher, StudySearcher
from krona_tune.search.waiting_orders import give_checked_order
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import FOR_PEOPLE, OF_A_DRIVER, OF_A_FULL_TRAINING, OrderKind, OrderRequest
from krona_tune.study.request.field_types import for_task
from krona_tune.study.request.loader import load_spec
from krona_tune.study.result import Status
from krona_tune.study.settings import ORDERED
from krona_tune.train import checkpoint
from tests.search.conftest import never
from tests.search.order_driver import REQUESTS, Driver, Killed, suggested
from tests.search.plans import plan
from tests.search.rungs import report
from tests.syntax_trees import tree_of

pytestmark = pytest.mark.usefixtures("prompt_inbox")

PACKAGE = Path(krona_tune.__file__).parent
OF_OTHER_THINGS = {"trials", "max_concurrent", "time_budget", "stop", "share"}
"""The words that mean other things too: three settings, a file, and a flag and a format."""


def test_a_driver_answers_each_kind_of_order() -> None:
    assert list(ORDER_ACTIONS) == list(OrderKind)
    assert OF_A_DRIVER == ("cancel", "share")
    assert OF_A_FULL_TRAINING == ("pause", "continue", "cancel", "share")


@pytest.mark.parametrize("kind", OrderKind)
def test_each_row_agrees_with_itself(kind: OrderKind) -> None:
    answer, takes = ORDER_ACTIONS[kind], kind.facts.takes
    assert kind not in ORDERED or takes == ("value",)
    assert not answer.needs_searcher or (answer.outcome and answer.of_the_search)
    assert bool(kind.facts.example) == bool(takes)
    names = [name for name in takes if name != "settings"]
    named = dict(zip(names, kind.facts.example.split(" ", len(names) - 1), strict=False))
    assert OrderRequest(what=kind, **named).text == " ".join(filter(None, [kind.word, kind.facts.example]))


@pytest.mark.parametrize("kind", [kind for kind in OrderKind if kind.facts.control])
def test_the_page_offers_an_order_as_it_is_given(kind: OrderKind) -> None:
    control = kind.facts.control
    assert control is not None
    assert bool(control.label) == ("value" in kind.facts.takes)
    assert re.fullmatch(control.pattern, control.placeholder)
    assert control.placeholder.startswith(control.prefix)
    assert not kind.facts.by_queue


def test_each_order_for_people_has_words_of_its_own() -> None:
    assert len({(kind.word, bool(kind.facts.takes)) for kind in FOR_PEOPLE}) == len(FOR_PEOPLE)
    assert set(WORDS) == {kind.word for kind in FOR_PEOPLE}
    assert {"stop", "clone", "max-concurrent"} <= set(WORDS)
    assert "share" not in WORDS


def test_no_other_module_spells_an_order() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if _spells(path)}
    assert found == {"study/order.py"}
    pages = (PACKAGE / "report" / "templates").iterdir()
    orders = re.compile(rf'(data-order=|what [!=]== )"({"|".join(OrderKind)})"')
    assert [path.name for path in pages if orders.search(path.read_text(encoding="utf-8"))] == []


def _spells(path: Path) -> bool:
    """Returns whether a module has the name of an order, or compares or gives what an order asks as a text."""
    tree = tree_of(path)
    alone = set(OrderKind) - OF_OTHER_THINGS
    return any(
        (isinstance(node, ast.Constant) and node.value in alone)
        or (isinstance(node, ast.Call) and _is_order(node.func) and _has_text([each.value for each in node.keywords]))
        or (isinstance(node, ast.Compare) and _asks(node.left) and _has_text(node.comparators))
        or (isinstance(node, ast.Match) and _asks(node.subject) and _has_text([case.pattern for case in node.cases]))
        for node in ast.walk(tree)
    )


def _asks(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "what"


def _is_order(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"OrderRequest", "order_request"}


def _has_text(nodes: Sequence[ast.AST]) -> bool:
    return any(isinstance(each, ast.Constant) for node in nodes for each in ast.walk(node))


def kept_state(study: StudyFolder, trial_id: str, rung: int, examples: int) -> None:
    """Writes the state that a trial keeps at a rung, of a task with 60 training examples."""
    place = study.checkpoints / trial_id / f"rung-{rung}"
    place.mkdir(parents=True)
    save_file({"head.weight": torch.zeros(2)}, place / checkpoint.TENSORS)
    last = replace(report(trial_id, 0, 0.5), rung=rung - 1, examples=examples, epochs=examples / 60)
    (place / checkpoint.PROGRESS).write_text(json.dumps({"rung": rung, "report": asdict(last)}), encoding="utf-8")


@pytest.mark.parametrize(
    ("share", "state", "said"),
    [
        (0.25, "done", "it is cola-clone-0, from rung 2"),
        (1.0, "refused", "it was trained to its end, so no rung is left for a clone; clone it from the start"),
    ],
)
def test_a_clone_goes_on_from_any_rung_but_the_last(study: StudyFolder, share: float, state: str, said: str) -> None:
    """Trial cola-001 was cut off between its last report and its end."""
    asked = OrderRequest(what="clone_trial", trial="cola-001", settings=("learning_rate=0.002",), from_last_rung=True)
    examples = round(share * 60 * for_task(plan().spec.schedule.epochs, "cola"))
    kept_state(study, "cola-001", 2, examples)
    give_order(study, asked, by="ann")
    driver = Driver(study).run()
    assert driver.only.state == state
    assert said in driver.only.outcome
    made = driver.ledger.rows.get("cola-clone-0")
    assert (made.copied_examples if made else None) == (examples if state == "done" else None)


@pytest.fixture
def waiting_clone(study: StudyFolder) -> Driver:
    """Lets a driver take the order of a clone from a last rung, which gets no slot."""
    asked = OrderRequest(what="clone_trial", trial="cola-001", settings=("learning_rate=0.002",), from_last_rung=True)
    kept_state(study, "cola-001", 2, 60)
    give_order(study, asked, by="ann")
    first = Driver(study)
    first.orders.begin()
    samplers = open_samplers(first.plan.spec, first.plan.space, study.journal, never)
    first.orders.serve(StudySearcher([], samplers, {}, first.stopper.final_status, {}), 1)
    return first


def test_a_clone_that_waits_keeps_the_state_that_it_got_wherever_the_other_trial_is_by_now(
    study: StudyFolder, waiting_clone: Driver
) -> None:
    assert (waiting_clone.only.state, waiting_clone.only.outcome) == ("taken", "it is cola-clone-0, from rung 2")
    shutil.rmtree(study.checkpoints / "cola-001")  # it was trained to its end meanwhile, and cleaned up
    again = Driver(study).run()
    assert (again.only.state, again.only.outcome) == ("done", "it is cola-clone-0, from rung 2")
    assert again.ledger.rows["cola-clone-0"].copied_examples == 60


def test_of_a_clone_that_is_refused_late_no_other_gets_the_id_or_the_state(
    study: StudyFolder, waiting_clone: Driver
) -> None:
    shutil.rmtree(study.checkpoints)
    again = Driver(study).run()
    assert (again.only.state, again.only.made) == ("refused", "cola-clone-0")
    assert not (study.checkpoints / "cola-clone-0").exists()
    give_order(study, OrderRequest(what="clone_trial", trial="cola-001", settings=("learning_rate=0.002",)), by="ann")
    assert "cola-clone-1" in Driver(study).run().ledger.rows


def test_a_time_budget_can_be_lifted(study: StudyFolder) -> None:
    for value, seconds in (("2h", 7200.0), ("null", None)):
        driver = Driver(study)
        driver.later.append(OrderRequest(what="time_budget", value=value))
        driver.run()
        assert load_spec(study.spec).search.time_budget == seconds
    assert [each.outcome for each in driver.ledger.orders.values()] == [
        "search.time_budget: 7200.0",
        "search.time_budget: null",
    ]


def test_more_trials_reach_the_running_search(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.run()
    driver.orders.serve(driver.searcher, 1)
    give_order(study, OrderRequest(what="trials", value="+3"))
    driver.orders.look()
    assert driver.terminal.expected == {"cola": 3, "rte": 3}
    proposed = list(suggested(driver.searcher, 20))
    assert [each for each in proposed if each.startswith("cola")] == [f"cola-{n:03d}" for n in range(2, 7)]
    assert [each for each in proposed if each.startswith("rte")] == [f"rte-{n:03d}" for n in range(7)]


RETRY = OrderRequest(what="retry")


def with_end(study: StudyFolder, trial_id: str, status: Status) -> None:
    """Records that a trial of the study ended so."""
    sink, rows = ParquetSink(study.results), {row.trial_id: row for row in read_records(study.results).trials}
    sink.trial_ended(
        replace(rows[trial_id], status=status, error="the disk was full", ended_at=rows[trial_id].started_at + 9)
    )


@pytest.mark.parametrize("status", [Status.FAILED, Status.OUT_OF_MEMORY])
def test_what_failed_before_this_driver_goes_on(study: StudyFolder, status: Status) -> None:
    with_end(study, "cola-001", status)
    assert "cola-001" not in Driver(study).run().seen
    give_order(study, RETRY, by="ann")
    driver = Driver(study).run()
    assert (driver.only.state, driver.only.outcome) == ("done", "1 trial will go on: cola-001")
    assert driver.seen.count("cola-001") == 1
    row = read_records(study.results).trials[1]
    assert (row.trial_id, row.status, row.error, row.ended_at, row.rung) == (
        "cola-001",
        Status.INTERRUPTED,
        "",
        None,
        0,
    )
    assert Driver(study).run().seen.count("cola-001") == 1, "the order is done, and the trial was cut off"


def test_what_fails_while_the_search_runs_goes_on_within_it(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.run()
    driver.orders.serve(driver.searcher, 1)
    (tune_id,) = (each for each, message in driver.begun.items() if message.trial_id == "cola-001")
    driver.ledger.ended("cola-001", Status.FAILED, "the worker was lost")
    driver.searcher.on_trial_complete(tune_id, error=True)
    give_order(study, RETRY)
    driver.orders.look()
    assert [message.trial_id for message in driver.searcher.waiting] == ["cola-001"]
    assert list(suggested(driver.searcher, 1)) == ["cola-001"]
    assert not driver.searcher.knows("cola-001")
    driver.orders.look()
    assert not driver.searcher.waiting, "an order is carried out once"


def with_failed_finalist(study: StudyFolder) -> str:
    """Adds a finalist that failed to the study's records; returns its id."""
    first = read_records(study.results).trials[0]
    sink = ParquetSink(study.results)
    sink.trial_ended(
        replace(first, trial_id="cola-final-1-s1", kind="finalist", of=first.trial_id, status=Status.FAILED, score=None)
    )
    return "cola-final-1-s1"


def test_a_failed_finalist_goes_on_in_the_finals_and_in_no_other_phase(study: StudyFolder) -> None:
    finalist = with_failed_finalist(study)
    driver = Driver(study)
    for phase, waits in ((3, []), (2, [finalist])):
        searcher = ChosenSearcher([], driver.stopper.final_status)
        driver.orders.serve(searcher, phase)
        given = give_order(study, RETRY)
        driver.orders.look()
        assert [message.trial_id for message in searcher.waiting] == waits
        assert driver.ledger.orders[given.id].state == ("done" if waits else "refused")
        driver.orders.leave()
    assert driver.ledger.rows[finalist].status is Status.INTERRUPTED


def test_in_the_search_a_failed_finalist_waits_for_the_finals(study: StudyFolder) -> None:
    finalist = with_failed_finalist(study)
    with_end(study, "cola-001", Status.FAILED)
    give_order(study, RETRY)
    driver = Driver(study).run()
    assert driver.only.outcome == f"2 trials will go on: cola-001, {finalist}"
    assert finalist not in driver.seen
    assert driver.ledger.rows[finalist].status is Status.INTERRUPTED


def test_once_the_search_takes_no_trial_its_failed_ones_stay_as_they_are(study: StudyFolder) -> None:
    """As interrupted ones they might enter the finals with the score of their last rung."""
    with_end(study, "cola-001", Status.FAILED)
    driver = Driver(study)
    driver.stopper.ended = "ann"
    driver.later.append(RETRY)
    driver.run(search=False)
    assert (driver.only.state, driver.ledger.rows["cola-001"].status) == ("refused", Status.FAILED)
    assert "the study takes no trial of their kind now; give the order before" in driver.only.outcome


@pytest.mark.parametrize("write", [1, 2])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_killed_driver_retries_a_failed_trial_once(study: StudyFolder, write: int, after: bool) -> None:
    with_end(study, "cola-001", Status.FAILED)
    give_order(study, RETRY)
    seen: list[str] = []
    with suppress(Killed):
        seen += Driver(study, write, after=after).run().seen
    later = Driver(study).run()
    assert later.only.state == "done", later.only
    assert later.seen.count("cola-001") == 1
    assert Driver(study).run().seen.count("cola-001") == 1, "it was cut off, and nothing is ordered any more"


def test_a_failed_clone_beyond_the_space_goes_on_and_teaches_the_sampler_nothing(study: StudyFolder) -> None:
    with_end(study, "cola-001", Status.FAILED)
    rows = {row.trial_id: row for row in read_records(study.results).trials}
    odd = {**rows["cola-001"].params, "learning_rate": 10.0}
    ParquetSink(study.results).trial_ended(replace(rows["cola-001"], of="cola-000", params=odd))
    give_order(study, RETRY)
    driver = Driver(study).run()
    assert driver.seen.count("cola-001") == 1
    again = open_samplers(driver.plan.spec, driver.plan.space, study.journal, never)["cola"]
    assert again.point("cola-001") is None


@pytest.mark.parametrize("status", [None, Status.DIVERGED])
def test_where_nothing_failed_nothing_is_tried_again(study: StudyFolder, status: Status | None) -> None:
    if status:
        with_end(study, "cola-001", status)
    with pytest.raises(Refusal, match="no trial has failed or ran out of memory"):
        give_checked_order(study, RETRY)
    give_order(study, RETRY)
    assert Driver(study).run().only.state == "refused"


def test_more_configurations_for_all_tasks_reach_each_of_them(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.run()
    seeds: dict[str, int] = dict.fromkeys(driver.plan.spec.tasks, 1)
    sampler = open_shared_sampler(driver.plan.spec, driver.plan.space, study.journal, never)
    status, averages = driver.stopper.final_status, SharedAverages(2, 3)
    shared = SharedSearcher([], sampler, ("cola", "rte"), [], seeds, status, [], averages)
    driver.orders.serve(shared, 1)
    give_order(study, OrderRequest(what="trials", value="+3"))
    driver.orders.look()
    assert driver.terminal.expected == {"cola": 3, "rte": 3}
    assert not shared.exhausted


def test_more_trials_are_refused_once_the_search_gives_none_any_more(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.stop_trials = lambda: give_order(study, REQUESTS["trials"])  # type: ignore[method-assign,assignment]
    driver.run()
    searcher = StudySearcher([], {}, {}, driver.stopper.final_status, {})
    driver.orders.serve(searcher, 1)
    assert searcher.suggest("t0") == Searcher.FINISHED
    give_order(study, REQUESTS["trials"])
    driver.orders.look()
    assert [(each.state, "the search has ended" in each.outcome) for each in driver.ledger.orders.values()] == [
        ("refused", True)
    ] * 2
    assert load_spec(study.spec).search.trials == 4


def test_a_search_that_gives_no_trial_any_more_goes_on_with_the_next_driver(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.run()
    searcher = StudySearcher([], {}, {}, driver.stopper.final_status, {})
    driver.orders.serve(searcher, 1)
    for what in ("stop", "continue", "stop"):
        give_order(study, OrderRequest(what=what))
        driver.orders.look()
    assert searcher.suggest("t0") == Searcher.FINISHED
    give_order(study, OrderRequest(what="continue"))
    driver.orders.look()
    told = [each.outcome for each in driver.ledger.orders.values()]
    assert told[1::2] == ["the search goes on", "the search goes on when the study is resumed"]
    assert driver.stopper.ended == ""


def test_the_number_of_trials_at_once_holds_at_once(study: StudyFolder) -> None:
    driver = Driver(study, slots=2)
    driver.orders.begin()
    samplers = open_samplers(driver.plan.spec, driver.plan.space, study.journal, never)
    searcher = StudySearcher([], samplers, {"rte": [0, 1, 2]}, driver.stopper.final_status, {"rte": 1})
    driver.orders.serve(searcher, 1)
    assert [bool(searcher.suggest(f"t{number}")) for number in range(3)] == [True, True, False]
    give_order(study, OrderRequest(what="max_concurrent", value="3"))
    assert searcher.suggest("t3")
    give_order(study, OrderRequest(what="pause"))
    searcher.on_trial_complete("t0", None)
    assert searcher.suggest("t4") is None


def test_a_share_holds_at_once_and_as_long_as_this_driver_runs(study: StudyFolder) -> None:
    request = study.spec.read_text()
    driver = Driver(study, slots=3, share=3)
    driver.later.append(OrderRequest(what="share", value="1"))
    driver.run()
    assert (driver.only.outcome, driver.orders.slots(), driver.study.most) == ("trials at once: 1", 1, 3)
    assert study.spec.read_text() == request, "a share is no part of the request"
    assert Driver(study, slots=3).run().orders.slots() == 3
    assert Driver(study, slots=3, share=2).orders.slots() == 2
    assert Driver(study, slots=1, share=2).orders.slots() == 1


def test_a_study_with_no_share_waits_and_its_clock_stands(study: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    driver = Driver(study, share=1)
    driver.later += [OrderRequest(what="share", value="0")]
    driver.run()
    assert (driver.orders.slots(), driver.study.paused) == (0, False), "nobody paused it"
    stood = driver.clock.seconds()
    now[0] += 7.0
    assert driver.clock.seconds() == stood
    give_order(study, OrderRequest(what="share", value="2"))
    driver.orders.look()
    assert driver.orders.slots() == 2
    now[0] += 5.0
    assert driver.clock.seconds() == stood + 5.0


def test_the_clock_of_a_paused_study_stands_once_no_trial_runs(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    driver = Driver(study).run()
    driver.orders.running = 1
    give_order(study, OrderRequest(what="pause"))
    driver.orders.look()
    before = driver.clock.seconds()
    now[0] += 7.0
    assert driver.clock.seconds() == before + 7.0, "it trains on to its next rung"
    driver.orders.running = 0
    driver.orders.look()
    now[0] += 5.0
    assert driver.clock.seconds() == before + 7.0


def test_a_share_that_an_earlier_driver_took_means_nothing_to_the_next(study: StudyFolder) -> None:
    driver = Driver(study, write=1, after=True, share=2)
    driver.later.append(OrderRequest(what="share", value="1"))
    with pytest.raises(Killed):
        driver.run()
    driver = Driver(study).run()
    assert (driver.only.state, driver.only.outcome, driver.orders.slots()) == ("done", "the driver had ended", 8)


@pytest.mark.parametrize("value", ["two", "1.5", "1000001", "+2"])
def test_an_odd_share_is_refused(study: StudyFolder, value: str) -> None:
    driver = Driver(study, share=1)
    give_order(study, OrderRequest(what="share", value=value))
    driver.orders.look()
    assert driver.only.state == "refused"
    assert "is not a number of trials; write 0 to 1,000,000" in driver.only.outcome


def test_a_study_that_no_queue_runs_takes_no_share(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.later.append(OrderRequest(what="share", value="0"))
    driver.run()
    assert (driver.only.state, "no queue runs this study" in driver.only.outcome) == ("refused", True)
    assert driver.orders.slots() == 8


def test_a_share_that_waited_for_the_driver_before_is_refused(study: StudyFolder) -> None:
    give_order(study, OrderRequest(what="share", value="0"))
    driver = Driver(study, share=2).run()
    assert (driver.only.state, driver.orders.slots()) == ("refused", 2)


def test_an_order_whose_value_can_not_be_written_changes_nothing(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(order_table, "write_atomically", full)
    give_order(study, REQUESTS["trials"])
    driver = Driver(study).run()
    assert driver.only.state == "refused"
    assert driver.study.plan.spec.search.trials == load_spec(study.spec).search.trials == 4


def test_a_full_training_of_a_clone_has_its_own_name(study: StudyFolder) -> None:
    give_order(study, REQUESTS["clone"])
    rows = Driver(study).run().ledger.rows
    names = [
        FullTraining(of=rows[each], seeds=1, everything=False).trials(1)[0].trial_id
        for each in ("cola-000", "cola-clone-0")
    ]
    assert len(set(names)) == 2
    assert names[1].startswith("cola-clone-0")
