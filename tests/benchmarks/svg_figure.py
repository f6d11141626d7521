"""Makes figures whose SVG files are the same whenever they are drawn again."""

from pathlib import Path
from typing import Any


def new_figure(*, width: float, height: float, **grid: Any) -> Any:
    """Returns a figure, in inches, and its axes; `grid` is passed to matplotlib's `subplots`."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "krona_tune", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), layout="constrained", **grid)


def save_figure(figure: Any, to: Path) -> None:
    """Writes a figure as SVG and closes it."""
    from matplotlib import pyplot

    figure.savefig(to, metadata={"Date": None}, facecolor="white")
    pyplot.close(figure)
