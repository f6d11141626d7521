"""Tests that waiting trials come first, then each task in turn, and that Optuna is told the results."""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, cast

import pytest
from ray.tune.search import Searcher

from krona_tune.search.searchers.proposal import Origin
from krona_tune.search.searchers.task_searcher import ChosenSearcher, Gate, GatedSearcher, StudySearcher
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.result import Status


class Samplers:
    """A stand-in for a task's Optuna study that keeps what it is told."""

    def __init__(self, task: str, heard: list[Any]) -> None:
        self.task, self.heard = task, heard

    def ask(self, trial_id: str, number: int) -> dict[str, Any]:
        assert trial_id.endswith(f"-{number:03d}")
        self.heard.append(("ask", trial_id))
        return {"method": "krona", "scale": 2.0}

    def origin(self, trial_id: str) -> Origin:
        return Origin(proposed_by="TPE")

    def report(self, trial_id: str, examples: int, score: float) -> None:
        self.heard.append(("report", trial_id, examples, score))

    def tell(self, trial_id: str, status: Status, score: float | None) -> None:
        self.heard.append(("tell", trial_id, status, score))


def final_status(tune_id: str, result: dict[str, Any] | None, error: bool) -> Status:
    if error:
        return Status.FAILED
    return Status(result["status"]) if result and "status" in result else Status.STOPPED_EARLY


@pytest.fixture
def heard() -> list[Any]:
    return []


def searcher(heard: list[Any], waiting: list[TrialMessage] | None = None, **remaining: range) -> StudySearcher:
    samplers: Any = {task: Samplers(task, heard) for task in ("cola", "rte", "stsb")}
    return StudySearcher(waiting or [], samplers, remaining, final_status, {"cola": 11, "rte": 12, "stsb": 13})


def final(number: int) -> TrialMessage:
    return TrialMessage(
        f"cola-final-{number}-s1", "cola", number, "finalist", 1, {"method": "krona"}, f"cola-00{number}"
    )


def suggested(search: StudySearcher) -> list[str]:
    """Returns the ids of all trials until the end."""
    ids = []
    while config := search.suggest(f"tune-{len(ids)}"):
        ids.append(config["trial_id"])
    return ids


def test_what_waits_comes_first_then_the_tasks_in_turn_then_the_end(heard: list[Any]) -> None:
    waiting = [
        TrialMessage("rte-001", "rte", 1, "search", 12, {"scale": 3.0}),
        TrialMessage("cola-head-0", "cola", 0, "baseline", 11, {"method": "head_only"}),
    ]
    search = searcher(heard, waiting, cola=range(0, 3), rte=range(2, 3), stsb=range(4, 4))
    expected = ["rte-001", "cola-head-0", "cola-000", "rte-002", "cola-001", "cola-002"]
    assert suggested(search) == expected
    assert heard == [("ask", trial_id) for trial_id in expected[2:]]
    assert search.suggest("tune-again") is None, "an order may bring more while a trial runs"
    for number in range(len(expected)):
        search.on_trial_complete(f"tune-{number}")
    assert search.suggest("tune-again") == Searcher.FINISHED


def test_a_task_whose_search_ends_by_itself_asks_for_nothing_more(heard: list[Any]) -> None:
    asked: list[str] = []
    left_out: list[Mapping[str, int]] = []

    def ends(task: str) -> bool:
        asked.append(task)
        return asked.count("cola") == 3

    samplers: Any = {task: Samplers(task, heard) for task in ("cola", "rte")}
    remaining, seeds = {"cola": range(4), "rte": range(2)}, {"cola": 1, "rte": 2}
    search = StudySearcher([], samplers, remaining, final_status, seeds, ends=ends, leaves_out=left_out.append)
    assert suggested(search) == ["cola-000", "rte-000", "cola-001", "rte-001"]
    assert asked == ["cola", "rte", "cola", "rte", "cola"]
    assert search.exhausted
    assert left_out == [{"cola": 2}]


def test_more_trials_are_asked_for_once(heard: list[Any]) -> None:
    search = searcher(heard, cola=range(0, 3))
    assert search.extend({"cola": [1, 2, 3, 4], "rte": [0]}) == {"cola": 2, "rte": 1}
    assert sorted(suggested(search)) == ["cola-000", "cola-001", "cola-002", "cola-003", "cola-004", "rte-000"]


def test_a_proposal_is_one_plain_dict_with_its_tasks_seed(heard: list[Any]) -> None:
    assert searcher(heard, rte=range(7, 9)).suggest("tune-0") == {
        "trial_id": "rte-007",
        "task": "rte",
        "number": 7,
        "kind": "search",
        "seed": 12,
        "params": {"method": "krona", "scale": 2.0},
        "of": "",
        "proposed_by": "TPE",
        "expected_score": None,
        "expected_deviation": None,
        "copied_examples": 0,
    }


def test_nothing_to_do_ends_at_once(heard: list[Any]) -> None:
    assert searcher(heard).suggest("tune-0") == Searcher.FINISHED
    assert searcher(heard, cola=range(3, 3)).suggest("tune-0") == Searcher.FINISHED


def test_points_are_proposed_as_workers_come_and_not_all_at_once(heard: list[Any]) -> None:
    search = searcher(heard, cola=range(100))
    search.gate = Gate(most=64)
    search.gate.room = 3
    asked = []
    for running in (0, 3, 5, 12, 30):
        search.gate.running = running
        while search.suggest(f"tune-{len(heard)}"):
            pass
        asked.append(len(heard))
    assert asked == [7, 10, 14, 28, 64]


