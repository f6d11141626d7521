"""Tests what is asked of a cluster's dashboard, with Ray's answers made up."""

from types import SimpleNamespace
from typing import Any

import pytest

from krona_tune.refusal import Refusal
from krona_tune.search.startup.cluster import Node
from krona_tune.search.startup.dashboard import MOST_NODES, cluster_at, job_client

ADDRESS = "http://127.0.0.1:8265"


def test_a_cluster_has_the_nodes_that_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def listed(**about: Any) -> list[SimpleNamespace]:
        asked.update(about)
        totals = (("ALIVE", {"CPU": 4, "GPU": 2, "memory": 1e9}), ("DEAD", {"CPU": 8}), ("ALIVE", None))
        return [SimpleNamespace(state=state, resources_total=total) for state, total in totals]

    monkeypatch.setattr("ray.util.state.list_nodes", listed)
    found = cluster_at(ADDRESS)
    assert found.nodes == (Node(4.0, 2.0), Node(0.0, 0.0))
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
