"""Compares the regrets of replayed studies: each rival's ratio to another, with its interval over the studies."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from tests.benchmarks.search.table import RULES
from tests.benchmarks.svg_figure import new_figure, save_figure

LEAST = 1e-3
"""The least regret whose logarithm counts: less is no difference that a score shows."""
DRAWN = {
    "the default": "C1",
    "random + ASHA": "C7",
    "Ray's, the best of other tasks first": "C4",
    "krona_tune, TPE": "C0",
    "krona_tune, one model": "C2",
    "krona_tune, one model taught by other tasks": "C3",
}
"""The rivals of the picture, and their colours."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The ratio of two rivals' regrets, the geometric mean over studies and tasks, with its 95 % interval over studies;
    `bound` is the one-sided upper 95 % bound, and `p` that of a ratio of 1 (paired t-test)."""

    middle: float
    low: float
    high: float
    bound: float
    p: float


def ratios(frame: pd.DataFrame, to: str) -> dict[tuple[str, float], Ratio]:
    """Returns the ratio of each rival's regret to that of the rival `to`, by rival and budget, over common studies."""
    own = _decided(frame).assign(log=lambda rows: np.log(np.maximum(rows.regret, LEAST)))
    logs = own.pivot_table(index=["budget", "seed"], columns="rival", values="log", aggfunc="mean")
    found: dict[tuple[str, float], Ratio] = {}
    for rival in logs.columns.drop(to):
        for budget in sorted(set(own.budget)):
            pairs = logs.loc[budget][[rival, to]].dropna()
            difference = (pairs[rival] - pairs[to]).to_numpy()
            spread = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.nan
            low, middle, high, bound = np.exp(difference.mean() + spread * np.array([-1.96, 0, 1.96, 1.645]))
            p = ttest_1samp(difference, 0.0).pvalue if spread > 0 else np.nan
            found[str(rival), budget] = Ratio(middle=middle, low=low, high=high, bound=bound, p=float(p))
    return found


def as_markdown(frame: pd.DataFrame, to: str) -> list[str]:
    """Returns the lines of a Markdown table: mean regret and, in brackets, the ratio to that of the rival `to`."""
    means = _decided(frame).pivot_table(index="rival", columns="budget", values="regret", aggfunc="mean")
    of, budgets = ratios(frame, to), sorted(set(frame.budget))
    lines = [f"| | {' | '.join(f'{budget:g}' for budget in budgets)} |", "|---|" + "---|" * len(budgets)]
    for rival in dict.fromkeys(frame.rival):
        cells = [f"{means.loc[rival, at]:.3f}{_bracket(of.get((rival, at)))}" for at in budgets]
        lines.append(f"| {rival} | {' | '.join(cells)} |")
    return lines


def _bracket(found: Ratio | None) -> str:
    return f" ({found.middle:.2f}, {found.low:.2f}-{found.high:.2f})" if found else ""


def _decided(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows where the trial with the best last score won."""
    return frame[frame.rule == next(iter(RULES))]


def draw(frame: pd.DataFrame, to: str, path: Path) -> None:
    """Draws the ratios with their intervals, against the budget."""
    figure, axis = new_figure(width=7, height=3.6)
    of = ratios(frame, to)
    for place, (rival, colour) in enumerate(DRAWN.items()):
        found = {budget: ratio for (name, budget), ratio in of.items() if name == rival}
        if not found:
            continue
        at = [budget * 1.04 ** (place - len(DRAWN) / 2) for budget in found]
        axis.plot(at, [each.middle for each in found.values()], "o-", color=colour, label=rival, markersize=4)
        axis.vlines(at, [each.low for each in found.values()], [each.high for each in found.values()], color=colour)
    axis.axhline(1, color="black", linewidth=1)
    budgets = sorted(set(frame.budget))
    axis.set(xscale="log", yscale="log", xlabel="full trainings a task", ylabel=f"regret, as a share of\n{to}'s")
    axis.set_xticks(budgets, [f"{budget:g}" for budget in budgets], minor=False)
    axis.set_yticks([0.5, 1, 2], ["0.5", "1", "2"])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, path)
