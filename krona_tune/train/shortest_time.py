"""Times a piece of work several times, and takes the shortest."""

import time
from collections.abc import Callable


def shortest_time(
    once: Callable[[], object], *, repeats: int, patience: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Returns the seconds of the shortest of several times, after a first one that is not counted.

    Args:
        repeats: how many are timed at most.
        patience: after so many seconds no further one is timed, so what takes long is timed once.
        clock: what is read, in seconds; `time.thread_time` stands while others have the processor.
    """
    once()
    times: list[float] = []
    while len(times) < repeats and sum(times) < patience:
        began = clock()
        once()
        times.append(clock() - began)
    return min(times)
