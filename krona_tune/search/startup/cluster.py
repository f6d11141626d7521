"""Joins Ray, or starts it here, also on a busy machine, and leaves it."""

import logging
import math
import os
import socket
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any

from krona_tune.machine import cache_folder, largest_file, memory, most_open_files
from krona_tune.refusal import NotNow, Refusal, refusing, told
from krona_tune.search.ray_internals import clear_away, kill_ray, new_session, session_logs, start_ray
from krona_tune.search.signals import listen_anew
from krona_tune.search.startup.slots import Cluster, Node, refuse_odd_share, this_machine
from krona_tune.study.formatting import format_bytes
from krona_tune.study.request.study_spec import ResourcesSpec

logger = logging.getLogger(__name__)

QUIET = {  # less output, our own handling of Ctrl-C, results without a score for failures
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
LOOPBACK = "127.0.0.1"
FEW_CPUS = 8
EARLY = "krona_tune.search.worker.early_imports"
"""The module that a worker imports before its first trial."""
START = "start one with ray start --head"
TOKEN = f"if it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, else {START}"
"""What to do where something listens, but Ray can't join it."""
ANSWER_SECONDS = 5.0
"""How long a cluster may take to accept a connection."""
SOCKET = "ray/session_2026-01-31_23-59-59_123456_{pid}/sockets/plasma_store"
"""The longest path that Ray gives to a Unix socket below its temporary folder."""
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""The most bytes of a Unix socket's path."""
LEAST_FILE, STORE_OF_FILE, STORE_OF_MEMORY = 100_000_000, 0.9, 0.3
"""The bytes of a file that Ray's objects need, 79 MB at least; their share of what a file may have, if that is limited;
and their usual share of the memory."""
WORKER_WAIT_SECONDS = 900
"""How long a cluster may take to start a node for a trial."""
NODE_GROUP = "ray.io/node-group"
"""The label of a node that Ray's autoscaler or KubeRay manages; nodes that people start by hand have none."""
LEAST_OPEN = 128
"""The files that one of Ray's processes must be able to open: with two workers its head has 70 open. Ray raises its
limit as far as it may, and where that is too low a study waits for ever."""
USUAL = ResourcesSpec()
OURS = Event()
"""Set while this process uses a Ray that a study has started or joined."""
BEGUN: list[Event] = []
"""The starts of this process: each is set when Ray was there, or failed, and was left again if it was abandoned."""
LOST = Event()
"""Is set when this process has left a lost Ray, whose client it keeps."""


def connecting(address: str | None, asked: ResourcesSpec = USUAL) -> "Future[Cluster]":
    """Begins `connect` in a thread, so that Ray starts while the caller reads what it needs.

    The thread lives as long as the process, because what Ray starts dies with the thread that started it.

    Args:
        asked: what each trial needs, and the priority of the workers of a Ray that is started here.

    Raises:
        Refusal: at once, if Ray can't start here, nothing answers at `address`, or this process has lost its Ray.
    """
    refuse_no_start(address)
    refuse_lost()
    await_abandoned()
    refuse_other_ray()
    if address:
        _refuse_silent(address)
    import_module("concurrent.futures.thread")  # what it registers for forks must be there before Ray's thread forks
    found, settled = Future[Cluster](), Event()

    def connected() -> None:
        try:
            found.set_result(connect(address, asked))
        except BaseException as error:
            found.set_exception(error)
        settled.set()
        Event().wait()

    BEGUN.append(settled)
    Thread(target=connected, name="ray", daemon=True).start()
    return found


def connect(address: str | None, asked: ResourcesSpec = USUAL) -> Cluster:
    """Joins the cluster at `address`, or starts Ray on this machine, for this machine alone.

    If no node of a cluster that starts nodes on request can hold a trial, or none offers a CPU yet, requests one and
    waits for it.

    Raises:
        NotNow: Ray can't be started here now.
        Refusal: there is no cluster at that address, or no node comes.
    """
    if address:
        _refuse_silent(address)
    others = _has_ray() and not OURS.is_set()
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "ignore_reinit_error": True}
    if address:
        import ray  # without an address only when its limits are set, which it may read at once

        with refusing("--address", f"no Ray cluster at {address!r}", START if _asked(address) == "auto" else TOKEN):
            context = ray.init(address=address, **options)
    else:
        here = this_machine()  # Ray would count hidden GPUs, Apple's, and cores that this process may not use
        _import_early(here)
        options |= {"num_cpus": int(here.cpus), "num_gpus": int(here.gpus)}
        context = start_patiently(asked.nice, dashboard_host=LOOPBACK, **options, **_store_options())
    listen_anew()  # Ray has taken SIGTERM
    if not others:
        OURS.set()
    return Cluster(
        nodes=_nodes_that_hold(asked) if address else _nodes(_alive()),
        dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else "",
        grows=address is not None,
    )


