"""Measures what this machine offers a study: cores, memory, disk and GPUs, without torch and Ray."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

SHARED_MEMORY = Path("/dev/shm")
GROUP = Path("/sys/fs/cgroup")
DRIVERS = {"/proc/driver/nvidia": "NVIDIA", "/dev/nvidiactl": "NVIDIA", "/dev/dxg": "WSL2", "/dev/kfd": "AMD"}
"""What is there with a GPU's driver, and whose it is."""
ASK = ("nvidia-smi", "--query-gpu=name,memory.total,compute_cap,driver_version", "--format=csv,noheader")
ASK_SECONDS = 3.0
BUSY = 2.0
"""The processes that want a core, from which on a machine is called busy."""
FIRST_WITH_BFLOAT16 = 8
"""The first compute capability of NVIDIA whose GPUs compute in bfloat16 (Ampere)."""


class Gpu(NamedTuple):
    """A GPU in words, and whether it computes in bfloat16; None if that is not known without torch."""

    said: str
    bfloat16: bool | None


def cores() -> int:
    """Returns the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy() -> str:
    """Returns how busy this machine is, if more processes want to run than it has cores for; else nothing."""
    load, there = psutil.getloadavg()[0], psutil.cpu_count() or 1
    return f"busy, {load:.0f} processes want its {there} cores" if load > BUSY * there else ""


def core_limit() -> float | None:
    """Returns the cores that a container may use at once; None without a limit."""
    with suppress(OSError, ValueError):
        quota, period = (GROUP / "cpu.max").read_text(encoding="utf-8").split()
        return int(quota) / int(period)  # "max" is no number
    return None


def memory() -> tuple[int, int]:
    """Returns the bytes of memory, within a container's limit, and of those how many are free."""
    there = psutil.virtual_memory()
    total, free = there.total, there.available
    with suppress(OSError, ValueError):
        limit = int((GROUP / "memory.max").read_text(encoding="utf-8"))
        used = int((GROUP / "memory.current").read_text(encoding="utf-8"))
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def shared_memory() -> int | None:
    """Returns the bytes of the file system for shared memory; None where there is none."""
    return shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else None


def free_bytes(folder: Path) -> int:
    """Returns the bytes that are free where a folder is or would be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def gpus() -> list[Gpu]:
    """Returns the GPUs as NVIDIA's own program lists them, else whose driver is there."""
    try:
        done = subprocess.run(ASK, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)
        return [_gpu(line) for line in done.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError):
        makers = dict.fromkeys(maker for path, maker in DRIVERS.items() if Path(path).exists())
        return [Gpu(f"a driver of {maker}, which did not list its GPUs", None) for maker in makers]


def _gpu(line: str) -> Gpu:
    name, size, capability, driver = (*(part.strip() for part in line.split(",")), "", "", "")[:4]
    major = capability.partition(".")[0]
    fast = int(major) >= FIRST_WITH_BFLOAT16 if major.isdecimal() else None
    return Gpu(f"{name}, {size}, compute capability {capability}, driver {driver}", fast)
