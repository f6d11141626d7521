"""Makes a plan from a request and refuses everything that can be refused without torch or Ray."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import prod

from krona_tune.adapters.method_table import TrainedModelPart, is_peft, method_named
from krona_tune.adapters.placement import (
    ParameterCount,
    count,
    frozen_layers,
    refuse_whole_blocks,
    why_nothing_is_stored,
)
from krona_tune.backbones.geometry import Geometry, Role
from krona_tune.data import corpus
from krona_tune.data.corpus import OwnData, TaskData
from krona_tune.data.glue import HUB
from krona_tune.data.tasks import TAKEN_NAMES, TASKS, Task
from krona_tune.hub import settle_offline
from krona_tune.refusal import Refusal, lacking_package, refuse_unknown
from krona_tune.search.planning.default_point import default_point
from krona_tune.search.planning.deployable import deployable
from krona_tune.search.planning.earlier_study import BY_LOSS, EarlierStudy, contributed_curves, read_earlier
from krona_tune.search.planning.label_offset import refuse_alike_labels
from krona_tune.search.planning.nearest_point import RateRule
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.planning.space import Params, Space, adapter_of
from krona_tune.search.planning.teaching import Teaching, read_teaching
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import Manifest, PlanFacts
from krona_tune.study.randomness import stream
from krona_tune.study.request.domain import Domain, Fixed
from krona_tune.study.request.field_types import for_task
from krona_tune.study.request.metric_table import bounds_of
from krona_tune.study.request.study_spec import Precision, StudySpec
from krona_tune.study.request.task_spec import HUB_PREFIX
from krona_tune.study.request.trial import (
    HEAD_ONLY,
    PLACES,
    TrainingConfig,
    TrialConfig,
    dropout_acts_below,
    read_roles,
)
from krona_tune.study.study_state import Counts
from krona_tune.train.backbone_source import FEWER_BITS, BackboneSource, find_backbone

DRAWS = 200
"""Points that are drawn to see how many layers the placements of a space leave frozen."""


QUANTIZING = ("bitsandbytes", "accelerate")
"""The packages that quantise a backbone as it is loaded."""


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
        groups = points if self.spec.search.per_method else [sum(points)]
        return int(sum(min(self.spec.search.trials, each) for each in groups))

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
        read = {name for knobs in self.space.knobs.values() for name in knobs}
        if ignored := sorted({*self.spec.adapter} - read - {"method"}):
            yield f"adapter: {', '.join(ignored)} {'has' if len(ignored) == 1 else 'have'} no effect on {self._methods}"
        asked = {role for knobs in self.space.knobs.values() for role in _roles_of(knobs)}
        for each in self.geometry.left_out:
            if each.role in asked:
                fix = f"backbone: {{roles: {{{each.role}: '*{each.name}'}}}} takes it all the same"
                yield f"adapter.roles asks for {each.role}, but {each.name} is left out: {each.reason}; {fix}"

    @property
    def _methods(self) -> str:
        return " and ".join(self.space.knobs)

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


def _roles_of(knobs: Mapping[str, Domain]) -> frozenset[Role]:
    """Returns every role that some point of a method's domains asks for."""
    texts = knobs["roles"].ends() if "roles" in knobs else ()
    return frozenset(role for text in texts for role in read_roles(str(text)))


def trial_seed(spec: StudySpec, task: str) -> int:
    """Returns one seed for all trials of a task: they differ in what is searched, not in their data's order."""
    return stream(spec.seed, "trial", task) % 2**31


def make_plan(spec: StudySpec, place: str, begun: Manifest | None = None) -> Plan:
    """Finds the backbone, resolves the space on it and checks the data's files.

    Args:
        begun: the manifest of a study that has begun. It goes on without earlier studies that are gone, and keeps its
            default configuration and its rules.

    Raises:
        Refusal: the request can't be met.
    """
    _check_tasks(spec, place)
    _check_methods(spec, place)
    _check_search(spec)
    _check_quantized(spec, place)
    of_glue = [task for task in spec.tasks if task not in spec.own_tasks]
    places = [place for task in spec.own_tasks.values() for place in task.places]
    if any(place.startswith(HUB_PREFIX) for place in places) or (of_glue and spec.data == HUB):
        settle_offline()
    corpus.check(spec.data, of_glue)
    _check_named(spec, place)
    source = find_backbone(spec.model, spec.backbone.corrections)
    if spec.backbone.quantize and source.config.get(FEWER_BITS) is not None:
        problem = f"{source.name}'s weights are kept in fewer bits already"
        raise Refusal(f"{place}: backbone.quantize", problem, "leave it out, or give the model that it was made of")
    geometry = source.geometry
    if geometry.positions is not None and spec.examples.max_length > geometry.positions:
        problem = f"{spec.examples.max_length} tokens, {source.name} reads {geometry.positions}"
        raise Refusal(f"{place}: examples.max_length", problem, f"write {geometry.positions} or less")
    if written := [task for task in spec.tasks if task in spec.own_tasks and spec.own_tasks[task].target]:
        geometry = _writing(spec, geometry, written, source.name)
    deployed = deployable(resolve(spec, geometry, place), spec, place)
    space = deployed.space
    if begun is None:  # one that has begun goes on as it is
        for knobs in space.knobs.values():
            for roles in knobs["roles"].ends() if "roles" in knobs else ():
                refuse_whole_blocks(str(roles), f"{place}: adapter.roles")
    _refuse_parts_of_codes(spec, space, place)
    reading = _Reading(leaves_out=begun is not None)
    earlier = tuple(reading.each(lambda named: read_earlier(named, space), spec.search.learns_from))
    teachers = list(reading.each(contributed_curves, spec.search.teachers))
    own = _own_data(spec, [task for task in spec.tasks if task in spec.own_tasks])
    tasks = {name: own[name].task if name in own else TASKS[name] for name in spec.tasks}
    for task in tasks.values() if begun is None else ():
        refuse_alike_labels(task, geometry)
    _check_shared_scores(spec, tasks)
    _check_least_gain(spec, tasks)
    _refuse_other_metrics([*earlier, *teachers], tasks)
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


