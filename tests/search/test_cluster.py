"""How many trials fit: counted by node, refused where no node could hold one."""

import pytest

from krona_tune.refusal import Refusal
from krona_tune.search import cluster as clusters
from krona_tune.search.cluster import Cluster, Node, connect, slots
from krona_tune.study.spec import ResourcesSpec


def cluster(*nodes: tuple[float, float]) -> Cluster:
    return Cluster(nodes=tuple(Node(*node) for node in nodes), dashboard="")


@pytest.mark.parametrize(
    ("nodes", "asked", "fit"),
    [
        ([(2, 0)], {}, (1, 0, 2)),
        ([(0, 0), (4, 1), (4, 1)], {}, (1, 1, 2)),
        ([(3, 0), (3, 0)], {"cpus_per_trial": 2}, (2, 0, 2)),
        ([(16, 4)], {"gpus_per_trial": 0.7}, (1, 0.7, 4)),
        ([(16, 4)], {"gpus_per_trial": 0.5}, (1, 0.5, 8)),
        ([(16, 4)], {"gpus_per_trial": 0}, (1, 0, 16)),
        ([(8, 0)], {"max_concurrent": 3}, (1, 0, 3)),
        ([(0, 0), (4, 1)], {"max_concurrent": 8}, (1, 1, 8)),
    ],
)
def test_what_fits(nodes: list[tuple[float, float]], asked: dict[str, float], fit: tuple[float, ...]) -> None:
    found = slots(cluster(*nodes), ResourcesSpec(**asked))
    assert (found.cpus, found.gpus, found.count) == fit


@pytest.mark.parametrize(
    ("nodes", "asked", "message"),
    [
        ([(4, 0)] * 4, {"cpus_per_trial": 8}, "--cpus-per-trial: 8 asked, the largest node has 4; ask for at most 4"),
        ([(4, 0)], {"gpus_per_trial": 1}, "--gpus-per-trial: 1 asked, the largest node has 0"),
        ([(16, 4)], {"gpus_per_trial": 1.5}, "1.5 is no share of a GPU and no whole number; ask for 0.5, 1, 2"),
        ([(0, 1), (8, 0)], {"gpus_per_trial": 1}, "no node has CPUs and GPUs enough for one trial"),
    ],
)
def test_what_no_node_could_hold_is_refused(
    nodes: list[tuple[float, float]], asked: dict[str, float], message: str
) -> None:
    with pytest.raises(Refusal) as refused:
        slots(cluster(*nodes), ResourcesSpec(**asked))
    assert message in str(refused.value)


def test_ray_client_is_refused_with_the_way_that_works() -> None:
    with pytest.raises(Refusal, match="can't be driven through Ray Client; run this on the cluster's head"):
        connect("ray://head:10001")


def test_a_cluster_with_its_head_alone_is_asked_for_a_worker_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask(num_cpus: int) -> None:
        asked.append(num_cpus)

    head, worker = Node(0, 0), Node(4, 1)
    seen = iter([(head,), (head,), (head, worker)])
    monkeypatch.setattr(clusters, "_nodes", lambda: next(seen))
    monkeypatch.setattr(clusters.time, "sleep", lambda _: None)
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", ask)
    assert clusters._first_worker() == (head, worker)
    assert asked == [1, 0]


def test_a_cluster_that_brings_no_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_nodes", lambda: (Node(0, 0),))
    monkeypatch.setattr(clusters, "WORKER_WAIT_SECONDS", 0)
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda num_cpus: None)
    with pytest.raises(Refusal, match="no node of the cluster offers a CPU; look at what ray status says"):
        clusters._first_worker()
