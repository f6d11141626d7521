"""Makes a plan from a request that passes every check that needs neither torch nor Ray."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from krona_tune.adapters.placement import (
    ParameterCount,
    count,
    frozen_layers,
    why_nothing_is_stored,
)
from krona_tune.backbones.geometry import Geometry, Role
from krona_tune.data import corpus
from krona_tune.data.corpus import OwnData, TaskData
from krona_tune.data.glue import HUB
from krona_tune.data.tasks import TASKS, Task
from krona_tune.hub import settle_offline
from krona_tune.refusal import Refusal
from krona_tune.search.planning.default_point import default_point
from krona_tune.search.planning.deployable import deployable
from krona_tune.search.planning.earlier_study import EarlierStudy, contributed_curves, read_earlier
from krona_tune.search.planning.label_offset import refuse_alike_labels
from krona_tune.search.planning.nearest_point import RateRule
from krona_tune.search.planning.request_checks import check_request, check_scores, check_space, on_backbone
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.planning.space import Params, Space, adapter_of
from krona_tune.search.planning.teaching import Teaching, read_teaching
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import Manifest, PlanFacts
from krona_tune.study.randomness import stream
from krona_tune.study.request.domain import Domain, Fixed
from krona_tune.study.request.field_types import for_task
from krona_tune.study.request.study_spec import Precision, StudySpec
from krona_tune.study.request.task_spec import HUB_PREFIX
from krona_tune.study.request.trial import (
    HEAD_ONLY,
    KNOBS,
    PEFT_FIELD,
    TrainingConfig,
    TrialConfig,
    dropout_acts_below,
    read_roles,
)
from krona_tune.study.study_state import Counts
from krona_tune.train.backbone_source import IN_FOLDER, BackboneSource, find_backbone

DRAWS = 200
"""Points that are drawn to see how many layers the placements of a space leave frozen."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request that passed all checks. `place` is the file it was read from; the study learns from the `earlier`, and
    a `taught` one from the recorded curves. `default` is the configuration that its finals compare with, if they do.

    `own_data` holds the data of the tasks that are not GLUE's, which a plan reads because their labels make the task.
    `computes_in` is what `precision: auto` is in this study; None if it is not known yet. `undeployable` are the words
    for what the targets of its deployment leave out of the space. `unread` says of earlier studies why one that has
    begun goes on without them. `exact_cutoff` is as `PlanFacts` has it, `means_decide` as `TaskFacts`, where
    `finalists.steady` holds.
    """

    spec: StudySpec
    place: str
    tasks: Mapping[str, Task]
    own_data: Mapping[str, OwnData] = field(default_factory=dict)
    source: BackboneSource
    geometry: Geometry
    space: Space
    earlier: tuple[EarlierStudy, ...] = ()
    taught: Teaching | None = None
    default: Params | None = None
    computes_in: Precision | None = None
    undeployable: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    exact_cutoff: bool = True
    means_decide: bool = True

    @property
    def precision(self) -> Precision:
        """Returns what all trials compute in; auto: each worker chooses."""
        asked = self.spec.precision
        return self.computes_in or asked if asked == "auto" else asked

    @property
    def trials(self) -> int:
        """Returns the number of search trials of a task."""
        return Counts.of(self.spec, self.planned).searched

    @property
    def most_trained(self) -> int:
        """Returns how many search trials of a task its space has points for, at most: none is trained twice."""
        points = [prod(domain.count for domain in self.space.knobs[method].values()) for method in self.space.methods]
        return int(sum(min(self.spec.search.trials, each) for each in self.spec.search.by_group(points)))

    @property
    def planned(self) -> PlanFacts:
        """Returns what the plan adds to its request, for the study's manifest."""
        return PlanFacts(
            methods=len(self.space.methods),
            text_to_text=self.geometry.text_to_text,
            compares=self.default is not None,
            default=None if self.default is None else dict(self.default),
            tries_default=bool(self.taught) or not self.spec.searches,
            taught=len(self.taught_points),
            seen=self.taught.rule.seen if self.taught else None,
            by_depth=bool(self.taught and self.taught.rule.by_depth),
            exact_cutoff=self.exact_cutoff,
        )

    @property
    def positions(self) -> int | None:
        """Returns how many tokens the model has learned to read at once; None if that is not known.

        One with rotary positions computes further ones, for which it was not trained.
        """
        known = (self.geometry.positions, self.source.config.get("max_position_embeddings"))
        return min((each for each in known if isinstance(each, int) and each > 0), default=None)

    @property
    def taught_points(self) -> Sequence[Params]:
        """Returns the points of the recorded curves that a task's search tries."""
        return self.taught.points[: self.spec.search.taught_trials] if self.taught else ()

    def count(self, trial: TrialConfig) -> ParameterCount:
        """Counts the parameters that a trial trains. Raises a Refusal if its sizes do not fit the backbone."""
        return count(self.geometry, trial.adapter, self.tasks[trial.task].outputs)

    def data_of(self, name: str) -> TaskData:
        """Loads a task's data, as many of each part as the request uses. Raises a Refusal if they can't be read."""
        wanted = {part: getattr(self.spec.examples, part) for part in corpus.PARTS}
        limits = {f"{part}_examples": None if each is None else for_task(each, name) for part, each in wanted.items()}
        return corpus.load(self.tasks[name], self.own_data.get(name, self.spec.data), seed=self.spec.seed, **limits)

    def lacking(self) -> Iterator[str]:
        """Yields which placements of the space the model lacks, which maps of its roles are left out, and why, and from
        what a study that has begun can't learn any more."""
        yield from self.unread
        if self.positions and self.spec.examples.max_length > self.positions:
            yield f"examples.max_length: {self.source.name} was trained to read {self.positions} tokens at once"
        for name in sorted(self.spec.adapter.keys() & {"roles", "layers"}) if self.spec.backbone.narrow else ():
            searched = {value for knobs in self.space.knobs.values() if name in knobs for value in knobs[name].ends()}
            gone = [str(value) for value in self.spec.adapter[name].ends() if value not in searched]
            if searched and gone:
                yield f"adapter.{name}: {', '.join(gone)} left out, which this {self.geometry.model_type} lacks"
        yield from self._ignored()
        asked = {role for knobs in self.space.knobs.values() for role in _roles_of(knobs)}
        for each in self.geometry.left_out:
            if each.role in asked:
                fix = f"backbone: {{roles: {{{each.role}: '*{each.name}'}}}} takes it all the same"
                yield f"adapter.roles asks for {each.role}, but {each.name} is left out: {each.reason}; {fix}"

    def _ignored(self) -> Iterator[str]:
        """Yields which written knobs no searched method takes, because none reads them or each has its own, and which
        methods with knobs of their own are not searched."""
        knobs, own = self.space.knobs, self.spec.methods
        read = {name for domains in knobs.values() for name in domains}
        taken = {name for method, domains in knobs.items() for name in domains if name not in own.get(method, {})}
        searched = " and ".join(knobs)
        if unread := self.spec.adapter.keys() - read - {"method"}:
            yield f"adapter: {_without_effect(unread)} on {searched}"
        for section in KNOBS:
            if overridden := getattr(self.spec, section).keys() & read - taken:
                sections = [f"methods.{method}" for method in knobs if overridden & own.get(method, {}).keys()]
                yield f"{section}: {_without_effect(overridden)}: overridden in {' and '.join(sections)}"
        if others := own.keys() - set(map(str, self.spec.domains()["method"].ends())):
            yield f"methods: {_without_effect(others)}: adapter.method is {searched}"

    def computed_once(self) -> str:
        """Returns which of the first layers are computed once for all trials and epochs, or why none are."""
        limit, depth = self.spec.resources.stored_states_gb, self.geometry.depths[self.geometry.first_stack]
        reason = why_nothing_is_stored(self.geometry, self.source.config)
        if not limit or reason:
            return f"no layers, since {reason if limit else 'resources.stored_states_gb is 0'}"
        rng = random.Random(0)
        placed = sorted({self._skipped(self.space.draw(rng)) for _ in range(DRAWS)})
        domains = self.spec.domains()
        no_dropout = domains["dropout"] == Fixed(0.0) or domains["dropout_layers"] == Fixed("adapted")
        head = depth if no_dropout and not self.geometry.text_to_text else 0
        if {*placed, head} == {0}:
            return "no layers, since dropout, trained norms or adapters act in the first"
        alone = f", {head} for the head alone" if head else ""
        layers = f"{' or '.join(map(str, placed))} of {depth} {self.geometry.first_stack} layers"
        return f"{layers} by placement{alone}, in {limit:g} GB at most"

    def _skipped(self, point: Params) -> int:
        acts = dropout_acts_below(point["dropout"], point["dropout_layers"])
        return 0 if acts else frozen_layers(self.geometry, adapter_of(point))

    def baselines(self, task: str) -> list[TrialMessage]:
        """Returns the trials of the head alone: the request's training with each baseline learning rate."""
        domains = self.spec.domains()
        fixed = {name: domains[name] for name in TrainingConfig.model_fields}
        training = {name: domain.value for name, domain in fixed.items() if isinstance(domain, Fixed)}
        rates = self.spec.search.baseline_learning_rates[: Counts.of(self.spec, self.planned).heads]
        return [
            TrialMessage(
                TrialKind.BASELINE.facts.id_of(task=task, number=number),
                task,
                number,
                TrialKind.BASELINE,
                trial_seed(self.spec, task),
                {"method": HEAD_ONLY, **training, "learning_rate": rate},
            )
            for number, rate in enumerate(rates)
        ]


