"""Holds one trial's configuration, checked and frozen when it is made; training accepts nothing else."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from krona_tune.backbones.geometry import Role, Stack
from krona_tune.kron.factors import Init, Scaling
from krona_tune.study.kinds import TrialKind
from krona_tune.study.request import placement_spec


class Frozen(BaseModel):
    """A value that can't change and takes no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _readable_layers(text: str) -> str:
    placement_spec.layers(text, depth=10_000)
    return text


def _readable_roles(text: str) -> str:
    placement_spec.roles(text)
    return text


def _readable_stacks(text: str) -> str:
    placement_spec.stacks(text)
    return text


def _not_zero(number: int) -> int:
    if number == 0:
        raise ValueError("0 divides nothing: write -1, or 1 or more")
    return number


def _whole(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the values with 8 for 8.0, which a table of real numbers makes of it."""
    return {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in fields.items()}


def _switch(value: object) -> object:
    if value != "adapted" and not isinstance(value, bool):
        raise ValueError("write true, false or adapted")
    return value


PEFT = "peft:"
"""The prefix of a method that the package peft computes; the name of one of its methods or configurations follows."""
BASELINE = "head_only"
"""The method of the baseline, which trains the head alone and never wins."""
PEFT_FIELD = "peft_"
"""The prefix of a knob that is a field of peft's configuration, such as `peft_r`: one name never has two meanings."""
PLACES = ("roles", "stacks", "layers")
"""The knobs that say where an adapter is placed."""
SET_BY_METHOD: dict[str, dict[str, Any]] = {"cdka": {"scaling": "stable", "init": "cdka"}}
"""Knobs that a method sets itself, and that nobody else can set for it."""


class AdapterConfig(Frozen):
    """The method of an adapter, its scale, its sizes and its placement.

    A method reads the fields that it needs (the table in `adapters.method_table`) and ignores the others.
    """

    method: str = "krona"
    """The kind of adapter: a method of krona_tune, or peft:NAME."""
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """The plain factor of the adapter's contribution."""
    a_out: Annotated[int, Field(ge=1)] = 1
    """The rows of A, which divide the adapted weight's; B's follow from it. `divisors` searches all that fit."""
    a_in: Annotated[int, Field(ge=1)] = 1
    """The columns of A, which divide the adapted weight's."""
    terms: Annotated[int, Field(ge=1)] = 1
    """The number of products A⊗B that are summed."""
    scaling: Scaling = "plain"
    """"stable" divides the scale by √(terms·a_in), and is meant for the start "cdka" (arXiv 2602.01267)."""
    init: Init = "krona"
    """Which factors start at zero: "krona" the B's, beside A's that shrink as a_in grows (arXiv 2212.10650), "cdka" the
    A's, beside Kaiming-uniform B's."""
    rank: Annotated[int, Field(ge=1)] = 1
    """LoRA's and LoKr's rank."""
    decompose_factor: Annotated[int, Field(ge=-1), AfterValidator(_not_zero)] = -1
    """LoKr's; -1: as square as possible."""
    bottleneck: Annotated[int, Field(ge=1)] = 24
    """The width inside an adapter of two layers."""
    phm: Annotated[int, Field(ge=1)] = 4
    """The number of Kronecker products that a parametrised hypercomplex layer sums."""
    roles: Annotated[str, AfterValidator(_readable_roles)] = "query+value"
    """The maps that carry an adapter, joined by +: query, key, value, output, feed_forward_in, …"""
    stacks: Annotated[str, AfterValidator(_readable_stacks)] = "encoder+decoder"
    """encoder, decoder or both, joined by +."""
    layers: Annotated[str, AfterValidator(_readable_layers)] = "all"
    """all, first 4, last 4, every other, or numbers from 0 such as 0,2,5."""
    layer_norms: Annotated[Literal["adapted"] | bool, BeforeValidator(_switch)] = False
    """true also trains every layer norm, "adapted" those inside the layers that carry an adapter."""
    peft: Annotated[dict[str, bool | int | float | str], AfterValidator(_whole)] = Field(default_factory=dict)
    """The fields of peft's configuration for a method peft:NAME; YAML writes them beside the knobs."""

    @model_validator(mode="before")
    @classmethod
    def _set_by_method(cls, given: Any) -> Any:
        """Returns the values with those that the method sets itself."""
        return given | SET_BY_METHOD.get(str(given.get("method")), {}) if isinstance(given, dict) else given

    @property
    def role_set(self) -> frozenset[Role]:
        return placement_spec.roles(self.roles)

    @property
    def stack_set(self) -> frozenset[Stack]:
        return placement_spec.stacks(self.stacks)


class TrainingConfig(Frozen):
    """The training of an adapter: AdamW, linear decay after a linear warm-up.

    `accumulation` and `gradient_checkpointing` save memory and change no result beyond rounding and what dropout draws.
    """

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3e-3
    """The highest learning rate, after the warm-up."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Examples of one step."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """AdamW's weight decay."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.06
    """The share of all steps in which the learning rate grows."""
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """The largest norm of a gradient; a longer one is shortened."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The probability of dropout; null: the backbone's own."""
    dropout_layers: Literal["all", "adapted"] = "all"
    """Where dropout acts: in the whole model, or only in the layers that carry an adapter and in the head."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """The number of parts in which a batch goes through the model, one after the other."""
    gradient_checkpointing: bool = False
    """Whether a layer keeps only what enters it and is computed again in the backward pass."""


MOST_SEEDS = 100
"""The most seeds that one full training may have."""


class TrialConfig(Frozen):
    """A whole trial. Its `kind` is a searched adapter, the head-only baseline for comparison, a finalist, which is one
    of the best trained again with another seed, a repeat, which is a searched adapter trained again by its number, or a
    full training, on all training examples or on those of train, validation and test together.
    """

    task: str
    seed: int
    kind: TrialKind = TrialKind.SEARCH
    adapter: AdapterConfig = AdapterConfig()
    training: TrainingConfig = TrainingConfig()

    @property
    def fingerprint(self) -> str:
        """Returns twelve hexadecimal digits that are equal for equal configurations."""
        config = self.model_dump()
        for name, default in ADDED.items():
            if config[SECTION_OF[name]][name] == default:
                del config[SECTION_OF[name]][name]
        if not config["adapter"]["peft"]:
            del config["adapter"]["peft"]
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]

    def params(self) -> dict[str, Any]:
        """Returns every knob by its name, as `check_trial` accepts them."""
        own = self.adapter.model_dump(exclude={"peft"})
        return {**own, **_prefixed(self.adapter.peft), **self.training.model_dump()}


SECTIONS: dict[str, type[Frozen]] = {"adapter": AdapterConfig, "training": TrainingConfig}
KNOBS = {
    section: {name: field for name, field in model.model_fields.items() if name != "peft"}
    for section, model in SECTIONS.items()
}
"""The knobs of each section of the YAML, without the fields of peft's configurations."""
SECTION_OF = {name: section for section, knobs in KNOBS.items() for name in knobs}
"""The section of the YAML that a knob belongs to; the knobs' names are unique."""
ADDED: dict[str, Any] = {
    "terms": 1,
    "scaling": "plain",
    "init": "krona",
    "dropout_layers": "all",
    "accumulation": 1,
    "gradient_checkpointing": False,
}
"""Knobs that studies of earlier versions lack. At these defaults a fingerprint leaves them out, as it was before."""
SIZES = {"a_out": 0, "a_in": 1}
"""The knobs that must divide a dimension, and the index of that dimension in (d_out, d_in)."""


def check_trial(task: str, seed: int, params: Mapping[str, Any], kind: str = TrialKind.SEARCH) -> TrialConfig:
    """Returns the trial that flat parameters describe, checked.

    Raises:
        pydantic.ValidationError: a value is out of its field's range.
    """
    training = {name: value for name, value in params.items() if section_of(name) == "training"}
    adapter = adapter_values(params)
    return TrialConfig.model_validate(
        {"task": task, "seed": seed, "kind": kind, "adapter": adapter, "training": training}
    )


def section_of(name: str) -> str:
    """Returns the section of the YAML that a knob or a field of peft's configuration belongs to."""
    return "adapter" if name.startswith(PEFT_FIELD) else SECTION_OF[name]


def adapter_values(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what flat parameters say of an adapter, as `AdapterConfig` takes it."""
    own = {name: value for name, value in params.items() if section_of(name) == "adapter"}
    fields = {name: own.pop(name) for name in list(own) if name.startswith(PEFT_FIELD)}
    return {**own, "peft": {name.removeprefix(PEFT_FIELD): value for name, value in fields.items()}} if fields else own


def _prefixed(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{PEFT_FIELD}{name}": value for name, value in fields.items()}
