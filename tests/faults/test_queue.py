"""Tests that a queue's studies end whole, each with one driver at a time, whatever is killed beside them."""

import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster as Nodes

from krona_tune.record.driver_state import read_driver_state
from krona_tune.record.ownership import driver_of
from krona_tune.record.parquet_reader import read_orders
from krona_tune.service import Client
from krona_tune.service.queue.entry import Entry, Submission
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import dump_spec
from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import ENDLESS, NO_HEAD, ended, rungs, running, stop
from tests.services.processes import free_port
from tests.study.request.written_specs import load_changed
from tests.waiting import until
from tests.whole_studies import KRONA_TUNE, ONE_CPU, SOON, Home

pytestmark = pytest.mark.slow
KILLED, SHARED = "killed", "shared"
"""The storages of the two tests."""
ALONE = (*NO_HEAD, "--set", "resources.max_concurrent=1")
"""Lets one trial run after the other."""
SERVE = f"""
from krona_tune.api import driver_process
from krona_tune.service.queue import capacity, database, study_queue, submission_check
capacity.RENEWAL_SECONDS, database.BUSY_SECONDS = 1.0, 0.5
study_queue.check_apart = submission_check.check
driver_process.CODE = {SOON + KRONA_TUNE!r}
{KRONA_TUNE}"""
"""`krona-tune`, but a service's queue looks at the nodes more often, waits less long for its file, and begins its
drivers and checks what it is sent without what takes seconds."""
SMALL = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@contextmanager
def serving(home: Home, storage: str, *words: str) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    """Runs a service with a queue; gives a client of it, and its process, which is killed in the end."""
    command = home.command("serve", "--port", "0", "--storage", str(home.root / storage), *words, program=SERVE)
    command["env"] |= ONE_CPU
    process = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        address = re.search(r"http://\S+", first)
        assert address, first + process.stdout.read()
        yield Client(address[0], user="ann"), process
    finally:
        process.kill()
        process.communicate()


def submit(
    client: Client, home: Home, model: Path, name: str, trials: int, length: Sequence[str] = ENDLESS, priority: int = 1
) -> None:
    settings = [word for word in (*length, *ALONE) if word != "--set"]
    given = {"tasks": ["cola"], "search.trials": trials, "name": name}
    spec = load_changed(Path(home.space(model)), settings, given)
    client.submit(Submission(name=name, space=dump_spec(spec), priority=priority))


def entries(client: Client) -> dict[str, Entry]:
    return {entry.name: entry for entry in client.queue().entries}


def all_finished(client: Client) -> bool:
    found = entries(client).values()
    assert not {"halted", "stopped"} & {entry.state for entry in found}, found
    return {entry.state for entry in found} == {"finished"}


def stop_all(client: Client, folders: Sequence[StudyFolder]) -> None:
    """Stops each trial of these studies when it runs, until all studies of the queue have finished."""
    asked = set()

    def finished() -> bool:
        for folder in folders:
            for trial in running(folder):
                if (folder, trial) not in asked:
                    asked.add((folder, trial))
                    stop(folder, trial)
        return all_finished(client)

    until(finished)


def process_of(home: Home, name: str) -> int:
    found = driver_of(home.study(name, KILLED))
    assert found is not None
    return found[0]


def test_studies_outlive_their_service_a_driver_and_a_locked_queue(home: Home, bert: Path, cost: Cost) -> None:
    home.make_storage(KILLED)
    folders = [home.study(name, KILLED) for name in ("one", "two")]
    with serving(home, KILLED, "--cpus", "2") as (client, process):
        for folder in folders:
            submit(client, home, bert, folder.name, 1)
        until(lambda: all(rungs(folder) for folder in folders))
        left, killed = process_of(home, "one"), process_of(home, "two")
        process.send_signal(signal.SIGKILL)
        os.kill(killed, signal.SIGKILL)
    with serving(home, KILLED, "--cpus", "2") as (client, _):
        until(lambda: driver_of(home.study("two", KILLED)) is not None and process_of(home, "two") != killed)
        before = rungs(home.study("two", KILLED))
        cost("queue: service and driver killed", until(lambda: rungs(home.study("two", KILLED)) > before))
        assert process_of(home, "one") == left, "it got a second driver"
        with sqlite3.connect(home.root / KILLED / "queue.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            until(lambda: "database is locked" in client.queue().problem)
            other.rollback()
        stop_all(client, folders)
        found = entries(client)
    assert {name: entry.restarts for name, entry in found.items()} == {"one": 0, "two": 1}
    for folder in folders:
        settled(folder, ("cola",), 1, head=False)


@pytest.fixture
def nodes(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """Starts a cluster of two nodes of one CPU each, with a dashboard that takes jobs."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in home.command()["env"].items():
        if name in {"RAY_TMPDIR", "XDG_CACHE_HOME", "HF_HUB_OFFLINE"}:
            monkeypatch.setenv(name, value)
    ports = {"dashboard_port": free_port(), "dashboard_agent_listen_port": free_port()}
    soon = {"_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 2}}
    made = Nodes(initialize_head=True, head_node_args={**SMALL, "include_dashboard": True, **ports, **soon})
    made.add_node(**SMALL)
    yield made
    made.shutdown()


def test_studies_share_a_cluster_that_loses_a_node_and_let_an_urgent_one_pass(
    home: Home, bert: Path, nodes: Nodes, cost: Cost
) -> None:
    address = f"http://{nodes.head_node.webui_url}"
    home.make_storage(SHARED)
    folders = [home.study(name, SHARED) for name in ("one", "two")]
    with serving(home, SHARED, "--address", address) as (client, _):
        for folder in folders:
            submit(client, home, bert, folder.name, 1)
        until(lambda: all(rungs(folder) for folder in folders))
        assert {entry.slots for entry in entries(client).values()} == {1}
        [other] = nodes.worker_nodes
        os.kill(other.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        until(lambda: (state := read_driver_state(home.study("two", SHARED))) and state.share == 0 and state.end == "")
        submit(client, home, bert, "urgent", 1, length=(), priority=5)
        cost("queue: an urgent study's first trial ends", until(lambda: ended(home.study("urgent", SHARED))))
        stop_all(client, folders)
        found = entries(client)
        changes = [(each.name, each.slots) for each in client.queue().changes]
    assert {entry.restarts for entry in found.values()} == {0}
    for name in ("one", "two", "urgent"):
        settled(home.study(name, SHARED), ("cola",), 1, head=False)
    assert ("one", 0) in changes[: changes.index(("urgent", 0))], "nobody gave a slot to the urgent study"
    given = {order.what: order.by for order in read_orders(home.study("two", SHARED).results)}
    assert given == {"share": "the queue", "stop_trial": "ann"}
