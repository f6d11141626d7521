"""Shows a recommendation in a notebook or a terminal: a configuration, what to expect of it, and how it is trained."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from krona_tune.record.recorded_curves import HARDLY_LEARNED, LEARNED
from krona_tune.refusal import Refusal
from krona_tune.search.planning.expected_score import PROBED
from krona_tune.search.planning.recommendation import Probe, Recommendation, RecordedBest, TaskAnswer
from krona_tune.search.terminal.cell_view import NamedLines
from krona_tune.study.formatting import describe_adapter, format_bytes, format_duration, format_score
from krona_tune.study.request.plain_yaml import dump_yaml

if TYPE_CHECKING:
    import pandas as pd

    from krona_tune.search.planning.plan import Plan
    from krona_tune.search.startup.needs import Needs, TextMeans
    from krona_tune.search.startup.slots import Slots

__all__ = ["RecommendationView"]

TAUGHT = {True: "near the best of the curves that teach it", False: "the centre of the space, not taught"}
NUMBERS = ("score", "low", "high")
"""The columns of an expected score."""
IF_LEARNED = f"{len(LEARNED)} of {len(LEARNED | HARDLY_LEARNED)} recorded tasks were learned; if this one is"
"""Says how often a recorded task was learned: the score that is foretold is that of such a task."""


@dataclass(frozen=True, repr=False)
class RecommendationView(NamedLines):
    """Shows which configuration to use without a search, as text and in a notebook as a table."""

    _title = "Recommendation"

    found: Recommendation
    """The configuration, and what is known of it on each task."""
    slots: "Slots | None" = None
    """What a trial gets of this machine, and how many run at once; None: time and memory are not told."""

    def probed(self, say: Callable[[str], None] = print) -> "RecommendationView":
        """Returns the same after a third of the training on each task, here, which foretells the score at its end.

        Args:
            say: is told what is trained, about how long that takes, and what is odd in the data.

        Raises:
            Refusal: the backbone or data are not available here, or the study joins a cluster.
        """
        if self.slots is None:
            raise Refusal("probe", "it trains on this machine, and not on a cluster", "leave the address out")
        from krona_tune.search.startup.needs import START_AND_END
        from krona_tune.search.startup.probe import probe_tasks

        if needs := self._needed_alone(self.slots):
            low, high = (format_duration(PROBED * (seconds - START_AND_END)) for seconds in needs.seconds)
            say(f"training a third of it on each task, {low} to {high} in all")
        return replace(self, found=probe_tasks(self.found, self.slots, say))

    def _needed_alone(self, slots: "Slots") -> "Needs | None":
        """Returns what training takes without heads, one after the other in such a slot."""
        trains = self.found.trains
        search = trains.spec.search.model_copy(update={"baseline_learning_rates": ()})
        alone = replace(trains, spec=trains.spec.model_copy(update={"search": search}))
        return self._needs_of(alone, replace(slots, count=1))

    @property
    def request(self) -> dict[str, Any]:
        """Returns the request that trains the configuration once on each task, as `Study(space=...)` takes it."""
        plain: dict[str, Any] = self.found.trains.spec.plain()
        return plain

    @property
    def yaml(self) -> str:
        """Returns the same request as YAML, which `krona-tune run --space FILE` takes."""
        return dump_yaml(self.request)

    @cached_property
    def needs(self) -> "Needs | None":
        """Returns what training it takes, heads alone included; None without slots, or without the tokenizer that tells
        how long one's own texts are."""
        return self._needs_of(self.found.trains, self.slots) if self.slots else None

    def _needs_of(self, plan: "Plan", slots: "Slots") -> "Needs | None":
        from krona_tune.search.startup.needs import find_needs, speed_for

        return None if self._read is None else find_needs(plan, slots, speed_for(plan, slots), self._read)

    @cached_property
    def _read(self) -> "Mapping[str, TextMeans] | None":
        """Returns the means of one's own texts, by task; None without a tokenizer: nobody knows how long they are."""
        from krona_tune.search.startup.needs import means_of

        plan = self.found.trains
        own = [task for task in plan.spec.tasks if task in plan.own_data]
        if not own:
            return {}
        from krona_tune.search.startup.task_data import preview_data

        try:
            return {name: means_of(seen.tokens) for name, seen in preview_data(plan, own, 1).items()}
        except Refusal:
            return None

    @property
    def by_probe(self) -> str:
        """Says how long the trainings of all tasks take here, by the parts that were trained; empty if some was not."""
        probes = [each.probe for each in self.found.answers if each.probe and not each.probe.error]
        if self.slots is None or len(probes) < len(self.found.answers):
            return ""
        whole = sum(probe.seconds / probe.share for probe in probes) / min(self.slots.count, len(probes))
        return f"about {format_duration(whole)} to train it, by the part that was trained"

    @property
    def plain(self) -> dict[str, Any]:
        """Returns everything as plain values: `model`, `point`, `taught`, `request`, and by task `tasks`.

        A task has its trained `parameters`, and null where it is not known: `constant`, the score of the best constant
        answer; `expected`, a score with the ends of its 90 % interval, without a probe that of a task which is learned
        at all, or `unknown` says why not; `recorded`, the best score of so many recorded points on the same data;
        `probe`, the score after a `share` of its training and its seconds, or the error. `seconds` are from and to, on
        the clock; `memory_bytes` are those of one training.
        """
        needs = self.needs
        return {
            "model": self.found.trains.spec.model,
            "point": dict(self.found.point),
            "taught": self.found.taught,
            "tasks": {each.task: _plain(each) for each in self.found.answers},
            "seconds": list(needs.seconds) if needs else None,
            "memory_bytes": needs.worker_bytes if needs else None,
            "request": self.request,
        }

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """Returns one row per task: parameters, constant, probe, score, low, high, unknown; NaN if not known."""
        import pandas as pd  # the command line prints recommendations without it

        rows = [{"task": each.task, **_flat(each)} for each in self.found.answers]
        found = pd.DataFrame(rows).set_index("task")[["parameters", "constant", "probe", *NUMBERS, "unknown"]]
        return found.astype(dict.fromkeys(("constant", "probe", *NUMBERS), float))

    @property
    def lines(self) -> dict[str, str]:
        """Returns the recommendation in named lines, as the command line prints it."""
        lines = {"use": f"{describe_adapter(self.found.point)} ({TAUGHT[self.found.taught]})"}
        lines |= {each.task: _said(each) for each in self.found.answers}
        if needs := self.needs:
            low, high = map(format_duration, needs.seconds)
            lines["time"] = self.by_probe or f"{low} to {high} to train it, {needs.how}"
            lines["memory"] = f"about {format_bytes(needs.worker_bytes)} a training"
        return lines


