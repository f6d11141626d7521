"""Holds the request of a study, frozen and checked before anything starts."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from krona_tune.backbones.geometry import ANYWHERE, Role
from krona_tune.refusal import Refusal, unknown
from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.request.deploy_target import Targets
from krona_tune.study.request.domain import Domain, Fixed, as_real, parse_domain
from krona_tune.study.request.field_types import (
    MOST,
    ByTaskExamples,
    Count,
    CountFromZero,
    OwnName,
    Place,
    Positive,
    Printable,
    for_task,
)
from krona_tune.study.request.plain_yaml import by_path
from krona_tune.study.request.schedule import ScheduleSpec
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.request.task_spec import TaskSpec, refuse_unsupported
from krona_tune.study.request.trial import KNOBS, PEFT, PEFT_FIELD, PLACES
from krona_tune.study.settings import CHANGEABLE

Precision = Literal["auto", "bf16", "fp32"]
Keep = Literal["winners", "finalists", "all"]
Quantize = Literal["nf4", "int8"]


OF_GLUE = "glue"
"""Stands in a mapping of tasks for the definition of a task of GLUE."""


class ExamplesSpec(FrozenValue):
    """The most examples that are used of each split, and the most tokens of each example."""

    train: ByTaskExamples | None = None
    """The most training examples; one number, or one per task with `default`. null: all."""
    validation: ByTaskExamples | None = None
    """The most validation examples; the same forms."""
    test: ByTaskExamples | None = None
    """The most test examples; the same forms."""
    max_length: Annotated[int, Field(ge=4, le=MOST)] = 128
    """The most tokens of an example; the rest is cut."""

    def used(self, part: str, task: str, rows: int, *, made: bool = False) -> int:
        """Returns how many of so many rows, which a task has in a part, a study uses; as many as it asks for of a
        miniature, which is made."""
        most = getattr(self, part)
        asked: int = rows if most is None else for_task(most, task)
        return asked if made else min(rows, asked)


EARLIER_CONFIDENCE, CONFIDENCE = 0.95, 0.99
"""With which confidence one configuration had to be better than another in studies that did not write it, and has to
be in new ones. Chosen by `python -m tests.benchmarks.finals.replay`."""
MORE_SEEDS = 2
"""How many seeds more than the least the budget of finals pays for, if all configurations got them."""


class FinalistsSpec(FrozenValue):
    """The best configurations, trained again with new seeds and evaluated on the test half.

    They get the time budget that the search has left. A study whose YAML lacks this section has none.
    """

    # The keys that `settled` gives a value.
    SETTLED: ClassVar = ("default", "counted", "steady", "confidence", "budget")

    top: CountFromZero = 2
    """How many of a task's best (with `search.per_method`, of each method's) are trained again; 0: none."""
    seeds: Count = 3
    """How many new seeds each of them gets at least."""
    default: bool | None = None
    """Whether the default configuration is trained beside them: then what is chosen is the default or the head alone,
    unless another one is better, which takes two seeds to show. A new study writes what holds: true, unless there is
    one seed, several methods are searched, or the search is by size or for all tasks at once. null: as before this key
    was there."""
    counted: bool | None = None
    """Counts the default configuration as one of the `top` if it is one of a task's best; false: `top` others are
    trained beside it. A new study writes what holds: true where the default is trained. null: as before this key was
    there, like false."""
    steady: bool | None = None
    """Looks for a configuration that learns with every seed: while none of the finals does, the next best of the search
    joins them, as far as `budget` goes; and one that does need only have the mean of a default configuration that does
    not. The head alone, too, takes the place of such a one only with that mean. A new study writes what holds: true
    where the default is trained. null: as before this key was there, like false."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    """Sets how sure it must be, one-sided and on validation, that a configuration is better than the default one and
    the head alone; only then is it chosen. A lower number chooses others more often, also ones that are worse. A new
    study writes what holds: 0.99 where one configuration of each task is looked for. null: as before this key was
    there, 0.95."""
    budget: Count | None = None
    """The most trainings of a task's finals, with the head alone. What `top` and `seeds` leave of it gives more seeds
    to those among which the best can't be told yet; a new study may not ask for fewer than these two take. Finalists
    that more trials bring later are trained beyond it. A new study writes what holds: two seeds more for each; null if
    there is one seed and no default, or the search is by method, by size or for all tasks at once. null: no more
    seeds."""

    def settled(self, *, trials: int, alone: bool, several: bool, head: bool) -> Self:
        """Returns the request of finals that begin now.

        Args:
            trials: how many trials a task's search has, so that no more of them can be the best.
            alone: whether one configuration of each task is looked for.
            several: whether several methods compete: the default configuration, of one of them, is then left out.
            head: whether the head alone is trained, too.

        Raises:
            Refusal: the budget does not pay for the least number of seeds.
        """
        if not self.top:
            return self.model_copy(update={"default": False, "counted": False, "steady": False, "budget": None})
        if not alone:
            return self.model_copy(update={"default": self.default or False, "counted": False, "steady": False})
        default = self.seeds > 1 and not several if self.default is None else self.default
        best = min(self.top, trials)
        least = (best + default + head) * self.seeds
        if self.budget is not None and self.budget < least:
            problem = f"{self.budget} trainings are fewer than the {least} of {self.seeds} seeds for each configuration"
            raise Refusal("finalists.budget", problem, f"write {least} or more, or less in finalists.top or seeds")
        whole = (best + head + default) * (self.seeds + MORE_SEEDS)
        more = whole if default or self.seeds > 1 else None
        counted, steady = (default and asked is not False for asked in (self.counted, self.steady))
        confidence = self.confidence or CONFIDENCE
        settled = {"default": default, "counted": counted, "steady": steady, "budget": self.budget or more}
        return self.model_copy(update={**settled, "confidence": confidence})


SETTLED = (
    *(f"search.{key}" for key in SearchSpec.SETTLED),
    *(f"finalists.{key}" for key in FinalistsSpec.SETTLED),
)
"""The keys that a new study settles as it begins, if nobody gave them."""


class ResourcesSpec(FrozenValue):
    """The resources of a study and of each of its trials."""

    cpus_per_trial: Positive = 1
    """CPU cores of one trial."""
    gpus_per_trial: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """GPUs of one trial; 0.5 puts two trials on one GPU. null: one if Ray sees a GPU, else none."""
    max_concurrent: Count | None = None
    """The most trials that run at once; null: as many as fit. On a cluster that the study joins it may be more than fit
    at the start, since nodes may come."""
    nice: Annotated[int, Field(ge=0, le=19)] = 0
    """The priority of the trials' processes, as of the command `nice`: from 0, as all others, to 19, behind all others.
    It applies where the study starts Ray itself; on a cluster that it joins, the cluster's own stays."""
    price_per_hour: Positive | None = None
    """The price of a device hour, in your currency; then money stands beside device hours. null: nowhere."""
    stored_states_gb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    """GB of disk that each machine may fill with hidden states below the first trained layer; 0: none."""
    keep_checkpoints: Keep = "finalists"
    """Whose checkpoints stay when the study ends: the winners', also the finalists', or all."""


