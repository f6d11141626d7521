"""Makes the space of a request that names none: from its model, the lengths of its texts, and this machine."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from krona_tune.data.corpus import MINI, PARTS, TaskData, load
from krona_tune.refusal import Refusal
from krona_tune.search.budget import Budget
from krona_tune.search.forecast import Forecast
from krona_tune.search.planning.model_domains import placed, why_placed
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.startup.estimate import Speed, TextSizes, untimed_forecast
from krona_tune.search.startup.needs import START_AND_END, speed_for, worker_bytes
from krona_tune.search.startup.slots import Slots
from krona_tune.study.formatting import format_duration
from krona_tune.study.request.field_types import for_task
from krona_tune.study.request.loader import AUTO
from krona_tune.study.request.plain_yaml import dump_yaml
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.train.backbone_source import find_backbone

Complete = Callable[[Mapping[str, Any]], StudySpec]
"""Returns the request of plain values, with what a person gave in their place."""


@dataclass(frozen=True, kw_only=True)
class DerivedSpace:
    """The plain values of a space, and why some of them were chosen, by dotted key; its place in messages is AUTO."""

    values: Mapping[str, Any]
    reasons: Mapping[str, str]

    @property
    def whole(self) -> dict[str, Any]:
        """Returns the values with their reasons, as a study keeps them."""
        return {**self.values, "reasons": dict(self.reasons)}


def as_yaml(values: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """Returns plain values as YAML, each reason as a comment above its section."""
    lines = ["# krona-tune run --space FILE"]
    for name, value in values.items():
        about = [f"# {key}: {why}" for key, why in reasons.items() if key.partition(".")[0] == name]
        lines += (
            ["", *about, dump_yaml({name: value}).rstrip()]
            if isinstance(value, dict)
            else [dump_yaml({name: value}).rstrip()]
        )
    return "\n".join(lines) + "\n"


REDUCTION = 3
"""Makes each rung so many times further than the one before: the first comes after a third of the epochs."""
MINUTES = 15
"""How long a study shall take, where no time budget is given. It is no limit."""
USED = 0.8
"""The share of that time that trials get; the rest is for the start, checkpoints and the page."""


def derive_space(complete: Complete, defaults: Mapping[str, Any], slots: Slots) -> DerivedSpace:
    """Returns the space that follows from the model, the data and the machine of a request.

    Args:
        complete: adds what a person gave to plain values.
        defaults: the model and the data where nobody names them.
        slots: what a trial has, and how many run at once.

    Raises:
        Refusal: the request can't be met, or its texts or the model's tokenizer can't be read.
    """
    asked = complete(defaults)
    geometry = find_backbone(asked.model, asked.backbone.corrections).geometry
    given = [str(roles) for roles in asked.adapter["roles"].ends()] if "roles" in asked.adapter else []
    domains = placed(geometry, given)
    reasons = why_placed(geometry, given, domains["adapter"])
    fixed = {**defaults, **domains, "finalists": FINALISTS}
    plan = make_plan(complete({**fixed, "examples": {"max_length": FIRST_LENGTH}}).settled(), AUTO)
    searched = {name for knobs in plan.space.knobs.values() for name in knobs}
    reasons = {key: why for key, why in reasons.items() if key.rpartition(".")[2] in searched}
    most = _longest(plan)
    texts = {name: _read(plan, name, most) for name in plan.spec.tasks}
    length, reasons["examples.max_length"] = _max_length(texts, most)
    left_alone = slots.gpus or "accumulation" in asked.training  # the memory of a GPU is not known here
    read = complete({**fixed, "examples": {"max_length": length}}).examples.max_length  # a person may give another
    parts = 1 if left_alone else _parts_of_a_batch(complete, plan, fixed, read, slots)
    if parts > 1:
        fixed["training"] = {**domains["training"], "accumulation": parts}
        reasons["training.accumulation"] = (
            f"so that {slots.fullest[0]} at once, with batches of texts of {read} tokens, fit into memory"
        )
    values, sized = _sized(complete, plan, texts, fixed, length, slots)
    return DerivedSpace(values=values, reasons=reasons | sized)


PARTS_OF_A_BATCH = (1, 2, 4, 8, 16, 32)


def _parts_of_a_batch(complete: Complete, plan: Plan, fixed: Mapping[str, Any], length: int, slots: Slots) -> int:
    """Returns in how many parts a batch is computed, so that all trials at once fit into a node's memory."""
    at_once, there = slots.fullest
    for parts in PARTS_OF_A_BATCH:
        training = {**fixed["training"], "accumulation": parts}
        cut = complete({**fixed, "training": training, "examples": {"max_length": length}})
        if "accumulation" not in cut.training:
            return 1  # a person has given the whole section
        largest = max(map(int, cut.domains()["batch_size"].ends()))
        of_cut = replace(plan, spec=cut, space=resolve(cut, plan.geometry, AUTO))
        if parts >= largest or at_once * worker_bytes(of_cut, length, slots) <= there:
            return parts
    return parts


