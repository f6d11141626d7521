"""Makes up spaces, and tells a model of all tasks about trials in them."""

import random
from collections.abc import Callable, Mapping
from math import log10
from typing import Any

from krona_tune.search.planning.space import Space
from krona_tune.search.searchers.surrogate import (
    TransferSurrogate,
)
from tests.search.conftest import space

KNOBS = {
    "a_out": "divisors",
    "a_in": {"divisors": {"low": 2}},
    "terms": [1, 2],
    "scale": {"low": 0.25, "high": 16, "log": True},
    "roles": ["query", "query+value"],
    "layers": ["all", "last 1"],
}


RATE = {"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}, "warmup": [0, 0.1]}


SPACE = space("bert", KNOBS, training=RATE)


RIVALS = space(
    "bert", {"method": ["krona", "lora", "bitfit"], "a_out": [2, 4], "a_in": 2, "rank": [1, 2], "scale": 2.0}
)


BUDGETS = {"cola": 100, "rte": 300}


Params = Mapping[str, Any]


def quality(params: Params) -> float:
    """Returns a score that depends on the learning rate alone, and is highest at 1e-3."""
    return -abs(log10(params["learning_rate"]) + 3)


def drawn(seed: object, of: Space = SPACE) -> dict[str, Any]:
    """Returns a feasible even draw."""
    point = of.draw_where(of.feasible, random.Random(str(seed)))
    assert point is not None
    return point


def feed(surrogate: TransferSurrogate, task: str, numbers: range, score: Callable[[Params], float] = quality) -> None:
    """Tells the surrogate about evenly drawn trials, each with a report at a third of the budget and at its end."""
    for number in numbers:
        params = drawn((task, number))
        trial_id = f"{task}-{number:03d}"
        surrogate.history.begin(trial_id, task, params)
        for share in (3, 1):
            surrogate.history.report(trial_id, BUDGETS[task] // share, score(params) - share, 0.5)
        surrogate.history.end(trial_id, diverged=False)
