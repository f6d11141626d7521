"""Tests how many trials fit: they are counted by node, and refused if no node can hold one."""

import socket
import subprocess
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from threading import Event
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ray._private.resource_and_label_spec import ResourceAndLabelSpec  # private: what Ray itself counts
from ray._private.thirdparty import pynvml  # private: what Ray itself counts

from krona_tune.refusal import NotNow, Refusal
from krona_tune.search.startup import cluster as clusters
from krona_tune.search.startup import slots as offered
from krona_tune.search.startup.cluster import connect, connecting, leave_ray
from krona_tune.search.startup.slots import Cluster, Node, slots, this_machine, visible_gpus
from krona_tune.study.request.study_spec import ResourcesSpec


def cluster(*nodes: tuple[float, float], grows: bool = False) -> Cluster:
    return Cluster(nodes=tuple(Node(*node) for node in nodes), dashboard="", grows=grows)


def test_slots_tell_how_many_trials_share_the_memory_of_the_fullest_node() -> None:
    nodes = Cluster(nodes=(Node(4, 0, 8e9), Node(2, 0, 2e9), Node(0, 0, 1e6)), dashboard="", grows=False)
    assert slots(nodes, ResourcesSpec()).fullest == (2, 2e9)
    assert slots(nodes, ResourcesSpec(max_concurrent=1)).fullest == (1, 2e9)
    assert slots(Cluster(nodes=(Node(4, 0),), dashboard="", grows=False), ResourcesSpec()).fullest == (4, inf)


@pytest.mark.parametrize(
    ("nodes", "asked", "fit"),
    [
        ([(2, 0)], {}, (1, 0, 2)),
        ([(0, 0), (4, 1), (4, 1)], {}, (1, 1, 2)),
        ([(3, 0), (3, 0)], {"cpus_per_trial": 2}, (2, 0, 2)),
        ([(16, 4)], {"gpus_per_trial": 0.7}, (1, 0.7, 4)),
        ([(16, 4)], {"gpus_per_trial": 0.5}, (1, 0.5, 8)),
        ([(16, 4)], {"gpus_per_trial": 0}, (1, 0, 16)),
        ([(2, 0)], {"cpus_per_trial": 0.2}, (0.2, 0, 10)),
        ([(6, 0)], {"cpus_per_trial": 0.1}, (0.1, 0, 60)),
        ([(16, 1)], {"cpus_per_trial": 0.1, "gpus_per_trial": 1 / 49}, (0.1, 1 / 49, 49)),
        ([(1, 0)], {"cpus_per_trial": 1e-9}, (1e-9, 0, 10_000)),
        ([(8, 0)], {"max_concurrent": 3}, (1, 0, 3)),
        ([(4, 1), (2, 0)], {"max_concurrent": 8, "gpus_per_trial": 0}, (1, 0, 6)),
    ],
)
def test_what_fits(nodes: list[tuple[float, float]], asked: dict[str, float], fit: tuple[float, ...]) -> None:
    found = slots(cluster(*nodes), ResourcesSpec(**asked))
    assert (found.cpus, found.gpus, found.count) == fit


@pytest.mark.parametrize(("grows", "asked", "count"), [(True, 8, 8), (False, 8, 2), (True, None, 2), (True, 1, 1)])
def test_more_run_at_once_than_fit_now_where_nodes_may_come(grows: bool, asked: int | None, count: int) -> None:
    assert slots(cluster((0, 0), (4, 1), (4, 1), grows=grows), ResourcesSpec(max_concurrent=asked)).count == count


def test_a_ray_that_no_study_has_started_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study would end it, and with it a person's actors and objects."""
    monkeypatch.setattr(clusters, "OURS", Event())
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    with pytest.raises(Refusal, match=r"Ray: this process has one of its own, .*ray\.shutdown\(\) first, or run\(wait"):
        connecting(None)


def test_a_process_that_has_left_a_lost_ray_does_not_get_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "LOST", Event())
    monkeypatch.setattr(clusters, "kill_ray", lambda: None)
    monkeypatch.setattr(clusters, "connect", lambda *asked: cluster((2, 0)))
    assert connecting(None).result(10).cpus == 2
    leave_ray(lost=True)
    with pytest.raises(Refusal, match=r"Ray: an earlier study of this process has lost or .* restart the program, or"):
        connecting(None)


