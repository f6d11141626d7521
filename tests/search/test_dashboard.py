"""Tests what is asked of a cluster's dashboard, with Ray's answers made up."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from krona_tune.refusal import Refusal
from krona_tune.search.startup.dashboard import MOST_NODES, cluster_at, job_client
from krona_tune.search.startup.slots import Node

ADDRESS = "http://127.0.0.1:8265"


def test_a_cluster_has_the_nodes_that_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def listed(**about: Any) -> list[SimpleNamespace]:
        asked.update(about)
        totals = (("ALIVE", {"CPU": 4, "GPU": 2, "memory": 1e9}), ("DEAD", {"CPU": 8}), ("ALIVE", None))
        return [SimpleNamespace(state=state, resources_total=total) for state, total in totals]

    monkeypatch.setattr("ray.util.state.list_nodes", listed)
    found = cluster_at(ADDRESS)
    assert found.nodes == (Node(4.0, 2.0, 1e9), Node(0.0, 0.0))
    assert (found.cpus, found.gpus, found.dashboard) == (4.0, 2.0, ADDRESS)
    assert (asked["address"], asked["limit"]) == (ADDRESS, MOST_NODES)


def test_a_cluster_that_gives_no_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any, **__: Any) -> None:
        raise ConnectionError("nothing listens there")

    monkeypatch.setattr("ray.util.state.list_nodes", silent)
    with pytest.raises(Refusal, match=r"--address: the cluster at http://127\.0\.0\.1:8265 gives no answer"):
        cluster_at(ADDRESS)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", silent)
    with pytest.raises(Refusal, match=r"--address: no Ray cluster at .* name its dashboard"):
        job_client(ADDRESS)


TOTAL = {"CPU": 3, "GPU": 1}
PLACE = {"node_id": "a", "node_ip": "127.0.0.1", "node_name": "a", "is_head_node": True, "labels": {}}
NODES = [{**PLACE, "state": "ALIVE", "state_message": None, "resources_total": TOTAL}]


class Dashboard(BaseHTTPRequestHandler):
    """Answers as the dashboard of a cluster of one node does."""

    def do_GET(self) -> None:
        found = {"total": 1, "num_after_truncation": 1, "num_filtered": 1, "result": NODES}
        said = {"ray_version": ray.__version__, "result": True, "msg": "", "data": {"result": found}}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def dashboard() -> Iterator[str]:
    """Provides the address of a cluster's dashboard."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_an_address_overrules_one_of_the_environment(
    dashboard: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    before = dict(os.environ)
    assert cluster_at(dashboard).nodes == (Node(3.0, 1.0),)
    assert job_client(dashboard).get_address() == dashboard
    assert dict(os.environ) == before
