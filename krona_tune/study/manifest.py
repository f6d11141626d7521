"""Records the circumstances of a study: versions, device, data and model with their fingerprints."""

import re
from collections.abc import Iterable, Mapping
from os.path import lexists
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from krona_tune.atomic_write import read_text, write_atomically
from krona_tune.backbones.geometry import Stack
from krona_tune.refusal import Refusal, shown
from krona_tune.study.devices import Devices, devices_of
from krona_tune.study.folder import own_input
from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.redact import redact
from krona_tune.study.request.metric_table import rows_of
from krona_tune.study.request.study_spec import EARLIER_CONFIDENCE, FinalistsSpec, Precision, ResourcesSpec, StudySpec
from krona_tune.study.result import Half

Command = Annotated[str, AfterValidator(redact)]
"""A command line as it was typed, with passwords masked."""
Depth = Annotated[int, Field(ge=0, le=10_000)]
PUT_BACK = "put back a copy of it, such as MLflow's in the run of a task; results/ and adapters/ do not need it"
PRECISIONS: dict[str, Precision] = {"bfloat16": "bf16", "float32": "fp32", "bf16": "bf16", "fp32": "fp32"}
"""The precision of a request by what a manifest may say; an earlier version wrote both words."""
STUDY_FORMAT: Final = 1
"""The format of a study's folder, as this version writes it. A later version reads it and every earlier one."""


class TaskFacts(FrozenValue):
    """Facts about a task's data.

    `own` marks a task that is none of GLUE's, `functions` is the hash of the files of its own metrics, if any,
    `code_of_functions` that of these files and of those beside them that they import; empty if an older study did not
    record it. `contents` is the hash of all texts and labels that there are, under any name, `tokens` that of the token
    ids of train and validation; empty if an older study did not record it. `constant_score` is the
    score of the best constant answer. `pad_token_id` fills its batches; None if an older study did not record it.
    `compared_by_loss`: a validation score is the loss of the targets, negated, and not the metric. `averages`: the
    metrics have a mean with those of other tasks. `cut_examples` of train and validation have more than `max_length`
    tokens and lose their ends; both are None if an older study did not record them. `joined_texts`: the tokenizer gets
    the two texts of an example as one, with a line break between them. `final_seeds` is the least number of seeds that
    each configuration of its finals gets; None if an older study did not record its request. `steady` and `confidence`
    are the request's `finalists.steady` and `finalists.confidence`. `means_decide`: of the default configuration and
    the head alone, one that is not reliable gives way to the other only if that one's mean is no lower; false without
    `steady`, and in an older study. `labels` are the names of its labels; None if an older study did not record them.
    `extract` finds what counts in a target and an answer. `doubts` say in words what in the data may make its scores
    mean little, `far_labels` that labels lie too far from 0 for the model's head; empty if they don't, and in an older
    study.
    """

    title: str
    metrics: tuple[str, ...]
    provenance: str
    synthetic: bool
    own: bool = False
    functions: str = ""
    code_of_functions: str = ""
    fingerprint: str
    contents: str = ""
    tokens: str = ""
    train_examples: int
    validation_examples: int
    constant_score: float
    rungs: tuple[int, ...]
    pad_token_id: int | None = None
    compared_by_loss: bool = False
    averages: bool = True
    max_length: int | None = None
    cut_examples: int | None = None
    joined_texts: bool = False
    final_seeds: int | None = None
    steady: bool = False
    confidence: float = EARLIER_CONFIDENCE
    means_decide: bool = False
    labels: tuple[str, ...] | None = None
    extract: str = ""
    doubts: tuple[str, ...] = ()
    far_labels: str = ""

    @property
    def cut_share(self) -> float | None:
        """Returns the share of the train and validation examples that is cut; None if it was not recorded."""
        return (
            None if self.cut_examples is None else self.cut_examples / (self.train_examples + self.validation_examples)
        )

    @property
    def counted_label(self) -> str | None:
        """Returns the label that a metric is about, such as F1; None if none is of one label, or the labels are not
        known."""
        of_one = any(metric.of_one_label for metric in rows_of(self.metrics))
        return self.labels[1] if of_one and self.labels and len(self.labels) > 1 else None

    def averages_on(self, half: Half) -> bool:
        """Returns whether a score on this half has a mean with those of other tasks, and fits on one axis with them."""
        return self.averages and not (half == "validation" and self.compared_by_loss)


