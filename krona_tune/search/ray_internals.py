"""Holds every use of Ray's private parts, each with its reason; checked with Ray 2.60."""

import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial, wraps
from inspect import signature
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import psutil

VITAL = {"gcs_server", "raylet"}
"""Ray's names for the processes that every study needs, if this driver started them."""
ASK_SECONDS, ANSWER_SECONDS = 5.0, 2.0
"""The time between two connections to the head of a joined cluster, and how long one may take."""
PATIENCE_SECONDS = 45.0
"""How long that head may be silent. Ray's clients end their own process after 60 s."""
KILL_SECONDS, POLL_SECONDS = 2.0, 0.01
"""How long to wait for killed processes, and the time between two looks at them."""
AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
"""What Ray calls the ports of the two agents that a raylet starts."""
KEPT_PORT, NODE = "dashboard_agent_listen_port", ("session_dir", "node_id")
"""The one of them that a raylet reads from a file only, and what Ray calls that file's folder and its node."""
LOWEST_PORT, HIGHEST_PORT = 10_000, 32_767
"""The ports that agents get: systems take those of outgoing connections from above."""
DASHBOARD = "dashboard.py"
"""The program of Ray's dashboard."""


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


def new_session() -> str:
    """Returns a name for a Ray that is about to be started, as Ray itself would choose it."""
    return f"session_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}"


def session_logs(session: str) -> Path:
    """Returns the folder in which the processes of that Ray log."""
    from ray._common.utils import get_default_ray_temp_dir

    return Path(get_default_ray_temp_dir(), session, "logs")


def start_ray(session: str, **options: Any) -> Any:
    """Starts Ray for this machine alone and passes the options to `ray.init`; only this process ends that Ray.

    Args:
        session: its name, by which its logs and its processes are found also if it does not start.

    Every server listens on the loopback address only, as Ray does by default on a laptop; there is no public setting.
    Otherwise only the dashboard would be limited to it, and whoever reaches the other servers can run code in workers.

    Ray's processes ignore SIGTERM and SIGHUP, as Ray already makes them ignore SIGINT. So a signal to all processes, as
    sent by `timeout`, systemd, Slurm and a terminal that is closed, leaves the driver a working Ray with which it can
    end its study cleanly. When the driver leaves Ray it kills them, because Ray would send each one SIGTERM and wait
    for a second.

    What Ray itself says of a start that fails is for its developers, so its log is silent until Ray runs.
    """
    import ray
    from ray._private import parameter, ray_constants, services

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})  # those that start inherit it
    try:
        with (
            _replaced(ray_constants, "ENABLE_RAY_CLUSTER", False),
            _replaced(parameter, "RayParams", partial(parameter.RayParams, session_name=session)),
            _replaced(services, "start_raylet", _with_known_ports(services.start_raylet)),
        ):
            context = ray.init(address="local", **{**options, "logging_level": logging.CRITICAL})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        logging.getLogger("ray").setLevel(logging.ERROR)
    _node().kill_all_processes = lambda **asked: kill_ray()
    if not context.dashboard_url:
        _kill(_of_session(session, DASHBOARD))  # Ray forgets one that did not answer in time
    return context


@contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Gives an attribute another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _with_known_ports(start: Callable[..., Any]) -> Callable[..., Any]:
    """Makes Ray start a raylet that need not wait for its agents.

    A raylet ends itself if its agents, which import much, have not told it their ports within 15 s; there is no
    setting. It does not wait for ports that it is given, and of the one that it can't be given it finds the file.
    """
    from ray import _raylet

    keep = getattr(_raylet, "persist_port", None)
    if keep is None or not {*AGENT_PORTS, *NODE} <= signature(start).parameters.keys():
        return start  # another Ray

    def started(*words: Any, **named: Any) -> Any:
        given = signature(start).bind(*words, **named)
        given.arguments.update(zip(AGENT_PORTS, _free_ports(len(AGENT_PORTS)), strict=True))
        keep(*map(given.arguments.get, NODE), KEPT_PORT, given.arguments[KEPT_PORT])
        return start(*given.args, **given.kwargs)

    return started


def _free_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        port = LOWEST_PORT + secrets.randbelow(HIGHEST_PORT - LOWEST_PORT)
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            found.add(port)
    return sorted(found)


def clear_away(session: str) -> None:
    """Kills what a Ray that did not start left, and lets this process forget it, so that another can be started."""
    import ray

    _kill(_of_session(session))
    ray.shutdown()


def _of_session(session: str, program: str = "") -> list[Any]:
    """Returns this process's children that belong to a Ray, or those of them that run a program."""
    found = []
    for child in _children(os.getpid()):
        with suppress(psutil.Error):
            words = " ".join(child.cmdline())
            if session in words and program in words:
                found.append(child)
    return found


def kill_ray() -> None:
    """Kills every process of the Ray that was started here, its workers too; does nothing to a joined cluster."""
    node = _node()
    _kill([process for _, process in node.live_processes()] if node else [])


def _kill(own: Iterable[Any]) -> None:
    """Kills processes and all below them, and waits for their ends."""
    own = list(own)
    below = [child for process in own for child in _children(process.pid)]
    for each in [*below, *own]:
        with suppress(psutil.Error):
            each.kill()
    for process in own:
        with suppress(TimeoutExpired, psutil.Error):
            process.wait(KILL_SECONDS)
    until = time.monotonic() + KILL_SECONDS
    while any(map(is_alive, below)) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


