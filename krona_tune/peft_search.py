"""Chooses configurations of the package peft in an Optuna trial, under a limit of parameters. Needs peft.

For people who keep their own training program, such as transformers' Trainer:

    def model_init(trial):
        model = AutoModelForSequenceClassification.from_pretrained(name)
        return get_peft_model(model, krona_tune.optuna_space(trial, model, max_params=20_000))

    trainer = Trainer(model_init=model_init, ...)
    trainer.hyperparameter_search(backend="optuna", hp_space=lambda trial: {"learning_rate": ...})
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import inf
from typing import Any

from peft import LoKrConfig, LoraConfig, PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.transformers_weight_conversion import (
    convert_peft_config_for_transformers,
    get_model_conversion_mapping,
)
from pydantic import ValidationError
from torch import nn

from krona_tune.adapters.adapter_files import config_of
from krona_tune.adapters.method_table import added_parameters, method_named
from krona_tune.adapters.peft_form import saved_modules, task_type, within
from krona_tune.adapters.placement import common_dimensions, refuse_whole_blocks, sites
from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Site
from krona_tune.kron.factors import divisors
from krona_tune.peft_method import KronAConfig
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.refused_calls import refusing_at_the_caller
from krona_tune.study.request.trial import AdapterConfig
from krona_tune.study.request.validation_errors import refusal_of

Choose = Callable[[str, Sequence[Any]], Any]
TERMS, RANKS, FACTORS, SCALES = (1, 2, 4), (1, 2, 4, 8, 16, 32, 64), (2, 4, 8, 16), (1.0, 2.0, 4.0, 8.0, 16.0)
"""The values that a trial can choose: numbers of products, ranks, decompose factors, scales (peft's alpha / rank)."""


CONFIGS: dict[str, Callable[[AdapterConfig], PeftConfig]] = {
    "krona": lambda own: KronAConfig(a_out=own.a_out, a_in=own.a_in, terms=own.terms, scale=own.scale),
    "lokr": lambda own: LoKrConfig(r=own.rank, alpha=own.scale * own.rank, decompose_factor=own.decompose_factor),
    "lora": lambda own: LoraConfig(r=own.rank, lora_alpha=own.scale * own.rank),
}
"""The methods that are offered, and the configuration of peft for each; its own names for sizes and scale."""
ON_TRANSPOSED = "lora"
"""The only one of them that adapts transposed maps."""


@refusing_at_the_caller
def optuna_space(
    trial: Any,
    model: nn.Module,
    *,
    max_params: int | None = None,
    methods: Sequence[str] = tuple(CONFIGS),
    roles: str = "query+value",
    layers: str = "all",
) -> PeftConfig:
    """Returns a configuration of KronA, LoKr or LoRA that fits the model, chosen by the trial.

    Only factor shapes that divide every adapted map, and sizes within the limit, are offered. The knobs in the trial
    are `method`, `scale`, and for each method its own sizes. All of a task's head is trained, and saved with the
    adapter.

    Args:
        trial: a trial of an Optuna study; None, as transformers' Trainer passes before its search: the first of each
            choice.
        model: a model of transformers, not adapted yet.
        max_params: the most parameters of an adapter, without a head; None: no limit.
        methods: which methods the trial may choose; of transposed maps, such as GPT-2's, LoRA alone.
        roles: the maps to adapt, as in a space's `adapter: roles`.
        layers: the layers to adapt, as in a space's `adapter: layers`.

    Raises:
        Refusal: nothing fits the limit, the model has an adapter of peft already, is a part of one or has no such maps,
            or they are parts of fused maps, or transposed ones without LoRA among the methods.
    """
    refuse_unknown("methods", "method", CONFIGS, *(methods or [""]))
    if any(isinstance(module, PeftModel | BaseTunerLayer) for module in model.modules()):
        raise Refusal("model", "it has an adapter of peft already", "give the model as it was before")
    choose = _chooser(trial)
    places = sites(geometry(config_of(model), "model"), _placement(roles, layers))
    for site in places:
        if site.rows:
            raise Refusal("model", f"{site.key} is a part of a map, and peft adapts whole maps", "choose other roles")
    transposed = any(site.transposed for site in places)
    methods = [method for method in methods if method == ON_TRANSPOSED or not transposed]
    if not methods:
        problem = "only LoRA adapts transposed maps, which this model has"
        raise Refusal("methods", problem, f"add {ON_TRANSPOSED}, or choose other roles")
    targets = {f"{within(model)}{site.name}" for site in places}
    names = [f".{name}" for name, _ in model.named_modules()]
    if absent := sorted(each for each in targets if not any(name.endswith(f".{each}") for name in names)):
        raise Refusal("model", f"it has no {absent[0]}, as if it were a part of a model", "give a whole model")
    if "lora" in methods and _takes_experts(model, targets):
        methods = [method for method in methods if method != "lora"]
        if not methods:
            kind = config_of(model)["model_type"]
            problem = f"peft's LoRA takes maps of these names in a {kind} for its experts"
            raise Refusal("roles", problem, "choose other roles, or other methods")
    limit = inf if max_params is None else max_params
    sizes = {method: _sizes(method, places) for method in methods}
    offered = {
        method: [each for each in found if added_parameters(places, each) <= limit] for method, found in sizes.items()
    }
    if not any(offered.values()):
        least = min(added_parameters(places, each) for found in sizes.values() for each in found)
        raise Refusal("max_params", f"{max_params:,}: no adapter is so small", f"write {least:,} or more")
    method = choose("method", [method for method in methods if offered[method]])
    chosen = _narrowed(offered[method], choose).model_copy(update={"scale": choose("scale", SCALES)})
    config = CONFIGS[method](chosen)
    if transposed:
        config.fan_in_fan_out = True
    config.target_modules = targets
    config.task_type = task_type(model)
    config.modules_to_save = saved_modules(_head(model))
    return config


def _takes_experts(model: nn.Module, targets: set[str]) -> bool:
    """Returns whether peft's LoRA takes these maps for the parameters of experts, which it finds by ends of names."""
    tried = LoraConfig(target_modules=targets)
    try:
        convert_peft_config_for_transformers(tried, model=model, conversions=get_model_conversion_mapping(model))
    except ValueError:
        return True
    return bool(getattr(tried, "target_parameters", None))


def _head(model: Any) -> list[str]:
    """Returns the names of a head's parameters; none if the model answers with words, whose embeddings it has."""
    if model.get_output_embeddings() is not None:
        return []
    inside = {id(parameter) for parameter in model.base_model.parameters()}
    return [name for name, parameter in model.named_parameters() if id(parameter) not in inside]


def _placement(roles: str, layers: str) -> AdapterConfig:
    try:
        asked = AdapterConfig(roles=roles, layers=layers)
    except ValidationError as error:
        raise refusal_of(error, AdapterConfig, "") from None
    refuse_whole_blocks(roles, "roles")
    return asked


def _sizes(method: str, places: Sequence[Site]) -> list[AdapterConfig]:
    """Returns the sizes that a method can have at these maps: every choice of the knobs that it reads, if it fits."""
    d_out, d_in = common_dimensions(places)
    offered = {"terms": TERMS, "a_out": divisors(d_out), "a_in": divisors(d_in), "decompose_factor": FACTORS}
    reads = method_named(method).reads
    knobs = {name: values for name, values in {**offered, "rank": RANKS}.items() if name in reads}
    chosen = (dict(zip(knobs, each, strict=True)) for each in product(*knobs.values()))
    found = (AdapterConfig.model_validate({"method": method, **each}) for each in chosen)
    return [each for each in found if _fits(each, places)]


def _fits(adapter: AdapterConfig, places: Sequence[Site]) -> bool:
    """Returns whether no map has more terms than hold every matrix, or a low rank above its own."""
    reads = method_named(adapter.method).reads
    least = min(min(site.d_out, site.d_in) for site in places)
    if "rank" in reads and "decompose_factor" not in reads and adapter.rank > least:  # LoKr's rank ends by itself
        return False
    try:
        return added_parameters(places, adapter) > 0
    except Refusal:
        return False


def _narrowed(offered: list[AdapterConfig], choose: Choose) -> AdapterConfig:
    """Returns one of the offered sizes, knob by knob; each knob's name in the trial holds what was chosen before, since
    what is left to choose depends on it."""
    at = ""
    for knob in ("terms", "a_out", "a_in", "decompose_factor", "rank"):
        values = list(dict.fromkeys(getattr(each, knob) for each in offered))
        if len(values) > 1:
            value = choose(f"{knob}{at}", values)
            offered, at = [each for each in offered if getattr(each, knob) == value], f"{at}, {knob} {value}"
    return offered[0]


def _chooser(trial: Any) -> Choose:
    """Returns what chooses a value by the name of a knob."""
    if trial is None:
        return lambda name, values: values[0]
    if not hasattr(trial, "suggest_categorical"):
        raise Refusal("trial", f"is of the type {type(trial).__name__}", "give a trial of Optuna, or None")
    choose: Choose = trial.suggest_categorical
    return choose