def test_a_ray_that_is_abandoned_is_left_before_the_next_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start of this process may be for another cluster."""
    ours, there, happened = Event(), Event(), list[str]()

    def connect(address: str | None, asked: ResourcesSpec) -> Cluster:
        there.wait(60)
        ours.set()
        happened.append("joined")
        return cluster((2, 0))

    def leave(*, lost: bool) -> None:
        ours.clear()
        happened.append("left")

    monkeypatch.setattr(clusters, "OURS", ours)
    monkeypatch.setattr(clusters, "connect", connect)
    monkeypatch.setattr(clusters, "leave_ray", leave)
    first = connecting(None)
    clusters.abandon(first)
    there.set()
    second = connecting(None)
    assert second.result(60).cpus == 2
    assert happened == ["joined", "left", "joined"]
    clusters.abandon(second)
    assert happened[-1] == "left"


@pytest.mark.parametrize(
    ("nodes", "asked", "message"),
    [
        ([(4, 0)] * 4, {"cpus_per_trial": 8}, "--cpus-per-trial: 8 asked, the largest node has 4; ask for at most 4"),
        ([(4, 0)], {"gpus_per_trial": 1}, "--gpus-per-trial: 1 asked, the largest node has 0"),
        ([(16, 4)], {"gpus_per_trial": 1.5}, "1.5 is not a share of a GPU or a whole number; ask for 0.5, 1, 2"),
        ([(0, 1), (8, 0)], {"gpus_per_trial": 1}, "no node has CPUs and GPUs enough for one trial"),
    ],
)
def test_what_no_node_could_hold_is_refused(
    nodes: list[tuple[float, float]], asked: dict[str, float], message: str
) -> None:
    with pytest.raises(Refusal) as refused:
        slots(cluster(*nodes), ResourcesSpec(**asked))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("ray://head:10001", "can't be driven through Ray Client; run this on the cluster's head with --address auto"),
        ("local", "'local' is no address of a cluster; write auto, or host:6379; without --address Ray starts here"),
        ("nonsense", "'nonsense' is no address of a cluster"),
        ("host:99999999", "'host:99999999' is no address of a cluster"),
        ("host:port", "'host:port' is no address of a cluster"),
        ("host:٣", "is no address of a cluster"),
        (":6379", "':6379' is no address of a cluster"),
        ("127.0.0.1:1", "no Ray cluster at '127.0.0.1:1' (ConnectionRefusedError: [Errno 111] Connection ref"),
        ("[::1]:1", "no Ray cluster at '[::1]:1' ("),
        ("nowhere.invalid:6379", "no Ray cluster at 'nowhere.invalid:6379' (gaierror: "),
    ],
)
@pytest.mark.parametrize("join", [connect, connecting])
def test_an_address_without_a_cluster_is_refused(join: Callable[[str], object], address: str, problem: str) -> None:
    with pytest.raises(Refusal) as refused:
        join(address)
    assert str(refused.value).startswith("--address: ")
    assert problem in str(refused.value)


def test_the_address_that_ray_is_told_by_the_environment_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(Refusal, match=r"--address: no Ray cluster at '127.0.0.1:1'"):
        connecting("auto")


@pytest.mark.parametrize(("by", "token"), [("flag", True), ("environment", True), ("nobody", False)])
def test_where_something_listens_the_cluster_may_want_a_token(
    monkeypatch: pytest.MonkeyPatch, by: str, token: bool
) -> None:
    def fail(**_: object) -> None:
        raise ConnectionError("unauthenticated")

    monkeypatch.setattr("ray.init", fail)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        if by == "environment":
            monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(Refusal) as refused:
            connect(address if by == "flag" else "auto")
    assert "(ConnectionError: unauthenticated); " in str(refused.value)
    assert str(refused.value).endswith("start one with ray start --head")
    assert ("set RAY_AUTH_MODE=token" in str(refused.value)) is token


def test_what_ray_says_when_it_can_not_start_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def fail(**_: object) -> None:
        raise OSError("AF_UNIX path length cannot exceed 107 bytes")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(NotNow, match=r"Ray: it could not be started here in 3 tries \(OSError: AF_UNIX path length"):
        connect(None)


HEAD = {"Alive": True, "Resources": {}}
"""A node as Ray describes it."""
MANAGED = {"Alive": True, "Resources": {"CPU": 8}, "Labels": {"ray.io/node-group": "head"}}
WORKER = {"Alive": True, "Resources": {"CPU": 4, "GPU": 1}}


class Nodes:
    """A cluster that can be joined, whose nodes are others at each look, and what it was asked for."""

    def __init__(self) -> None:
        self.seen: list[list[dict[str, Any]]] = []
        self.asked: list[list[dict[str, float]]] = []

    def look(self) -> list[dict[str, Any]]:
        return self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]

    def ask(self, bundles: list[dict[str, float]]) -> None:
        self.asked.append(bundles)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """Makes every cluster one that can be joined."""
    there = Nodes()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", lambda **_: SimpleNamespace(dashboard_url=""))
    monkeypatch.setattr("ray.nodes", there.look)
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", there.ask)
    monkeypatch.setattr(clusters.time, "sleep", lambda _: None)
    return there


@pytest.mark.parametrize(
    ("head", "asked", "bundle"),
    [
        (HEAD, {}, {"CPU": 1}),
        (HEAD, {"cpus_per_trial": 2, "gpus_per_trial": 0.5}, {"CPU": 2, "GPU": 0.5}),
        (MANAGED, {"gpus_per_trial": 1}, {"CPU": 1, "GPU": 1}),
    ],
)
def test_a_cluster_that_may_grow_is_asked_for_a_node_that_holds_a_trial(
    joined: Nodes, head: dict[str, Any], asked: dict[str, float], bundle: dict[str, float]
) -> None:
    joined.seen = [[head], [head, {**WORKER, "Alive": False}], [head, WORKER]]
    assert connect("auto", ResourcesSpec(**asked)).nodes[1:] == (Node(4, 1),)
    assert joined.asked == [[bundle], []]


@pytest.mark.parametrize(
    ("nodes", "asked"),
    [
        ([MANAGED], {}),
        ([MANAGED, WORKER], {"gpus_per_trial": 1}),
        ([WORKER], {"gpus_per_trial": 2}),
        ([HEAD, WORKER], {"cpus_per_trial": 16}),
    ],
)
def test_a_cluster_that_holds_a_trial_or_can_not_grow_is_taken_as_it_is(
    joined: Nodes, nodes: list[dict[str, Any]], asked: dict[str, float]
) -> None:
    joined.seen = [nodes]
    found = connect("auto", ResourcesSpec(**asked))
    assert (len(found.nodes), found.grows) == (len(nodes), True)
    assert joined.asked == []


@pytest.mark.parametrize(
    ("nodes", "asked", "lacks"),
    [
        ([HEAD, {**WORKER, "Alive": False}], {}, "no node of the cluster offers 1 CPU; look at what ray status says"),
        ([MANAGED], {"gpus_per_trial": 2}, "no node of the cluster offers 1 CPU and 2 GPU; look at"),
    ],
)
def test_a_cluster_that_brings_no_node_for_a_trial_is_refused(
    joined: Nodes, monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, Any]], asked: dict[str, float], lacks: str
) -> None:
    joined.seen = [nodes]
    monkeypatch.setattr(clusters, "WORKER_WAIT_SECONDS", 0)
    with pytest.raises(Refusal, match=lacks):
        connect("auto", ResourcesSpec(**asked))
    assert joined.asked[-1] == []


def test_an_odd_share_is_refused_before_a_node_is_asked_for(joined: Nodes) -> None:
    joined.seen = [[MANAGED]]
    with pytest.raises(Refusal, match=r"1.5 is not a share of a GPU"):
        connect("auto", ResourcesSpec(gpus_per_trial=1.5))
    assert joined.asked == []


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulates a machine on which NVIDIA's library counts four GPUs and the driver lists none, as under WSL2."""
    monkeypatch.setattr(offered, "DRIVERS", (str(tmp_path),))
    monkeypatch.setattr(offered, "NVIDIA", tmp_path / "nothing")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 4)


