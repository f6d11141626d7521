"""Turns values into pages: the templates with their filters, plotly inside the page, and the file that is written."""

import gzip
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from krona_tune.atomic_write import write_atomically
from krona_tune.refusal import Refusal, refusing
from krona_tune.report.knobs import knobs_of
from krona_tune.study import formatting
from krona_tune.study.learning import SHOWN
from krona_tune.study.order import OrderKind, order_controls
from krona_tune.study.verdicts import FINALS_NOTE, both_text, difference_text, rate_text

DOCTYPE = b"<!DOCTYPE html>"
"""How every page begins."""
TEMPLATES = Path(__file__).parent / "templates"


def format_hours(seconds: float | None) -> str:
    return formatting.NOTHING if seconds is None else f"{seconds / 3600:.2f}"


def format_share(share: float | None) -> str:
    """Writes a share from 0 to 1 in whole percent."""
    return formatting.NOTHING if share is None else f"{100 * share:.0f} %"


FILTERS = {
    "score": formatting.format_score,
    "bounds": lambda bounds: " to ".join(formatting.format_bounds(bounds)),
    "gain": formatting.format_gain,
    "deviation": formatting.format_deviation,
    "spread": partial(formatting.format_spread, plus_minus=" ± "),
    "number": formatting.format_number,
    "count": formatting.format_count,
    "percent": formatting.format_percent,
    "money": formatting.format_money,
    "seconds": formatting.format_duration,
    "hours": format_hours,
    "share": format_share,
    "memory": formatting.format_memory,
    "moment": formatting.format_time,
    "clock": formatting.format_clock,
    "adapter": formatting.describe_adapter,
    "words": formatting.format_name,
    "against": difference_text,
    "both": both_text,
    "failures": rate_text,
}


@dataclass(frozen=True, kw_only=True)
class ServedPage:
    """Holds what a page needs that a service sends: the nonce of its scripts, and the addresses of plotly.js, of its
    parts (`source`), of the events that tell of changes, and of the orders; `stamp` names what it shows.

    A page without `events` stays as it is, one without `orders` gives none.
    """

    nonce: str
    plotly: str = ""
    source: str = ""
    events: str = ""
    orders: str = ""
    stamp: str = ""


def rendered(template: str, values: Mapping[str, object]) -> Markup:
    """Returns what a template makes of values. Whatever is not a filter's Markup is escaped."""
    return Markup(environment().get_template(template).render(values))


def framed(title: str, body: Markup, *, served: ServedPage | None = None) -> str:
    """Returns a whole page around a body: self-contained, or as a service sends it."""
    plotly = packed_plotly() if not served and "data-figure=" in body else None
    return rendered("layout.html.j2", {"title": title, "body": body, "plotly": plotly, "served": served})


def write_page(path: Path, html: str) -> Path:
    """Writes a page. Raises a Refusal if something else has its place, or there is no room for it, or no right to
    write."""
    with refusing(str(path), "the page can't be written", "make room there, and its folder writable"):
        if path.exists() and not path.is_dir() and not _gives_way(path):
            raise Refusal(str(path), "is no page, and a page would replace it", "name another file, such as page.html")
        return write_atomically(path, html)


def _gives_way(path: Path) -> bool:
    """Returns whether a page may replace what is there: another page, or an empty file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        begun = file.read(len(DOCTYPE))
    return begun == DOCTYPE or not begun


@cache
def environment() -> Environment:
    """Loads the templates of the pages, with the filters that write their values."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.globals |= {"order_kinds": OrderKind, "order_controls": order_controls}
    made.globals |= {"finals_note": FINALS_NOTE, "smallest_gain": SHOWN}
    made.filters["knobs_of"] = knobs_of
    made.filters["figure_json"] = figure_json
    return made


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
