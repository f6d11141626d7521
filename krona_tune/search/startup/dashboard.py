"""Asks the dashboard of a Ray cluster, from outside the cluster: which nodes it has, and what became of its jobs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from threading import Lock
from typing import TYPE_CHECKING

from krona_tune.refusal import Refusal, told
from krona_tune.search.startup.slots import Cluster, Node

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ANSWER_SECONDS = 5
MOST_NODES = 10_000
"""The most nodes that Ray may answer about; it refuses to tell of more."""
FIRST = "RAY_API_SERVER_ADDRESS"
"""The variable that Ray's clients read first: its value, or else that of RAY_ADDRESS, overrules what they are given."""
_one_asks = Lock()


@contextmanager
def _overruling(address: str) -> Iterator[None]:
    """Makes Ray's clients ask at this address, whatever the environment says."""
    with _one_asks:
        before = os.environ.get(FIRST)
        os.environ[FIRST] = address
        try:
            yield
        finally:
            if before is None:
                del os.environ[FIRST]
            else:
                os.environ[FIRST] = before


def cluster_at(address: str) -> Cluster:
    """Returns the nodes that are alive of the cluster whose dashboard has this address.

    Raises:
        Refusal: it gives no answer.
    """
    from ray.util.state import list_nodes

    try:
        with _overruling(address):
            found = list_nodes(address=address, limit=MOST_NODES, timeout=ANSWER_SECONDS, raise_on_missing_output=False)
    except Exception as error:
        fix = "start it, or name its dashboard; one with a token needs RAY_AUTH_MODE and RAY_AUTH_TOKEN"
        raise Refusal("--address", f"the cluster at {address} gives no answer ({told(error)})", fix) from None
    totals = [node.resources_total or {} for node in found if node.state == "ALIVE"]
    nodes = tuple(
        Node(float(each.get("CPU", 0)), float(each.get("GPU", 0)), float(each.get("memory", inf))) for each in totals
    )
    return Cluster(nodes=nodes, dashboard=address)


def job_client(address: str) -> "JobSubmissionClient":
    """Returns what submits jobs to the cluster whose dashboard has this address, and tells of them.

    Raises:
        Refusal: no cluster answers there.
    """
    from ray.job_submission import JobSubmissionClient

    try:
        with _overruling(address):
            return JobSubmissionClient(address)
    except Exception as error:
        raise Refusal("--address", f"no Ray cluster at {address!r} ({told(error)})", "name its dashboard") from None
