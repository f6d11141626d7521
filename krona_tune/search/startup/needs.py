"""Says what a study takes before a step is timed: a range of time, device hours and money, and memory and disk."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isinf
from pathlib import Path
from statistics import fmean

from krona_tune.data.corpus import MINI, PARTS
from krona_tune.data.glue_files import OFFICIAL_SIZES, OfficialSizes
from krona_tune.data.mini_glue import SIZES
from krona_tune.machine import free_bytes
from krona_tune.processor import this_processor
from krona_tune.search.budget import Amount, Budget
from krona_tune.search.full_training import FullTraining, whole_plan
from krona_tune.search.layer_passes import STATE_BYTES, layer_passes
from krona_tune.search.planning.footprint import Footprint, checkpoints_of, footprint
from krona_tune.search.planning.plan import Plan
from krona_tune.search.startup.estimate import Speed, TextSizes, speed_of, untimed_forecast
from krona_tune.search.startup.slots import Slots
from krona_tune.study.devices import price_of
from krona_tune.study.formatting import (
    format_bytes,
    format_device_hours,
    format_duration,
    format_many,
    format_money,
)

MINI_SIZES = OfficialSizes(**SIZES, tokens=20)
"""The examples that a task of mini-GLUE has in each part, where a request does not say it, and their mean tokens."""
START_AND_END = 15.0
"""The seconds until Ray, workers and data are ready, and from the last trial to the exit, on two cores."""
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class TextMeans:
    """The mean of some examples' tokens, and of their squares."""

    tokens: float
    pairs: float


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The needs of a study that no limit ends: seconds on the clock and device hours, each from and to, and training
    examples; seconds that finals may add, at most; bytes of a worker, of checkpoints usually and at most, and of stored
    states at most. `how` says in words where the times are from."""

    examples: float
    seconds: Range
    may_add: float
    device_hours: Range
    how: str
    worker_bytes: int
    checkpoint_bytes: Range
    stored_bytes: float


def speed_for(plan: Plan, slots: Slots) -> Speed:
    """Returns the speed at which such a slot computes a plan's trials, in their precision."""
    return speed_of(slots, itemsize_of(plan, slots))


def find_needs(plan: Plan, slots: Slots, speed: Speed, read: Mapping[str, TextMeans]) -> Needs:
    """Returns what a plan's study takes on such slots.

    Args:
        speed: that of a trial's device.
        read: by task, what was read of its texts; those of other tasks are GLUE's.
    """
    spec = plan.spec
    sizes = {name: _sizes(plan, name, read.get(name)) for name in spec.tasks}
    forecast = replace(
        untimed_forecast(spec, plan.space, plan.tasks, sizes, speed, plan.taught_points), planned=plan.planned
    )
    whole = forecast.amount(spec, slots)
    checkpoints = checkpoints_of(plan)
    return Needs(
        examples=whole.examples,
        seconds=(whole.seconds / speed.spread + START_AND_END, whole.seconds * speed.spread + START_AND_END),
        may_add=forecast.may_add(spec, slots) * speed.spread,
        device_hours=(whole.device_hours / speed.spread, whole.device_hours * speed.spread),
        how=speed.how,
        worker_bytes=worker_bytes(plan, spec.examples.max_length, slots),
        checkpoint_bytes=(checkpoints.usually, checkpoints.most),
        stored_bytes=min(1e9 * spec.resources.stored_states_gb, _state_bytes(plan, sizes.values())),
    )


def _state_bytes(plan: Plan, sizes: Iterable[TextSizes]) -> float:
    """Returns the bytes of the states that all trials could read: of each example below each depth."""
    depths = len(layer_passes(plan.space, [*plan.space.sample, *plan.taught_points], stores=True).stored)
    depths += bool(plan.spec.search.baseline_learning_rates) and not plan.geometry.text_to_text
    tested = plan.spec.finalists.top > 0
    tokens = sum((each.train + each.validation + tested * each.test) * each.tokens for each in sizes)
    return depths * tokens * plan.geometry.width * STATE_BYTES


def worker_bytes(plan: Plan, longest: int, slots: Slots) -> int:
    """Returns roughly the bytes of a worker on such slots, with at most so many tokens of an example."""
    return footprint_on(slots, plan, longest).worker


def footprint_on(slots: Slots, plan: Plan, longest: int) -> Footprint:
    """Returns what the largest adapter needs on such slots, with at most so many tokens of an example."""
    return footprint(plan, longest, itemsize_of(plan, slots), fused=slots.gpus > 0)


