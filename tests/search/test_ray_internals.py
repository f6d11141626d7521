"""Tests whether a driver notices that its Ray is gone, and that the rest of Ray is killed."""

import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
from ray._private import node as ray_node  # private: what the module uses
from ray._private import parameter, services, worker  # private: what the module uses

from krona_tune.search import ray_internals
from krona_tune.search.ray_internals import (
    AGENT_PORTS,
    HIGHEST_PORT,
    KEPT_PORT,
    LOWEST_PORT,
    NODE,
    RayWatch,
    is_alive,
    kill_ray,
    start_ray,
)
from tests.waiting import has_ended, until


def started(monkeypatch: pytest.MonkeyPatch, **more: Any) -> SimpleNamespace:
    """Replaces this process's Ray node by a made-up one."""
    found = SimpleNamespace(**{"all_processes": {"raylet": [1]}, "gcs_address": "", "dead_processes": list, **more})
    monkeypatch.setattr(worker, "_global_node", found)  # private: what the module uses
    return found


def test_ray_has_the_names_that_are_used() -> None:
    assert all(
        hasattr(ray_node.Node, name)
        for name in ("gcs_address", "dead_processes", "live_processes", "kill_all_processes")
    )
    assert {*AGENT_PORTS, *NODE} <= signature(services.start_raylet).parameters.keys()
    assert ray._raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME == KEPT_PORT  # private: what the module uses
    assert "all_processes" in ray_node.Node.dead_processes.__code__.co_names
    constants = ray_node.ray_constants
    assert {constants.PROCESS_TYPE_GCS_SERVER, constants.PROCESS_TYPE_RAYLET} == ray_internals.VITAL


def made_by_ray(monkeypatch: pytest.MonkeyPatch, start: Callable[..., object]) -> Callable[..., object]:
    """Returns what starts a raylet while Ray starts, where `start` does otherwise."""
    found: list[Callable[..., object]] = []

    def init(**options: object) -> SimpleNamespace:
        found.append(services.start_raylet)
        return SimpleNamespace(dashboard_url="127.0.0.1:8265")

    started(monkeypatch)
    monkeypatch.setattr(services, "start_raylet", start)
    monkeypatch.setattr("ray.init", init)
    start_ray("session_7")
    assert services.start_raylet is start
    return found[0]


def test_a_raylet_need_not_wait_for_its_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raylet waits 15 s for ports that it is not given; of one of them it reads the file, here as it does."""
    given: dict[str, Any] = {}

    def start(
        session_dir: str,
        node_id: str,
        metrics_agent_port: int = 0,
        metrics_export_port: int = 0,
        dashboard_agent_listen_port: int = 0,
        runtime_env_agent_port: int = 0,
    ) -> str:
        given.update(locals())
        return "a raylet"

    assert made_by_ray(monkeypatch, start)(str(tmp_path), node_id="0a1b") == "a raylet"
    ports = [given[name] for name in AGENT_PORTS]
    assert len({port for port in ports if LOWEST_PORT <= port < HIGHEST_PORT}) == 4
    # private: what the module uses
    assert ray._raylet.wait_for_persisted_port(str(tmp_path), "0a1b", KEPT_PORT, timeout_ms=0) == given[KEPT_PORT]


def test_another_ray_starts_its_raylet_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(session_dir: str) -> None: ...

    assert made_by_ray(monkeypatch, start) is start


def test_a_ray_that_lives_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch)
    assert RayWatch().lost() is None


@pytest.mark.parametrize(
    ("dead", "said"),
    [
        (["raylet"], "Ray's raylet ended"),
        (["raylet", "gcs_server", "dashboard"], "Ray's gcs_server and raylet ended"),
        (["dashboard", "log_monitor"], None),
    ],
)
def test_a_ray_that_was_started_here_is_lost_with_its_vital_processes(
    monkeypatch: pytest.MonkeyPatch, dead: list[str], said: str | None
) -> None:
    started(monkeypatch, dead_processes=lambda: [(name, None) for name in dead])
    assert RayWatch().lost() == said


def test_a_cluster_that_was_joined_is_lost_when_its_head_is_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(ray_internals, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        started(monkeypatch, all_processes={}, gcs_address=address)
        watch = RayWatch()
        for _ in range(20):
            now[0] += 10
            assert watch.lost() is None
    now[0] += 40
    assert watch.lost() is None
    now[0] += 10
    assert watch.lost() == f"Ray's head at {address} did not answer for 50 s"


def test_a_ray_that_is_started_hears_neither_sigterm_nor_a_closed_terminal_and_is_killed_when_it_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process plays Ray's part, and its driver asks it to end."""
    raylets: list[subprocess.Popen[bytes]] = []

    def init(**options: Any) -> SimpleNamespace:
        assert options == {"address": "local", "num_gpus": 0, "logging_level": logging.CRITICAL}
        assert not ray_node.ray_constants.ENABLE_RAY_CLUSTER
        assert parameter.RayParams().session_name == "session_7"
        raylets.append(subprocess.Popen(["sleep", "99"]))
        return SimpleNamespace(dashboard_url="127.0.0.1:8265")

    node = started(monkeypatch, live_processes=lambda: [("raylet", raylets[0])])
    monkeypatch.setattr("ray.init", init)
    before = (signal.pthread_sigmask(signal.SIG_BLOCK, []), ray_node.ray_constants.ENABLE_RAY_CLUSTER)
    assert start_ray("session_7", num_gpus=0).dashboard_url == "127.0.0.1:8265"
    assert (signal.pthread_sigmask(signal.SIG_BLOCK, []), ray_node.ray_constants.ENABLE_RAY_CLUSTER) == before

    [raylet] = raylets
    raylet.terminate()
    raylet.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        raylet.wait(0.3)
    node.kill_all_processes(check_alive=False, allow_graceful=True, wait=False)
    assert raylet.wait(timeout=10) == -signal.SIGKILL


def test_what_is_left_of_ray_is_killed_with_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '99']).pid, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as raylet:
        assert raylet.stdout is not None
        worker = int(raylet.stdout.readline())
        started(monkeypatch, live_processes=lambda: [("raylet", raylet)])
        kill_ray()
        assert raylet.wait(timeout=10) == -9
        until(lambda: has_ended(worker))


def test_a_process_that_only_waits_to_be_read_is_not_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as ended:
        process = psutil.Process(ended.pid)
        assert is_alive(process)
        ended.kill()
        until(lambda: has_ended(ended.pid))
        assert process.is_running()
        assert not is_alive(process)
    assert not is_alive(process)
