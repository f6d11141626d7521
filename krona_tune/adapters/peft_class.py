"""Finds the configuration class of the package peft behind `peft:NAME`, and checks the fields that are given to it."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from math import isfinite
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from krona_tune.refusal import Refusal, refusing, shown, told, unknown
from krona_tune.study.request.domain import Domain
from krona_tune.study.request.trial import PEFT, PEFT_FIELD, AdapterConfig

OURS = {
    "target_modules": "roles and layers choose the maps",
    "exclude_modules": "roles and layers choose the maps",
    "layers_to_transform": "layers chooses them",
    "layers_pattern": "layers chooses them",
    "modules_to_save": "the head is trained, and layer_norms trains the norms",
    "feedforward_modules": "roles and layers choose the maps",
    "fan_in_fan_out": "it follows from the map",
    "progressbar": "trials print nothing",
    "task_type": "it follows from the task",
    "peft_type": "it follows from the name",
    "type": "it follows from the name",
    "inference_mode": "the adapter is trained",
    "bias": "the maps' own biases stay frozen",
} | dict.fromkeys(
    ("auto_mapping", "peft_version", "version", "base_model_name_or_path", "revision"), "it is peft's own note"
)
"""Fields of every configuration that a study sets itself, and why."""
QUIET: dict[str, Any] = {"feedforward_modules": [], "progressbar": False}
"""Fields with one value for every study, where a configuration has them."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("lora", {"use_dora": True}),
    "rslora": ("lora", {"use_rslora": True}),
    "pissa": ("lora", {"init_lora_weights": "pissa"}),
}
"""Names that people use for a configuration with some fields set."""
UNABLE = {
    "adaptionprompt": "it adds to the attention, not to linear maps",
    "adalora": "it must be told of every step of the training, in which it changes its ranks",
    "psoft": "it starts from a decomposition that it does not save and that differs between machines",
    "glora": "how many parameters it trains depends on the maps' biases, which a plan does not know",
    "lntuning": "it trains layer norms, not linear maps: write layer_norms: true",
    "poly": "it reads the number of a task with every batch",
    "shadow": "it trains a second model beside the first",
    "trainabletokens": "it trains embeddings, not linear maps",
    "xlora": "it mixes adapters that were trained before",
}
"""Methods of peft that adapt linear maps in another way than a study does, and why."""
REFUSED_VALUES = {
    ("use_asa", "true"): "it must be told of every step of the training",
    ("sample_at_inference", "true"): "it answers at random",
    ("init_lora_weights", "olora"): "it changes the frozen weights themselves",
    ("init_lora_weights", "eva"): "it starts from activations on training data",
    ("init_lora_weights", "corda"): "it starts from activations on training data",
    ("init_lora_weights", "lora_ga"): "it starts from gradients on training data",
    ("init_lora_weights", "loftq"): "it starts from weights that it quantises itself",
}
"""Values of fields that need more than the weights, or change them, and why."""
ON_QUANTIZED = {"ia3", "lora", "oft", "randlora", "road", "rslora", "vera"}
"""Methods that peft computes on quantised weights; others would read their codes as numbers."""


def variants_in(method: str, domains: Mapping[str, Domain]) -> Iterator[str]:
    """Yields the variants of a method `peft:NAME` whose fields some value of these domains sets."""
    of = VARIANTS.get(plain_name(method), (plain_name(method), {}))[0]
    for variant, (plain, preset) in VARIANTS.items():
        for field, value in preset.items() if plain == of else ():
            ends = domains[f"{PEFT_FIELD}{field}"].ends() if f"{PEFT_FIELD}{field}" in domains else ()
            if any(end == value or (isinstance(value, str) and str(end).startswith(value)) for end in ends):
                yield variant


@cache
def config_class(method: str) -> tuple[Any, dict[str, Any]]:
    """Returns the configuration class of a method `peft:NAME`, and the fields that the name sets.

    NAME is one of peft's names, such as HiRA, in upper or lower case, or `package.module.Class`.

    Raises:
        Refusal: there is no such class, or it adapts no linear maps.
    """
    name = method.removeprefix(PEFT)
    plain, preset = VARIANTS.get(plain_name(method), (plain_name(method), {}))
    found = _own_class(method, name) if is_own_class(method) else _classes().get(plain)
    if found is None:
        able = {each for each, made in _classes().items() if each not in UNABLE and _has_targets(made)}
        raise unknown(method, "method of peft", name.lower(), able | VARIANTS.keys())
    known = next((each for each, made in _classes().items() if made is found), plain)
    if known in UNABLE:
        raise Refusal(method, UNABLE[known], "choose another method")
    if not _has_targets(found):
        raise Refusal(method, f"{found.__name__} adapts no linear maps", "choose a method that has target_modules")
    return found, preset


