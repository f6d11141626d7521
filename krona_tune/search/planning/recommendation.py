"""Recommends a configuration without any search, and says which score to expect of it, or why none is known."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from krona_tune.adapters.placement import sites
from krona_tune.backbones.geometry import Geometry
from krona_tune.data.corpus import TaskData
from krona_tune.data.metrics import constant_baseline
from krona_tune.data.tasks import Task
from krona_tune.record.recorded_curves import HARDLY_LEARNED, LEARNED, SCORED_BY, curve_table
from krona_tune.refusal import Refusal, shown
from krona_tune.search.planning.default_point import default_point
from krona_tune.search.planning.earlier_study import RUNGS, EarlierStudy, shipped_curves
from krona_tune.search.planning.expected_score import (
    BEST,
    COVERAGE,
    PROBED,
    ExpectedScore,
    recorded_shares,
    score_at_the_end,
)
from krona_tune.search.planning.nearest_point import first_shape, step_of
from krona_tune.search.planning.plan import Plan
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.planning.space import Params, Space, adapter_of
from krona_tune.search.planning.teaching import Teaching, by_mean_score, near_point
from krona_tune.study.intervals import student_quantile
from krona_tune.study.kinds import TrialKind
from krona_tune.study.request.field_types import for_task
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.metric_table import bounds_of, rows_of, standard_error
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import section_of

NEAR = 2.0
"""Says how many times more or less than a recorded one a size or a step is called near; how many times fewer examples,
and how many times more labels."""
MOST_LABELS = 20
"""The labels of the recorded task that has most, Newsgroups."""

UNTAUGHT = "not taught: no recorded curve is of this configuration"
OF_OTHERS = "it is a point of contributed curves, which foretell no score"
NOT_LEARNED = "the recorded points hardly learned these data"


@dataclass(frozen=True, kw_only=True)
class RecordedBest:
    """The best validation score of the points that were recorded on a task's own data, on so many of its training
    examples."""

    score: float
    points: int
    examples: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The result of the first part of a task's training, PROBED of its steps: the `share` of them that was trained, the
    score on so many validation `examples` and the `seconds` that it took, or the `error` that ended it. `constant` is
    the score of the best constant answer."""

    constant: float
    examples: int
    seconds: float
    share: float = PROBED
    score: float | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskAnswer:
    """Holds what is known of the recommended configuration on a task before it is trained.

    `parameters` are all that is trained. `expected` is its validation score; None if it is `unknown`, which says why.
    `constant` is the score of the best constant answer; None if the data were not read. `recorded` is what the recorded
    points reached, if they were recorded on the same data and scored by the same metrics. `probe` is what the first
    part of its training showed, if it was trained for that.
    """

    task: str
    parameters: int
    expected: ExpectedScore | None = None
    constant: float | None = None
    recorded: RecordedBest | None = None
    probe: Probe | None = None
    unknown: str = ""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A configuration of a plan's space that needs no search, with what is known of it on each task.

    `taught` says whether it is near the best of the recorded curves; else it is the centre of the space. `trains` is
    the plan of a study that trains it once on each task, and searches nothing.
    """

    point: Params
    taught: bool
    answers: tuple[TaskAnswer, ...]
    trains: Plan


def recommend_point(plan: Plan) -> Recommendation:
    """Returns the default configuration of a plan, with what is known of it.

    Raises:
        Refusal: no point near the centre of the space fits, or the data that say what a score means can't be read.
    """
    point = default_point(plan.space, plan.taught)
    if point is None:
        fix = "offer more sizes, or raise --max-params"
        raise Refusal(f"{plan.place}: adapter", "no point near the centre of the space fits", fix)
    curves = shipped_curves()
    recorded = _recorded(plan.space, plan.taught, curves, point) if plan.taught else None
    return Recommendation(
        point=point,
        taught=bool(plan.taught),
        answers=tuple(_answer(plan, point, name, curves, recorded) for name in plan.spec.tasks),
        trains=_fixed(plan, point),
    )


def _fixed(plan: Plan, point: Params) -> Plan:
    """Returns the plan in which this point is all there is to train."""
    spec = build_spec(fixed_request(plan.spec, point), plan.place).settled()
    space = resolve(spec, plan.geometry, plan.place)
    return replace(plan, spec=spec, space=space, earlier=(), taught=None, default=None)


def fixed_request(spec: StudySpec, point: Params) -> dict[str, Any]:
    """Returns a request, as YAML writes it, that trains this point once on each task, beside the head alone."""
    plain = {key: value for key, value in spec.plain().items() if key not in {"name", "methods", "reasons", "deploy"}}
    fixed: dict[str, dict[str, Any]] = {"adapter": {}, "training": {}}
    for name, value in point.items():
        if value is not None:
            fixed[section_of(name)][name] = value
    heads = list(spec.search.baseline_learning_rates)
    search = {"trials": 1, "taught": False, "early_stopping": False, "baseline_learning_rates": heads}
    return {**plain, **fixed, "search": search, "finalists": {"top": 0}}


def _answer(plan: Plan, point: Params, name: str, curves: EarlierStudy, recorded: Params | None) -> TaskAnswer:
    task = plan.tasks[name]
    known = TaskAnswer(task=name, parameters=plan.space.parameters(point) + plan.geometry.head_parameters(task.outputs))
    if recorded is None:
        return replace(known, unknown=OF_OTHERS if plan.taught else UNTAUGHT)
    if doubt := next(_doubts(plan, task, curves, point, recorded), ""):
        return replace(known, unknown=doubt)
    data = plan.data_of(name)
    constant = constant_baseline(task, data.train["label"].to_numpy(), data.validation["label"].to_numpy())
    same = [task for task, contents in (LEARNED | HARDLY_LEARNED).items() if contents == data.contents]
    scored_alike = same and SCORED_BY[same[0]] == task.metrics
    known = replace(known, constant=constant, recorded=_recorded_best(same[0]) if scored_alike else None)
    if doubt := next(_doubts_of_data(plan, data, curves), ""):
        return replace(known, unknown=doubt)
    if HARDLY_LEARNED.keys() & same:
        return replace(known, unknown=NOT_LEARNED)
    number = next(row.number for row in curves.rows if row.params == recorded)
    share = recorded_shares(shipped_curves(without=same)).expected(number)
    return replace(known, expected=share.on(constant).reaching(0.0, _least(task)))


def may_foretell(found: Recommendation) -> bool:
    """Returns whether a probe may foretell a score that is not known; no data are read for it."""
    plan = found.trains
    asked = (answer for answer in found.answers if answer.expected is None and answer.probe is None)
    unknown = (each.task for each in asked if each.constant is None or each.unknown == NOT_LEARNED)  # else it is data
    return any(not any(_doubts_of_task(plan, plan.tasks[task])) for task in unknown)


def with_probes(found: Recommendation, probes: Mapping[str, Probe]) -> Recommendation:
    """Returns a recommendation in which the trainings that were begun foretell their own ends, by task."""
    curves = shipped_curves()
    answers = (_probed(found.trains, answer, probes[answer.task], curves) for answer in found.answers)
    return replace(found, answers=tuple(answers))


def _probed(plan: Plan, answer: TaskAnswer, probe: Probe, curves: EarlierStudy) -> TaskAnswer:
    known = replace(answer, probe=probe, constant=probe.constant, expected=None)
    if probe.score is None:
        return replace(known, unknown=probe.error)
    task, data = plan.tasks[answer.task], plan.data_of(answer.task)
    if doubt := next(chain(_doubts_of_task(plan, task), _doubts_of_data(plan, data, curves)), ""):
        return replace(known, unknown=doubt)
    end = score_at_the_end(probe.score, probe.constant)
    shrunk = (end.score * probe.examples + 1) / (probe.examples + 2)  # all right on few examples are not all of them
    chance = standard_error(dict.fromkeys(task.metrics, shrunk), probe.examples) or 0.0
    reach = student_quantile(0, (1 + COVERAGE) / 2) * chance
    return replace(known, unknown="", expected=end.reaching(reach, _least(task)))


def _least(task: Task) -> float:
    """Returns the least score that a task's metrics have."""
    bounds = bounds_of(task.metrics)
    assert bounds, "no score is foretold of a metric without bounds"
    return bounds[0]