def _without_effect(names: Iterable[str]) -> str:
    ordered = sorted(name.removeprefix(PEFT_FIELD) for name in names)
    return f"{', '.join(ordered)} {'has' if len(ordered) == 1 else 'have'} no effect"


def _roles_of(knobs: Mapping[str, Domain]) -> frozenset[Role]:
    """Returns every role that some point of a method's domains asks for."""
    texts = knobs["roles"].ends() if "roles" in knobs else ()
    return frozenset(role for text in texts for role in read_roles(str(text)))


def trial_seed(spec: StudySpec, task: str) -> int:
    """Returns one seed for all trials of a task: they differ in what is searched, not in their data's order."""
    return stream(spec.seed, "trial", task) % 2**31


def _backbone(spec: StudySpec, begun: Manifest | None) -> BackboneSource:
    """Returns the backbone that a request names; a study that has begun takes no other one, nor another name for it."""
    try:
        return find_backbone(spec.model, spec.backbone.corrections)
    except Refusal as refusal:
        if begun is None or begun.model.source != IN_FOLDER:
            raise
        fix = "put back there what the study was begun with; a link to where it is now will do"
        raise refusal.at(refusal.place, fix=fix) from None


def make_plan(spec: StudySpec, place: str, begun: Manifest | None = None) -> Plan:
    """Finds the backbone, resolves the space on it and checks the data's files.

    Args:
        begun: the manifest of a study that has begun. It goes on without earlier studies that are gone, and keeps its
            default configuration and its rules.

    Raises:
        Refusal: the request can't be met.
    """
    check_request(spec, place)
    of_glue = [task for task in spec.tasks if task not in spec.own_tasks]
    places = [place for task in spec.own_tasks.values() for place in task.places]
    if any(place.startswith(HUB_PREFIX) for place in places) or (of_glue and spec.data == HUB):
        settle_offline()
    corpus.check(spec.data, of_glue)
    source = _backbone(spec, begun)
    geometry = on_backbone(spec, source, place)
    deployed = deployable(resolve(spec, geometry, place), spec, place)
    space = deployed.space
    check_space(spec, space, place, new=begun is None)
    reading = _Reading(leaves_out=begun is not None)
    earlier = tuple(reading.each(lambda named: read_earlier(named, space), spec.search.learns_from))
    teachers = list(reading.each(contributed_curves, spec.search.teachers))
    own = _own_data(spec, [task for task in spec.tasks if task in spec.own_tasks])
    tasks = {name: own[name].task if name in own else TASKS[name] for name in spec.tasks}
    for task in tasks.values() if begun is None else ():
        refuse_alike_labels(task, geometry)
    check_scores(spec, tasks, [*earlier, *teachers])
    taught = None
    if spec.search.taught_trials:
        rule = _rule_of(begun) if begun else RateRule(seen=_seen(spec, own))
        taught = read_teaching(space, contributed=teachers, every_size=spec.search.pareto, rule=rule)
    return Plan(
        spec=spec,
        place=place,
        tasks=tasks,
        own_data=own,
        source=source,
        geometry=geometry,
        space=space,
        earlier=earlier,
        taught=taught,
        default=_default(spec, space, taught, begun),
        undeployable=deployed.left_out,
        unread=tuple(reading.unread),
        exact_cutoff=begun is None or bool(begun.planned and begun.planned.exact_cutoff),
        means_decide=begun is None or any(facts.means_decide for facts in begun.tasks.values()),
    )


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """Reads what a study learns from. With `leaves_out`, what can't be read is left out, and `unread` says why."""

    leaves_out: bool
    unread: list[str] = field(default_factory=list)

    def each(self, read: Callable[[str], EarlierStudy], named: Iterable[str]) -> Iterator[EarlierStudy]:
        for one in named:
            try:
                yield read(one)
            except Refusal as refusal:
                if not self.leaves_out:
                    raise
                self.unread.append(f"{refusal.place}: {refusal.problem}; the study goes on without it")