def refuse_no_start(address: str | None) -> None:
    """Raises a Refusal if this machine can't join the Ray at an address, or start one without."""
    for refuse in (refuse_windows, refuse_cache, *(() if address else OWN_RAY)):
        refuse()


def refuse_windows() -> None:
    """Raises a Refusal on Windows, whose processes lack what Ray's start and training need here."""
    if sys.platform == "win32":
        raise Refusal("Windows", "studies and training run on Linux and macOS", "use WSL2")


def refuse_lost() -> None:
    """Raises a Refusal if this process has left a lost Ray: it would get that one again."""
    if LOST.is_set():
        fix = "restart the program, or the kernel of a notebook; run(wait=False) uses a process of its own"
        raise Refusal("Ray", "an earlier study of this process has lost or abandoned it", fix)


def refuse_other_ray() -> None:
    """Raises a Refusal if this process uses a Ray that no study has joined or started: the study would end it."""
    if _has_ray() and not OURS.is_set():
        fix = "call ray.shutdown() first, or run(wait=False), which uses a process of its own"
        raise Refusal("Ray", "this process has one of its own, which a study would end", fix)


def _has_ray() -> bool:
    """Returns whether this process uses a Ray, without importing it."""
    found = sys.modules.get("ray")
    return bool(found and found.is_initialized())


def refuse_cache() -> None:
    """Raises a Refusal if the cache folder can't be created or written."""
    folder = cache_folder()
    _refuse_unwritable(folder, "the cache folder", "set HOME or XDG_CACHE_HOME to a folder that can be written")


def refuse_temporary_folder() -> None:
    """Raises a Refusal if Ray can't start in the temporary folder."""
    read = ("RAY_TMPDIR", "TMPDIR") if sys.platform == "linux" else ("RAY_TMPDIR",)  # elsewhere Ray takes /tmp
    name = next((name for name in read if name in os.environ), "the temporary folder")
    folder = Path(os.environ.get(name, "/tmp"))
    fix = "set RAY_TMPDIR to a folder with a short path, such as /tmp"
    if not os.environ.get(name, "/tmp").startswith("/"):
        raise Refusal(name, f"{os.environ[name]!r} is not an absolute path", fix)
    _refuse_unwritable(folder, name, fix)
    longest = len(os.fsencode(folder / SOCKET.format(pid=os.getpid())))
    if longest > LONGEST_SOCKET:
        most = LONGEST_SOCKET - longest + len(os.fsencode(folder))
        raise Refusal(name, f"{folder} is too long for Ray's sockets, which leave it {most} bytes", fix)


def refuse_home() -> None:
    """Raises a Refusal if a Ray that starts here can't keep its token: it makes one in ~/.ray, unless it is given one
    or its RAY_AUTH_MODE is another."""
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if given or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    fix = "set HOME to a folder that can be written, or RAY_AUTH_MODE=disabled"
    try:
        token = Path.home() / ".ray" / "auth_token"
    except RuntimeError:
        raise Refusal("HOME", "is not set, and this user has no other home", fix) from None
    if not token.is_file():
        _refuse_unwritable(token.parent, "HOME", fix)