FINALISTS = {"top": 1, "seeds": 3}
SAMPLE = 2_000
"""The texts of a task whose tokens are counted."""
PERCENTILE, MULTIPLE = 95, 8
FIRST_LENGTH, LEAST_TOKENS, MOST_TOKENS = 8, 4, 4_096
"""The tokens of an example before any was read; the fewest; and the most, also where the model reads more."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A task's rows by part, and the tokens of some training examples: of what is read, (n,) and of all of it.

    `made`: they are the miniature's, which makes as many rows as a study asks for.
    """

    rows: Mapping[str, int]
    read: np.ndarray
    whole: np.ndarray
    made: bool = False

    def used(self, spec: StudySpec, part: str, name: str) -> int:
        """Returns how many rows of a part the study uses for the task of this name."""
        return spec.examples.used(part, name, self.rows[part], made=self.made)


def _read(plan: Plan, name: str, most: int) -> Texts:
    """Reads a task's data, and counts the tokens of some of its training examples, `most` of each."""
    from krona_tune.data.batches import input_lengths, lengths
    from krona_tune.data.encode import Tokenization
    from krona_tune.train.backbone import open_tokenizer

    data = load(plan.tasks[name], plan.own_data.get(name, plan.spec.data), seed=plan.spec.seed)
    order = np.random.default_rng(0).permutation(data.train.num_rows)[:SAMPLE]
    tokenization = Tokenization(
        data.task,
        open_tokenizer(plan.source.location, plan.geometry.vocabulary),
        prompts=plan.geometry.text_to_text,
        max_length=most,
        decoder=not plan.geometry.is_encoder_decoder,
    )
    table = tokenization.table(data.train.take(np.sort(order)))
    made = plan.spec.data == MINI and name not in plan.own_data
    return Texts(rows=_rows(data), read=input_lengths(table), whole=lengths(table), made=made)


def _rows(data: TaskData) -> dict[str, int]:
    return {part: getattr(data, part).num_rows for part in PARTS}


def _longest(plan: Plan) -> int:
    """Returns the most tokens of an example: what the model can read, and a decoder that answers has room to do so."""
    if (positions := plan.positions) is None:
        return MOST_TOKENS
    from krona_tune.search.startup.answer_length import most_answer_tokens

    written = most_answer_tokens(plan)
    name = max(written, key=lambda name: written[name])
    room = positions - written[name]
    if written[name] and room < LEAST_TOKENS:
        problem = f"{written[name]} tokens of {positions} leave {max(0, room)} to read"
        if plan.tasks[name].generation:
            raise Refusal(f"tasks.{name}.max_new_tokens", problem, f"write {positions - LEAST_TOKENS} at most")
        raise Refusal(f"tasks.{name}", f"its longest label's {problem}", "give it shorter words, or take another model")
    return min(room, MOST_TOKENS)


