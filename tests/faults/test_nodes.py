"""Tests a real Ray of three nodes: each is checked before the first trial, a study uses all of them, and when one is
lost its trial goes on elsewhere and is counted once."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster as Nodes

from krona_tune.search.planning.plan import make_plan
from krona_tune.search.startup import preflight
from krona_tune.search.startup.begin_study import gather_resources
from krona_tune.search.startup.cluster import connect, connecting
from krona_tune.search.startup.preflight import NodeReport, inspect_nodes, needed_bytes, package_versions, run_preflight
from krona_tune.study.manifest import read_manifest
from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import LONG, TO_THE_END, begun, goes_on, in_the_middle, parent_of, rungs, seen, well_ended
from tests.study.request.written_specs import load_changed
from tests.waiting import until
from tests.whole_studies import Home

pytestmark = pytest.mark.slow
SMALL = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def three(home: Home) -> Iterator[Nodes]:
    """Starts three nodes of one CPU each, separate from any running Ray; only these are stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_TMPDIR", str(home.root))
        nodes = Nodes(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
        for _ in range(2):
            nodes.add_node(**SMALL)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


def test_every_node_is_looked_at(home: Home, three: Nodes) -> None:
    connect(three.address)
    views = inspect_nodes(str(home.root), str(home.root / "no model"))
    right = NodeReport(unreadable="", unwritable="", sees_model=False, versions=package_versions())
    assert list(views.values()) == [right] * 3
    assert not list(home.root.glob(".seen-*"))
    assert os.environ.get("RAY_ADDRESS") is None


def test_a_first_batch_is_trained_in_a_worker(
    home: Home, bert: Path, three: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.root / "cache"))
    overrides = {"tasks": ("cola",), "precision": "fp32"}
    plan = make_plan(load_changed(Path(home.space(bert)), (), overrides), "x.yaml")
    gathered = gather_resources(plan, connecting(three.address))
    found = run_preflight(gathered, home.study("seen"), None)
    assert (found.problems, found.warnings) == ((), ())

    (bert / "model.safetensors").rename(home.root / "weights")
    try:
        lacking = run_preflight(gathered, home.study("seen"), None)
    finally:
        (home.root / "weights").rename(bert / "model.safetensors")
    assert [problem.place for problem in lacking.problems] == [str(bert)]
    assert "model.safetensors" in str(lacking.problems[0])
    assert not home.study("seen").root.exists()


def test_a_first_batch_that_takes_too_long_gives_its_place_back(
    home: Home, bert: Path, three: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.root / "cache"))
    monkeypatch.setattr(preflight, "FIRST_BATCH_SECONDS", 1)
    monkeypatch.setattr(preflight, "train_first_batch", stuck)
    plan = make_plan(load_changed(Path(home.space(bert)), (), {"tasks": ("cola",)}), "x.yaml")
    gathered = gather_resources(plan, connecting(three.address))
    found = preflight.in_the_first_batch(gathered, home.study("seen"), needed_bytes(gathered))
    assert found.warnings == ("no worker trained a first batch within 1 s",)
    until(lambda: ray.available_resources().get("CPU") == 3)


def stuck(*asked: object) -> None:
    time.sleep(600)  # sleep: no trial takes so long


def test_a_study_works_on_every_node_and_a_lost_one_gives_its_trial_to_another(
    home: Home, bert: Path, three: Nodes, cost: Cost
) -> None:
    """The last test here, because it takes a node away."""
    connect(three.address)
    folder = home.study("wide")
    driver = begun(home, bert, "wide", "cola", 4, "--address", three.address, *LONG, *TO_THE_END)
    raylets = [node.all_processes["raylet"][0].process.pid for node in three.worker_nodes]
    seen(driver, lambda: len(trained_on()) == 3)
    worker, trial = seen(
        driver,
        lambda: next((each for each in in_the_middle(home, folder).items() if parent_of(each[0]) in raylets), None),
    )
    before = rungs(folder, trial)
    for process in (worker, parent_of(worker)):  # a worker ends by itself when its raylet has
        os.kill(process, signal.SIGKILL)
    cost("node lost (its raylet killed)", goes_on(home, driver, trial, folder, lost=worker))
    well_ended(driver)
    rows = settled(folder, ("cola",), 4)
    assert rows[trial].rung >= before
    assert not rows[trial].error
    assert read_manifest(folder.manifest).workers == 3


def trained_on() -> set[str]:
    """Returns the nodes on which trials were trained."""
    actors = ray._private.state.actors().values()  # private: the public list needs a dashboard
    return {actor["Address"]["NodeID"] for actor in actors if actor["ActorClassName"] == "KronaTrial"}
