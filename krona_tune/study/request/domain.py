"""Reads from YAML which values a knob may have: one value, one of several, or a range."""

from dataclasses import dataclass
from decimal import Decimal
from math import exp, floor, inf, isfinite, log
from typing import Any

from krona_tune.kron.factors import divisors
from krona_tune.refusal import Refusal, refuse_unknown, shown

Value = bool | int | float | str
MOST_STEPS = 10**6
"""The most steps from a range's low to its high; with more, a step makes no practical difference."""
NEAR = Decimal("1e-8")
"""The share of a step by which a number may miss a value of a range, such as the binary .1·3 misses .3."""
MIDDLE = 0.5
"""The share of a domain at which its middle is."""
_FORM = "write a value, a list of values, {low: …, high: …, log: true}, or divisors (of a factor's size)"


@dataclass(frozen=True)
class Fixed:
    """A knob that is not searched. YAML: a plain value."""

    value: Value

    @property
    def count(self) -> float:
        """Returns how many values the domain has, as that of each domain does; infinity if that is not known."""
        return 1

    def ends(self) -> tuple[Value, ...]:
        return (self.value,)

    def at(self, share: float) -> Value:
        """Returns the value at a share of the domain, from 0 up to but not including 1."""
        return self.value

    def equal_value(self, value: Any) -> Value | None:
        """Returns the domain's value that equals this one; None if there is none."""
        return self.value if value == self.value else None

    def plain(self) -> Any:
        return self.value


@dataclass(frozen=True)
class Choice:
    """One of several values. YAML: a list."""

    values: tuple[Value, ...]

    @property
    def count(self) -> float:
        return len(self.values)

    def ends(self) -> tuple[Value, ...]:
        return self.values

    def at(self, share: float) -> Value:
        """Returns the value at a share of the domain, from 0 up to but not including 1."""
        return self.values[int(share * len(self.values))]

    def equal_value(self, value: Any) -> Value | None:
        """Returns the domain's value that equals this one, such as 0 for 0.0; None if there is none."""
        return next((each for each in self.values if each == value), None)

    def plain(self) -> Any:
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A number from low to high, both included. YAML: `{low: 1e-4, high: 1e-2, log: true}`, or with `step`.

    With steps it has low + i·step for each i, in decimals, so that .1·3 is .3; its last value may be below high.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def count(self) -> float:
        return inf if self._step is None else self.steps + 1

    @property
    def steps(self) -> int:
        """Returns how many steps lead from the least value to the greatest; without a step, those of whole numbers."""
        return floor((_decimal(self.high) - _decimal(self.low)) / _decimal(self._step) + NEAR)

    @property
    def last(self) -> float:
        """Returns the greatest value that can be drawn: `high`, or the last step below it."""
        return self.high if self.step is None else self._after(self.steps)

    def ends(self) -> tuple[Value, ...]:
        """Returns the least and the greatest value, and the first step if there are steps."""
        return (self.low, self.high) if self.step is None else (self.low, self._after(1), self.last)

    def at(self, share: float) -> Value:
        """Returns the value at a share of the domain, from 0 up to but not including 1; of a log domain's logarithm."""
        if self.log:
            drawn = exp(log(self.low) + share * (log(self.high) - log(self.low)))
            return round(drawn) if self.whole else min(max(drawn, self.low), self.high)
        if self._step is not None:
            return self._after(int(share * (self.steps + 1)))
        return self.low + share * (self.high - self.low)

    def equal_value(self, value: Any) -> Value | None:
        """Returns the domain's value that equals this one, but for the last binary digits; None if there is none."""
        if isinstance(value, bool | str) or not _is_number(value):
            return None
        if self._step is None:
            return value if self.low <= value <= self.high else None
        steps = (_decimal(value) - _decimal(self.low)) / _decimal(self._step)
        nearest = round(steps)
        return self._after(nearest) if abs(steps - nearest) < NEAR and 0 <= nearest <= self.steps else None

    def plain(self) -> Any:
        written = {"low": self.low, "high": self.high}
        return written | ({"log": True} if self.log else {}) | ({"step": self.step} if self.step is not None else {})

    @property
    def _step(self) -> float | None:
        """Returns the distance of two values; None if every number between the ends is one."""
        return 1 if self.step is None and self.whole else self.step

    def _after(self, steps: int) -> float:
        value = _decimal(self.low) + steps * _decimal(self._step)
        return int(value) if self.whole and isinstance(self._step, int) else float(value)


