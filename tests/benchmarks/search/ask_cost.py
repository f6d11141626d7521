"""`python -m tests.benchmarks.search.ask_cost`: what one proposal by the model of the study costs, on one core.

Eight tasks report made-up scores of even draws from the space of the recorded curves. From two thirds of a number of
reports on, each trial is asked for before it is told of, so that the fits that fall due are counted.
"""

import random
import time
from itertools import cycle

import numpy as np

from krona_tune.search.planning.earlier_study import shipped_curves
from krona_tune.search.planning.space import Params
from krona_tune.search.searchers.surrogate import TransferSurrogate
from tests.benchmarks.search.replay.recorded import rungs, space

TASKS, REPORTS = 8, (1000, 5000)


def asked(surrogate: TransferSurrogate, reports: int, seed: int) -> list[float]:
    """Tells the model of trials until there are that many reports; returns the processor seconds of each ask."""
    rng, of, schedule = random.Random(seed), space(), rungs()
    seconds, told = list[float](), 0
    for number, task in enumerate(cycle(map(str, range(TASKS)))):
        if told >= reports:
            return seconds
        point: Params | None = of.draw_where(of.feasible, rng)
        if told >= reports * 2 / 3:
            began = time.process_time()
            proposed = (each.point for each in surrogate.suggest(task, number // TASKS))
            point = next(filter(of.feasible, proposed))
            seconds.append(time.process_time() - began)
        assert point is not None
        name = f"{task}-{number:05d}"
        surrogate.history.begin(name, task, point)
        quality = -abs(np.log10(point["learning_rate"]) + 2.5) + rng.gauss(0, 0.1)
        for examples in schedule.rungs[: rng.choice((1, 1, 2, 3))]:
            surrogate.history.report(name, examples, quality + examples / schedule.total_examples, 0.5)
            told += 1
        surrogate.history.end(name, diverged=False)
    raise AssertionError("tasks follow one another for ever")


def main() -> None:
    """Prints the mean and the 95th percentile of an ask."""
    for earlier in ([], [shipped_curves()]):
        for reports in REPORTS:
            surrogate = TransferSurrogate(
                space(), dict.fromkeys(map(str, range(TASKS)), rungs().total_examples), 1, earlier
            )
            took = 1000 * np.array(asked(surrogate, reports, 1))
            print(
                f"{reports} reports{', taught by the recorded curves' if earlier else ''}: {len(took)} asks, "
                f"mean {took.mean():.0f} ms, 95th percentile {np.quantile(took, 0.95):.0f} ms"
            )


if __name__ == "__main__":
    main()
