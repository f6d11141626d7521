"""Says in named lines what a plan will run, and what its data look like."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from textwrap import fill
from typing import TYPE_CHECKING, Any

from krona_tune.backbones.geometry import Geometry, Role, Site
from krona_tune.machine import busy
from krona_tune.refusal import Refusal, cut, readable
from krona_tune.search.searchers.asha_rule import judged_after
from krona_tune.search.terminal.cell_view import NamedLines
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder, nearest_folder
from krona_tune.study.formatting import describe_adapter, format_many, format_money
from krona_tune.study.request.field_types import for_task
from krona_tune.study.request.metric_table import rows_of
from krona_tune.study.request.samplers import SAMPLERS
from krona_tune.study.search_end import LEAST_TRIALS

if TYPE_CHECKING:
    import pandas as pd

    from krona_tune.data.corpus import OwnData
    from krona_tune.data.tasks import Task
    from krona_tune.search.planning.earlier_study import EarlierStudy
    from krona_tune.search.planning.plan import Plan
    from krona_tune.search.planning.teaching import Teaching
    from krona_tune.search.startup.slots import Slots
    from krona_tune.search.startup.task_data import Preview
    from krona_tune.study.request.study_spec import StudySpec
    from krona_tune.train.backbone_source import BackboneSource

__all__ = ["PlanView"]

GLUE_DATA = {"mini": "mini-GLUE (synthetic)", "hub": "nyu-mll/glue from the hub"}
SHOWN_EXAMPLES, MOST_LABELS, MOST_LEFT_OUT = 3, 8, 8
"""The most examples of a task that a dry run prints, and the most labels and maps left out that a plan lists."""
WIDTH = 100
"""The width of the lines about what is searched."""


@dataclass(frozen=True, repr=False)
class PlanView(NamedLines):
    """Shows what a study will run, as text and in a notebook as a table."""

    _title = "Plan"

    plan: "Plan"
    """The whole plan: the request, the backbone, the space and the data."""
    folder: StudyFolder
    """The folder that the study will have or has."""
    slots: "Slots | None" = None
    """Says where trials run; None if that is not known: then nobody knows what the study takes, either."""

    @property
    def lines(self) -> dict[str, str]:
        """Returns the plan in named lines, as a dry run prints it: with what is cut of the examples, and what the study
        takes as far as that is known before a step is timed."""
        lines = plan_lines(self.plan, "", self.folder.where, EarlierOrders.of(self.folder))
        more = {"reasons": "; ".join(_reasons(self.plan.spec))} if "reasons" in lines else {}
        previews, warnings = self._looked_at
        if previews:
            more["cut"] = "; ".join(f"{name}: {cut_text(self.plan, seen)}" for name, seen in previews.items())
        if self.slots:
            more |= needs_lines(self.plan, self.slots, previews, self.folder)
        if warnings:
            more["warnings"] = "; ".join(map(readable, warnings))
        return {name: " ".join(text.split()) for name, text in (lines | more).items()}

    @cached_property
    def _looked_at(self) -> "tuple[dict[str, Preview], list[str]]":
        """Returns what was seen of the tasks' examples, and what the model lacks and what is odd about the data.

        Why they can't be tokenised is one of these: the plan is shown all the same, and the study is refused.
        """
        lacking = [*self.plan.lacking()]
        try:
            previews = preview_tasks(self.plan, self.plan.spec.tasks)
        except Refusal as refusal:
            return {}, [*lacking, *data_doubts(self.plan), str(refusal)]
        return previews, [*lacking, *(doubt for seen in previews.values() for doubt in seen.warnings)]

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """Returns one row per searched knob: its label, its values or range, and their number if they are listed."""
        import pandas as pd  # the command line prints plans without it

        searched = self.plan.space.searched()
        rows = [
            {"knob": label, "domain": written_domain(domain), "values": len(getattr(domain, "values", ())) or None}
            for label, domain in searched.items()
        ]
        return pd.DataFrame(rows, columns=["knob", "domain", "values"])


def _layers(shape: Geometry) -> str:
    """Returns the layers of each stack and the roles of their maps."""
    every = [site for site in shape.sites if site.role is not Role.FEED_FORWARD]
    said = []
    for stack, depth in shape.depths.items():
        roles = dict.fromkeys(_role(site) for site in every if site.stack is stack)
        used = f", used {shape.uses} times" if shape.uses > 1 else ""
        said.append(f"{depth} {stack}{used}: {', '.join(roles)}")
    return _indented("; ".join(said))


def _role(site: Site) -> str:
    """Returns the role of a map; the name in its layer of one that a person has named."""
    return site.name.removeprefix(f"{site.layer_name}.") if site.role is Role.NAMED else str(site.role)


def _omitted(source: "BackboneSource") -> list[str]:
    """Returns what of the model carries no adapter and why; of many, the first."""
    said = source.omitted
    more = len(said) - MOST_LEFT_OUT
    return said if more <= 0 else [*said[:MOST_LEFT_OUT], f"and {more} more"]


def plan_lines(plan: "Plan", reason: str, where: str = "", earlier: "EarlierOrders | None" = None) -> dict[str, str]:
    """Returns what will be run, in a few named lines.

    Args:
        reason: why this request was taken, in words; may be empty.
        where: where the study's folder is, to whoever reads the lines; empty if it has none.
        earlier: the orders that wait for a resumed study.
    """
    spec, shape, search = plan.spec, plan.geometry, plan.spec.search
    lines = {
        "space": plan.place + (f" ({reason})" if reason else ""),
        "model": f"{plan.source.name}, {shape.model_type}, {shape.parameters:,} parameters, {plan.source.how}",
        "layers": _layers(shape),
        **({"omitted": _indented("; ".join(omitted))} if (omitted := _omitted(plan.source)) else {}),
        "data": GLUE_DATA.get(spec.data, spec.data),
        "tasks": ", ".join(spec.tasks),
        **{name: _own_task(spec, own) for name, own in plan.own_data.items()},
        "search": _indented("; ".join(f"{name} {written_domain(each)}" for name, each in plan.space.searched().items()))
        or "nothing: all is fixed",
        "trials": _trials(plan),
        "rungs": _rungs(spec),
    }
    lines |= {name: _indented(text) for name, text in _of_the_search(plan)}
    if spec.reasons:
        lines["reasons"] = "\n          ".join(_reasons(spec))
    lines["frozen"] = f"computed once: {plan.computed_once()}"
    if plan.space.limit is not None:
        share = plan.space.feasible_share()
        lines["limit"] = f"{plan.space.limit:,} adapter parameters; {share:.0%} of the space stays within it"
    if spec.deploy:
        lines["deploy"] = _indented(_deployed(plan))
    if search.repeats.points:
        points = min(search.repeats.points, plan.trials)
        lines["repeats"] = f"the first {points} of each task again with {format_many(search.repeats.seeds, 'seed')}"
    if spec.finalists.top:
        of = "each method on each task" if search.per_method else "each task"
        lines["finals"] = _indented(_finals(plan, of))
    if spec.resources.price_per_hour:
        lines["price"] = f"{format_money(spec.resources.price_per_hour)} a device hour"
    if earlier and earlier.orders:
        lines["orders"] = _indented(earlier.text)
    if slow := busy():
        lines["machine"] = f"{slow}: all takes longer, also Ray's start"
    if where:
        lines["folder"] = where
    if set(plan.own_data) == set(spec.tasks):
        del lines["data"]
    return lines


def _trials(plan: "Plan") -> str:
    """Says how many trials a task has, who proposes them, and what is trained beside them."""
    said, most = f"{plan.trials} a task", plan.most_trained
    if plan.space.searched() and plan.trials > plan.planned.taught:  # else no point is left to the sampler
        said += f" {SAMPLERS[plan.spec.search.proposes_by].words}"
    if most < plan.trials:
        few = "one is trained: others would repeat it"
        said += f" ({few if most == 1 else f'{most} at most are trained: others would repeat them'})"
    beside = "of the frozen model" if plan.geometry.text_to_text else "with the head alone"
    return f"{said}, and {len(plan.baselines(plan.spec.tasks[0]))} {beside}"


def _of_the_search(plan: "Plan") -> Iterator[tuple[str, str]]:
    """Yields, in named texts, what is tried first, what the study learns from, and what each method gets."""
    if plan.taught is not None and plan.space.searched():
        yield "first", _taught(plan, plan.taught)
    if plan.spec.search.ends_itself:
        least = plan.spec.search.least_gain
        never = f"; it needs more than {LEAST_TRIALS} trials" if plan.trials <= LEAST_TRIALS else ""
        yield "stops", f"a task's search, when its remaining trials are expected to gain less than {least:g}{never}"
    if plan.earlier:
        yield "learns", "; ".join(map(_learnt, plan.earlier))
    if len(plan.space.methods) > 1:
        yield "methods", _methods(plan)


def _learnt(study: "EarlierStudy") -> str:
    """Says what an earlier study has to learn from; trials that have not ended teach nothing."""
    running = sum(not row.ended for row in study.rows)
    left_out = f" ({', '.join(study.left_out)} left out: no trial there scores above the constant answer)"
    said = f"from {study.name}, {len(study.rows)} trials" + (f", {running} of them not ended" if running else "")
    return said + left_out * bool(study.left_out)


def _taught(plan: "Plan", taught: "Teaching") -> str:
    """Says which points are tried first, and why."""
    if not taught:
        return "nothing: no point of the recorded curves is near this space"
    count, of_files = plan.planned.taught, taught.contributed
    recorded = f"{len(taught.tasks) - sum(of_files.values())} recorded tasks"
    tasks = _listed([recorded, *(f"{format_many(tasks, 'task')} of {name}" for name, tasks in of_files.items())])
    tasks += f" ({taught.synthetic} of them synthetic)" if taught.synthetic else ""
    left_out = f"; {', '.join(taught.unlearned)} left out: no trial there scores above the constant answer"
    if plan.spec.search.pareto:
        sizes = sorted(map(plan.space.parameters, taught.points))
        near = f"up to {count} of a task's trials are points near the best at each size of {tasks}"
        expected, end = "", f"of {sizes[0]:,} to {sizes[-1]:,} adapter parameters"
    else:
        near = f"{count} of a task's trials are points near the best of {tasks}"
        expected = "" if of_files else f" ({_expected(plan.geometry)})"  # measured of the package's curves alone
        end = f"the first: {describe_adapter(taught.points[0])}"
    said = f"{near}, trained to their end unless they do worse than others{expected}; {end}"
    return said + left_out * bool(taught.unlearned)


def _expected(geometry: Geometry) -> str:
    """Says what was measured of taught points."""
    from krona_tune.record.recorded_curves import DRAW_LOST, FIRST_LOST, LOST_ON_OWN, is_recorded_backbone

    if is_recorded_backbone(geometry):
        lost, after = (_listed(map(str, each)) for each in (LOST_ON_OWN.values(), LOST_ON_OWN))
        of_random = f"{lost} of what random draws with ASHA lose, after {after} trainings"
        return f"in replays of recorded tasks that the others taught this lost {of_random}"
    first = f"the first lost {FIRST_LOST} of score, a random draw {DRAW_LOST}"
    return f"on three other backbones and tasks that taught nothing {first}; after five they can't be told apart"


def _listed(words: Iterable[str]) -> str:
    """Returns words as "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _finals(plan: "Plan", of: str) -> str:
    """Says which configurations are trained again, with how many seeds, and which one is the default."""
    finals = plan.spec.finalists
    said = (
        f"the best {min(finals.top, plan.trials)} of {of} again with {format_many(finals.seeds, 'seed')}, then tested"
    )
    if finals.budget:
        next_best = ", the next best where each has a seed that did not learn" if finals.steady else ""
        said += f"; more seeds where the best can't be told{next_best}, {finals.budget} trainings at most"
    if plan.default:
        beside = "the default, if it is none of them" if finals.counted else "the default"
        said += f"; beside them {beside}, chosen unless one is better: {describe_adapter(plan.default)}"
    return said