def _recorded_best(task: str) -> RecordedBest:
    found = [row for row in curve_table().to_pylist() if row["kind"] == TrialKind.SEARCH and row["task"] == task]
    last = [row for row in found if row["epochs"] == RUNGS[-1] and row["score"] is not None]
    return RecordedBest(
        score=max(row["score"] for row in last),
        points=len({row["number"] for row in found}),
        examples=max(row["examples"] for row in last) // RUNGS[-1],
    )


def _recorded(space: Space, taught: Teaching, curves: EarlierStudy, point: Params) -> Params | None:
    """Returns the recorded point to which a taught one is the nearest; None if it is of contributed curves."""
    points = by_mean_score(curves)
    return next((params for params in points if near_point(space, curves, params, taught.rule) == point), None)


def _doubts(plan: Plan, task: Task, curves: EarlierStudy, point: Params, recorded: Params) -> Iterator[str]:
    """Yields what makes the recorded curves say nothing of a point's score on a task, before its data are read."""
    assert curves.geometry is not None, "the curves come with their backbone"
    ours, theirs = plan.geometry, curves.geometry
    if _size(ours) != _size(theirs):
        yield f"the recorded trainings are of {_size(theirs)}, this model is {_size(ours)}"
    yield from _doubts_of_task(plan, task)
    if strays := list(_strays(ours, point, theirs, recorded)):
        yield f"the nearest point of this space to a recorded one has {' and '.join(strays)}"


