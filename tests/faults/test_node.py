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
from tests.faults.drivers import LONG, TO_THE_END, begun, goes_on, in_the_middle, parent_of, rungs, seen, well_ended
from tests.whole_studies import Home

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
    driver = begun(home, bert, "node", "cola", 4, "--address", nodes.address, *LONG, *TO_THE_END)
    worker, trial = seen(
        driver,
        lambda: next((each for each in in_the_middle(home, folder).items() if parent_of(each[0]) == raylet), None),
    )
    before = rungs(folder, trial)
    for process in (worker, raylet):  # a worker ends by itself when its raylet has
        os.kill(process, signal.SIGKILL)
    cost("node lost (its raylet killed)", goes_on(home, driver, trial, folder, lost=worker))
    well_ended(driver)
    rows = settled(folder, ("cola",), 4)
    assert rows[trial].rung >= before
    assert not rows[trial].error