REAL = {name for knobs in KNOBS.values() for name, field in knobs.items() if field.annotation in (float, float | None)}
"""The knobs that are real numbers: for them, `{low: 1, high: 16}` includes 2.5."""


def _read_domains(knobs: Mapping[Any, Any], section: str) -> dict[Any, Domain]:
    """Returns the domain of each knob that YAML sets in a section; null leaves it at its default."""
    found = {
        name: parse_domain(value, f"{section}.{str(name).removeprefix(PEFT_FIELD)}")
        for name, value in knobs.items()
        if value is not None
    }
    return {name: as_real(domain) if name in REAL else domain for name, domain in found.items()}


def _domains(section: str) -> BeforeValidator:
    """Returns a reader for a section of the YAML: each key is a knob of that section, each value a domain."""
    return BeforeValidator(lambda written: _read_domains(written, section) if isinstance(written, Mapping) else written)


def _by_method(written: Any) -> Any:
    """Reads the section `methods`: each key is a method, each value holds knobs of any section."""
    if not isinstance(written, Mapping):
        return written
    return {
        method: _read_domains(knobs, f"methods.{method}") if isinstance(knobs, Mapping) else knobs
        for method, knobs in written.items()
    }


Domains = Annotated[
    dict[str, Domain], PlainSerializer(lambda domains: {name: domain.plain() for name, domain in domains.items()})
]


def _of_a_map(role: Role) -> Role:
    if role is Role.FEED_FORWARD:
        raise ValueError("it is a whole block; name its maps as feed_forward_in and feed_forward_out")
    if role is Role.NAMED:
        raise ValueError("a map has it that backbone.target_modules names; write that")
    return role


ALL_LINEAR = "all-linear"
"""peft's word for every linear map."""


