"""Holds one trial's configuration, checked and frozen when it is made; training accepts nothing else.

Placements are read as people write them: roles, stacks and layers.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cache, partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from krona_tune.backbones.geometry import Role, Stack
from krona_tune.kron.factors import Init, Scaling
from krona_tune.refusal import Refusal, refuse_unknown, shown
from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.kinds import TrialKind

__all__ = ["AdapterConfig"]

Word = TypeVar("Word", bound=StrEnum)

_NUMBER = re.compile(r"\d{1,9}")
LAYER_FORMS = "all, first 4, last 4, every other, or numbers from 0 such as 0,2,5"
DEEPEST = 10_000
"""More layers than any stack has."""


@cache
def read_roles(text: str) -> frozenset[Role]:
    """Returns `query+value` as roles. Raises a Refusal that names the unknown word."""
    return _words(text, [role for role in Role if role is not Role.NAMED], "role")


@cache
def read_stacks(text: str) -> frozenset[Stack]:
    """Returns `encoder+decoder` as stacks. Raises a Refusal that names the unknown word."""
    return _words(text, Stack, "stack")


@cache
def read_layers(text: str, depth: int) -> tuple[int, ...]:
    """Returns the layers that `text` chooses in a stack of that depth, ascending, counted from 0.

    `every other` begins at the second layer, so that it includes the last one of an even depth.

    Raises:
        Refusal: the text has none of the known forms, or asks for a layer that the stack does not have.
    """
    every = range(depth)
    match text.split():
        case ["all"]:
            return tuple(every)
        case ["every", "other"]:
            return tuple(every[1::2]) or tuple(every)
        case ["first", count] if _NUMBER.fullmatch(count):
            return tuple(every[: _within(int(count), depth, text)])
        case ["last", count] if _NUMBER.fullmatch(count):
            return tuple(every[depth - _within(int(count), depth, text) :])
    numbers = [number.strip() for number in text.split(",")]
    if not all(map(_NUMBER.fullmatch, numbers)):
        raise Refusal("layers", f"can't be read: {shown(text)}", f"write {LAYER_FORMS}")
    chosen = sorted(set(map(int, numbers)))
    if chosen[-1] >= depth:
        raise Refusal("layers", f"{shown(text)} asks for layer {chosen[-1]}", f"the stack has 0 to {depth - 1}")
    return tuple(chosen)


def _within(count: int, depth: int, text: str) -> int:
    if not 1 <= count <= depth:
        known = f" of a stack of {depth} layers" if depth < DEEPEST else ""
        raise Refusal("layers", f"{text!r}{known}", f"ask for 1 to {depth}" if known else "ask for 1 or more")
    return count


def _words(text: str, kind: Iterable[Word], name: str) -> frozenset[Word]:
    known = {str(member): member for member in kind}
    words = [part.strip() for part in text.split("+")]
    refuse_unknown("", name, known, *words)
    return frozenset(known[word] for word in words)


def _readable(read: Callable[[str], object]) -> AfterValidator:
    """Returns a check that a text can be read; the text stays as it is written."""

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


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
HEAD_ONLY = "head_only"
"""The method of the baseline, which trains the head alone and never wins."""
PEFT_FIELD = "peft_"
"""The prefix of a knob that is a field of peft's configuration, such as `peft_r`: one name never has two meanings."""
PLACES = ("roles", "stacks", "layers")
"""The knobs that say where an adapter is placed."""
SET_BY_METHOD: dict[str, dict[str, Any]] = {"cdka": {"scaling": "stable", "init": "cdka"}}
"""Knobs that a method sets itself, and that nobody else can set for it."""


class AdapterConfig(FrozenValue):
    """Holds the method of an adapter, its scale, its sizes and its placement.

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
    roles: Annotated[str, _readable(read_roles)] = "query+value"
    """The maps that carry an adapter, joined by +: query, key, value, output, feed_forward_in, …"""
    stacks: Annotated[str, _readable(read_stacks)] = "encoder+decoder"
    """encoder, decoder or both, joined by +."""
    layers: Annotated[str, _readable(partial(read_layers, depth=DEEPEST))] = "all"
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
        """Returns `roles`, read: `query+value` as two roles."""
        return read_roles(self.roles)

    @property
    def stack_set(self) -> frozenset[Stack]:
        """Returns `stacks`, read: `encoder+decoder` as two stacks."""
        return read_stacks(self.stacks)


class TrainingConfig(FrozenValue):
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
    """The probability of every dropout, and none that a layer is left out; null: the backbone's own."""
    dropout_layers: Literal["all", "adapted"] = "all"
    """Where dropout acts: in the whole model, or only in the layers that carry an adapter and in the head."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """The number of parts in which a batch goes through the model, one after the other."""
    gradient_checkpointing: bool = False
    """Whether a layer keeps only what enters it and is computed again in the backward pass."""


MOST_SEEDS = 100
"""The most seeds that one full training may have."""


class TrialConfig(FrozenValue):
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
        of_peft = {f"{PEFT_FIELD}{name}": value for name, value in self.adapter.peft.items()}
        return {**own, **of_peft, **self.training.model_dump()}


SECTIONS: dict[str, type[FrozenValue]] = {"adapter": AdapterConfig, "training": TrainingConfig}
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


def dropout_acts_below(dropout: float | None, dropout_layers: str, *, of_model: bool = True) -> bool:
    """Returns whether dropout acts below the layers that carry an adapter, by the two knobs of a trial.

    `of_model`: whether the backbone's own dropout acts, which a dropout of None keeps.
    """
    return dropout_layers == "all" and (of_model if dropout is None else dropout > 0)


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
