"""Tests that a trial that needs too much memory becomes a row with its size, and that the other trials continue."""

import os
import resource
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray import tune

from krona_tune.search.budget import Amount, Budget
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_loop import TrialLoop
from krona_tune.search.tune_host import Recorder
from krona_tune.search.worker.trainable import Workplace
from krona_tune.study.result import Status, TrialResult
from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import begun, ended, rungs, seen, until_or_end, workers_of
from tests.search.ledgers import ledger
from tests.search.workers import all_steps, config, worker_here
from tests.train.conftest import tiny_work
from tests.waiting import PATIENCE
from tests.whole_studies import ONE_WORKER, Home

GIANT = [
    *("--set", "training.batch_size=[8, 4096]", "--set", "examples.train=4096", "--set", "schedule.epochs=1"),
    *("--set", "search.taught=false"),  # what is taught takes the batch size that is nearer to the recorded ones
]
ATTEMPTS = 4
ROOM = 32 * 2**20
"""What a worker may allocate beyond its memory after the first rung: enough for a small batch, not for a giant one."""


def limit(process: int, more: int | None) -> None:
    """Limits a process to `more` bytes of address space beyond its present one; None removes the limit."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[0])
    most = resource.RLIM_INFINITY if more is None else pages * resource.getpagesize() + more
    resource.prlimit(process, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def short_of_room(home: Home, model: Path, name: str) -> dict[str, TrialResult]:
    """Runs a study whose worker gets too little memory for a giant batch.

    The limit is removed when a trial's row says that it has hit it: a process may keep freed memory and would stay
    short of it. On a fast machine all later trials may have failed before, so the study need not end well.
    """
    folder = home.study(name)
    driver = begun(home, model, name, "rte", 6, *ONE_WORKER, *GIANT)
    [process] = seen(driver, lambda: rungs(folder) and list(workers_of(home)))
    limit(process, ROOM)
    until_or_end(driver, lambda: Status.OUT_OF_MEMORY in {row.status for row in ended(folder).values()})
    with suppress(FileNotFoundError, ProcessLookupError):
        limit(process, None)
    driver.communicate(timeout=PATIENCE)
    return settled(folder, ("rte",), 6)


def steps_short_of_room(model: str, checkpoints: str) -> list[list[dict[str, Any]]]:
    """Returns the steps of a small trial, of one whose batch has too little memory, and of a small one after it.

    Already the first numbers of the giant batch, 16,384 × 40 × 24 of 4 bytes, are twice what there is room for.
    """
    rows = 16384
    crowd = pa.table({"input_ids": [[20] * 40] * rows, "label": [0, 1] * (rows // 2)})
    works = {"rte": tiny_work("rte"), "cola": replace(tiny_work("cola", rows=rows, epochs=1), train=crowd)}
    place = Workplace(folder=model, name="nowhere", precision="fp32", gpu=False, threads=1, checkpoints=checkpoints)
    worker = worker_here(config(0), works, place)
    found = [all_steps(worker)]
    worker.reset_config(config(1, "cola", batch_size=rows))
    limit(os.getpid(), ROOM)
    found.append(all_steps(worker))
    limit(os.getpid(), None)
    worker.reset_config(config(2))
    return [*found, all_steps(worker)]


@pytest.mark.slow
def test_a_batch_that_does_not_fit_ends_its_trial_with_its_size_and_its_worker_trains_the_next(
    bert: Path, tmp_path: Path
) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        before, giant, after = process.submit(steps_short_of_room, str(bert), str(tmp_path)).result()
    assert (before[-1]["status"], after[-1]["status"]) == (Status.COMPLETED, Status.COMPLETED)
    [end] = giant
    assert end["status"] == Status.OUT_OF_MEMORY
    assert "in a batch of 16384 × 40 tokens" in end["error"]
    assert "krona, 4×6" in end["error"]


@pytest.mark.slow
@pytest.mark.long
def test_a_batch_that_does_not_fit_is_a_row_and_the_rest_of_the_study_goes_on(
    home: Home, bert: Path, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit sometimes kills the worker before it can raise an error, so that another worker, which has enough
    memory, resumes its trial; and sometimes it is removed too late. Then the test tries again."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", str(2**17))  # memory of an earlier giant batch is returned
    for attempt in range(ATTEMPTS):
        rows = short_of_room(home, bert, f"giant-{attempt}")
        failed = [row for row in rows.values() if row.status is Status.OUT_OF_MEMORY]
        small = {row.status for row in rows.values() if row.params.get("batch_size") == 8}
        if failed and small == {Status.COMPLETED}:
            break
    assert failed
    assert small == {Status.COMPLETED}
    for row in failed:
        assert row.params["batch_size"] == 4096
        assert "in a batch of 4096 × " in row.error
        assert f"krona, {row.params['a_out']}×{row.params['a_in']}" in row.error
    cost("out of memory (a limit on the worker)", 0)


class Idle(tune.Trainable):
    """A worker that only waits."""

    def step(self) -> dict[str, float]:
        threading.Event().wait()
        return {"score": 0.5}


@pytest.mark.slow
def test_a_worker_that_ray_ends_for_the_nodes_sake_is_out_of_memory(
    home: Home, monkeypatch: pytest.MonkeyPatch, cost: Cost
) -> None:
    """Ray is configured to accept only 2 % of memory use, so it ends the worker at once."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(home.root))
    careful = {"memory_usage_threshold": 0.02, "memory_monitor_refresh_ms": 100}
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _system_config=careful)
    book, _ = ledger()
    try:
        tune.Tuner(
            Idle,
            param_space=config(3, batch_size=64),
            run_config=tune.RunConfig(
                storage_path=str(home.root / "ray"),
                callbacks=[
                    Recorder(TrialLoop(ledger=book, stopper=StudyStopper(Budget(), Amount), changed=lambda: None))
                ],
                verbose=0,
            ),
        ).fit()
    finally:
        ray.shutdown()
    [row] = book.rows.values()
    assert row.status is Status.OUT_OF_MEMORY
    assert "the node was running low on memory; batches of 64; krona, 4×6" in row.error
    cost("out of memory (Ray's memory monitor)", 0)
