"""Every private part of Ray that is touched, each with its reason; as seen in Ray 2.60."""

import logging
import signal
import socket
import time
from contextlib import suppress
from subprocess import TimeoutExpired
from typing import Any

VITAL = {"gcs_server", "raylet"}
"""Ray's names for the processes that no study can do without, where this driver started them."""
ASK_SECONDS, ANSWER_SECONDS = 5.0, 2.0
"""Between two connections to the head of a cluster that was joined, and how long one may take."""
PATIENCE_SECONDS = 45.0
"""How long that head may be silent. Its clients end their own process after 60 s."""
KILL_SECONDS = 2.0
"""How long processes that are killed are waited for."""


class RayWatch:
    """Tells whether the Ray that this process started or joined is still there.

    Ray does not tell: its next call waits for a minute and then ends the driver.
    """

    def __init__(self) -> None:
        self._asked_at = self._heard_at = time.monotonic()

    def lost(self) -> str | None:
        """What is gone, in words; None while Ray is there."""
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
    """Starts a Ray on this machine, for it alone, that only this process ends; as `ray.init`, which gets the options.

    Every server is kept on the loopback address, as Ray does by itself on a laptop and has no public setting for.
    Otherwise only the dashboard would be there, and whoever reaches the others can run code in their workers.

    Ray's processes don't hear SIGTERM, as by Ray's own doing they don't hear SIGINT. A signal to all processes, as
    `timeout`, systemd and Slurm send it, then leaves the driver a Ray with which it ends its study in order. When it
    leaves Ray it kills them: Ray would ask each one with SIGTERM and wait for a second.
    """
    import ray
    from ray._private import ray_constants

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the processes that are started have it too
    reachable, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        context = ray.init(address="local", **options)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = reachable
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _node().kill_all_processes = lambda **asked: kill_ray()
    return context


def kill_ray() -> None:
    """Kills every process of the Ray that was started here, its workers too; a cluster that was joined stays."""
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
    psutil.wait_procs(below, KILL_SECONDS)


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
    """All that a process started; nothing where it has ended."""
    import psutil

    with suppress(psutil.Error):
        return list(psutil.Process(process_id).children(recursive=True))
    return []


def set_process_title(words: str) -> None:
    """Names this worker in `ps`, `py-spy` and the dashboard's list of workers, until its present task ends.

    An actor's own name can't be changed, and one worker runs many trials. Ray's copy of setproctitle is asked, since
    a second one does nothing; where it has gone, the worker keeps its usual name.
    """
    from ray import _raylet

    if set_title := getattr(_raylet, "setproctitle", None):
        set_title(f"ray::KronaTrial({words}).train")


def prepare_tune() -> None:
    """Lets Tune take the workers that wait already, and keeps quiet about its own state, which is never read again.

    With the environment variables that Tune gives its workers, none that was started before would be taken.
    """
    from ray.tune.execution import class_cache

    getattr(class_cache, "DEFAULT_ENV_VARS", {}).clear()
    logging.getLogger("ray.tune.execution.experiment_state").disabled = True


def count_gpus() -> int:
    """Returns how many GPUs a Ray that is started here would offer. Ray tells it publicly only after its start."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    there, visible = manager.get_current_node_num_accelerators(), manager.get_current_process_visible_accelerator_ids()
    return int(there if visible is None else min(there, len(visible)))
