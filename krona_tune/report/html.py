"""Turns values into HTML: the templates with their filters, and plotly inside the page."""

import gzip
from base64 import b64encode
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from krona_tune.report.frame import factor_shape
from krona_tune.study.formatting import (
    describe_adapter,
    format_clock,
    format_count,
    format_duration,
    format_gain,
    format_knob,
    format_memory,
    format_money,
    format_name,
    format_percent,
    format_score,
    format_spread,
    format_time,
)
from krona_tune.study.order import OrderKind, order_controls
from krona_tune.study.result import TrialResult

TEMPLATES = Path(__file__).parent / "templates"

SHAPE = "A"
"""The common heading of `a_out` and `a_in`."""


FILTERS = {
    "score": format_score,
    "gain": format_gain,
    "spread": partial(format_spread, plus_minus=" ± "),
    "count": format_count,
    "percent": format_percent,
    "money": format_money,
    "seconds": format_duration,
    "memory": format_memory,
    "moment": format_time,
    "clock": format_clock,
    "adapter": describe_adapter,
    "words": format_name,
}


@dataclass(frozen=True, kw_only=True)
class ServedPage:
    """What a page needs that a service sends: the nonce of its scripts, and the addresses of plotly.js, of its parts
    (`source`), of the events that tell of changes, and of the orders; `stamp` names what it shows.

    A page without `events` stays as it is, one without `orders` gives none.
    """

    nonce: str
    plotly: str = ""
    source: str = ""
    events: str = ""
    orders: str = ""
    stamp: str = ""


def framed(title: str, body: Markup, *, plotly: Markup | None = None, served: ServedPage | None = None) -> str:
    """Returns a whole page around a body: self-contained, or as a service sends it."""
    return environment().get_template("layout.html.j2").render(title=title, body=body, plotly=plotly, served=served)


@cache
def environment() -> Environment:
    """Returns the page's templates. Whatever is not a filter's Markup is escaped."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.globals |= {"order_kinds": OrderKind, "order_controls": order_controls}
    made.filters["knobs_of"] = knobs_of
    made.filters["figure_json"] = figure_json
    return made


def knobs_of(trial: TrialResult) -> dict[str, str]:
    """The trial's knobs as the page writes them, with the two sizes of A in one place."""
    written = {name: format_knob(value) for name, value in trial.params.items() if name not in {"a_out", "a_in"}}
    return written | ({SHAPE: shape.replace("x", "×")} if (shape := factor_shape(trial)) else {})


def figure_json(figure: Any) -> Markup:
    """Returns the figure for a script element; no `<` in it can end the element."""
    return Markup(figure.to_json(remove_uids=True).replace("<", "\\u003c"))


@cache
def packed_plotly() -> Markup:
    """Returns plotly.js, gzipped and in base64: two fifths of its size; the page unpacks it for its first chart."""
    return Markup(b64encode(packed_script()).decode())


@cache
def packed_script() -> bytes:
    """Returns plotly.js, gzipped."""
    return gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
