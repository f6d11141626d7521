"""Draws the best score of each shape of A, with lines through the shapes of equal cost."""

from collections import defaultdict
from collections.abc import Sequence
from math import log2

import plotly.graph_objects as go

from krona_tune.kron.factors import divisors
from krona_tune.report.chart import SCALE, Chart, Range, Subject, colour_bar, empty_figure, product_ends, product_line
from krona_tune.report.record_frames import shape_word
from krona_tune.report.task_summary import RankedTrial
from krona_tune.study.formatting import format_score

MOST_LINES = 9
EDGE = 0.45
"""How far the picture extends beyond the outermost sizes, in powers of two."""


def draw_factor_shapes(subject: Subject) -> Chart | None:
    """Draws the best score of each size of A that was tried; None for fewer than two of them."""
    best: dict[tuple[int, int], RankedTrial] = {}
    tried: dict[tuple[int, int], int] = defaultdict(int)
    for each in subject.summary.ranked:
        if shape_word(each.trial):
            shape = (each.trial.params["a_out"], each.trial.params["a_in"])
            if shape not in best or each.score > best[shape].score:  # one that finished ranks above a better one
                best[shape] = each
            tried[shape] += 1
    if len(best) < 2:
        return None
    width = subject.backbone.width if subject.backbone else None
    rows, columns = (_sizes({shape[axis] for shape in best}, width) for axis in (0, 1))
    cells = [[best.get((row, column)) for column in columns] for row in rows]
    figure = empty_figure("a_in", "a_out")
    figure.add_trace(
        go.Heatmap(
            x=_places(columns),
            y=_places(rows),
            z=[[cell.score if cell else None for cell in line] for line in cells],
            text=[[format_score(cell.score) if cell else "" for cell in line] for line in cells],
            customdata=[
                [[row, column, tried[row, column], _terms(cell)] for column, cell in zip(columns, line, strict=True)]
                for row, line in zip(rows, cells, strict=True)
            ],
            texttemplate="%{text}" if len(best) <= 60 else None,
            hovertemplate="A %{customdata[0]}×%{customdata[1]}%{customdata[3]}: best %{z:.4g} of %{customdata[2]}"
            "<extra></extra>",
            hoverongaps=False,
            colorscale=SCALE,
            colorbar=colour_bar(),
            xgap=2,
            ygap=2,
        )
    )
    products = _spread_out(sorted({row * column for row, column in best}))
    figure.add_traces([_equal_cost(product, rows, columns, width) for product in products])
    figure.update_xaxes(_axis(columns)).update_yaxes(_axis(rows))
    sums = any(_terms(each) for each in best.values())
    return Chart(name="shapes", title="Factor shapes", caption=_caption(width, sums=sums), figure=figure)


def _terms(best: RankedTrial | None) -> str:
    """Returns the terms of a shape's best trial as the picture says them; nothing for a single term."""
    terms = best.trial.params.get("terms", 1) if best else 1
    return "" if terms == 1 else f", {terms} terms"


def _caption(width: int | None, *, sums: bool) -> str:
    cost = (
        f"the parameters that A and B have together at one {width}×{width} map are"
        if width
        else "a_out·a_in, which decides the parameters at a site, is"
    )
    return (
        "The best validation score of each shape of A, on logarithmic axes; a shape that is not filled was not tried. "
        f"Along a dashed line the cost is the same: {cost} written beside it{', for each term' if sums else ''}."
    )


def _sizes(tried: set[int], width: int | None) -> list[int]:
    """Returns the sizes that were tried and, if they all divide the width, the other divisors between them."""
    if width is None or any(width % size for size in tried):
        return sorted(tried)
    return [size for size in divisors(width) if min(tried) <= size <= max(tried)]


def _places(sizes: Sequence[int]) -> list[float]:
    return [log2(size) for size in sizes]


def _range(sizes: Sequence[int]) -> Range:
    return log2(sizes[0]) - EDGE, log2(sizes[-1]) + EDGE


def _axis(sizes: Sequence[int]) -> dict[str, object]:
    """Returns a logarithmic axis that names each size."""
    return {
        "tickvals": _places(sizes),
        "ticktext": [str(size) for size in sizes],
        "range": _range(sizes),
        "showgrid": False,
    }


def _spread_out(products: Sequence[int]) -> list[int]:
    """Returns at most `MOST_LINES` of them, evenly from the first to the last."""
    if len(products) <= MOST_LINES:
        return list(products)
    step = (len(products) - 1) / (MOST_LINES - 1)
    return [products[round(index * step)] for index in range(MOST_LINES)]


def _equal_cost(product: int, rows: Sequence[int], columns: Sequence[int], width: int | None) -> go.Scatter:
    """Draws the shapes with a_out·a_in = product: at a square map all of them cost product + width²/product."""
    ends = product_ends(log2(product), _range(columns), _range(rows))
    cost = round(product + width * width / product) if width else product
    return product_line(ends, [log2(product) - end for end in ends], f"{cost:,}").update(showlegend=False)
