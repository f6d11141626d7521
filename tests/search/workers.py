"""Makes up what a worker gets, and runs its trial to the end."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from krona_tune.search.trial_message import TrialMessage
from krona_tune.search.worker.trainable import KronaTrial, Workplace
from krona_tune.train.loop import TaskWork
from tests.train.conftest import table, tiny_work

Workers = Callable[..., KronaTrial]
"""Takes the configuration of a worker's first trial, and what its workplace has of its own."""


WORKS = {
    "rte": replace(tiny_work("rte"), test=table(44, 3)),
    "stsb": tiny_work("stsb", rows=40, epochs=2),
}


def config(number: int = 0, task: str = "rte", kind: str = "search", **params: Any) -> dict[str, Any]:
    knobs = {"method": "krona", "a_out": 4, "a_in": 6, "scale": 2.0, "learning_rate": 1e-2, "batch_size": 8}
    return TrialMessage(f"{task}-{number:03d}", task, number, kind, 5, {**knobs, "dropout": 0.2, **params}).to_dict()


def worker_here(first: dict[str, Any], works: Mapping[str, TaskWork], workplace: Workplace) -> KronaTrial:
    """Makes a worker in this process, as Ray does in one of its own."""
    made = object.__new__(KronaTrial)
    made.config = first
    made.setup(first, works={**works}, workplace=workplace)
    return made


def all_steps(worker: KronaTrial) -> list[dict[str, Any]]:
    results = [worker.step()]
    while not results[-1]["done"]:
        results.append(worker.step())
    worker.cleanup()
    return results


def measured(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(r["examples"], r["score"], r["report"]["train_loss"]) for r in results]
