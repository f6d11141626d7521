"""Reads what this machine has: cores and memory within a container's limits, disk, packages; and how busy it is."""

import math
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs
import psutil

SHARED_MEMORY = Path("/dev/shm")
GROUP = Path("/sys/fs/cgroup")
"""Where Linux tells a container's limits."""
INACTIVE_FILES = "inactive_file"
"""Names, in a container's memory.stat, the bytes of files that it keeps in memory and has not used lately."""
BUSY = 2.0
"""The processes that want a core, from which on a machine is called busy."""


def cache_folder() -> Path:
    """Returns this account's folder for what can be made again: geometries, token ids, states, copies of studies."""
    return platformdirs.user_cache_path("krona_tune")


def busy() -> str:
    """Returns how busy this machine is, if more processes want to run than it has cores for; else nothing."""
    load, there = psutil.getloadavg()[0], psutil.cpu_count() or 1
    return f"busy, {load:.0f} processes want its {there} cores" if load > BUSY * there else ""


def core_limit() -> float | None:
    """Returns the cores that a container may use at once; None without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # groups of version 2, and of 1
        with suppress(OSError, ValueError):
            quota, period = " ".join((GROUP / name).read_text(encoding="utf-8") for name in names).split()
            return int(quota) / int(period) if int(quota) > 0 else None  # "max" is no number
    return None


def cores() -> int:
    """Returns the cores that this process may use at once, at least one: those that it is bound to, within a
    container's limit."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(bound, core_limit() or bound)))


def memory() -> tuple[int, int]:
    """Returns the bytes of memory, within a container's limit, and of those how many are free."""
    there = psutil.virtual_memory()
    total, free = there.total, there.available
    with suppress(OSError, ValueError):
        limit = int((GROUP / "memory.max").read_text(encoding="utf-8"))
        used = int((GROUP / "memory.current").read_text(encoding="utf-8")) - _reclaimable_bytes()
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def _reclaimable_bytes() -> int:
    """Returns the bytes of files that a container keeps in memory and gives up when it needs room."""
    with suppress(OSError):
        lines = (GROUP / "memory.stat").read_text(encoding="utf-8").splitlines()
        return next(
            (int(size) for name, _, size in (line.partition(" ") for line in lines) if name == INACTIVE_FILES), 0
        )
    return 0


def shared_memory() -> int | None:
    """Returns the bytes of the file system for shared memory; None where there is none."""
    return shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else None


def largest_file() -> float:
    """Returns the most bytes that this process may write into one file; infinite without a limit (`ulimit -f`)."""
    return _limits("RLIMIT_FSIZE")[0]


def most_open_files() -> float:
    """Returns the most files that this process may open at once where it raises its limit (`ulimit -n`) as far as it
    may; infinite without one."""
    return _limits("RLIMIT_NOFILE")[1]


def _limits(of: str) -> list[float]:
    """Returns a limit of this process, and how far it may raise that."""
    if sys.platform == "win32":
        return [math.inf, math.inf]
    import resource  # Windows has none

    return [math.inf if most == resource.RLIM_INFINITY else most for most in resource.getrlimit(getattr(resource, of))]


def free_bytes(folder: Path) -> int:
    """Returns the bytes that are free where a folder is or would be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the packages on this machine; leaves out those that are not installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