@dataclass(frozen=True)
class Divisors:
    """The sizes that divide every adapted weight. YAML: `divisors`, or `{divisors: {low: 4, high: 96}}`."""

    low: int = 1
    high: int | None = None

    @property
    def count(self) -> float:
        return inf

    def ends(self) -> tuple[Value, ...]:
        return ()

    def plain(self) -> Any:
        return {"divisors": {"low": self.low, **({"high": self.high} if self.high else {})}}

    def of(self, dimension: int) -> Choice:
        """Returns the divisors of `dimension` within the limits; empty if there is none."""
        return Choice(tuple(n for n in divisors(dimension) if self.low <= n <= (self.high or n)))


Domain = Fixed | Choice | Range | Divisors


def one_of(values: tuple[Value, ...]) -> Fixed | Choice:
    """Returns the domain that holds these values, of which there is at least one."""
    return Choice(values) if len(values) > 1 else Fixed(values[0])


def _decimal(number: float | None) -> Decimal:
    return Decimal(str(number))


def as_real(domain: Domain) -> Domain:
    """Returns the domain of a real number: a range of it includes 2.5 even if both ends are whole."""
    if isinstance(domain, Range) and domain.step is None:
        return Range(float(domain.low), float(domain.high), domain.log)
    return domain


def parse_domain(written: Any, place: str) -> Domain:
    """Returns the domain that a piece of YAML describes.

    Raises:
        Refusal: it is not a domain; names `place`, what is wrong and the fix.
    """
    if isinstance(written, dict):
        refuse_unknown(place, "key", ("low", "high", "log", "step", "divisors"), *written)
    match written:
        case "divisors":
            return Divisors()
        case bool() | int() | float() | str():
            return Fixed(written)
        case list():
            return _choice(written, place)
        case {"divisors": dict(limits), **rest} if not rest:
            return _divisors(limits, place)
        case {"low": low, "high": high, **rest} if "divisors" not in rest:
            return _range(low, high, rest.get("log", False), rest.get("step"), place)
    raise Refusal(place, f"can't be read as a domain: {shown(written)}", _FORM)


def _choice(written: list[Any], place: str) -> Domain:
    if not written:
        raise Refusal(place, "an empty list leaves nothing to choose", "list at least one value")
    for value in written:
        if not isinstance(value, bool | int | float | str):
            raise Refusal(place, f"{shown(value)} can't be a choice", "list numbers, words, true or false")
    return one_of(tuple(dict.fromkeys(written)))


def _divisors(limits: dict[str, Any], place: str) -> Divisors:
    refuse_unknown(place, "key", ("low", "high"), *limits)
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise Refusal(place, f"{name} is {shown(value)}, not a size", "write a whole number from 1")
    low, high = limits.get("low", 1), limits.get("high")
    if high is not None and low > high:
        raise Refusal(place, f"low {low} is above high {high}", "swap them")
    return Divisors(low, high)


def _range(low: Any, high: Any, log: Any, step: Any, place: str) -> Domain:
    for name, value in (("low", low), ("high", high), ("step", 1 if step is None else step)):
        if isinstance(value, bool | str) or not _is_number(value):
            fix = f"write {float(value)!r}" if _is_number(value) else "write a number"
            raise Refusal(place, f"{name} is {shown(value)}, not a number", fix)
    if low > high:
        raise Refusal(place, f"low {low} is above high {high}", "swap them")
    if not isinstance(log, bool):
        raise Refusal(place, f"log is {shown(log)}", "write true or false")
    if log and low <= 0:
        raise Refusal(place, f"low {low} has no logarithm", "start above 0, or leave log out")
    if log and step is not None:
        raise Refusal(place, "log and step together have no meaning", "leave one out")
    domain = Range(low, high, log, step)
    if step is not None and (step <= 0 or domain.steps < 1):
        raise Refusal(place, f"step {step} does not fit between low {low} and high {high}", "make it smaller, above 0")
    if step is not None and domain.steps > MOST_STEPS:
        raise Refusal(place, f"step {step} makes more than {MOST_STEPS:,} values", "make it larger, or leave it out")
    return domain if low < high else Fixed(low)


def _is_number(value: Any) -> bool:
    try:
        return isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
