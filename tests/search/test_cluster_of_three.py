"""Tests a real Ray of three nodes: a study uses all of them, and each is checked before the first trial."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster as Nodes

from krona_tune.record.parquet_reader import read_trials
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.startup import preflight
from krona_tune.search.startup.cluster import connect, connecting
from krona_tune.search.startup.preflight import NodeReport, inspect_nodes, needed_bytes, run_preflight, versions
from krona_tune.search.startup.resources import gather_resources
from krona_tune.study.manifest import read_manifest
from krona_tune.study.request.loader import load_spec
from krona_tune.study.result import Status
from tests.search.models import saved_bert
from tests.waiting import until
from tests.whole_studies import Done, Home

pytestmark = pytest.mark.slow
PASSWORD = "correct-horse-7"


@pytest.fixture(scope="module")
def three(home: Home) -> Iterator[Nodes]:
    """Starts three nodes of one CPU each, separate from any running Ray; only these are stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_TMPDIR", str(home.root))
        small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
        nodes = Nodes(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        for _ in range(2):
            nodes.add_node(**small)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def wide(home: Home, three: Nodes) -> Done:
    """Runs a study on all three nodes; its tracking server has a password and is down."""
    words = ["--tasks", "cola,stsb", "--trials", "3", "--space", home.space(saved_bert(home.root / "bert"))]
    words += ["--name", "wide", "--address", three.address, "--tracking-uri", f"http://me:{PASSWORD}@127.0.0.1:1"]
    done = home.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_study_works_on_every_node(home: Home, three: Nodes, wide: Done) -> None:
    folder = home.study("wide")
    rows = read_trials(folder.results)
    assert len(rows) == 8
    assert {row.status for row in rows} <= {Status.COMPLETED, Status.STOPPED_EARLY}
    assert read_manifest(folder.manifest).workers == 3

    connect(three.address)
    actors = ray._private.state.actors().values()  # private: the public list needs a dashboard
    trained = {actor["Address"]["NodeID"] for actor in actors if actor["ActorClassName"] == "KronaTrial"}
    assert len(trained) == 3


def test_a_password_is_neither_printed_nor_kept(home: Home, wide: Done) -> None:
    assert PASSWORD not in wide.stdout + wide.stderr
    files = [path for path in home.study("wide").root.rglob("*") if path.is_file()]
    assert [path.name for path in files if PASSWORD.encode() in path.read_bytes()] == []


def test_every_node_is_looked_at(home: Home, three: Nodes) -> None:
    connect(three.address)
    views = inspect_nodes(str(home.root), str(home.root / "no model"))
    right = NodeReport(reads_storage=True, writes_storage=True, sees_model=False, versions=versions())
    assert list(views.values()) == [right] * 3
    assert not list(home.root.glob(".seen-*"))
    assert os.environ.get("RAY_ADDRESS") is None


def test_a_first_batch_is_trained_in_a_worker(home: Home, three: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.root / "cache"))
    overrides = {"tasks": ("cola",), "precision": "fp32"}
    plan = make_plan(load_spec(Path(home.space(home.root / "bert")), (), overrides), "x.yaml")
    gathered = gather_resources(plan, connecting(three.address))
    found = run_preflight(gathered, home.study("seen"), None)
    assert (found.problems, found.warnings) == ((), ())

    (home.root / "bert" / "model.safetensors").rename(home.root / "weights")
    try:
        lacking = run_preflight(gathered, home.study("seen"), None)
    finally:
        (home.root / "weights").rename(home.root / "bert" / "model.safetensors")
    assert [problem.place for problem in lacking.problems] == [str(home.root / "bert")]
    assert "model.safetensors" in str(lacking.problems[0])
    assert not home.study("seen").root.exists()


def test_a_first_batch_that_takes_too_long_gives_its_place_back(
    home: Home, three: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.root / "cache"))
    monkeypatch.setattr(preflight, "FIRST_BATCH_SECONDS", 1)
    monkeypatch.setattr(preflight, "train_first_batch", stuck)
    plan = make_plan(load_spec(Path(home.space(home.root / "bert")), (), {"tasks": ("cola",)}), "x.yaml")
    gathered = gather_resources(plan, connecting(three.address))
    found = preflight.in_the_first_batch(gathered, home.study("seen"), needed_bytes(gathered))
    assert found.warnings == ("no worker trained a first batch within 1 s",)
    until(lambda: ray.available_resources().get("CPU") == 3)


def stuck(*asked: object) -> None:
    time.sleep(600)  # sleep: no trial takes so long