def known_methods() -> list[str]:
    """Returns the names `peft:NAME` of the methods that adapt linear maps; none if peft is not installed."""
    if find_spec("peft") is None:
        return []
    able = {name for name, made in _classes().items() if name not in UNABLE and _has_targets(made)}
    return [f"{PEFT}{name}" for name in sorted(able | VARIANTS.keys())]


def plain_name(method: str) -> str:
    """Returns a method's name in the one spelling that all its spellings share; a class's name is as it is."""
    name = method.removeprefix(PEFT)
    return name if is_own_class(method) else name.lower().replace("_", "").replace("-", "")


def is_own_class(method: str) -> bool:
    """Returns whether a method is named by a class of one's own."""
    return "." in method


def module_of(method: str) -> str:
    """Returns the module of a method that is named by a class of one's own; empty for another method."""
    return method.removeprefix(PEFT).rpartition(".")[0] if is_own_class(method) else ""


def _has_targets(config: Any) -> bool:
    return "target_modules" in {field.name for field in fields(config)}


def _classes() -> dict[str, Any]:
    """Returns peft's configuration classes by name in lower case, without dashes."""
    known = _peft("peft.mapping").PEFT_TYPE_TO_CONFIG_MAPPING.items()
    return {plain_name(str(getattr(kind, "value", kind))): made for kind, made in known}


def _peft(module: str = "peft") -> Any:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and it advises other packages
    with warnings.catch_warnings(action="ignore"):
        return import_module(module)


def _own_class(method: str, name: str) -> Any:
    """Returns a class by its dotted name; importing its module may add it to peft's methods."""
    module, _, attribute = name.rpartition(".")
    base = _peft().PeftConfig
    with refusing(method, f"{module} can't be imported", "install it, or put its folder on PYTHONPATH"):
        found = getattr(import_module(module), attribute, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise Refusal(method, f"{attribute} in {module} is no PeftConfig", "write peft:package.module.Class")
    return found


@cache
def field_types(method: str) -> Mapping[str, Any]:
    """Returns the types of the fields that a request may set, by name: those that one number, word or switch fills."""
    found, _ = config_class(method)
    with refusing(method, f"the types of {found.__name__}'s fields can't be read", "import what they name"):
        hints = get_type_hints(found)
    names = [field.name for field in fields(found) if field.init and field.name not in OURS]
    return {name: hints[name] for name in names if _takes_scalars(hints[name])}


def _takes_scalars(hint: Any) -> bool:
    return any(_accepts(hint, value) for value in (True, 1, 0.5, "word", *_literals(hint)))


def _literals(hint: Any) -> list[Any]:
    """Returns the words and numbers that a type lists, at any depth."""
    found = get_args(hint)
    return [each for arg in found for each in (_literals(arg) if get_args(arg) else [arg])]


def _accepts(hint: Any, value: Any) -> bool:
    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except (ValidationError, PydanticSchemaGenerationError):
        return False
    return True


def check_field(method: str, name: str, value: Any, place: str) -> None:
    """Refuses a field that the method does not have, or a value of another type, or one that needs data to start."""
    if name in OURS:
        raise Refusal(f"{place}.{name}", f"a study sets it: {OURS[name]}", "leave it out")
    types = field_types(method)
    if name not in types:
        raise unknown(place, f"field of {method}", name, types or {"none"})
    if name in config_class(method)[1]:
        raise Refusal(f"{place}.{name}", f"{method} sets it", "leave it out, or write peft:LoRA")
    if reason := REFUSED_VALUES.get((name, str(value).lower())):
        raise Refusal(f"{place}.{name}", f"{shown(value)}: {reason}", "choose another value")
    if not _fits(types[name], value):
        raise Refusal(f"{place}.{name}", f"{shown(value)} is refused", _fix(types[name]))


def _fits(hint: Any, value: Any) -> bool:
    """Returns whether a field takes a value; a whole number stands for a real one too."""
    if isinstance(value, float) and not isfinite(value):
        return False
    return _accepts(hint, value) or (type(value) is int and _accepts(hint, float(value)))


def _fix(hint: Any) -> str:
    kinds = {"true or false": True, ("a number" if _accepts(hint, 0.5) else "a whole number"): 1, "a word": "word"}
    words = [shown(each) for each in _literals(hint) if isinstance(each, str)]
    return f"write {', '.join([*(said for said, each in kinds.items() if _accepts(hint, each)), *words])}"


def make_config(adapter: AdapterConfig, maps: list[str]) -> Any:
    """Returns the method's configuration for the maps of these names.

    Raises:
        Refusal: peft refuses the values.
    """
    found, preset = config_class(adapter.method)
    more = {field.name: QUIET[field.name] for field in fields(found) if field.name in QUIET}
    try:
        with warnings.catch_warnings(action="ignore"):
            return found(**{**preset, **adapter.peft, **more}, target_modules=maps)
    except Exception as error:  # whatever a configuration, maybe the user's own, raises about its fields
        raise Refusal(adapter.method, told(error), "change its fields") from None
