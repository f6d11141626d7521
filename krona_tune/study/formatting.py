"""How the terminal writes scores, adapters, times and the heads of its tables."""

from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal
from rich.table import Table

from krona_tune.study.compared_values import Cell
from krona_tune.study.finals import Spread
from krona_tune.study.manifest import TaskFacts


def titled(title: str, facts: dict[str, TaskFacts], caption: str = "") -> Table:
    marked = title + synthetic_mark(facts)
    return Table(
        title=marked,
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )


def spread(each: Spread | Cell) -> str:
    """A mean over seeds: 0.612±0.013, without the deviation of a single seed."""
    middle = each.score if isinstance(each, Cell) else each.mean
    return f"{middle:.3f}" + ("" if each.deviation is None else f"±{each.deviation:.3f}")


def score_of(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def synthetic_mark(facts: dict[str, TaskFacts]) -> str:
    """What a table of synthetic numbers is headed with; nothing for real data."""
    return " (synthetic data)" if any(fact.synthetic for fact in facts.values()) else ""


def in_words(params: Mapping[str, Any]) -> str:
    """An adapter in a line: krona 16×24, scale 4, query+value, all layers, learning rate 0.005."""
    words = {
        "method": "{method}",
        "a_out": "{a_out}×{a_in}",
        "rank": "rank {rank}",
        "bottleneck": "bottleneck {bottleneck}",
        "scale": "scale {scale:.3g}",
        "roles": "{roles}",
        "layers": "{layers} layers",
        "learning_rate": "learning rate {learning_rate:.2g}",
    }
    whole = params if "a_in" in params else {name: value for name, value in params.items() if name != "a_out"}
    return ", ".join(text.format(**whole) for name, text in words.items() if name in whole)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_bytes(number: float) -> str:
    """Bytes as a person says them: 744.0 MB, 1.3 GB."""
    return decimal(round(number))
