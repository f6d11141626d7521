"""Compares regrets of tabular replays: ratios of means, bootstrapped over seeds, task by task and over the tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from tests.benchmarks.search.replay.recorded import Array

RESAMPLES = 2000
LEAST = 1e-3
"""The least mean regret that is compared: less is no difference that a score shows."""


@dataclass(frozen=True, kw_only=True)
class Regrets:
    """A search's regrets (seeds, tasks, budgets) in spans, of the point that it names and of the best that it tried."""

    named: Array
    tried: Array


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of mean regrets at one budget with its 95 % interval over seeds; `tasks` has each task's ratio and
    `over_tasks` the 95 % interval of their geometric mean by Student's t, the tasks as the sample."""

    middle: float
    low: float
    high: float
    tasks: tuple[float, ...]
    task_highs: tuple[float, ...]
    over_tasks: tuple[float, float]


def ratio(own: Array, reference: Array) -> Ratio:
    """Returns the ratio of regrets (seeds, tasks) to those of a reference with the same seeds, which are paired."""
    over = np.maximum(reference.mean(axis=0), LEAST)
    drawn = np.random.default_rng(0).integers(len(own), size=(RESAMPLES, len(own)))
    above, below = own[drawn].mean(axis=1), np.maximum(reference[drawn].mean(axis=1), LEAST)
    whole = above.mean(axis=1) / below.mean(axis=1)
    of_tasks = own.mean(axis=0) / over
    logs = np.log(np.maximum(own.mean(axis=0), LEAST) / over)
    spread = t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)) if len(logs) > 1 else np.nan
    low, high = np.quantile(whole, (0.025, 0.975))
    return Ratio(
        middle=float(own.mean() / over.mean()),
        low=float(low),
        high=float(high),
        tasks=tuple(map(float, of_tasks)),
        task_highs=tuple(map(float, np.quantile(above / below, 0.975, axis=0))),
        over_tasks=(float(np.exp(logs.mean() - spread)), float(np.exp(logs.mean() + spread))),
    )


def ratio_lines(found: Mapping[str, Regrets], to: str, budgets: Sequence[float]) -> list[str]:
    """Returns a Markdown table: each search's ratio to the search `to` with its interval, or that search's regrets."""
    lines = [_line("", *(f"{budget:g}" for budget in budgets)), "|---" * (len(budgets) + 1) + "|"]
    for name, regrets in found.items():
        if name == to:
            cells = [f"{regret:.3f}" for regret in regrets.named.mean(axis=(0, 1))]
        else:
            of = (ratio(regrets.named[..., at], found[to].named[..., at]) for at in range(len(budgets)))
            cells = [f"{each.middle:.2f} ({each.low:.2f}-{each.high:.2f})" for each in of]
        lines.append(_line(f"{name}: regret" if name == to else name, *cells))
    return lines


def task_lines(
    found: Mapping[str, Regrets], to: str, tasks: Sequence[str], budgets: Sequence[float], at: Sequence[float]
) -> list[str]:
    """Returns a Markdown table for some of the budgets: each task's ratio with its upper bound, and the interval over
    the tasks."""
    lines = [_line("", "trainings", *tasks, "t over tasks"), "|---" * (len(tasks) + 3) + "|"]
    for name, regrets in found.items():
        for budget in at if name != to else ():
            index = list(budgets).index(budget)
            of = ratio(regrets.named[..., index], found[to].named[..., index])
            own = [f"{each:.2f} < {high:.2f}" for each, high in zip(of.tasks, of.task_highs, strict=True)]
            lines.append(_line(name, f"{budget:g}", *own, "{:.2f}-{:.2f}".format(*of.over_tasks)))
    return lines


def gap_lines(found: Mapping[str, Regrets], budgets: Sequence[float]) -> list[str]:
    """Returns a Markdown table of the mean regrets of the point named and, in brackets, of the best one tried."""
    lines = [_line("named (best tried)", *(f"{budget:g}" for budget in budgets)), "|---" * (len(budgets) + 1) + "|"]
    for name, regrets in found.items():
        means = (regrets.named.mean(axis=(0, 1)), regrets.tried.mean(axis=(0, 1)))
        lines.append(_line(name, *(f"{named:.3f} ({best:.3f})" for named, best in zip(*means, strict=True))))
    return lines


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