@pytest.mark.parametrize(
    ("visible", "count", "found"),
    [
        (None, 3, ["0", "1", "2"]),
        ("4,6", 2, ["4", "6"]),
        ("GPU-a,GPU-b,GPU-c", 2, ["GPU-a", "GPU-b"]),
        ("", 3, []),
        ("-1", 3, []),
    ],
)
def test_gpus_are_named_as_this_process_sees_them(
    visible: str | None, count: int, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(offered, "count_gpus", lambda: count)
    monkeypatch.setattr(offered, "NVIDIA", tmp_path)
    assert visible_gpus() == found
    monkeypatch.setattr(offered, "NVIDIA", tmp_path / "none")
    assert visible_gpus() == []


VISIBLE = [(None, 4), ("0,2", 2), ("3", 1), ("0,1,2,3,4,5", 4), ("GPU-8932f937,GPU-11", 2), ("", 0), ("NoDevFiles", 0)]


@pytest.mark.parametrize(("visible", "count"), VISIBLE)
def test_gpus_are_counted_as_ray_counts_them(
    four_gpus: None, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert this_machine().gpus == count
    assert ResourceAndLabelSpec._get_current_node_accelerator(None, {})[1] == count  # private: what Ray itself counts


def test_ray_offers_the_cores_and_gpus_that_the_plan_says(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would count hidden GPUs, a Mac's own, and the cores that another program has to itself."""
    import ray

    asked: dict[str, object] = {}

    def note(**words: object) -> None:
        asked.update(words)
        raise OSError("enough")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(ray, "init", note)
    assert this_machine().gpus == 0
    monkeypatch.setattr(offered, "cores", lambda: 3)
    with pytest.raises(Refusal):
        connect(None)
    assert (asked["num_cpus"], asked["num_gpus"]) == (3, 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(Refusal):
        connect(None)
    assert asked["num_gpus"] == 1
    monkeypatch.setattr(offered, "DRIVERS", ())
    with pytest.raises(Refusal):
        connect(None)
    assert asked["num_gpus"] == 0


@pytest.mark.parametrize(("most", "store"), [(200_000_000, 180_000_000), (3_000_000_000, None), (inf, None)])
def test_ray_s_file_of_objects_is_no_larger_than_a_file_may_be(
    monkeypatch: pytest.MonkeyPatch, most: float, store: int | None
) -> None:
    asked: dict[str, object] = {}

    def note(nice: int, **words: object) -> None:
        asked.update(words)
        raise NotNow("Ray", "enough")

    monkeypatch.setattr(clusters, "start_patiently", note)
    monkeypatch.setattr(clusters, "memory", lambda: (8_000_000_000, 0))
    monkeypatch.setattr(clusters, "largest_file", lambda: most)
    with pytest.raises(NotNow):
        connect(None)
    assert asked.get("object_store_memory") == store


def test_a_limit_of_files_below_ray_s_least_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "largest_file", lambda: 99_000_000)
    said = (
        r"^ulimit -f: a file may have 99\.0 MB at most, one of Ray's has 100\.0 MB; allow larger ones, with ulimit -f"
    )
    with pytest.raises(Refusal, match=said):
        connecting(None)
    assert not clusters.BEGUN, "Ray was started"


def test_a_limit_of_open_files_below_ray_s_need_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "most_open_files", lambda: 127)
    with pytest.raises(Refusal, match=r"^ulimit -n: a process may open 127 files at once, one of Ray's needs 128; use"):
        connecting(None)
    assert not clusters.BEGUN, "Ray was started"
    monkeypatch.setattr(clusters, "most_open_files", lambda: 128)
    clusters.refuse_few_files()


def test_the_driver_s_list_is_counted_where_this_ray_can_not_be_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(offered, "DRIVERS", (str(tmp_path),))
    monkeypatch.setattr(offered, "NVIDIA", tmp_path)
    monkeypatch.setitem(sys.modules, "ray._private.accelerators", ModuleType("another Ray's"))
    for number in range(3):
        (tmp_path / f"0000:0{number}").mkdir()
    for visible, count in (("0", 1), ("0,1,2,3", 3)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert this_machine().gpus == count


def test_ray_is_not_asked_where_no_driver_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered, "DRIVERS", ("/nowhere",))
    monkeypatch.setattr(offered, "count_gpus", lambda: pytest.fail("Ray was asked"))
    assert this_machine().gpus == 0


def test_what_runs_at_a_fork_is_registered_before_the_thread_of_ray_forks() -> None:
    """If another thread imported it meanwhile, a fork would release a lock that it had not taken."""
    code = """
import sys
from krona_tune.search.startup import cluster
cluster.connect = lambda *asked: "concurrent.futures.thread" in sys.modules
print(cluster.connecting(None).result())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
