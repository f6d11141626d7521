"""How the page writes numbers."""

from datetime import datetime
from math import isfinite
from typing import Any

from krona_tune.study.finals import Spread
from krona_tune.study.formatting import format_bytes

NOTHING = "–"


def score(value: float | None) -> str:
    return f"{value:.3f}" if value is not None and isfinite(value) else NOTHING


def gain(value: float | None) -> str:
    """With its sign; a true minus."""
    return f"{value:+.3f}".replace("-", "−") if value is not None and isfinite(value) else NOTHING


def spread(value: Spread | None) -> str:
    """A mean over seeds with its standard deviation: `0.612 ± 0.013`."""
    if value is None:
        return NOTHING
    return score(value.mean) + (f" ± {score(value.deviation)}" if value.deviation is not None else "")


def count(value: float) -> str:
    return f"{value:,.0f}"


def percent(value: float) -> str:
    return f"{value:.3g} %"


def seconds(value: float) -> str:
    """`41 s`, `2 min 5 s`, `1 h 3 min`."""
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def memory(count: int) -> str:
    """Bytes: `1.3 GB`, `744.0 MB`; a dash where nothing was measured."""
    return format_bytes(count) if count else NOTHING


def moment(text: str) -> str:
    """An ISO time to the minute; another text as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return text


def short(value: float) -> str:
    """On an axis: `0.002`, `1e-05`, `50`, `20k`, `3M`."""
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"


def knob(value: Any) -> str:
    """A parameter's value: floats with three digits, yes and no, `default` for None."""
    match value:
        case None:
            return "default"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case _:
            return str(value)


def plain(text: str) -> str:
    """A text for a chart, where `<` would begin a tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def words(name: str) -> str:
    """`stopped_early` as `stopped early`."""
    return name.replace("_", " ")
