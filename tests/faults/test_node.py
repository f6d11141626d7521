"""Tests that another node resumes a trial after its machine is lost, and that the trial is counted once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster as Nodes

from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import LONG, begun, parent_of, rungs, until, well_ended, workers_of
from tests.search.test_study import Home

pytestmark = pytest.mark.slow
SMALL = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture
def nodes(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """Starts a head and another node of one CPU each, separate from any running Ray; only these are stopped."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(home.root))
    made = Nodes(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    made.add_node(**SMALL)
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_that_is_lost_gives_its_trial_to_another(home: Home, bert: Path, nodes: Nodes, cost: Cost) -> None:
    folder = home.study("node")
    [other] = nodes.worker_nodes
    [raylet] = [started.process.pid for started in other.all_processes["raylet"]]
    driver = begun(home, bert, "node", "cola,rte", 3, "--address", nodes.address, *LONG)

    def at_work() -> dict[int, str]:
        """Returns the processes that train on the node and have passed their trial's first rung."""
        there = {process: trial for process, trial in workers_of(home).items() if parent_of(process) == raylet}
        return {process: trial for process, trial in there.items() if rungs(folder, trial)}

    until(driver, at_work)
    [(worker, trial)] = at_work().items()
    before = rungs(folder, trial)
    for process in (raylet, worker):
        os.kill(process, signal.SIGKILL)
    seconds = until(driver, lambda: rungs(folder, trial) > before)
    cost("node lost (its raylet killed)", seconds)
    well_ended(driver)
    rows = settled(folder, ("cola", "rte"), 3)
    assert rows[trial].rung >= before
    assert not rows[trial].error
