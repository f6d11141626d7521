"""Holds every use of Ray's private parts, each with its reason; checked with Ray 2.60."""

import logging
import os
import signal
import socket
import time
from contextlib import suppress
from subprocess import TimeoutExpired
from typing import Any

VITAL = {"gcs_server", "raylet"}
"""Ray's names for the processes that every study needs, if this driver started them."""
ASK_SECONDS, ANSWER_SECONDS = 5.0, 2.0
"""The time between two connections to the head of a joined cluster, and how long one may take."""
PATIENCE_SECONDS = 45.0
"""How long that head may be silent. Ray's clients end their own process after 60 s."""
KILL_SECONDS, POLL_SECONDS = 2.0, 0.01
"""How long to wait for killed processes, and the time between two looks at them."""


class RayWatch:
    """A watch on the Ray that this process started or joined: whether it is still running.

    Ray itself does not report its loss: its next call waits for a minute and then ends the driver.
    """

    def __init__(self) -> None:
        self._asked_at = self._heard_at = time.monotonic()

    def lost(self) -> str | None:
        """Returns what ended or does not answer, in words; None while Ray is running."""
        node = _node()
        if node is None:
            return None
        if dead := sorted(VITAL & {kind for kind, _ in node.dead_processes()}):
            return f"Ray's {' and '.join(dead)} ended"
        return None if node.all_processes else self._silence(node.gcs_address)

    def _silence(self, address: str) -> str | None:
        if time.monotonic() - self._asked_at >= ASK_SECONDS:
            self._asked_at = time.monotonic()
            if _answers(address):
                self._heard_at = self._asked_at
        silent = time.monotonic() - self._heard_at
        return f"Ray's head at {address} did not answer for {silent:.0f} s" if silent > PATIENCE_SECONDS else None


def start_ray(**options: Any) -> Any:
    """Starts Ray for this machine alone and passes the options to `ray.init`; only this process ends that Ray.

    Every server listens on the loopback address only, as Ray does by default on a laptop; there is no public setting.
    Otherwise only the dashboard would be limited to it, and whoever reaches the other servers can run code in workers.

    Ray's processes ignore SIGTERM, as Ray already makes them ignore SIGINT. So a signal to all processes, as sent by
    `timeout`, systemd and Slurm, leaves the driver a working Ray with which it can end its study in order. When the
    driver leaves Ray it kills them, because Ray would send each one SIGTERM and wait for a second.
    """
    import ray
    from ray._private import ray_constants

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the started processes inherit it
    reachable, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        context = ray.init(address="local", **options)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = reachable
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _node().kill_all_processes = lambda **asked: kill_ray()
    return context


def kill_ray() -> None:
    """Kills every process of the Ray that was started here, its workers too; does nothing to a joined cluster."""
    import psutil

    node = _node()
    own = [process for _, process in node.live_processes()] if node else []
    below = [child for process in own for child in _children(process.pid)]
    for each in [*below, *own]:
        with suppress(psutil.Error):
            each.kill()
    for process in own:
        with suppress(TimeoutExpired):
            process.wait(KILL_SECONDS)
    until = time.monotonic() + KILL_SECONDS
    while any(map(_is_alive, below)) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


def _is_alive(process: Any) -> bool:
    """Returns whether a process can still do something; a zombie, which a container's init reads late, can't."""
    import psutil

    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _node() -> Any:
    from ray._private import worker

    return worker._global_node


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _children(process_id: int) -> list[Any]:
    """Returns all descendants of a process; an empty list if it has ended."""
    import psutil

    with suppress(psutil.Error):
        return list(psutil.Process(process_id).children(recursive=True))
    return []


def set_process_title(words: str) -> None:
    """Names this worker in `ps`, `py-spy` and the dashboard's list of workers, until its current task ends.

    An actor's own name can't be changed, and one worker runs many trials. This uses Ray's copy of setproctitle, because
    a second copy does nothing; if Ray no longer has it, the worker keeps its usual name.
    """
    from ray import _raylet

    if set_title := getattr(_raylet, "setproctitle", None):
        set_title(f"ray::KronaTrial({words}).train")


def prepare_tune(slots: int) -> None:
    """Lets Tune use the idle workers and prepare as many trials as there are slots, and silences its logs about its own
    state, which is never read again, and about a paused study, which it takes for one without resources.

    With the environment variables that Tune gives its workers, Ray would not reuse a worker that was started before.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
    os.environ["TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S"] = "inf"
    from ray.tune.execution import class_cache

    getattr(class_cache, "DEFAULT_ENV_VARS", {}).clear()
    logging.getLogger("ray.tune.execution.experiment_state").disabled = True


RELEASE_SECONDS = 5.0
"""How long idle workers may take to end before the study looks for orders again."""


def release_idle_workers(tune_controller: Any) -> None:
    """Ends the workers that Tune keeps for a next trial, and so frees resources that another study may need.

    Tune keeps one at least, because it can't know that no trial may run; there is no public call for this. If no trial
    is left that could bring an event, Tune waits for its searcher alone (2.60), and the workers' ends are heard here.
    """
    controller = getattr(tune_controller, "_tune_controller", tune_controller)
    controller._cleanup_cached_actors(force_all=True)
    if not (controller._running_trials or controller._pending_trials or controller._paused_trials):
        until = time.monotonic() + RELEASE_SECONDS
        while controller._actor_manager.num_live_actors and time.monotonic() < until:
            controller._actor_manager.next(timeout=POLL_SECONDS)


def count_gpus() -> int:
    """Returns how many GPUs a Ray started here would offer. Ray's public interface says so only after its start."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    there, visible = manager.get_current_node_num_accelerators(), manager.get_current_process_visible_accelerator_ids()
    return int(there if visible is None else min(there, len(visible)))