def _writing(spec: StudySpec, geometry: Geometry, written: Sequence[str], model: str) -> Geometry:
    """Returns the geometry of a backbone that writes. Refuses one that can't, or has no room for the answers."""
    if geometry.is_encoder:
        fix = "take a decoder or an encoder-decoder, or give the task a label"
        raise Refusal(f"tasks.{written[0]}.target", f"{model} is an encoder, which writes no text", fix)
    labelled = [task for task in spec.tasks if task not in written]
    if labelled and not geometry.text_to_text:
        problem = f"{model} is a decoder: it answers {written[0]} with text, {labelled[0]} with a head"
        raise Refusal("tasks", problem, "make two studies of them")
    for task in written:
        most = spec.own_tasks[task].max_new_tokens
        read = 0 if geometry.is_encoder_decoder else spec.examples.max_length
        if geometry.positions is not None and read + most > geometry.positions:
            whole = f"{most} tokens after {read} of examples.max_length" if read else f"{most} tokens"
            problem, fix = f"{whole}, {model} has room for {geometry.positions}", "write less of them"
            raise Refusal(f"tasks.{task}.max_new_tokens", problem, fix)
    return geometry.writing()


def _own_data(spec: StudySpec, tasks: Sequence[str]) -> dict[str, OwnData]:
    if not tasks:
        return {}
    from krona_tune.data.own_data import load_own  # no other plan loads scikit-learn and datasets

    return {name: load_own(name, spec.own_tasks[name], f"tasks.{name}") for name in tasks}


def _check_tasks(spec: StudySpec, place: str) -> None:
    for task in spec.own_tasks:
        if task.lower() in TAKEN_NAMES:
            fix = "choose another name" + f", or write {task}: glue for GLUE's" * (task.lower() in TASKS)
            raise Refusal(f"{place}: tasks.{task}", "this name has a meaning already", fix)
    known = {*TASKS, *spec.own_tasks}
    refuse_unknown(f"{place}: tasks", "task", known, *spec.tasks)
    for section in ("schedule", "examples"):
        for name, setting in vars(getattr(spec, section)).items():
            named = setting if isinstance(setting, dict) else ()
            refuse_unknown(f"{place}: {section}.{name}", "task", {*known, "default"}, *named)


def _check_methods(spec: StudySpec, place: str) -> None:
    for section, names in (("adapter.method", spec.domains()["method"].ends()), ("methods", spec.methods)):
        for name in names:
            package = method_named(str(name), f"{place}: {section}").needs
            if package and find_spec(package) is None:
                fix = f"pip install 'krona_tune[{package}]'"
                raise Refusal(f"{place}: {section}", f"{name} needs the package {package}", fix)


def _check_named(spec: StudySpec, place: str) -> None:
    """Refuses a placement beside the maps that a person has named."""
    if spec.backbone.target_modules is None:
        return
    for section, knobs in (
        ("adapter", spec.adapter),
        *((f"methods.{name}", own) for name, own in spec.methods.items()),
    ):
        if asked := next((name for name in PLACES if name in knobs), None):
            problem = "backbone.target_modules fixes the maps that carry an adapter, so that nothing is left to place"
            raise Refusal(f"{place}: {section}.{asked}", problem, "leave one of them out; null leaves this one out")


def _check_quantized(spec: StudySpec, place: str) -> None:
    """Refuses quantised weights where a package for them is missing, or a method would train them."""
    if spec.backbone.quantize is None:
        return
    where = f"{place}: backbone.quantize"
    for package in QUANTIZING:
        if find_spec(package) is None:
            raise lacking_package(where, package, "quantize")
    trained = [
        name for name in spec.domains()["method"].ends() if method_named(str(name)).trained_part is TrainedModelPart.ALL
    ]
    if trained:
        raise Refusal(where, f"{trained[0]} trains the weights, which are quantised", "leave the method or this out")
    for name in filter(is_peft, map(str, spec.domains()["method"].ends())):
        from krona_tune.adapters.peft_class import ON_QUANTIZED, plain_name, variants_in

        odd = next((each for each in variants_in(name, spec.domains(name)) if each not in ON_QUANTIZED), None)
        if plain_name(name) not in ON_QUANTIZED or odd:
            known = ", ".join(f"peft:{each}" for each in sorted(ON_QUANTIZED))
            said = f"{name} with the fields of {odd}" if odd else name
            raise Refusal(where, f"{said} is not known to work on quantised weights", f"take one of {known}")


