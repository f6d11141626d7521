"""Compares the regrets of replayed studies: ratios to one rival, with intervals over studies, pairs and tasks."""

from collections.abc import Callable, Mapping
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
    "random, full budget": "C5",
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
    own = _logs(frame)
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


@dataclass(frozen=True, kw_only=True)
class ClusterRatio:
    """The ratio of two rivals' regrets, the geometric mean over clusters that count alike, with its 95 % interval by
    Student's t over the clusters; `each` is the ratio in each cluster, and `p` that of a ratio of 1."""

    each: Mapping[str, float]
    middle: float
    low: float
    high: float
    p: float


def _pairs(rows: pd.DataFrame) -> pd.Series:
    """Returns the tasks of each row's study, in one word."""
    return rows.groupby("seed").task.transform(lambda tasks: "+".join(sorted(set(tasks))))


CLUSTERS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {"pair": _pairs, "task": lambda rows: rows.task}
"""What several studies share, so that they are no independent draws: a row's cluster, by the name of the clustering."""


def cluster_ratios(frame: pd.DataFrame, to: str, clustering: str) -> dict[tuple[str, float], ClusterRatio]:
    """Returns the ratio of each rival's regret to that of the rival `to`, by rival and budget, over common studies.

    Args:
        clustering: a key of CLUSTERS.
    """
    own = _logs(frame)
    own["cluster"] = CLUSTERS[clustering](own)
    logs = own.pivot(index=["budget", "cluster", "seed", "task"], columns="rival", values="log")
    found: dict[tuple[str, float], ClusterRatio] = {}
    for rival in logs.columns.drop(to):
        for budget in sorted(set(own.budget)):
            each = (logs[rival] - logs[to]).loc[budget].dropna().groupby("cluster").mean()
            low, high, p = np.nan, np.nan, np.nan
            if len(each) > 1 and each.std() > 0:
                test = ttest_1samp(each, 0.0)
                (low, high), p = test.confidence_interval(0.95), test.pvalue
            found[str(rival), budget] = ClusterRatio(
                each={str(name): float(np.exp(value)) for name, value in each.items()},
                middle=float(np.exp(each.mean())),
                low=float(np.exp(low)),
                high=float(np.exp(high)),
                p=float(p),
            )
    return found


def clusters_as_markdown(frame: pd.DataFrame, to: str, clustering: str) -> list[str]:
    """Returns the lines of a Markdown table: the ratio over clusters, its interval and p, and the ratio in each."""
    of, budgets = cluster_ratios(frame, to, clustering), sorted(set(frame.budget))
    names = list(dict.fromkeys(name for ratio in of.values() for name in ratio.each))
    lines = [f"| by {clustering}: {', '.join(names)} | {' | '.join(f'{budget:g}' for budget in budgets)} |"]
    lines.append("|---|" + "---|" * len(budgets))
    for rival in dict.fromkeys(rival for rival, _ in of):
        lines.append(f"| {rival} | {' | '.join(_cell(of.get((rival, budget)), names) for budget in budgets)} |")
    return lines


def _cell(ratio: ClusterRatio | None, names: list[str]) -> str:
    if ratio is None:
        return ""
    each = ", ".join(f"{ratio.each[name]:.2f}" if name in ratio.each else "-" for name in names)
    return f"{ratio.middle:.2f} ({ratio.low:.2f}-{ratio.high:.2f}, p {ratio.p:.1g}): {each}"


def scores_as_markdown(frame: pd.DataFrame, spans: Mapping[str, float], budget: float) -> list[str]:
    """Returns the lines of a Markdown table: what a fifth of each task's span is, and each rival's mean regret at one
    budget, in scores.

    Args:
        spans: what the middle recorded point loses against the best, by task, in scores.
    """
    own = _decided(frame)
    means = own[own.budget == budget].pivot_table(index="rival", columns="task", values="regret", aggfunc="mean")
    lines = [f"| in scores, {budget:g} trainings | {' | '.join(spans)} |", "|---|" + "---|" * len(spans)]
    lines.append(f"| .20 of a span | {' | '.join(f'{0.2 * span:.3f}' for span in spans.values())} |")
    for rival in dict.fromkeys(own.rival):
        cells = [f"{means.loc[rival, task] * span:.3f}" if task in means else "" for task, span in spans.items()]
        lines.append(f"| {rival} | {' | '.join(cells)} |")
    return lines


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


def _logs(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the same rows with the regret's logarithm, the column `log`."""
    return _decided(frame).assign(log=lambda rows: np.log(np.maximum(rows.regret, LEAST)))


def draw(frame: pd.DataFrame, to: str, path: Path) -> None:
    """Draws the ratios against the budget, with their intervals over studies (thick) and over pairs (thin)."""
    figure, axis = new_figure(width=7, height=3.6)
    of, over_pairs = ratios(frame, to), cluster_ratios(frame, to, "pair")
    for place, (rival, colour) in enumerate(DRAWN.items()):
        found = {budget: ratio for (name, budget), ratio in of.items() if name == rival}
        if not found:
            continue
        at = [budget * 1.04 ** (place - len(DRAWN) / 2) for budget in found]
        axis.plot(at, [each.middle for each in found.values()], "o-", color=colour, label=rival, markersize=4)
        for intervals, width in ((found, 2.5), ({budget: over_pairs[rival, budget] for budget in found}, 0.7)):
            low, high = zip(*((each.low, each.high) for each in intervals.values()), strict=True)
            axis.vlines(at, low, high, color=colour, linewidth=width)
    axis.axhline(1, color="black", linewidth=1)
    budgets = sorted(set(frame.budget))
    axis.set(xscale="log", yscale="log", xlabel="full trainings a task", ylabel=f"regret, as a share of\n{to}'s")
    axis.set_xticks(budgets, [f"{budget:g}" for budget in budgets], minor=False)
    axis.set_yticks([0.5, 1, 2], ["0.5", "1", "2"])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, path)
