"""Writes values as text for people: scores, counts, times, sizes and adapters, in the terminal and on the page."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Protocol

from rich.filesize import decimal

from krona_tune.study.request.trial import ADDED, PEFT_FIELD

NOTHING = "–"
"""Stands where there is no value."""
SMALL_SCORE = 0.01
"""Begins where three decimals of a score show two digits of it; a loss in small units lies below."""
AXIS_UNITS = ((1e6, "M"), (1e3, "k"))
ADAPTER = {
    "method": "{method}",
    "a_out": "{a_out}×{a_in}",
    "terms": "{terms} terms",
    "init": "init {init}",
    "rank": "rank {rank}",
    "bottleneck": "bottleneck {bottleneck}",
    "scale": "scale {scale:.3g}",
    "scaling": "{scaling} scaling",
    "roles": "{roles}",
    "layers": "{layers} layers",
    "learning_rate": "learning rate {learning_rate:.2g}",
}
"""The knobs that a line about an adapter names, in this order."""


class MeanScore(Protocol):
    """A mean over seeds, with its standard deviation; None for a single seed."""

    @property
    def mean(self) -> float: ...

    @property
    def deviation(self) -> float | None: ...


def format_score(value: float | None) -> str:
    """Writes a score with three decimals, or with two digits if it is small; a dash for none."""
    if value is None or not isfinite(value):
        return NOTHING
    return f"{value:.2g}" if 0 < abs(value) < SMALL_SCORE else f"{value:.3f}"


def format_bounds(bounds: tuple[float, float]) -> tuple[str, str]:
    """Writes the two ends of an interval as scores, with three decimals unless both are small."""
    if max(map(abs, bounds)) < SMALL_SCORE:
        return format_score(bounds[0]), format_score(bounds[1])
    return f"{bounds[0]:.3f}", f"{bounds[1]:.3f}"


def format_gain(value: float | None) -> str:
    """Writes a difference as a score, with its sign, which is a true minus."""
    if value is None or not isfinite(value):
        return NOTHING
    return ("−" if value < 0 else "+") + format_score(abs(value))


def format_deviation(value: MeanScore) -> str:
    """Writes a standard deviation with no more decimals than its mean has; a dash for a single seed."""
    if value.deviation is None or abs(value.mean) < SMALL_SCORE:
        return format_score(value.deviation)
    return f"{value.deviation:.3f}"


def format_spread(value: MeanScore | None, plus_minus: str = "±") -> str:
    """Writes a mean over seeds with its standard deviation, `0.612±0.013`; a single seed has none."""
    if value is None:
        return NOTHING
    return format_score(value.mean) + ("" if value.deviation is None else plus_minus + format_deviation(value))


def format_answer(value: float) -> str:
    """Writes a predicted number with four decimals, or with six digits if it is smaller than they show."""
    return f"{value:.4f}" if abs(value) >= 0.1 or not value else f"{value:.6g}"


def format_device_hours(value: float) -> str:
    """Writes a number of hours with two digits, or that it is less than a hundredth."""
    return f"{value:.2g}" if value >= 0.01 else "less than 0.01"


def format_number(value: float | None) -> str:
    """Writes a number with three digits."""
    return f"{value:.3g}" if value is not None and isfinite(value) else NOTHING


def format_count(value: float) -> str:
    return f"{value:,.0f}"


def format_many(count: int | str, noun: str) -> str:
    """Writes a number of things, such as 1 seed and 2 seeds; a text is a number as it is written."""
    return f"{count} {noun}" + "s" * (str(count) != "1")


def format_epochs(epochs: float) -> str:
    """Writes a number of epochs with three digits, such as 1 epoch and 0.5 epochs."""
    return format_many(f"{epochs:.3g}", "epoch")


def format_money(value: float) -> str:
    """Writes an amount with two decimals, or with two digits if it is smaller than that shows."""
    return f"{value:,.2f}" if value >= 0.1 or not value else f"{value:.2g}"


def format_percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g} %"


def format_duration(seconds: float) -> str:
    """Writes seconds as `4.2 s`, `41 s`, `3 min 20 s` or `2 h 05 min`; a dash for what is no number."""
    if not isfinite(seconds):
        return NOTHING
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def format_bytes(number: float) -> str:
    """Writes bytes as `744.0 MB` or `1.3 GB`."""
    return decimal(round(number))


def format_memory(number: float) -> str:
    """Writes bytes, or a dash if nothing was measured."""
    return format_bytes(number) if number else NOTHING


def format_time(text: str) -> str:
    """Writes an ISO time to the minute; returns any other text unchanged."""
    with suppress(ValueError):
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").strip()
    return text


def format_clock(seconds: float) -> str:
    """Writes seconds since the epoch as a time to the second, in UTC; a dash for none."""
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else NOTHING
    return NOTHING


def format_tick(value: float) -> str:
    """Writes a number on an axis: `0.002`, `1e-05`, `50`, `20k`, `3M`."""
    for unit, suffix in AXIS_UNITS:
        if value >= unit:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"


def format_knob(value: Any) -> str:
    """Writes a knob's value: a float with three digits, yes or no, `default` for None."""
    match value:
        case None:
            return "default"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case _:
            return str(value)


def format_name(name: str) -> str:
    """Writes `stopped_early` as `stopped early`."""
    return name.replace("_", " ")


def describe_adapter(params: Mapping[str, Any]) -> str:
    """Writes an adapter in a line: krona 16×24, scale 4, query+value, all layers, learning rate 0.005."""
    unsaid = {name for name, default in ADDED.items() if params.get(name) == default}
    unsaid |= set() if "a_in" in params else {"a_out"}
    whole = {name: value for name, value in params.items() if name not in unsaid}
    fields = [
        f"{name.removeprefix(PEFT_FIELD)} {format_knob(value)}"
        for name, value in whole.items()
        if name.startswith(PEFT_FIELD)
    ]
    method, *others = [text.format(**whole) for name, text in ADAPTER.items() if name in whole]
    return ", ".join([method, *fields, *others]).replace("last 1 layers", "last layer")


def plain(value: Any) -> Any:
    """Returns a value with null for numbers that are not finite, and without tuples."""
    match value:
        case float():
            return value if isfinite(value) else None
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)