def _reasons(spec: "StudySpec") -> Iterator[str]:
    """Yields each reason that the request gives for a value, with the value if it is a single one."""
    values = spec.settings()
    for key, why in spec.reasons.items():
        value = values.get(key)
        yield f"{key}: {why}" if value is None or isinstance(value, list) else f"{key} {value}: {why}"


def _methods(plan: "Plan") -> str:
    """Says what each method gets: its trials on a task, and how many parameters its points may have."""
    sizes = {name: plan.space.of(name).sizes() or [0] for name in plan.space.methods}
    ends = {name: dict.fromkeys((found[0], found[-1])) for name, found in sizes.items()}
    said = [f"{name} {' to '.join(f'{size:,}' for size in both)}" for name, both in ends.items()]
    alone = plan.spec.search.per_method
    trials = f"{plan.spec.search.trials} trials each" if alone else f"{plan.trials} trials together"
    return f"{trials}; adapter parameters: {', '.join(said)}"


def _deployed(plan: "Plan") -> str:
    """Says which targets the winners are for, what that leaves out of the space, and how much of the rest is left."""
    left_out = f"; leaves out {'; '.join(plan.undeployable)}" if plan.undeployable else ""
    share = plan.space.feasible_share()
    return f"as {' and '.join(map(str, plan.spec.deploy))}, exactly{left_out}; {share:.0%} of the space can be drawn"