def _max_length(texts: Mapping[str, Texts], most: int) -> tuple[int, str]:
    """Returns the tokens of an example, `most` at most, and why: 95 of 100 texts of every task have no more."""
    found = {name: int(np.percentile(each.read, PERCENTILE, method="higher")) for name, each in texts.items()}
    rounded = MULTIPLE * ceil(max(found.values()) / MULTIPLE)
    looked = {name: f"{len(each.read):,} training texts" for name, each in texts.items()}
    if max(found.values()) >= most:
        name = max(found, key=lambda name: found[name])
        many = f"{100 - PERCENTILE} % or more of {looked[name]}" + f" of {name}" * (len(found) > 1)
        reads = "a made space reads" if most == MOST_TOKENS else "are read"
        return most, f"{many} have {most} tokens or more, and {most} are the most that {reads}"
    if len(found) == 1:
        [(name, count)] = found.items()
        return min(rounded, most), f"{PERCENTILE} % of {looked[name]} have at most {count} tokens"
    said = ", ".join(f"{count} tokens of {name} (of {looked[name]})" for name, count in found.items())
    return min(rounded, most), f"{PERCENTILE} % have at most {said}"


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a study: trials a task, and the examples that a trial sees, repeated ones too."""

    trials: int
    seen: int


FEWEST, USUAL, MOST_TRIALS = 4, 10, 40
"""Trials of a task: where time is short, before trials see more, and at most."""
LEAST_SEEN, LEARNED = 1_024, 4_608
"""Examples that a trial sees at least; and those after which the recorded adapters had learned, nine epochs of 512."""
GROWTH = 1.2
LEAST_ROWS, EPOCHS, MOST_EPOCHS = 512, (4, 9), 30
"""Training examples below which no more are left out; epochs over more of them, and over few."""
VALIDATION, TEST = (256, 1_000), 2_000
"""Validation examples at least and at most, as many as are trained on; test examples at most."""


def sizes_of_a_study(rows: int) -> Iterator[Size]:
    """Yields the sizes of studies of a task with so many training examples, from the least to the largest.

    First a trial sees more, until adapters learn from it; then there are more trials, until there are ten; then trials
    see more of the data, until they see all of them nine times; then there are more trials again.
    """
    most = MOST_EPOCHS * rows if rows < LEAST_ROWS else EPOCHS[1] * rows
    trials, seen = FEWEST, float(min(LEAST_SEEN, most))
    yield Size(trials=trials, seen=int(seen))
    for until, enough in ((min(LEARNED, most), USUAL), (most, MOST_TRIALS)):
        while seen < until:
            seen = min(GROWTH * seen, until)
            yield Size(trials=trials, seen=int(seen))
        while trials < enough:
            trials += 1
            yield Size(trials=trials, seen=int(seen))


def values_of_a_size(size: Size, rows: Mapping[str, int], *, asked: bool = False) -> dict[str, Any]:
    """Returns what a request says of a size: examples, epochs and trials. The first rung follows from the epochs.

    Args:
        rows: the training examples of each task.
        asked: whether a person has said how many: all of them are taken then.
    """
    most = max(rows.values())
    least, usual = EPOCHS
    passes = min(max(size.seen / most, least), usual)
    taken = most if asked else min(most, max(LEAST_ROWS, round(size.seen / passes)))
    epochs = {name: _epochs(size.seen, min(taken, each)) for name, each in rows.items()}
    low, high = VALIDATION
    found = {
        "schedule": {
            "epochs": _by_task(epochs),
            "reduction": REDUCTION,
        },
        "examples": {"validation": min(max(taken, low), high), "test": TEST},
        "search": {"trials": size.trials},
    }
    if taken < most:
        found["examples"]["train"] = taken
    return found


def _epochs(seen: int, rows: int) -> int:
    return max(1, min(round(seen / rows), MOST_EPOCHS if rows < LEAST_ROWS else EPOCHS[1]))


def _by_task(values: Mapping[str, Any]) -> Any:
    """Returns one value for all tasks, or a mapping with that of the first as the default."""
    default = next(iter(values.values()))
    others = {name: value for name, value in values.items() if value != default}
    return {"default": default, **others} if others else default


def _a_third(epochs: float, examples: int) -> float:
    """Returns a third of the epochs, rounded up, so that the third rung is the end and none is just before it."""
    first = ceil(max(1, round(epochs * examples)) / REDUCTION)
    found = first / examples
    for decimals in range(2, 9):
        short = ceil(found * float(10**decimals)) / float(10**decimals)
        if round(short * examples) <= max(first + 1, 1.01 * first):
            return short
    return found


def _sized(
    complete: Complete,
    plan: Plan,
    texts: Mapping[str, Texts],
    fixed: Mapping[str, Any],
    length: int,
    slots: Slots,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the space of the largest size that fits the limits and the time, and why; of the least, if none does."""
    speed, limits = speed_for(plan, slots), Budget.of(plan.spec.search)
    limits = replace(limits, seconds=limits.seconds or 60.0 * MINUTES)
    room, ends = limits.times(USED), ""
    rows = {name: each.used(plan.spec, "train", name) for name, each in texts.items()}
    values: dict[str, Any] = {}
    taken, spec = None, plan.spec
    for size in sizes_of_a_study(max(rows.values())):
        sized = values_of_a_size(size, rows, asked=plan.spec.examples.train is not None)
        sized["examples"]["max_length"] = length
        whole = complete({**fixed, **sized})
        sized["schedule"]["grace_epochs"] = _by_task(
            {
                name: _a_third(for_task(whole.schedule.epochs, name), texts[name].used(whole, "train", name))
                for name in rows
            }
        )
        tried = {**fixed, **sized}
        asked = complete(tried).settled()
        amount = foretell(replace(plan, spec=asked), texts, speed).amount(asked, slots)
        ends = room.used_up(amount) or ""
        if values and ends:
            break
        values, taken, spec = tried, amount, asked
    assert taken
    why = f"{_of_size(spec, ends, limits.used_up(taken) is not None)}: about {_time(taken.seconds, speed)}"
    return values, _reasons(spec, texts, why, speed, slots)