def _doubts_of_task(plan: Plan, task: Task) -> Iterator[str]:
    """Yields what makes the recorded curves say nothing of any training on a task, also of one that has begun."""
    if task.generation or plan.geometry.text_to_text:
        yield "the recorded models answer with a head, this one writes"
    bounds = bounds_of(task.metrics)
    if task.lower_is_better or bounds is None or bounds[1] != BEST:
        yield f"no best score is known of {' and '.join(task.metrics)}"
    if plan.spec.data == "mini" and task.name not in plan.own_data:
        yield "the recorded trainings are on real texts, mini-GLUE is synthetic"


def _size(geometry: Geometry) -> str:
    depths = ", ".join(f"{depth} {stack} layers" for stack, depth in geometry.depths.items())
    return f"a {geometry.model_type} of {geometry.width} features and {depths}"


def _strays(ours: Geometry, point: Params, theirs: Geometry, recorded: Params) -> Iterator[str]:
    """Yields in what a point is not near to a recorded one; which roles it adapts made no difference among those."""
    if _layers(ours, point) != _layers(theirs, recorded):
        yield "other layers"
    own, other = first_shape(ours, point), first_shape(theirs, recorded)
    steps = (point["learning_rate"] * step_of(own, point), recorded["learning_rate"] * step_of(other, recorded))
    compared = {
        "other sizes of A": [(own.a_out, other.a_out), (own.a_in, other.a_in)],
        "another number of terms": [(own.terms, other.terms)],
        "another step": [steps],
    }
    yield from (words for words, pairs in compared.items() if not all(1 / NEAR <= a / b <= NEAR for a, b in pairs))


def _layers(geometry: Geometry, params: Params) -> set[int]:
    return {site.layer for site in sites(geometry, adapter_of(params))}


def _doubts_of_data(plan: Plan, data: TaskData, curves: EarlierStudy) -> Iterator[str]:
    """Yields what makes the recorded curves say nothing of a score on these data."""
    task, (trained, judged) = data.task, (set(part["label"].to_pylist()) for part in (data.train, data.validation))
    if task.labels and len(trained) < 2:
        yield "all training examples have the same label"
    odd = next((row.name for row in rows_of(task.metrics) if row.of_one_label), "")
    if odd and 1 not in judged:
        yield f"no validation example has the label {shown(task.labels[1])}, which {odd} is about"
    elif len(judged) < 2:
        yield "all validation examples have the same label"
    examples, epochs = data.train.num_rows, for_task(plan.spec.schedule.epochs, data.task.name)
    budgets: Mapping[str, int] = curves.budgets
    least, most = min(budgets.values()), max(budgets.values())
    if examples < least / RUNGS[-1] / NEAR:
        sizes = f"{least // RUNGS[-1]:,} to {most // RUNGS[-1]:,}"
        yield f"the recorded trainings had {sizes} examples, this task has {examples:,}"
    if examples * epochs < least / NEAR:
        yield f"the recorded trainings saw {least:,} to {most:,} examples, this one sees {examples * epochs:,.0f}"
    if (labels := len(data.task.labels)) > MOST_LABELS * NEAR:
        yield f"the recorded tasks have at most {MOST_LABELS} labels, this one has {labels}"