def _own_task(spec: "StudySpec", own: "OwnData") -> str:
    """Says what was found in a task's files: examples, how many of them are used, and labels with their shares."""
    task = own.task
    rows = {part: table.num_rows for part, table in own.parts.items()}
    used = {part: spec.examples.used(part, task.name, count) for part, count in rows.items()}
    few = {part: f"{used[part]:,} of " if used[part] < count else "" for part, count in rows.items()}
    sizes = ", ".join(f"{few[part]}{count:,} {part}" for part, count in rows.items())
    both = zip(task.labels, own.shares, strict=True)
    shares = [f"{cut(readable(label))} {format_label_share(share)}" for label, share in both]
    more = f" and {len(shares) - MOST_LABELS} more" if len(shares) > MOST_LABELS else ""
    answers = (
        f"{len(shares)} labels: {', '.join(shares[:MOST_LABELS])}{more}"
        if shares
        else "texts"
        if task.generation
        else "numbers"
    )
    weighted = ", weighted in the loss" if task.class_weights else ""
    metrics = " and ".join(_metric(task, name) for name in task.metrics)
    by_loss = ", trials compared by the loss" if task.tested_by_other_scores else ""
    return f"{own.provenance}: {sizes}; {answers}{weighted}; scored by {metrics}{by_loss}"