def _of_size(spec: StudySpec, ends: str, over: bool) -> str:
    """Says which size of a study was taken.

    Args:
        ends: the limit that a larger one would reach, in words; empty if none.
        over: whether this one is over a limit, too.
    """
    asked = spec.search.time_budget
    if ends not in {"", "time"}:
        aim, more = f"the budget of {ends}", "more"
    else:
        aim, more = f"the time budget of {format_duration(asked)}" if asked else f"{MINUTES} minutes", "longer"
    if over:
        return f"the fewest, but {more} than {aim} (a smaller model or examples.max_length is faster)"
    return f"the most within {aim}" if ends else f"the most that is asked for, within {aim}"


def foretell(plan: Plan, texts: Mapping[str, Texts], speed: Speed) -> Forecast:
    """Returns the forecast of a plan whose texts were read."""
    sizes = {name: _used(plan.spec, name, each) for name, each in texts.items()}
    return untimed_forecast(plan.spec, plan.space, plan.tasks, sizes, speed, plan.taught_points)


def _used(spec: StudySpec, name: str, texts: Texts) -> TextSizes:
    """Returns the examples and tokens of a task that a study uses."""
    cut = texts.whole - texts.read + np.minimum(texts.read, spec.examples.max_length)
    used = {part: texts.used(spec, part, name) for part in texts.rows}
    return TextSizes(**used, tokens=float(cut.mean()), pairs=float(np.square(cut).mean()))


def _time(seconds: float, speed: Speed) -> str:
    """Returns a foretold time with its range, with what the start and the end take."""
    times = (seconds, seconds / speed.spread, seconds * speed.spread)
    about, low, high = (format_duration(each + START_AND_END) for each in times)
    return f"{about} ({low} to {high})"


def _reasons(spec: StudySpec, texts: Mapping[str, Texts], why: str, speed: Speed, slots: Slots) -> dict[str, str]:
    """Returns why a study has this size."""
    rows = {name: each.rows["train"] for name, each in texts.items()}
    judged = spec.examples.validation
    few = [
        (name, count)
        for name, each in texts.items()
        if judged and (count := each.used(spec, "validation", name)) < for_task(judged, name)
    ]
    found = {
        "search.trials": f"{why}, {slots.count} at once, {speed.how}",
        "examples.validation": f"as many as train the model, within {VALIDATION[0]} and {VALIDATION[1]:,}"
        + "".join(f"; {name} has {count:,}" for name, count in few),
    }
    if spec.search.early_stopping:
        ranks = "recorded trials rank there as at their end by .72 to .96 (Spearman)"
        found["schedule.grace_epochs"] = f"a third of all: {ranks}"
    if spec.examples.train is not None:
        used = {name: each.used(spec, "train", name) for name, each in texts.items()}
        taken = ", ".join(f"{used[name]:,} of {max(used[name], count):,} {name}" for name, count in rows.items())
        found["examples.train"] = f"{taken}: a trial sees each {_passes(spec)} in the time that it has"
    return found


def _passes(spec: StudySpec) -> str:
    found = sorted({for_task(spec.schedule.epochs, task) for task in spec.tasks})
    return "once" if found == [1] else f"{' or '.join(f'{each:g}' for each in found)} times"