def itemsize_of(plan: Plan, slots: Slots) -> int:
    """Returns the bytes of a number that a trial computes with."""
    fast = slots.gpus > 0 or this_processor().prefers_bfloat16
    return 2 if plan.precision == "bf16" or (plan.precision == "auto" and fast) else 4


def _sizes(plan: Plan, name: str, read: TextMeans | None) -> TextSizes:
    own, mini, examples = plan.own_data.get(name), plan.spec.data == MINI, plan.spec.examples
    official = MINI_SIZES if mini else OFFICIAL_SIZES.get(name, MINI_SIZES)
    there = [own.parts[part].num_rows for part in PARTS] if own else official[: len(PARTS)]
    made = mini and not own
    used = {part: examples.used(part, name, rows, made=made) for part, rows in zip(PARTS, there, strict=True)}
    usual = float(min(official.tokens, examples.max_length))
    means = read or TextMeans(tokens=usual, pairs=usual**2)
    return TextSizes(**used, tokens=means.tokens, pairs=means.pairs)


def full_training_in_words(plan: Plan, asked: FullTraining, slots: Slots) -> str:
    """Says how many examples each training of a configuration on all examples sees and, if the trial that it comes from
    tells its pace, what all take on such slots."""
    row, size = asked.of, _sizes(whole_plan(plan, asked), asked.of.task, None)
    rows = size.train + (size.validation + size.test if asked.everything else 0)
    each = plan.spec.schedule.of(row.task, rows).total_examples
    trained = f"{format_many(asked.seeds, 'training')} of {each:,} examples"
    if not row.own_examples:
        return trained
    seconds = each * row.busy_seconds / row.own_examples * ceil(asked.seeds / slots.count) + START_AND_END
    return f"about {format_duration(seconds)} for {trained}, {slots.count} at once, at the pace of {row.trial_id}"


def means_of(lengths: Sequence[int]) -> TextMeans:
    """Returns the means of examples with so many tokens each."""
    return TextMeans(tokens=fmean(lengths), pairs=fmean(each**2 for each in lengths))


def said_of_finals(seconds: float) -> str:
    """Returns what a forecast says of the seconds that finals may add; nothing if they add none."""
    return f"; finals may take {format_duration(seconds)} more, by what proves best" if seconds >= 1 else ""


def needs_in_words(plan: Plan, needs: Needs, slots: Slots, storage: Path) -> Iterator[tuple[str, str]]:
    """Yields what a study takes, each as a word and a line.

    Args:
        storage: the folder, or the nearest one above it, that the study's files go to.
    """
    limits, low, high = Budget.of(plan.spec.search), *needs.seconds
    least, most = (
        limits.cut(Amount(seconds=seconds, examples=needs.examples, device_hours=hours))
        for seconds, hours in zip(needs.seconds, needs.device_hours, strict=True)
    )
    when = dict.fromkeys(format_duration(used.seconds) for used, limit in (least, most) if limit)
    ends = f"; the budget of {most[1]} ends it after {' to '.join(when)}" if when else ""
    more = said_of_finals(needs.may_add)
    yield "time", f"{format_duration(low)} to {format_duration(high)}, {slots.count} at once, {needs.how}{more}{ends}"
    hours = [used.device_hours for used, _ in (least, most)]
    unit = "GPU" if slots.gpus else "core"
    yield "hours", f"{' to '.join(dict.fromkeys(map(format_device_hours, hours)))} {unit} hours"
    if price := price_of(plan.spec.resources):
        yield "money", f"{' to '.join(format_money(price.of_hours(each)) for each in hours)}, at {price.text}"
    kind = "GPU memory and memory" if slots.gpus else "memory"
    worker = f"about {format_bytes(needs.worker_bytes)} of {kind} a trial"
    many, there = slots.fullest
    whole = many * needs.worker_bytes
    room = "" if isinf(there) else f"; there is {format_bytes(there)}{', which is too little' * (whole > there)}"
    yield "memory", f"{worker}, {format_bytes(whole)} at once{room}"
    usually, largest = map(format_bytes, needs.checkpoint_bytes)
    stored = f", stored states up to {format_bytes(needs.stored_bytes)} a machine" if needs.stored_bytes else ""
    yield "disk", f"checkpoints {usually}, at most {largest}{stored}; {format_bytes(free_bytes(storage))} free"