class ModelFacts(FrozenValue):
    """The backbone that was adapted, where it was found, and hashes of its weights, of its tokenizer's vocabulary and
    of how that splits texts; and what of its config.json its outputs follow from, by dotted key.

    What an older study did not record is empty. `width` counts features, `depths` each stack's layers.
    `writes`: it is a decoder that answers with text.
    """

    name: str
    source: str
    model_type: str
    parameters: int
    fingerprint: str
    vocabulary: str = ""
    splitting: str = ""
    config: dict[str, Any] = Field(default_factory=dict)
    width: int = 0
    depths: dict[Stack, Depth] = Field(default_factory=dict)
    writes: bool = False

    @property
    def text_to_text(self) -> bool:
        return self.writes or len(self.depths) > 1


class PlanFacts(FrozenValue):
    """Holds what the plan of a study decided that its request does not say.

    `methods` counts those of its space, without those that its deployment leaves out. `text_to_text`: its backbone has
    no head. `compares`: its finals compare with a `default` configuration, which is None in an older study, that did
    not record it. `tries_default`: the search tries that configuration first. `taught` counts the points of each task
    that recorded curves teach, `seen` says for trainings of how many examples; None if that was not known, or in an
    older study, which did not ask. `by_depth`: the taught points' learning rates shrink where more layers of an encoder
    are adapted; false in an older study. `exact_cutoff`: where ASHA's cutoff falls on a score, it is not rounded, so
    that losses divide the trials with this score; false in an older study.
    """

    methods: Annotated[int, Field(ge=1)] = 1
    text_to_text: bool = False
    compares: bool = False
    default: dict[str, Any] | None = None
    tries_default: bool = False
    taught: Annotated[int, Field(ge=0)] = 0
    seen: float | None = None
    by_depth: bool = False
    exact_cutoff: bool = False

    @classmethod
    def expected(cls, spec: StudySpec, *, methods: int, text_to_text: bool) -> Self:
        """Returns what a request lets expect, where no plan is known."""
        return cls(
            methods=methods,
            text_to_text=text_to_text,
            compares=bool(spec.finalists.default),
            tries_default=bool(spec.search.taught_trials) or not spec.searches,
            taught=spec.search.taught_trials,
        )


class Manifest(FrozenValue):
    """The circumstances of one study. Numbers from `synthetic` data are marked wherever they appear.

    `request` is what the study keeps of its request (`StudySpec.kept`), `planned` what its last driver's plan added to
    it; each is None if an older study did not record it.
    `begun_by` is who began the study, `computed_once` says which layers are not computed in every step; both are empty
    if an older study did not record them. `reasons` say by key why krona_tune chose values of a space that it made.
    `earlier_devices` are those of trials whose
    rows do not say what they had; None until the study is resumed.
    """

    format: Literal[1] = STUDY_FORMAT
    name: str
    created_at: str
    begun_by: str = ""
    command: Command
    resumed_by: tuple[Command, ...] = ()
    seed: int
    precision: str
    device: str
    workers: int
    versions: dict[str, str]
    git_commit: str | None = None
    request: dict[str, Any] | None = None
    planned: PlanFacts | None = None
    model: ModelFacts
    tasks: dict[str, TaskFacts] = Field(default_factory=dict)
    computed_once: str = ""
    reasons: dict[str, str] = Field(default_factory=dict)
    earlier_devices: Devices | None = None

    @property
    def computes_in(self) -> Precision | None:
        """Returns the precision that all its trials have; None if each worker chose."""
        return PRECISIONS.get(self.precision)

    def planned_of(self, spec: StudySpec) -> PlanFacts:
        """Returns what the study's plan decided; of an older study, what its request lets expect."""
        methods = len(spec.domains()["method"].ends())
        return self.planned or PlanFacts.expected(spec, methods=methods, text_to_text=self.model.text_to_text)

    def unrecorded_devices(self, resources: ResourcesSpec) -> Devices:
        """Returns what those trials had whose rows do not say it; `resources` are those of the last start."""
        return self.earlier_devices or devices_of(resources, gpu=self.device == "cuda")

    @model_validator(mode="before")
    @classmethod
    def _facts_of_older(cls, written: Any) -> Any:
        """Returns a manifest that says of each task whether it averages, how many seeds its finals ask for and what is
        extracted; of an older one, the request knows it."""
        if not isinstance(written, dict) or not isinstance(written.get("tasks"), dict):
            return written
        request = written.get("request")
        asked = request if isinstance(request, dict) else {}
        lower = {task for task in written["tasks"] if asked.get(f"tasks.{task}.direction") == "lower"}
        tasks = {task: _with_averages(facts, lower=task in lower) for task, facts in written["tasks"].items()}
        if isinstance(request, dict):
            seeds = {"final_seeds": asked.get("finalists.seeds", FinalistsSpec().seeds)}
            tasks = {
                task: seeds | {"extract": asked.get(f"tasks.{task}.extract") or ""} | facts
                if isinstance(facts, dict)
                else facts
                for task, facts in tasks.items()
            }
        return {**written, "tasks": tasks}

    @property
    def synthetic(self) -> bool:
        return any(task.synthetic for task in self.tasks.values())

    def write(self, path: Path) -> None:
        write_atomically(path, self.model_dump_json(indent=2) + "\n")