def _plain(answer: TaskAnswer) -> dict[str, Any]:
    expected, recorded = answer.expected, answer.recorded
    return {
        "parameters": answer.parameters,
        "constant": answer.constant,
        "expected": {"score": expected.score, "low": expected.low, "high": expected.high} if expected else None,
        "recorded": asdict(recorded) if recorded else None,
        "probe": asdict(answer.probe) if answer.probe else None,
        "unknown": answer.unknown,
    }


def _flat(answer: TaskAnswer) -> dict[str, Any]:
    plain = _plain(answer)
    del plain["recorded"]
    probe = plain.pop("probe") or {}
    return plain | {"probe": probe.get("score")} | (plain.pop("expected") or dict.fromkeys(NUMBERS))


def _said(answer: TaskAnswer) -> str:
    """Says of a task which score to expect, or why none is known, and how many parameters are trained."""
    constant, expected, best = format_score(answer.constant), answer.expected, answer.recorded
    said = [_said_of_probe(answer.probe)] if answer.probe and not answer.probe.error else []
    if expected is None:
        said.append(f"score not known: {answer.unknown}")
    else:
        low, score, high = map(format_score, (expected.low, expected.score, expected.high))
        foretold = f"validation score {score}, nine times in ten {low} to {high}"
        if answer.probe:
            said.append(f"at its end {score}, in most cases {low} to {high}")
        elif best:
            said.append(foretold)
        else:
            said += [f"{IF_LEARNED}: {foretold}", f"if not: about the constant answer's {constant}"]
    if best:
        beside = "" if answer.probe else f", the constant answer {constant}"
        said.append(f"{_said_of_recorded(best)}{beside}")
    return "; ".join([*said, f"{answer.parameters:,} trained parameters"])


def _said_of_probe(probe: Probe) -> str:
    learned = probe.score is not None and probe.score > probe.constant
    beside = "the constant answer" if learned else "nothing learned yet: the constant answer"
    score, constant = format_score(probe.score), format_score(probe.constant)
    return f"after {probe.share:.0%} of its training, {format_duration(probe.seconds)}, {score}; {beside} {constant}"


def _said_of_recorded(best: RecordedBest) -> str:
    points = f"the best of {best.points} recorded points has {format_score(best.score)}"
    return f"{points} after {best.examples:,} of its training examples"