def refuse_small_files() -> None:
    """Raises a Refusal if no file may be as large as the one in which a Ray that starts here keeps its objects."""
    if (most := largest_file()) < LEAST_FILE:
        problem = f"a file may have {format_bytes(most)} at most, one of Ray's has {format_bytes(LEAST_FILE)}"
        raise Refusal("ulimit -f", problem, "allow larger ones, with ulimit -f unlimited")


def refuse_few_files() -> None:
    """Raises a Refusal if a process may not open as many files as one of a Ray that starts here."""
    if (most := most_open_files()) < LEAST_OPEN:
        problem = f"a process may open {most} files at once, one of Ray's needs {LEAST_OPEN}"
        raise Refusal("ulimit -n", problem, "use a shell with a higher limit, such as ulimit -n 4096")


OWN_RAY = (refuse_temporary_folder, refuse_home, refuse_small_files, refuse_few_files)
"""What must hold before a Ray starts here."""


def _store_options() -> dict[str, int]:
    """Returns the size of Ray's file of objects, where its usual one may not be so large: Ray would not start."""
    most = largest_file()
    return {"object_store_memory": int(STORE_OF_FILE * most)} if most < STORE_OF_MEMORY * memory()[0] else {}


def _refuse_unwritable(folder: Path, place: str, fix: str) -> None:
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise Refusal(place, f"{folder} can't be made, {nearest} is no folder", fix)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise Refusal(place, f"{nearest} can't be written", fix)


def refuse_odd_address(address: str | None) -> None:
    """Raises a Refusal if a study can't be driven on a cluster at this address, or if it is not an address."""
    if address is None:
        return
    if address.startswith("ray://"):
        fix = "run this on the cluster's head with --address auto, or through ray job submit"
        raise Refusal("--address", f"{address!r}: a study can't be driven through Ray Client", fix)
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isascii() and port.isdecimal() and int(port) < 65536):
        fix = "write auto, or host:6379; without --address Ray starts here"
        raise Refusal("--address", f"{address!r} is no address of a cluster", fix)


def leave_ray(*, lost: bool) -> None:
    """Leaves the cluster, or ends the Ray that was started here; kills the remaining processes of a lost Ray.

    A lost Ray's client is not shut down: it may wait for ever, and Tune's thread, which still calls it, would then
    start another Ray, or end this process.
    """
    if lost:
        LOST.set()
        kill_ray()
    else:
        import ray

        ray.shutdown()
        OURS.clear()


def await_abandoned() -> None:
    """Waits until a Ray that this process has abandoned before it was there has come and was left."""
    while BEGUN:
        BEGUN[-1].wait()
        BEGUN.pop()


def abandon(workers: "Future[Cluster]") -> None:
    """Leaves the Ray that `connecting` has begun to join or to start, at once or when it is there: whoever starts next
    in this process may want another. That start waits for it."""

    def leave(_: object) -> None:
        if OURS.is_set():
            leave_ray(lost=False)

    workers.add_done_callback(leave)


def _refuse_silent(address: str) -> None:
    """Raises a Refusal if nothing listens at the address, because Ray would try for minutes."""
    refuse_odd_address(address)
    asked = _asked(address)
    host, _, port = asked.rpartition(":")
    if not host or "://" in asked:
        return
    with refusing("--address", f"no Ray cluster at {asked!r}", START):
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _asked(address: str) -> str:
    """Returns the address that Ray joins: `auto` may be another one in the environment."""
    return os.environ.get("RAY_ADDRESS", address) if address == "auto" else address


