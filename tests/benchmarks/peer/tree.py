"""Measures a command from outside: its time, and the processor time and memory of it and all its child processes."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

GLANCE_SECONDS, LOOK_SECONDS = 1.0, 5.0
"""Processor times are read at each glance; memory, which costs the kernel more, at each look. Shorter intervals would
take a tenth of a core from the watched program."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A command's measurements. `cpu_seconds` miss what a process used after the last glance. `peak_bytes` is the
    largest sum over the processes of their own memory and their share of common memory (PSS)."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def watch(command: Sequence[str]) -> Watched:
    """Runs the command to its end. If it fails, shows its output and raises CalledProcessError."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        used: dict[tuple[int, float], float] = {}
        peak, looked = 0, 0.0
        root = psutil.Process(running.pid)
        while running.poll() is None:
            tree = _alive(root)
            used |= _cpu_seconds(tree)
            if time.perf_counter() - looked > LOOK_SECONDS:
                peak, looked = max(peak, sum(map(_pss, tree))), time.perf_counter()
            time.sleep(GLANCE_SECONDS)  # sleep: it measures from time to time
        wall = time.perf_counter() - began
        said = running.stdout.read() if running.stdout else ""
    if running.returncode:
        sys.stderr.write(said[-4000:])
        raise subprocess.CalledProcessError(running.returncode, command)
    return Watched(wall_seconds=wall, cpu_seconds=sum(used.values()), peak_bytes=peak)


def _alive(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(tree: Sequence[psutil.Process]) -> dict[tuple[int, float], float]:
    found = {}
    for process in tree:
        try:
            times = process.cpu_times()
            found[process.pid, process.create_time()] = times.user + times.system
        except psutil.Error:
            continue
    return found


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
