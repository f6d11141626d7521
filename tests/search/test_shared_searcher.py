"""Tests that a shared configuration moves from task to task while its average is among the best."""

from collections import Counter
from dataclasses import replace
from math import nan
from typing import Any

from ray.tune.search import Searcher

from krona_tune.search.searchers.asha_rule import SharedAverages
from krona_tune.search.searchers.proposal import Origin
from krona_tune.search.searchers.shared_searcher import SharedSearcher
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.result import Status, TrialResult
from tests.rows import row

TASKS = ("rte", "cola", "stsb", "sst2")


class Sampler:
    """A stand-in for Optuna's study that keeps what it is told."""

    def __init__(self, open_ones: tuple[str, ...] = ()) -> None:
        self.heard: list[Any] = []
        self.recalled: dict[str, Any] = {}
        self.open = set(open_ones)

    def ask(self, trial_id: str, number: int) -> dict[str, Any] | None:
        self.open.add(trial_id)
        return {"method": "krona", "scale": 1.0 + number} if number < 5 else None

    def origin(self, trial_id: str) -> Origin:
        return Origin(proposed_by="TPE")

    def report(self, trial_id: str, step: int, score: float) -> None:
        self.heard.append((trial_id, step, round(score, 3)))

    def tell(self, trial_id: str, status: Status, score: float | None) -> None:
        self.open.discard(trial_id)
        self.heard.append((trial_id, status, score and round(score, 3)))

    def recall(self, trial_id: str, params: dict[str, Any], status: Status, scores: dict[int, float]) -> None:
        self.recalled[trial_id] = (params["scale"], status, scores)
        (self.open.add if status is Status.INTERRUPTED else self.open.discard)(trial_id)

    def is_open(self, trial_id: str) -> bool:
        return trial_id in self.open


def final_status(tune_id: str, result: dict[str, Any] | None, error: bool) -> Status:
    return Status.FAILED if error or not result else Status(result["status"])


def searcher(
    sampler: Any, numbers: range, rows: Any = (), waiting: Any = (), left_out: "Counter[str] | None" = None
) -> SharedSearcher:
    seeds = {task: place for place, task in enumerate(TASKS)}
    told, averages = Counter[str]() if left_out is None else left_out, SharedAverages(len(TASKS), 2)
    return SharedSearcher(waiting, sampler, TASKS, numbers, seeds, final_status, rows, averages, told.update)


def run(search: SharedSearcher, scores: dict[int, float]) -> list[str]:
    """Runs trials one at a time; a configuration has the same score on every task."""
    ids = []
    while (config := search.suggest(f"tune-{len(ids)}")) != Searcher.FINISHED:
        assert config
        score = scores[config["number"]]
        result = {"score": score, "status": "completed"}
        search.on_trial_complete(f"tune-{len(ids)}", result)
        ids.append(config["trial_id"])
    return ids


def test_a_good_configuration_is_trained_on_all_tasks_and_a_poor_one_stopped_between_them() -> None:
    sampler = Sampler()
    left_out = Counter[str]()
    ids = run(searcher(sampler, range(3), left_out=left_out), {0: 0.5, 1: 0.4, 2: 0.6})
    assert ids == [
        *(f"{task}-000" for task in TASKS),
        "rte-001",
        *(f"{task}-002" for task in TASKS),
    ]
    assert sampler.heard[-6:] == [
        ("shared-001", Status.STOPPED_EARLY, None),
        ("shared-002", 1, 0.6),
        ("shared-002", 2, 0.6),
        ("shared-002", 3, 0.6),
        ("shared-002", 4, 0.6),
        ("shared-002", Status.COMPLETED, 0.6),
    ]
    assert left_out == {"cola": 1, "stsb": 1, "sst2": 1}


def test_a_failure_ends_the_configuration_and_no_other() -> None:
    sampler, left_out = Sampler(), Counter[str]()
    search = searcher(sampler, range(2), left_out=left_out)
    search.suggest("tune-0")
    search.on_trial_complete("tune-0", error=True)
    assert left_out == {"cola": 1, "stsb": 1, "sst2": 1}
    assert sampler.heard == [("shared-000", Status.FAILED, None)]
    assert run(search, {1: 0.3}) == [f"{task}-001" for task in TASKS]


def test_a_configuration_whose_failed_trial_is_tried_again_goes_on_with_the_other_tasks() -> None:
    sampler, left_out = Sampler(), Counter[str]()
    search = searcher(sampler, range(1), left_out=left_out)
    config = search.suggest("tune-0")
    assert config
    search.on_trial_complete("tune-0", error=True)
    search.retry(TrialMessage.from_dict(config))
    assert +left_out == {}
    assert sampler.recalled["shared-000"][1] is Status.INTERRUPTED
    assert run(search, {0: 0.3}) == [f"{task}-000" for task in TASKS]
    assert sampler.heard[-1] == ("shared-000", Status.COMPLETED, 0.3)