def _import_early(here: Cluster) -> None:
    """Makes the workers that Ray starts first, one per CPU, import what trials need while the driver reads its data.

    Does nothing if there are many CPUs: on a GPU machine most workers would stay idle, each with torch in memory.
    """
    if here.cpus <= FEW_CPUS:
        os.environ.setdefault("RAY_preload_python_modules", EARLY)


def _alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _nodes(alive: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    totals = [node["Resources"] for node in alive]
    return tuple(Node(each.get("CPU", 0), each.get("GPU", 0), each.get("memory", math.inf)) for each in totals)


def _nodes_that_hold(asked: ResourcesSpec) -> tuple[Node, ...]:
    """Returns the nodes of a joined cluster; if none holds a trial and one may come, requests it and waits for it."""
    from ray.autoscaler.sdk import request_resources

    refuse_odd_share(asked)
    if _suffice(alive := _alive(), asked):
        return _nodes(alive)
    wanted = {"CPU": asked.cpus_per_trial, "GPU": asked.gpus_per_trial or 0}
    said = " and ".join(f"{count:g} {name}" for name, count in wanted.items() if count)
    logger.warning("no node offers %s yet: requested one, waiting at most %d s", said, WORKER_WAIT_SECONDS)
    request_resources(bundles=[{name: count for name, count in wanted.items() if count}])
    deadline = time.monotonic() + WORKER_WAIT_SECONDS
    try:
        while time.monotonic() < deadline:
            if _suffice(alive := _alive(), asked):
                return _nodes(alive)
            time.sleep(1)
    finally:
        request_resources(bundles=[])
    raise Refusal("--address", f"no node of the cluster offers {said}", "look at what ray status says, or add a worker")


def _suffice(alive: Collection[Mapping[str, Any]], asked: ResourcesSpec) -> bool:
    """Returns whether some node holds a trial, or none that does is to be expected: some offer CPUs, and nothing but
    people starts others."""
    nodes = _nodes(alive)
    managed = any(NODE_GROUP in (node.get("Labels") or {}) for node in alive)
    holds = any(node.fits(asked.cpus_per_trial, asked.gpus_per_trial or 0) for node in nodes)
    return holds or (not managed and any(node.cpus for node in nodes))


TRIES = 3
LIMITS = {
    "RAY_gcs_server_port_wait_time_s": 60,
    "RAY_raylet_start_wait_time_s": 60,
    "RAY_agent_register_timeout_ms": 300_000,
    "RAY_worker_register_timeout_seconds": 600,
    "RAY_idle_worker_killing_time_threshold_ms": 3_600_000,
}
"""How long Ray waits for its head, its raylet, the raylet's agents and a new worker, and how long it keeps an idle one:
on a busy machine it would end the first workers, which have imported all, just before their trials come. Ray's own
limits are for an idle machine; one that the environment has set stays."""
NICE = "RAY_worker_niceness"
"""The environment variable with the priority of Ray's workers, which Ray itself sets to 15."""


def start_patiently(nice: int, **options: Any) -> Any:
    """Starts Ray for this machine alone, and passes the options to `ray.init`; returns what that returns.

    A dashboard that does not start in time is left out. What a try that failed has started is killed before the next.

    Args:
        nice: the priority of the workers, from 0 to 19, the lowest.

    Raises:
        NotNow: each try failed.
    """
    os.environ.update({name: os.environ.get(name, str(limit)) for name, limit in LIMITS.items()}, **{NICE: str(nice)})
    for number in range(1, TRIES + 1):
        session = new_session()
        try:
            context = start_ray(session, **options)
        except Exception as error:
            clear_away(session)
            why, logs = told(error), session_logs(session)
            if number < TRIES:
                logger.warning("Ray did not start (%s); its logs: %s; trying again", why, logs)
            continue
        if not context.dashboard_url:
            logger.warning(
                "Ray's dashboard did not start, the study goes on without; its logs: %s", session_logs(session)
            )
        return context
    raise NotNow("Ray", f"it could not be started here in {TRIES} tries ({why})", f"its logs: {logs}")
