"""Draws what the recorded curves say about factor shapes: `python -m tests.benchmarks.curves.figures`.

The figures of `docs/factor_shape.md` come from here, and the table, which is printed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

import krona_tune
from krona_tune.kron.factors import factor_shape, first_step
from tests.benchmarks.svg_figure import new_figure, save_figure

PICTURES = Path(__file__).resolve().parents[3] / "docs" / "pictures"
TASKS = {"sst2": "SST-2", "stsb": "STS-B", "reuters": "Reuters", "newsgroups": "Newsgroups"}
"""The tasks in the order of the figures, with their names."""
LAST_EPOCH, DRAWS, WIDTH = 9, 4000, 384
"""The epoch whose scores count, the bootstrap's draws, and the width of the backbone's attention maps."""
KNOBS = {
    "learning_rate": "learning rate",
    "step": "first step",
    "shape": "rows over columns of A",
    "size": "size of A",
    "rank": "highest rank of the sum",
    "terms": "terms",
    "adapter_parameters": "parameters",
    "depth": "adapted layers",
}
"""What varies, by its column, in words."""


def points() -> pd.DataFrame:
    """Returns the design's points with their last scores and what varies, one row per point and task."""
    frame = krona_tune.curves()
    last = frame[(frame.kind == "search") & (frame.epochs == LAST_EPOCH)].copy()
    rank = np.minimum(last.a_out, last.a_in) * np.minimum(WIDTH / last.a_out, WIDTH / last.a_in)
    last["shape"], last["size"] = last.a_out / last.a_in, last.a_out * last.a_in
    last["rank"], last["depth"] = (
        np.minimum(WIDTH, last.terms * rank),
        last.layers.str.removeprefix("last ").astype(int),
    )
    last["step"] = [_step(row) for row in last.itertuples()]
    return last


def _step(row: Any) -> float:
    """Returns how far the first step moves an attention map of 384 × 384."""
    shape = factor_shape(WIDTH, WIDTH, int(row.a_out), int(row.a_in), int(row.terms))
    return float(row.learning_rate * first_step(shape, "krona", row.scale, row.scaling))


def correlations(last: pd.DataFrame) -> Iterator[tuple[str, str, float, float, float]]:
    """Yields for each knob and task the rank correlation with the score and its 95 % bootstrap interval over points."""
    draw = np.random.default_rng(0)
    for knob in KNOBS:
        for task in TASKS:
            own = last[last.task == task]
            pairs = own[[knob, "score"]].to_numpy(dtype=float)
            found = _rank_correlations(pairs[None])[0]
            drawn = _rank_correlations(pairs[draw.integers(0, len(pairs), (DRAWS, len(pairs)))])
            low, high = np.percentile(drawn, [2.5, 97.5])
            yield knob, task, float(found), float(low), float(high)


def _rank_correlations(pairs: Any) -> Any:
    """Returns the rank correlation of each sample of pairs, (samples, pairs, 2)."""
    ranks = rankdata(pairs, axis=1)
    apart = ranks - ranks.mean(axis=1, keepdims=True)
    both, own = apart.prod(axis=2).sum(axis=1), (apart**2).sum(axis=1)
    return both / np.sqrt(own.prod(axis=1))


def table(last: pd.DataFrame) -> list[str]:
    """Returns the lines of a Markdown table of the correlations."""
    cells: dict[str, list[str]] = {}
    for knob, _, found, low, high in correlations(last):
        cells.setdefault(knob, []).append(f"{found:+.2f} [{low:+.2f}, {high:+.2f}]")
    head = [f"| | {' | '.join(TASKS.values())} |", "|---|" + "---|" * len(TASKS)]
    return head + [f"| {KNOBS[knob]} | {' | '.join(found)} |" for knob, found in cells.items()]


def draw_shapes(last: pd.DataFrame, to: Path) -> None:
    """Draws each task's scores against the shape of A and against the first step, with the head alone as a line."""
    heads = krona_tune.curves().query("kind == 'baseline' and epochs == @LAST_EPOCH").groupby("task").score.max()
    figure, axes = new_figure(width=10, height=5, nrows=2, ncols=len(TASKS), sharey="col")
    for row, (what, said) in zip(axes, (("shape", "rows / columns of A"), ("step", "first step")), strict=True):
        for axis, (task, title) in zip(row, TASKS.items(), strict=True):
            own = last[last.task == task]
            dots = axis.scatter(own[what], own.score, c=np.log10(own.learning_rate), cmap="viridis", s=14)
            axis.axhline(heads[task], color="grey", linestyle="--", linewidth=1)
            axis.set(xscale="log", title=title if what == "shape" else "", xlabel=said)
        row[0].set_ylabel("validation score, epoch 9")
    bar = figure.colorbar(dots, ax=axes, shrink=0.9)
    bar.set_label("log10 learning rate")
    save_figure(figure, to)


def draw_correlations(last: pd.DataFrame, to: Path) -> None:
    """Draws the correlations with their intervals, a row for each knob."""
    figure, axis = new_figure(width=7, height=3.6)
    for knob, task, found, low, high in correlations(last):
        at, of = list(KNOBS).index(knob), list(TASKS).index(task)
        height = at + 0.2 * (of - (len(TASKS) - 1) / 2)
        axis.plot([low, high], [height] * 2, color=f"C{of}", linewidth=1.5)
        axis.plot(found, height, "o", color=f"C{of}", markersize=5, label=TASKS[task] if not at else None)
    axis.axvline(0, color="grey", linewidth=1)
    axis.set(
        yticks=range(len(KNOBS)), yticklabels=KNOBS.values(), xlim=(-1, 1), xlabel="rank correlation with the score"
    )
    axis.invert_yaxis()
    axis.legend(loc="lower right", frameon=False)
    save_figure(figure, to)


if __name__ == "__main__":
    found = points()
    draw_shapes(found, PICTURES / "shapes.svg")
    draw_correlations(found, PICTURES / "correlations.svg")
    print("\n".join(table(found)))
