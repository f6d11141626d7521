"""Tests whether a driver notices that its Ray is gone, and that the rest of Ray is killed."""

import logging
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from inspect import signature, unwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
from ray._private import node as ray_node  # private: what the module uses
from ray._private import parameter, services, worker  # private: what the module uses
from ray.air.execution._internal import RayActorManager, TrackedActor  # private: what tells of a lost worker
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask  # private: what tells of a lost worker
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.train._internal.storage import StorageContext  # private: what the module uses
from ray.tune.execution.experiment_state import _ExperimentCheckpointManager  # private: what the module uses
from ray.tune.execution.tune_controller import TuneController  # private: what the module uses
from ray.tune.experiment import Trial

from krona_tune.search import ray_internals
from krona_tune.search.ray_internals import (
    AGENT_PORTS,
    HIGHEST_PORT,
    KEEP,
    KEPT_PORT,
    LOWEST_PORT,
    NODE,
    OF_A_FAILURE,
    TASK_FAILURE,
    UNKEPT,
    RayWatch,
    count_as_lost_workers,
    is_alive,
    keep_state_in_its_folder,
    kill_ray,
    prepare_tune,
    recover_pending_trials,
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
    assert hasattr(Trial("KronaTrial", stub=True).run_metadata, "num_failures")
    assert {"_trial_task_failure", *OF_A_FAILURE[2:]} <= set(dir(TuneController))
    assert set(OF_A_FAILURE[:2]) <= set(TuneController.__init__.__code__.co_names)
    assert hasattr(_ExperimentCheckpointManager, KEEP)
    assert list(signature(getattr(RayActorManager, TASK_FAILURE)).parameters)[1:] == ["tracked_actor_task", "exception"]
    # private: what the module uses
    assert "_storage" in _ExperimentCheckpointManager.__init__.__code__.co_names
    assert hasattr(StorageContext, "experiment_fs_path")
    constants = ray_node.ray_constants
    assert {constants.PROCESS_TYPE_GCS_SERVER, constants.PROCESS_TYPE_RAYLET} == ray_internals.VITAL


@pytest.mark.parametrize("there", [True, False])
def test_tune_keeps_its_state_only_in_a_folder_that_is_there(tmp_path: Path, *, there: bool) -> None:
    class Keeper:
        """Keeps the state of a run, as Tune's class does."""

        def __init__(self) -> None:
            self._storage = SimpleNamespace(experiment_fs_path=str(tmp_path / "run-1"))

        def sync_up_experiment_state(self, force: bool = False) -> None:
            (tmp_path / "run-1" / f"state-{force}").mkdir(parents=True)

    for _ in range(2):
        keep_state_in_its_folder(Keeper)
    if there:
        (tmp_path / "run-1").mkdir()
    Keeper().sync_up_experiment_state(force=True)
    assert [path.name for path in tmp_path.glob("*/*")] == ["state-True"] * there


def test_tune_says_nothing_of_a_state_of_its_own_that_it_could_not_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The study says why it has stopped, without a traceback."""
    for name in ("TUNE_MAX_PENDING_TRIALS_PG", "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S"):
        monkeypatch.setenv(name, "1")
    prepare_tune(2)
    (said,) = (text for text in ray.tune.run.__code__.co_consts if str(text).startswith(UNKEPT))
    heard = logging.getLogger("ray.tune.tune").filter
    assert not heard(logging.makeLogRecord({"msg": said}))
    assert heard(logging.makeLogRecord({"msg": "Trials did not complete"}))


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


class Waiting:
    """A trial of Tune that waits for its worker; it may fail as often as `most` says."""

    placement_group_factory = "one slot"
    is_saving = False

    def __init__(self, most: int) -> None:
        self.trial_id, self.status, self.failures, self.most = "t0", Trial.PENDING, 0, most
        self.temporary_state = SimpleNamespace()

    def handle_error(self, error: Exception) -> None:
        self.failures += 1

    def should_recover(self) -> bool:
        return self.failures <= self.most

    def set_status(self, status: str) -> None:
        self.status = status

    def set_location(self, place: object) -> None: ...

    def set_ray_actor(self, actor: object) -> None: ...


class Recovering(TuneController):  # type: ignore[misc]
    """Tune's controller of one trial that is about to get an idle worker, without Ray and without files."""

    def __init__(self, trial: Waiting) -> None:
        """Sets what the base class reads of a failure: private, since its own start needs Ray."""
        self.ended: list[str] = []
        told = SimpleNamespace(
            on_trial_error=lambda *_, **__: None,
            on_trial_add=lambda *_: None,
            on_trial_recover=lambda **_: None,
            on_trial_complete=lambda trial_id, **_: self.ended.append(trial_id),
        )
        self._scheduler_alg = self._search_alg = self._callbacks = told
        self._fail_fast, self._print_trial_errors, self._iteration = False, False, 0
        self._trials, self._live_trials, self._trials_to_cache = [trial], {trial}, set[Any]()
        self._pending_trials, self._pending_trials_list = {trial}, [trial]
        self._running_trials, self._paused_trials = set[Any](), set[Any]()
        self._stopped_trials, self._failed_trials = set[Any](), set[Any]()
        self._resources_to_pending_trials = defaultdict[str, set[Any]](set)
        self._cached_trial_decisions: dict[str, str] = {}
        self._stopping_actors, self._started_actors, self._earliest_stopping_actor = {}, set[Any](), 0.0
        self._resetting_trials, self._staged_trials = {trial}, {trial}
        self._actor_cache = SimpleNamespace(decrease_max=lambda resources: None)
        self._actor_manager = RayActorManager(SimpleNamespace(free_resources=lambda **_: None))
        self.worker = TrackedActor(7, on_stop=self._actor_stopped, on_error=self._actor_failed)
        remote = SimpleNamespace(remote=lambda *_, **__: object())
        handle = SimpleNamespace(reset=remote, stop=remote)
        # private: what Ray reads of an idle worker
        self._actor_manager._live_actors_to_ray_actors_resources[self.worker] = handle, "one slot"
        self._trial_to_actor, self._actor_to_trial = {trial: self.worker}, {self.worker: trial}

    def _wrapped(self) -> "Recovering":
        return self

    def fail(self, trial: Waiting, error: Exception) -> None:
        """Lets the worker's preparation for a trial fail."""
        self._schedule_trial_task(trial, "reset", on_error=self._trial_task_failure)
        # private: what Ray calls when the task fails
        [(_, failed)] = self._actor_manager._actor_task_events._tracked_futures.values()
        failed(error)


LOST, RAISED = RayActorError(), RayTaskError("reset", "a trace", RuntimeError("CUDA error"))


@pytest.mark.parametrize("error", [LOST, RAISED], ids=["lost", "raised"])
@pytest.mark.parametrize(("most", "status"), [(2, Trial.PENDING), (0, Trial.ERROR)])
def test_a_trial_whose_idle_worker_was_lost_gets_another_one(error: Exception, most: int, status: str) -> None:
    class Controller(Recovering):
        """A class of its own: what is made of it stays with it."""

        # private: what the module wraps
        _trial_task_failure = unwrap(TuneController._trial_task_failure)

    for _ in range(2):
        recover_pending_trials(Controller)
    trial = Waiting(most)
    tune = Controller(trial)
    tune.fail(trial, error)
    assert (trial.status, trial.failures) == (status, 1 if most else 1 + (error is LOST))
    assert tune.ended == ([] if most else ["t0"])
    # private: what Tune would wait for
    assert (tune._trial_to_actor, tune._staged_trials) == ({}, set())
    # private: what Tune would wait for
    assert most == 0 or not tune._resetting_trials, "it would wait for the lost worker"


KILLED = OutOfMemoryError("2 worker(s) were killed due to the node running low on memory.")


@pytest.mark.parametrize("error", [KILLED, RayError("an error of a new kind")], ids=["memory", "other"])
def test_an_error_of_ray_itself_is_the_loss_of_the_worker_whose_task_it_ended(error: Exception) -> None:
    class Manager(RayActorManager):  # type: ignore[misc]
        """A class of its own: what is made of it stays with it."""

        # private: what the module wraps
        _actor_task_failed = unwrap(getattr(RayActorManager, TASK_FAILURE))

    for _ in range(2):
        count_as_lost_workers(Manager)
    told: list[tuple[str, Exception]] = []
    manager = Manager(SimpleNamespace(free_resources=lambda **_: None))
    lost = TrackedActor(7, on_error=lambda actor, said: told.append(("worker", said)))
    task = TrackedActorTask(lost, on_error=lambda actor, said: told.append(("task", said)))
    # private: what Ray reads of a worker
    manager._live_actors_to_ray_actors_resources[lost] = object(), "one slot"
    # private: what Ray calls when the task fails
    manager._actor_task_failed(tracked_actor_task=task, exception=error)
    assert [(what, type(said), str(said)) for what, said in told] == [
        (what, RayActorError, str(error)) for what in ("worker", "task")
    ]
    assert (manager.is_actor_failed(lost), manager.live_actors) == (True, [])
    with pytest.raises(RuntimeError, match="unexpected exception: no error of Ray"):
        # private: what Ray calls when the task fails
        manager._actor_task_failed(task, ValueError("no error of Ray"))