def _refuse_parts_of_codes(spec: StudySpec, space: Space, place: str) -> None:
    """Refuses a method of peft on a part of a quantised map, or on a transposed one: it would read their codes."""
    ours = [name for name in filter(is_peft, space.methods) if spec.backbone.quantize]
    odd = next((site for site in space.geometry.sites if site.rows or site.transposed), None)
    if ours and odd:
        problem = f"{odd.key} is a part of a map, or a transposed one, which {ours[0]} can't adapt in few bits"
        raise Refusal(f"{place}: backbone.quantize", problem, "take krona or lora, or leave this out")


def _check_search(spec: StudySpec) -> None:
    search = spec.search
    if search.shared and (search.per_method or search.pareto):
        problem = "one configuration for all tasks has no methods and no sizes of its own"
        raise Refusal("--shared", problem, "leave out search.per_method and --objective pareto")
    if search.shared and spec.finalists.top > 1:
        raise Refusal("--shared", f"finalists.top {spec.finalists.top}: one configuration wins for all", "write 1")
    if search.shared and not search.early_stopping:
        problem = "search.early_stopping is false: configurations for all tasks are stopped between tasks"
        raise Refusal("--shared", problem, "leave it out")
    sampler = f"sampler {search.sampler}"
    if search.first_point and not search.sampled.in_order:
        problem = f"{search.sampler} has no point number {search.first_point}"
        raise Refusal("search.first_point", problem, "leave it out, or write search.sampler: sobol")
    several = {"search.per_method": search.per_method, "--shared": search.shared, "pareto": search.pareto}
    asked = bool(spec.finalists.default or spec.finalists.budget)
    _refuse_beside("finalists", "default and budget choose one configuration of each task", asked, several)
    others = {"search.objective pareto": search.pareto, "search.warm_start": search.learns_from}
    _refuse_beside("search.sampler", f"{search.sampler} takes its own points in order", search.sampled.in_order, others)
    if search.front and not search.pareto:
        problem = "it says how the best score at every size is looked for"
        raise Refusal("search.front", problem, "write search.objective: pareto, or search.front: null")
    others = {"search.per_method": search.per_method, sampler: not search.sampled.learns}
    _refuse_beside("search.front", "the model of the study proposes", search.front is not None, others)
    others = {
        "search.warm_start": search.learns_from,
        "search.per_method": search.per_method,
        "--shared": search.shared,
        sampler: search.sampled.in_order or search.sampled.of_all_tasks,
    }
    _refuse_beside("search.taught", "the recorded curves say which points come first", bool(search.taught), others)


def _refuse_beside(place: str, why: str, asked: bool, others: Mapping[str, object]) -> None:
    """Refuses a setting, if it is asked for beside another one that chooses the points too."""
    if asked and (other := next((key for key, on in others.items() if on), None)):
        raise Refusal(place, f"{why}, and {other} says it too", "leave one out")


def _refuse_other_metrics(studies: Iterable[EarlierStudy], tasks: Mapping[str, Task]) -> None:
    """Refuses curves of a task of the same name that is scored in another way."""
    for study in studies:
        for name in study.metrics.keys() & tasks.keys():
            own = BY_LOSS if tasks[name].tested_by_other_scores else tasks[name].metrics
            theirs, ours = (" and ".join(each) for each in (study.metrics[name], own))
            if theirs != ours:
                problem = f"{name} is scored by {theirs} in {study.name}, by {ours} here"
                raise Refusal("--warm-start", problem, "leave it out, or give the task another name")


def _check_shared_scores(spec: StudySpec, tasks: Mapping[str, Task]) -> None:
    """Refuses a mean over tasks of losses and of other scores."""
    by_loss = [name for name, task in tasks.items() if task.judged_by_loss]
    if spec.search.shared and 0 < len(by_loss) < len(tasks):
        problem = f"{by_loss[0]} is compared by the loss of its targets, which has no mean with other scores"
        raise Refusal("--shared", problem, "write evaluate: generate, or leave it out")


def _check_least_gain(spec: StudySpec, tasks: Mapping[str, Task]) -> None:
    """Refuses to end searches by a gain that nobody has written, where a score may have any unit."""
    if not spec.search.stop or "least_gain" in spec.search.model_fields_set:
        return
    for name, task in tasks.items():
        if task.judged_by_loss or not bounds_of(task.metrics):
            gain = f"a gain of {spec.search.least_gain:g} may be much or nothing"
            problem = f"the score of {name} ({' and '.join(task.metrics)}) has no known bounds, so that {gain}"
            raise Refusal("search.stop", problem, "write search.least_gain too, in the unit of the score")
