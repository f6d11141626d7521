"""Times cases side by side: each round runs every case once and divides its times by that of its first case.

The clock counts only the computing thread's time, so that waiting for a busy machine's core does not count.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

Case = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """One case's ratios to the first case, one number per round."""

    rounds: tuple[float, ...]
    milliseconds: float

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def __str__(self) -> str:
        quarters = statistics.quantiles(self.rounds, n=4)
        return f"{self.median:5.2f} ({quarters[0]:.2f} to {quarters[2]:.2f}) {self.milliseconds:8.1f} ms"


def side_by_side(cases: dict[str, Case], repeats: int) -> dict[str, Ratios]:
    """Returns every case's ratios; the first round is not counted."""
    for case in cases.values():
        case()
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            start = time.thread_time()
            case()
            times[name].append(time.thread_time() - start)
    base = next(iter(times.values()))
    return {
        name: Ratios(
            rounds=tuple(t / b for t, b in zip(seconds, base, strict=True)),
            milliseconds=1000 * statistics.median(seconds),
        )
        for name, seconds in times.items()
    }


def peak_bytes(case: Case) -> int:
    """Returns the most bytes that the case has allocated at one time, without those allocated before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        case()
    changes = (e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]")
    return max(0, *accumulate(int(e.nbytes()) for e in sorted(changes, key=lambda e: e.start_ns())))


def conditions() -> str:
    """Returns the conditions of the numbers that are printed below."""
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    return f"torch {torch.__version__}, {platform.machine()}, one thread, load {load:.1f} on {os.cpu_count()} cores"