def _rule_of(begun: Manifest) -> RateRule:
    """Returns the rule by which a study was taught its learning rates when it began."""
    planned = begun.planned or PlanFacts()
    return RateRule(seen=planned.seen, by_depth=planned.by_depth)


def _seen(spec: StudySpec, own: Mapping[str, OwnData]) -> float | None:
    """Returns how many examples the longest training of a task sees; None if only the read data will tell."""
    longest = 0.0
    for task in spec.tasks:
        if task in own:
            examples = spec.examples.used("train", task, own[task].parts["train"].num_rows)
        elif spec.examples.train is not None:
            examples = for_task(spec.examples.train, task)
        else:
            return None
        longest = max(longest, examples * for_task(spec.schedule.epochs, task))
    return longest


def _default(spec: StudySpec, space: Space, taught: Teaching | None, begun: Manifest | None) -> Params | None:
    if not spec.finalists.default:
        return None
    if begun and begun.planned and (begun.planned.default is not None or not begun.planned.compares):
        return begun.planned.default
    return default_point(space, taught)


def _own_data(spec: StudySpec, tasks: Sequence[str]) -> dict[str, OwnData]:
    if not tasks:
        return {}
    from krona_tune.data.own_data import load_own  # no other plan loads scikit-learn and datasets

    return {name: load_own(name, spec.own_tasks[name], f"tasks.{name}") for name in tasks}