def is_alive(process: Any) -> bool:
    """Returns whether a process can still do something; a zombie, which a container's init reads late, can't."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _node() -> Any:
    from ray._private import worker

    return worker._global_node


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _children(process_id: int) -> list[Any]:
    """Returns all descendants of a process; an empty list if it has ended."""
    with suppress(psutil.Error):
        return list(psutil.Process(process_id).children(recursive=True))
    return []


def nothing_saved() -> Any:
    """Returns what Tune takes as the result of saving a trial that has nothing for it to keep."""
    from ray.tune.trainable.trainable import _TrainingResult

    return _TrainingResult(checkpoint=None, metrics={})


def set_process_title(words: str) -> None:
    """Names this worker in `ps`, `py-spy` and the dashboard's list of workers, until its current task ends.

    An actor's own name can't be changed, and one worker runs many trials. This uses Ray's copy of setproctitle, because
    a second copy does nothing; if Ray no longer has it, the worker keeps its usual name.
    """
    from ray import _raylet

    if set_title := getattr(_raylet, "setproctitle", None):
        set_title(f"ray::KronaTrial({words}).train")


def prepare_tune(slots: int) -> None:
    """Lets Tune use the idle workers and prepare as many trials as there are slots, and go on with a trial that lost an
    idle worker, or any worker to a node that is low on memory. Silences its logs about its own state, which is never
    read again, and about a paused study, which it takes for one without resources.

    With the environment variables that Tune gives its workers, Ray would not reuse a worker that was started before.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
    os.environ["TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S"] = "inf"
    from ray.tune.execution import class_cache, experiment_state, tune_controller

    recover_pending_trials(tune_controller.TuneController)
    count_as_lost_workers(tune_controller.RayActorManager)
    keep_state_in_its_folder(experiment_state._ExperimentCheckpointManager)
    getattr(class_cache, "DEFAULT_ENV_VARS", {}).clear()
    logging.getLogger("ray.tune.execution.experiment_state").disabled = True
    logging.getLogger("ray.tune.tune").addFilter(_is_not_of_its_state)


UNKEPT = "Experiment state snapshotting failed"
"""The beginning of what Tune says, with a traceback, where its last state can't be kept, as on a full disk."""


def _is_not_of_its_state(said: logging.LogRecord) -> bool:
    return not str(said.msg).startswith(UNKEPT)


FAILURE = "_trial_task_failure"
"""What Tune's controller calls when a worker's task has failed."""
OF_A_FAILURE = ("_resetting_trials", "_trial_to_actor", "_unstage_trial_with_resources", "_set_trial_status")


def recover_pending_trials(controller: Any) -> None:
    """Makes Tune's class of controllers go on, on another worker, with a trial for which an idle worker was lost, or
    could not be prepared.

    Tune (2.60) tells of one lost worker twice, as a worker's and as a task's failure. The first time it lets the trial
    wait for another worker, and the second time it ends a trial that waits, however many failures it may have. It also
    believes from then on that the trial has a worker. A worker that fails in preparing itself ends the trial at once.
    """

    def failed(fail: Any, tune: Any, trial: Any, exception: Exception) -> None:
        if trial.status == "PENDING" and all(hasattr(tune, name) for name in OF_A_FAILURE):
            tune._resetting_trials.discard(trial)
            if trial not in tune._trial_to_actor:
                return
            tune._unstage_trial_with_resources(trial)
            tune._set_trial_status(trial, "RUNNING")  # as Tune does with a worker that fails at its start
        fail(tune, trial, exception)

    _put_around(controller, FAILURE, failed)


TASK_FAILURE = "_actor_task_failed"
"""The method of Ray's class that keeps Tune's workers which is called when a worker's task has failed."""


def count_as_lost_workers(manager: Any) -> None:
    """Makes Ray's class that keeps Tune's workers take each error of Ray's own for the loss of the worker whose task it
    ended.

    Ray (2.60) knows a worker's and a task's error only, and any other ends the whole run: so does that of a worker
    which was ended in its work because the node was running low on memory.
    """

    def failed(fail: Any, kept: Any, tracked_actor_task: Any, exception: Exception) -> None:
        from ray.exceptions import RayActorError, RayError, RayTaskError

        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        fail(kept, tracked_actor_task, exception)

    _put_around(manager, TASK_FAILURE, failed)


KEEP = "sync_up_experiment_state"
"""The method that Tune calls from time to time, and at the end of a run, to keep its state in the run's folder."""


def keep_state_in_its_folder(keeper: Any) -> None:
    """Makes Tune's class that keeps a run's state leave that once the run's folder is gone, as that of a study that was
    renamed: Tune (2.60) makes it again, and there is no setting."""

    def kept(keep: Any, own: Any, *words: Any, **named: Any) -> None:
        folder = getattr(getattr(own, "_storage", None), "experiment_fs_path", None)
        if folder is None or Path(folder).is_dir():
            keep(own, *words, **named)

    _put_around(keeper, KEEP, kept)


def _put_around(owner: Any, name: str, call: Callable[..., None]) -> None:
    """Makes a class call `call` with its method and that method's arguments; once, and only if it has the method."""
    method = getattr(owner, name, None)
    if method is not None and not hasattr(method, "__wrapped__"):
        setattr(owner, name, wraps(method)(lambda *words, **named: call(method, *words, **named)))


def forget_failures(trial: Any) -> None:
    """Lets a trial lose its worker as often again as at its start: Tune (2.60) counts over the trial's whole life, and
    its own property of that number is read-only."""
    kept: Any = getattr(trial, "run_metadata", None)
    if hasattr(kept, "num_failures"):
        kept.num_failures = 0


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