def _readable_names(named: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    """Returns names of maps, checked as peft reads them: a list of names or their ends, or a regular expression."""
    if isinstance(named, str):
        if "\n" in named:
            raise ValueError("it is a regular expression of several lines; write it in one")
        try:
            re.compile(named)
        except re.error as error:
            raise ValueError(f"{named!r} is no regular expression ({error})") from None
    if named is not None and not (named and all(named)):
        raise ValueError("it names nothing; write names of maps such as [q_proj, v_proj], or leave it out")
    return named


class BackboneSpec(FrozenValue):
    """Says how the backbone is kept, and corrections of what is found about it."""

    quantize: Quantize | None = None
    """Keeps frozen weights in 4 bits (nf4) or 8 bits (int8); null: as they are."""
    roles: dict[Annotated[Role, AfterValidator(_of_a_map)], str] = Field(default_factory=dict)
    """A pattern of names of maps in a layer, by their role, where none or the wrong one is found."""
    target_modules: Annotated[str | tuple[str, ...] | None, AfterValidator(_readable_names)] = None
    """The maps that carry an adapter, in peft's words: names or ends of names in a list, a regular expression of whole
    names, or all-linear. They fix the sites: roles, stacks and layers are left out beside it. null: as roles say."""

    narrow: bool = False
    """Whether placements that the model lacks are left out of the space, as the shipped default spaces ask; false: they
    are refused."""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if self.roles and self.target_modules is not None:
            raise ValueError("target_modules names the maps, so roles beside it say nothing; leave one of them out")
        if isinstance(self.target_modules, tuple) and ALL_LINEAR in self.target_modules:
            raise ValueError(f"target_modules: {ALL_LINEAR} is a word for all maps; write it alone, not in a list")
        return self

    @property
    def corrections(self) -> dict[Role, str]:
        """Returns what is corrected of the geometry: patterns by role, or expressions of whole names of maps, one a
        line."""
        named = self.target_modules
        if named is None:
            return self.roles
        if isinstance(named, str):
            return {Role.NAMED: {ALL_LINEAR: ".*"}.get(named, named)}
        return {Role.NAMED: "\n".join(ANYWHERE + re.escape(name) for name in named)}


class StudySpec(FrozenValue):
    """One study: a backbone, tasks, a space of adapters and trainings, a budget."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    model: Place
    """The backbone: a name on the hub, or a local folder."""
    backbone: BackboneSpec = BackboneSpec()
    """How the backbone is kept, and corrections of what is found about it."""
    data: Place = "hub"
    """Where GLUE's data are: `hub`, `mini` (synthetic), or a folder of TSV or Parquet files."""
    tasks: Annotated[tuple[str, ...], AfterValidator(lambda tasks: tuple(dict.fromkeys(tasks)))] = ()
    """Names of GLUE tasks, or a mapping of names to tasks of your own, or to the word glue for one of GLUE."""
    own_tasks: dict[OwnName, TaskSpec] = Field(default_factory=dict)
    """Tasks of one's own by name; YAML writes them in the mapping `tasks`."""
    name: Printable = ""
    """The study's name, and that of its folder. A study writes it; that of a new one is given where it is begun."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed of everything random."""
    precision: Precision = "auto"
    """What training computes in; auto: bf16 if the processor or GPU that it begins on is fast at it, else fp32."""
    adapter: Annotated[Domains, _domains("adapter")] = Field(default_factory=dict)
    """Domains of the adapter's knobs."""
    training: Annotated[Domains, _domains("training")] = Field(default_factory=dict)
    """Domains of the training's knobs."""
    methods: Annotated[dict[str, Domains], BeforeValidator(_by_method)] = Field(default_factory=dict)
    """Domains by method that replace those of `adapter` and `training` for it."""
    schedule: ScheduleSpec = ScheduleSpec()
    """How long a trial trains, and where it is judged."""
    examples: ExamplesSpec = ExamplesSpec()
    """The most examples that are used of each split, and the most tokens of each example."""
    search: SearchSpec = SearchSpec()
    """How many trials there are, how they are proposed, and when the study stops."""
    finalists: FinalistsSpec = FinalistsSpec(top=0)
    """The best configurations, trained again with new seeds and evaluated on the test half."""
    resources: ResourcesSpec = ResourcesSpec()
    """Says what a trial uses, and how many run at once."""
    deploy: Targets = ()
    """Where the winners are to be used: merged, onnx, peft, krona, gguf, or vllm:64 with its largest rank, one or
    several.
    Only adapters that each of these holds exactly are searched."""
    experiment: Printable = ""
    """The MLflow experiment that holds the study's runs beside those of other studies. Left out: one of its own."""
    reasons: dict[str, Printable] = Field(default_factory=dict)
    """Why krona_tune chose the values of a space that it made itself, by key. It changes nothing that is run."""

    @model_validator(mode="before")
    @classmethod
    def _fields_of_peft(cls, written: Any) -> Any:
        """Returns the request with the fields of peft's configurations under their prefixed names.

        They stand under `methods.peft:NAME` beside knobs of placement and training, or in the section `adapter` where
        some method is peft's; there our own knobs keep their names.
        """
        if not isinstance(written, Mapping):
            return written
        found = dict(written)
        adapter, methods = written.get("adapter"), written.get("methods")
        if isinstance(adapter, Mapping) and _names_peft(adapter.get("method")):
            found["adapter"] = _with_prefix(adapter, KNOBS["adapter"])
        if isinstance(methods, Mapping):
            own = {*PLACES, "layer_norms", *KNOBS["training"]}
            found["methods"] = {
                name: _with_prefix(knobs, own) if str(name).startswith(PEFT) and isinstance(knobs, Mapping) else knobs
                for name, knobs in methods.items()
            }
        return found

    @model_validator(mode="before")
    @classmethod
    def _own_tasks_apart(cls, written: Any) -> Any:
        """Returns the request with the tasks of a mapping as their names, and their definitions as `own_tasks`."""
        if isinstance(written, Mapping) and "own_tasks" in written:
            raise unknown("", "key", "own_tasks", ["tasks"])
        tasks = written.get("tasks") if isinstance(written, Mapping) else None
        if not isinstance(tasks, Mapping):
            return written
        own = {name: task for name, task in tasks.items() if task not in (None, OF_GLUE)}
        for name, task in own.items():
            refuse_unsupported(name, task)
        return {**written, "tasks": list(tasks), "own_tasks": own}

    def settled(self) -> Self:
        """Returns the request of a study that begins now, which settles what nobody asked for."""
        search, several = self.search, len(self.domains()["method"].ends()) > 1
        finalists = self.finalists.settled(
            trials=search.trials, alone=search.by_task, several=several, head=bool(search.baseline_learning_rates)
        )
        return self.model_copy(update={"search": search.settled(several_methods=several), "finalists": finalists})

    @property
    def shared_by(self) -> tuple[str, ...]:
        """Returns the tasks that share their configurations, if they do."""
        return self.tasks if self.search.shared else ()

    def domains(self, method: str = "") -> dict[str, Domain]:
        """Returns every knob's domain, for one method or in general; a knob not in the request has its default.

        Fields of peft's configurations are there if the request has them.
        """
        asked = {**self.adapter, **self.training, **self.methods.get(method, {})}
        defaults = {name: Fixed(field.default) for knobs in KNOBS.values() for name, field in knobs.items()}
        return {**defaults, **asked}

    @property
    def searches(self) -> bool:
        """Returns whether some knob has more than one value."""
        sections = (self.adapter, self.training, *self.methods.values())
        return any(not isinstance(domain, Fixed) for section in sections for domain in section.values())

    def plain(self) -> dict[str, Any]:
        """Returns the request as YAML writes it; reading it back gives an equal spec."""
        plain = self.model_dump(mode="json", exclude_none=True)
        if self.search.pareto and self.search.front is None and "front" in self.search.model_fields_set:
            plain["search"]["front"] = None  # else whoever reads it settles that again
        own = plain.pop("own_tasks")
        return plain | {"tasks": {name: own.get(name, OF_GLUE) for name in self.tasks}} if own else plain

    def settings(self) -> dict[str, Any]:
        """Returns the request as values by dotted paths, such as `search.trials`, without reasons."""
        return dict(by_path("", {name: value for name, value in self.plain().items() if name != "reasons"}))

    def kept(self) -> dict[str, Any]:
        """Returns the settings that a resumed study keeps. Those at their defaults are left out, so that a later
        version with more settings finds the same."""
        default = StudySpec(model="any").settings()
        return {
            path: value
            for path, value in self.settings().items()
            if path not in CHANGEABLE and default.get(path) != value
        }


def _with_prefix(knobs: Mapping[Any, Any], own: Collection[str]) -> dict[Any, Any]:
    """Returns the knobs, with the prefix of peft's fields before every name that is not in `own`."""
    return {
        f"{PEFT_FIELD}{name}"
        if isinstance(name, str) and name not in own and not name.startswith(PEFT_FIELD)
        else name: value
        for name, value in knobs.items()
    }


def _names_peft(method: Any) -> bool:
    """Returns whether a method is one of peft's, or one in a list is."""
    return any(
        isinstance(name, str) and name.startswith(PEFT) for name in (method if isinstance(method, list) else [method])
    )