def format_label_share(share: float) -> str:
    """Returns a share in percent with one digit; one of some examples is shown neither as none nor as all."""
    least = 0.001
    if 0 < share < least or 1 - least < share < 1:
        return f"<{least:.1%}" if share < least else f">{1 - least:.1%}"
    return f"{share:.1%}"


def _metric(task: "Task", name: str) -> str:
    """Names a metric, with the label that it is about, or that less is better."""
    about = f" of {task.labels[1]}" if any(metric.of_one_label for metric in rows_of([name])) else ""
    return name + about + ", lower is better" * (name in task.lower_is_better)


def preview_tasks(plan: "Plan", tasks: Iterable[str]) -> "dict[str, Preview]":
    """Returns what a person should see of those of the tasks whose texts are in files."""
    read = [task for task in tasks if task in plan.own_data or plan.spec.data not in GLUE_DATA]
    if not read:
        return {}
    from krona_tune.search.startup.task_data import preview_data

    return preview_data(plan, read, SHOWN_EXAMPLES)


def cut_text(plan: "Plan", seen: "Preview") -> str:
    """Says how many of a task's examples are cut."""
    longest = f"longer than {plan.spec.examples.max_length} tokens"
    return f"{seen.cut:,} of {len(seen.tokens):,} examples are {longest} and are cut"


def needs_lines(plan: "Plan", slots: "Slots", previews: "Mapping[str, Preview]", folder: StudyFolder) -> dict[str, str]:
    """Returns what a study takes on such slots, in named lines."""
    from krona_tune.search.startup.needs import find_needs, means_of, needs_in_words, speed_for

    read = {name: means_of(seen.tokens) for name, seen in previews.items()}
    needs = find_needs(plan, slots, speed_for(plan, slots), read)
    return dict(needs_in_words(plan, needs, slots, nearest_folder(folder.root)))


def data_doubts(plan: "Plan") -> Iterator[str]:
    """Yields what is odd about the data of one's own, as far as the study uses them."""
    from krona_tune.data.corpus import find_warnings

    for name in plan.own_data:
        yield from find_warnings(plan.data_of(name))


def _rungs(spec: "StudySpec") -> str:
    """Says when trials are evaluated and stopped."""
    schedule = spec.schedule
    first, last = (_each(value, spec.tasks) for value in (schedule.grace_epochs, schedule.epochs))
    whole = format_many(last, "epoch")
    reports = ", evaluated after each epoch" if schedule.report_every == "epoch" else ""
    if spec.search.shared:
        after = judged_after(len(spec.tasks), schedule.reduction)
        of = f"{', '.join(map(str, after))} of {len(spec.tasks)}"
        stops = f"configurations stopped between tasks only: after {of}" if after else "no configuration stopped"
        return f"{whole} on each task, {stops}{reports}"
    if not spec.search.early_stopping:
        return f"{whole}, no early stopping{reports}"
    if all(for_task(schedule.grace_epochs, task) >= for_task(schedule.epochs, task) for task in spec.tasks):
        return f"judged once, after {whole}{reports}"
    return f"judged from {first} to {whole}, each {schedule.reduction} times further{reports}"


def _indented(text: str) -> str:
    """Returns a long line wrapped into several."""
    return fill(text, width=WIDTH, subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False)


def written_domain(domain: Any) -> str:
    """Writes which values a knob may have."""
    written = domain.plain()
    if isinstance(written, list):
        return "{" + ", ".join(map(str, written)) + "}"
    kind = " log" if written.get("log") else f" in steps of {written['step']:g}" if written.get("step") else ""
    return f"{written['low']:g}…{written['high']:g}{kind}"


def _each(value: float | dict[str, float], tasks: Iterable[str]) -> str:
    """Writes the number of most tasks, with those of other ones in brackets."""
    numbers = {task: for_task(value, task) for task in tasks}
    most = Counter(numbers.values()).most_common(1)[0][0]
    others = [f"{task} {number:g}" for task, number in numbers.items() if number != most]
    return f"{most:g}" + f" ({', '.join(others)})" * bool(others)