def test_an_average_never_holds_a_score_that_is_no_number() -> None:
    sampler = Sampler()
    search = searcher(sampler, range(2), [tried("rte", 4, nan), tried("rte", 3, nan, Status.DIVERGED)])
    search.suggest("tune-0")
    search.on_trial_complete("tune-0", {"score": nan, "status": "completed"})
    assert sampler.heard == [("shared-000", Status.COMPLETED, None)]
    assert run(search, {1: 0.3}) == [f"{task}-001" for task in TASKS]
    assert sampler.recalled["shared-003"][1:] == (Status.DIVERGED, {})


def test_nothing_is_proposed_while_a_task_runs_that_decides_what_comes_next() -> None:
    search = searcher(Sampler(), range(1))
    first = search.suggest("tune-0")
    assert first
    assert (first["task"], first["seed"], first["params"]["scale"]) == ("rte", 0, 1.0)
    assert search.suggest("tune-1") is None
    search.on_trial_complete("tune-0", {"score": 0.5, "status": "completed"})
    second = search.suggest("tune-1")
    assert second
    assert second["trial_id"] == "cola-000"


def test_a_used_up_space_ends_the_search() -> None:
    left_out = Counter[str]()
    assert run(searcher(Sampler(), range(5, 9), left_out=left_out), {}) == []
    assert left_out == dict.fromkeys(TASKS, 4)


def tried(task: str, number: int, score: float, status: Status = Status.COMPLETED) -> TrialResult:
    return row(task, number, score, status=status, params={"method": "krona", "scale": 1.0 + number})


def test_a_resumed_study_goes_on_between_two_tasks_and_judges_as_before() -> None:
    """Configuration 0 is done, 1 was stopped, 2 waits between two tasks, 3 was interrupted in its first task."""
    rows = [tried(task, 0, 0.5) for task in TASKS] + [tried("rte", 1, 0.4), tried("rte", 2, 0.6), tried("cola", 2, 0.7)]
    rows.append(tried("rte", 3, 0.2, Status.INTERRUPTED))
    sampler = Sampler(("shared-002", "shared-003"))
    waiting = [TrialMessage("rte-003", "rte", 3, "search", 1, {"method": "krona", "scale": 4.0})]
    ids = run(searcher(sampler, range(4, 5), rows, waiting), {2: 0.6, 3: 0.1, 4: 0.42})
    assert ids == ["rte-003", "stsb-002", "sst2-002", "rte-004"]
    assert ("shared-003", Status.STOPPED_EARLY, None) in sampler.heard
    assert ("shared-002", Status.COMPLETED, 0.625) in sampler.heard
    assert ("shared-004", Status.STOPPED_EARLY, None) in sampler.heard


def test_configurations_that_optuna_lost_are_known_from_the_records() -> None:
    """Configuration 0 is done, 1 stopped after its first task, 2 failed in its second, 3 waits after its third."""
    rows = [tried(task, 0, 0.5) for task in TASKS] + [tried("rte", 1, 0.4), tried("rte", 2, 0.6)]
    rows += [tried("cola", 2, 0.1, Status.DIVERGED), *(tried(task, 3, 0.75) for task in TASKS[:3])]
    sampler = Sampler()
    ids = run(searcher(sampler, range(0), rows), {3: 0.75})
    assert sampler.recalled == {
        "shared-000": (1.0, Status.COMPLETED, {1: 0.5, 2: 0.5, 3: 0.5, 4: 0.5}),
        "shared-001": (2.0, Status.STOPPED_EARLY, {1: 0.4}),
        "shared-002": (3.0, Status.DIVERGED, {1: 0.6}),
        "shared-003": (4.0, Status.INTERRUPTED, {1: 0.75, 2: 0.75, 3: 0.75}),
    }
    assert ids == ["sst2-003"]


def test_a_configuration_is_judged_again_by_what_was_known_when_its_task_ended() -> None:
    """0 came first and continued; better ones came later. 3 was stopped, and would be first among those after it."""
    scores = {0: 0.4, 1: 0.8, 2: 0.8, 3: 0.5, 4: 0.1, 5: 0.1}
    ends = [replace(tried("rte", number, score), ended_at=10.0 + number) for number, score in scores.items()]
    sampler = Sampler(("shared-000", "shared-003"))
    searcher(sampler, range(0), reversed(ends))
    statuses = {trial_id: status for trial_id, (_, status, _) in sampler.recalled.items()}
    assert statuses == {
        "shared-000": Status.INTERRUPTED,
        "shared-001": Status.INTERRUPTED,
        "shared-002": Status.INTERRUPTED,
        **dict.fromkeys(("shared-003", "shared-004", "shared-005"), Status.STOPPED_EARLY),
    }