Inputs = Iterable[tuple[str, str | None, str | None]]
"""Names of what a study was begun with, each with its hash or its words then and now."""


def study_inputs(then: Manifest, now: ModelFacts, tasks: Mapping[str, TaskFacts]) -> Inputs:
    """Yields a study's inputs with their hashes or words in its manifest and now.

    Args:
        now: the model now; its weights' hash is empty if they are not here yet, others if they were not looked at.
        tasks: the study's tasks now.
    """
    if now.fingerprint:
        yield "model", then.model.fingerprint, now.fingerprint
    for key in sorted(then.model.config.keys() & now.config.keys()):
        yield f"{key} in the model's config.json", str(then.model.config[key]), str(now.config[key])
    if then.model.vocabulary and now.vocabulary:
        yield "vocabulary of the model's tokenizer", then.model.vocabulary, now.vocabulary
    for task, facts in then.tasks.items():
        yield from task_inputs(task, facts, tasks[task])


def task_inputs(task: str, then: TaskFacts, now: TaskFacts) -> Inputs:
    """Yields a task's inputs with their hashes in a study's manifest and now."""
    yield f"data of {task}", then.fingerprint, now.fingerprint
    if then.labels is not None:
        yield f"set of labels of {task}", str([*then.labels]), str([*(now.labels or ())])
    yield f"metric function of {task}", then.functions, now.functions
    if then.code_of_functions:
        what = f"metric of {task}, with what its file imports from its folder,"
        yield what, then.code_of_functions, now.code_of_functions
    if then.tokens:
        yield f"tokenization of {task}", then.tokens, now.tokens


HASH = re.compile(r"[0-9a-f]{16,}")
DIGITS, MOST_SHOWN = 12, 200
"""How many digits of a hash are shown, and how many characters of words."""


def _shown(value: str | None) -> str:
    text = str(value)
    if HASH.fullmatch(text):
        return text[:DIGITS]
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def refuse_other_inputs(inputs: Inputs, place: str) -> None:
    """Raises a Refusal, at this place, if an input of a study that was begun is another one now."""
    for what, then, now in inputs:
        if then != now:
            problem = f"the {what} was {_shown(then)}, now it is {_shown(now)}"
            raise Refusal(place, problem, "put back what the study was begun with, or begin a new one")


def _with_averages(facts: Any, *, lower: bool) -> Any:
    """Returns a task's facts with whether it averages; as they are if they say it, or can't be read."""
    if not isinstance(facts, dict) or "averages" in facts or not isinstance(facts.get("metrics"), list | tuple):
        return facts
    negated = lower or any(metric.lower_is_better for metric in rows_of(facts["metrics"]))
    return {**facts, "averages": not negated}


def read_manifest(path: Path) -> Manifest:
    """Returns the manifest in a file. Raises a Refusal if there is none, or it is damaged."""
    if not lexists(path) and lexists(path.parent / "study.yaml"):
        problem = f"the study has not begun, or its {path.name} is missing"
        raise Refusal(str(path.parent), problem, "resume it, or put that back")
    if not lexists(path):
        raise Refusal(
            str(path.parent), f"no study is here (no {path.name})", "run it first, or name the folder of a study"
        )
    text = read_text(path, PUT_BACK)
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        if (written := _written_format(text)) > STUDY_FORMAT:
            problem = f"was written by a newer krona_tune (format {written}, this version reads up to {STUDY_FORMAT})"
            raise Refusal(str(path), problem, "install the version that its manifest names") from None
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Refusal(str(path), f"is damaged ({where + ': ' if where else ''}{first['msg']})", PUT_BACK) from None


class _AnyManifest(BaseModel):
    format: int


def _written_format(text: str) -> int:
    """Returns the format that a manifest states, whatever else it holds; 0 if it states none."""
    try:
        return _AnyManifest.model_validate_json(text).format
    except ValidationError:
        return 0


def refuse_edited(manifest: Manifest, spec: StudySpec, place: Path) -> None:
    """Refuses a request that was edited after its study began, because trials of two requests would be compared."""
    if manifest.request is None:
        return
    written, now = manifest.request.items(), spec.kept()
    then = {path: own_input(value, place.parent) if isinstance(value, str) else value for path, value in written}
    for path in sorted(then.keys() | now.keys()):
        if then.get(path) != now.get(path):
            value = shown(then[path]) if path in then else "the default"
            raise Refusal(
                str(place),
                f"{path} was {value} when the study began",
                "put it back, or begin a new study with --space and this file",
            )