def test_a_gate_without_slots_holds_up_no_end(heard: list[Any]) -> None:
    search = searcher(heard, cola=range(1))
    search.gate = Gate(most=0)
    assert search.suggest("tune-0") is None, "a trial is left"
    search.gate = Gate(most=1)
    search.suggest("tune-0")
    search.gate = Gate(most=0)
    assert search.suggest("tune-1") is None, "a trial runs"
    search.on_trial_complete("tune-0")
    assert search.suggest("tune-1") == Searcher.FINISHED


def test_a_searcher_whose_gate_lets_nothing_new_begin_is_closed(heard: list[Any]) -> None:
    class Over(Gate):
        def over(self) -> bool:
            return True

    search = searcher(heard, cola=range(3))
    search.gate = Over()
    assert (search.suggest("tune-0"), search.closed, heard) == (Searcher.FINISHED, True, [])


def test_reports_and_the_end_reach_the_tasks_sampler(heard: list[Any]) -> None:
    search = searcher(heard, rte=range(0, 1))
    search.suggest("tune-0")
    search.on_trial_result("tune-0", {"score": 0.5, "examples": 64, "report/rung": 0})
    search.on_trial_complete("tune-0", {"score": 0.7, "examples": 128, "status": "completed", "done": True})
    assert heard[1:] == [
        ("report", "rte-000", 64, 0.5),
        ("report", "rte-000", 128, 0.7),
        ("tell", "rte-000", Status.COMPLETED, 0.7),
    ]


@pytest.mark.parametrize(
    ("result", "error", "told"),
    [
        ({"score": 0.3, "examples": 64}, False, (Status.STOPPED_EARLY, 0.3)),
        ({"status": "diverged", "done": True}, False, (Status.DIVERGED, None)),
        ({"status": "out_of_memory", "done": True}, False, (Status.OUT_OF_MEMORY, None)),
        (None, True, (Status.FAILED, None)),
    ],
)
def test_each_end_is_told_with_its_status(
    heard: list[Any], result: dict[str, Any] | None, error: bool, told: tuple[Status, float | None]
) -> None:
    search = searcher(heard, cola=range(2, 3))
    search.suggest("tune-0")
    search.on_trial_complete("tune-0", result, error)
    assert heard[-1] == ("tell", "cola-002", *told)
    reported = [event for event in heard if event[0] == "report"]
    assert reported == ([("report", "cola-002", 64, 0.3)] if result and "score" in result else [])


def test_a_second_end_and_an_unknown_trial_are_told_nothing(heard: list[Any]) -> None:
    search = searcher(heard, cola=range(0, 1))
    search.suggest("tune-0")
    search.on_trial_complete("tune-0", None, True)
    before = list(heard)
    search.on_trial_complete("tune-0", None, True)
    search.on_trial_complete("tune-7", {"score": 1.0, "examples": 3})
    assert heard == before


def test_a_baseline_is_no_concern_of_optunas(heard: list[Any]) -> None:
    search = searcher(heard, [TrialMessage("cola-head-0", "cola", 0, "baseline", 11, {"method": "head_only"})])
    search.suggest("tune-0")
    search.on_trial_result("tune-0", {"score": 0.5, "examples": 64})
    search.on_trial_complete("tune-0", {"score": 0.7, "examples": 128, "status": "completed"})
    assert heard == []


def test_chosen_trials_are_given_and_those_that_are_chosen_meanwhile() -> None:
    """Once the rows choose nothing more and nothing runs, it has given all."""
    chosen = iter([[], [final(2), final(3)], [], []])
    search = ChosenSearcher([final(1)], lambda *_: Status.COMPLETED, lambda: next(chosen))
    assert not search.exhausted
    assert cast(Any, search.suggest("a"))["trial_id"] == final(1).trial_id
    assert search.exhausted
    assert search.suggest("b") is None
    assert [cast(Any, search.suggest(name))["trial_id"] for name in "bc"] == [final(2).trial_id, final(3).trial_id]
    assert search.withdraw(final(3).trial_id) is False, "it runs"
    for name in "abc":
        search.on_trial_complete(name, {"score": 0.5, "status": "completed"})
    assert search.suggest("d") == Searcher.FINISHED
    assert search.closed


def test_what_is_chosen_while_the_study_is_paused_waits_for_the_next_run_of_tune() -> None:
    search = ChosenSearcher([], lambda *_: Status.COMPLETED, lambda: [final(1)])
    search.gate = Gate(most=0)
    assert search.suggest("a") == Searcher.FINISHED
    assert not search.waiting


def test_a_chosen_trial_that_waits_can_be_taken_back() -> None:
    search = ChosenSearcher([final(1), final(2)], lambda *_: Status.COMPLETED)
    assert search.withdraw(final(1).trial_id)
    assert cast(Any, search.suggest("a"))["trial_id"] == final(2).trial_id


@pytest.mark.parametrize("name", ["task_searcher:StudySearcher", "shared_searcher:SharedSearcher"])
def test_files_that_tune_wrote_before_find_a_searcher_by_its_path(name: str) -> None:
    assert issubclass(resolve_name(f"krona_tune.search.searchers.{name}"), GatedSearcher)
