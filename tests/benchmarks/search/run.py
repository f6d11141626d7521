"""`python -m tests.benchmarks.search.run`: compares strategies at equal cost, as a table, a CSV file and a plot."""

import argparse
import csv
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from tests.benchmarks.search.candidates import Candidate
from tests.benchmarks.search.curves import TASKS, Task, Trainer
from tests.benchmarks.search.engine import simulate
from tests.benchmarks.search.model_history import Choices
from tests.benchmarks.search.search_points import rungs, t5_space
from tests.benchmarks.search.strategies import ByChance, Make, Ours, RaysOwn, Setting
from tests.benchmarks.search.table import Lost, compare, winners
from tests.benchmarks.svg_figure import new_figure, save_figure

RESULTS = Path(__file__).parent / "results"
BUDGETS = (10.0, 20.0, 40.0)
RAY, FULL = "Ray's OptunaSearch + ASHA", "random, full budget"
RULE = "last score"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A strategy in the table."""

    make: Make
    reduction: int = 3
    workers: tuple[int, ...] = (8,)


def _candidate(choices: Choices) -> Make:
    return partial(Candidate, choices=choices)


LAST = Choices(fidelity="last", diverged=True)
ORDERED = Choices(fidelity="last", diverged=True, ordered=True)
ROWS = {
    RAY: Row(make=RaysOwn, workers=(2, 8)),
    FULL: Row(make=ByChance),
    "random + ASHA": Row(make=partial(ByChance, early=True)),
    "krona_tune": Row(make=Ours, workers=(2, 8)),
    "last, ordered": Row(make=_candidate(ORDERED), workers=(2, 8)),
}
VARIANTS = {
    RAY: Row(make=RaysOwn),
    FULL: ROWS[FULL],
    "the same, NaN reported": Row(make=partial(RaysOwn, nan=True)),
    "pruned, as krona_tune": Row(make=_candidate(Choices())),
    "pruned, told of divergence": Row(make=_candidate(Choices(diverged=True))),
    "pruned, ordered": Row(make=_candidate(Choices(diverged=True, ordered=True))),
    "last": Row(make=_candidate(LAST)),
    "shifted": Row(make=_candidate(replace(LAST, fidelity="shifted"))),
    "one rung": Row(make=_candidate(replace(LAST, fidelity="one rung"))),
    "shifted, ordered": Row(make=_candidate(replace(ORDERED, fidelity="shifted"))),
    "last, ordered, promotion": Row(make=_candidate(replace(ORDERED, promote=True))),
    "last, ordered, startup 6": Row(make=_candidate(replace(ORDERED, startup=6))),
    "last, ordered, startup 20": Row(make=_candidate(replace(ORDERED, startup=20))),
    "last, ordered, reduction 2": Row(make=_candidate(ORDERED), reduction=2),
    "last, ordered, reduction 4": Row(make=_candidate(ORDERED), reduction=4),
}
CHOSEN = {
    **{name: replace(row, workers=(8,)) for name, row in ROWS.items() if name in {RAY, FULL, "krona_tune"}},
    "shifted": VARIANTS["shifted"],
}
SETS = {"regret": (ROWS, range(30)), "variants": (VARIANTS, range(20)), "confirmation": (CHOSEN, range(100, 130))}
"""By the name of their files: strategies and their seeds. The strategies that looked best in the first two sets were
chosen after those results, so they run again with other seeds."""


def losses(name: str, row: Row, task: Task, seed: int, workers: int, budgets: Sequence[float]) -> list[Lost]:
    """Runs one strategy to the largest budget; returns its regrets when each budget was spent."""
    trainer, schedule = Trainer(task, seed), rungs(row.reduction)
    setting = Setting(space=t5_space(), schedule=schedule, seed=seed, chance=task.chance)
    events = simulate(row.make(setting), trainer, workers=workers, budget=max(budgets))
    return [
        Lost(
            strategy=name,
            workers=workers,
            task=task.name,
            seed=seed,
            budget=budget,
            rule=rule,
            regret=trainer.best - trainer.final(winner.trial.params),
        )
        for budget in budgets
        for rule, winner in winners(events, budget).items()
    ]


def measure(rows: Mapping[str, Row], seeds: Sequence[int], budgets: Sequence[float] = BUDGETS) -> list[Lost]:
    found: list[Lost] = []
    for name, row in rows.items():
        began = time.monotonic()
        for workers in row.workers:
            for task in TASKS:
                found += [lost for s in seeds for lost in losses(name, row, task, s, workers, budgets)]
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return found


def text(found: Sequence[Lost], rule: str = RULE) -> str:
    """Returns the table; regrets are in thousandths of a score."""
    lines = [f"Regret x 1000: median [quartiles]; better/worse seeds than {RAY}, sign test's p, interval of the median "
             f"difference. Winner: {rule}."]  # fmt: skip
    groups = sorted({(lost.workers, lost.task, lost.budget) for lost in found})
    for workers, task, budget in groups:
        lines += ["", f"{task}, {workers} workers, {budget:g} full trainings"]
        reference = _regrets(found, RAY, workers, task, budget, RULE)
        for name in dict.fromkeys(lost.strategy for lost in found if lost.workers == workers):
            line = compare(_regrets(found, name, workers, task, budget, rule), reference)
            spread = f"{1e3 * line.median:6.1f} [{1e3 * line.lower:5.1f}, {1e3 * line.upper:5.1f}]"
            low, high = (1e3 * end for end in line.interval)
            against = f"{line.better:2d}/{line.worse:2d}  p {line.p:.3f}  [{low:+.1f}, {high:+.1f}]"
            lines.append(f"  {name:32s} {spread}  {against}")
    return "\n".join(lines)


def overall(found: Sequence[Lost]) -> str:
    """Returns a line per strategy and number of workers, over all tasks."""
    spans = {task.name: task.span for task in TASKS}
    lines = ["All tasks: mean regret as a share of a task's span at each budget, by rule; better/worse than Ray's own"]
    for workers in sorted({lost.workers for lost in found}):
        here = [lost for lost in found if lost.workers == workers]
        for name in dict.fromkeys(lost.strategy for lost in here):
            cells = []
            for rule in dict.fromkeys(lost.rule for lost in here):
                for budget in sorted({lost.budget for lost in here}):
                    mine, rays = (
                        [lost.regret / spans[lost.task] for lost in here
                         if (lost.strategy, lost.budget, lost.rule) == (who, budget, how)]
                        for who, how in ((name, rule), (RAY, RULE))
                    )  # fmt: skip
                    line = compare(mine, rays)
                    cells.append(f"{sum(mine) / len(mine):.3f} ({line.better}/{line.worse} p {line.p:.3f})")
            lines.append(f"  {workers} workers  {name:32s} " + "  ".join(cells))
    return "\n".join(lines)


def _regrets(found: Iterable[Lost], strategy: str, workers: int, task: str, budget: float, rule: str) -> list[float]:
    wanted = (strategy, workers, task, budget, rule)
    return [e.regret for e in found if (e.strategy, e.workers, e.task, e.budget, e.rule) == wanted]


def plot(found: Sequence[Lost], file: Path) -> None:
    """Draws median regret against budget, one panel per task, with 8 workers."""
    budgets = sorted({lost.budget for lost in found})
    figure, panels = new_figure(width=13, height=4.5, ncols=len(TASKS))
    for panel, task in zip(panels, TASKS, strict=True):
        for name in dict.fromkeys(lost.strategy for lost in found):
            medians = [float(np.median(_regrets(found, name, 8, task.name, b, RULE))) for b in budgets]
            panel.plot(budgets, medians, marker="o", label=name)
        panel.set(title=f"{task.name} (synthetic)", xscale="log", yscale="log", xlabel="full trainings")
    panels[0].set_ylabel("median regret")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, file)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--quick", action="store_true", help="two seeds, nothing is written")
    flags.add_argument("--set", choices=SETS, default="regret", help="which strategies, and which files are written")
    given = flags.parse_args()
    rows, seeds = SETS[given.set]
    warnings.simplefilter("ignore")  # about empty rungs and experimental parts of Optuna
    found = measure(rows, seeds[:2] if given.quick else seeds)
    report = f"{overall(found)}\n\n{text(found)}\n"
    print(report)
    if not given.quick:
        write(found, report, given.set)


def write(found: Sequence[Lost], report: str, name: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.txt").write_text(report, encoding="utf-8")
    with (RESULTS / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        budgets = sorted({lost.budget for lost in found})
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["strategy", "workers", "task", "seed", "rule", *(f"regret at {budget:g}" for budget in budgets)]
        )
        for run, lost in groupby(found, key=attrgetter("strategy", "workers", "task", "seed")):
            of_rule = sorted(lost, key=attrgetter("rule", "budget"))
            for rule, each in groupby(of_rule, key=attrgetter("rule")):
                writer.writerow([*run, rule, *(f"{one.regret:.5f}" for one in each)])
    plot(found, RESULTS / f"{name}.svg")


if __name__ == "__main__":
    main()
