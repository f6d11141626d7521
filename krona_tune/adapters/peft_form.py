"""Turns an adapter into the form of the package peft: the same adapter, or a LoRA of one rank. Needs peft."""

import re
import warnings
from collections.abc import Iterable, Mapping
from pkgutil import resolve_name
from typing import Any, cast

import torch
from peft import (
    LoKrConfig,
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from torch import Tensor, nn

from krona_tune.adapters.exact_forms import PlacedAdapter, as_lokr, refuse_unheld, unfit
from krona_tune.adapters.export_forms import Form
from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.method_modules import Krona
from krona_tune.adapters.method_table import is_peft, method_named
from krona_tune.adapters.nearest_lora import NearestLora
from krona_tune.adapters.peft_class import make_config
from krona_tune.adapters.peft_maps import PeftMap
from krona_tune.backbones.module_facts import base_of
from krona_tune.kron.product import kron_weight, shape_of
from krona_tune.study.request.trial import AdapterConfig

Tensors = dict[str, Tensor]
Modules = dict[str, nn.Module]
"""Our adapters by the names that their maps have in the whole model."""
PeftForm = tuple[PeftConfig, Tensors]
"""A configuration of peft that does not name its modules yet, and its tensors by peft's names."""
INSIDE = "base_model.model."
"""The prefix of the names that peft saves; the name in the model follows it."""

HEADS = ("classifier", "score")
"""The heads that peft always saves in a model for sequence classification."""


def as_peft(model: nn.Module, adapters: Adapters, head: Mapping[str, Tensor], form: Form = Form.PEFT) -> PeftModel:
    """Returns the model as a PeftModel with the same adapter; its adapted maps are wrapped in place.

    KronA becomes LoKr if one decompose factor divides every weight as its factor shape does, else LoRA of the shape's
    rank if that is smaller than the weights themselves. The head and trained layer norms become peft's modules to save.

    Args:
        model: of the adapter's backbone, for sequence classification or text to text, with no adapter on it.
        adapters: what the model is to carry, detached; of this model or of another of the same backbone.
        head: the trained tensors outside the base model, by their names in the model.
        form: PEFT, or KRONA for KronA as the method that `krona_tune.peft_method` adds to peft.

    Raises:
        Refusal: peft has no form for the adapter.
    """
    refuse_unheld(form, PlacedAdapter(geometry=adapters.geometry, adapter=adapters.config))
    prefix = within(model)
    modules = {f"{prefix}{site.name}": module for site, module in adapters.by_site()}
    if is_peft(adapters.config.method):
        return _as_itself(model, adapters, head, modules)
    transposed = any(site.transposed for site in adapters.sites)  # in a model all are, or none
    made = resolve_name(form.facts.peft_form or method_named(adapters.config.method).peft_form)
    return _dressed(model, adapters, head, made(adapters.config, modules, transposed), modules)


def as_nearest_lora(model: nn.Module, adapters: Adapters, head: Mapping[str, Tensor], near: NearestLora) -> PeftModel:
    """Returns the model as a PeftModel with a LoRA of the same rank at every map; otherwise as `as_peft`."""
    halves = {f"{within(model)}{name}": pair for name, pair in near.halves.items()}
    form = _as_lora(1, any(site.transposed for site in adapters.sites), halves)
    return _dressed(model, adapters, head, form, halves)


def _dressed(
    model: nn.Module, adapters: Adapters, head: Mapping[str, Tensor], form: PeftForm, maps: Iterable[str]
) -> PeftModel:
    (config, tensors), beside = form, _trained_norms_and_head(model, adapters, head)
    config.target_modules = sorted(maps)
    _complete(config, model, beside)
    return _filled(_wrapped(model, config), tensors | beside)


def _as_itself(model: nn.Module, adapters: Adapters, head: Mapping[str, Tensor], modules: Modules) -> PeftModel:
    """Returns the model with an adapter of peft as peft itself puts it there."""
    config, beside = make_config(adapters.config, sorted(modules)), _trained_norms_and_head(model, adapters, head)
    _complete(config, model, beside)
    dressed = _wrapped(model, config)
    for name, module in modules.items():
        cast(PeftMap, module).give(dressed.base_model.model.get_submodule(name))
    state = get_peft_model_state_dict(dressed, save_embedding_layers=False)
    state |= {f"{INSIDE}{name}": tensor for name, tensor in beside.items()}
    set_peft_model_state_dict(dressed, state)
    return dressed


def _trained_norms_and_head(model: nn.Module, adapters: Adapters, head: Mapping[str, Tensor]) -> Tensors:
    """Returns what is trained beside the maps, by its names in the model: norms and the head."""
    return {
        f"{within(model)}{name}": parameter.detach() for name, parameter in adapters.backbone_parameters.items()
    } | dict(head)


def _wrapped(model: nn.Module, config: PeftConfig) -> PeftModel:
    """Returns the model with peft's layers around its maps.

    Raises:
        Refusal: peft can't wrap them, or takes them for parameters of experts, which it finds by the ends of names.
    """
    problem = ""
    try:
        with warnings.catch_warnings():  # a rank for experts that peft takes maps for: this is refused below
            warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys did not match", RuntimeWarning)
            dressed = get_peft_model(model, config)
    except ValueError as error:
        problem = f"peft can't wrap these maps: {error}"
    if getattr(config, "target_parameters", None):  # which nobody has asked for
        problem = f"peft takes maps of these names in a {cast(Any, model).config.model_type} for its experts"
    if problem:
        raise unfit(problem)
    return dressed


def _complete(config: PeftConfig, model: nn.Module, beside: Iterable[str]) -> None:
    config.modules_to_save = saved_modules(beside)
    config.task_type = task_type(model)


ANSWERS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}
"""Maps a part of the name of a model's class to what peft calls its answers."""


def task_type(model: nn.Module) -> str | None:
    """Returns what peft calls the model's kind of answer; None for one that it has no word for."""
    whole = cast(Any, model)
    if not whole.can_generate():
        name = type(model).__name__
        return next((answer for part, answer in ANSWERS.items() if part in name), None)
    return "SEQ_2_SEQ_LM" if whole.config.is_encoder_decoder else "CAUSAL_LM"


def saved_modules(names: Iterable[str]) -> list[str] | None:
    """Returns the modules that peft must save for parameters of these names in the model; None for no parameters."""
    return sorted({_saved_module(name) for name in names}) or None


def _saved_module(name: str) -> str:
    """Returns the module that peft must save for a parameter: its holder, or a head that peft saves whole."""
    first = name.partition(".")[0]
    return first if first in HEADS else name.rpartition(".")[0]


def within(model: nn.Module) -> str:
    """Returns the prefix of the names of sites in the model: "bert." for example; nothing for an encoder-decoder."""
    base = base_of(model)
    name = next(name for name, module in model.named_modules() if module is base)
    return f"{name}." if name else ""


def _filled(dressed: PeftModel, tensors: Tensors) -> PeftModel:
    """Gives the PeftModel its values, which are all that it saves."""
    state = {f"{INSIDE}{name}": tensor for name, tensor in tensors.items()}
    places = get_peft_model_state_dict(dressed, save_embedding_layers=False)
    if differing := sorted(places.keys() ^ state.keys()):
        raise unfit(f"peft would save {len(differing)} tensors more or fewer, the first {differing[0]}")
    set_peft_model_state_dict(dressed, state)
    return dressed


def lora_form(adapter: AdapterConfig, modules: Modules, transposed: bool) -> PeftForm:
    """Returns LoRA as peft's LoRA."""
    return _as_lora(adapter.scale, transposed, {name: (_own(m, "b"), _own(m, "a")) for name, m in modules.items()})


def lokr_form(adapter: AdapterConfig, modules: Modules, transposed: bool) -> PeftForm:
    """Returns LoKr as peft's LoKr."""
    named = {f"{place}.lokr_{name}": t.data for place, m in modules.items() for name, t in m.named_parameters()}
    factor, rank = adapter.decompose_factor, adapter.rank
    return LoKrConfig(r=rank, alpha=adapter.scale * rank, decompose_factor=factor), named


def krona_form(adapter: AdapterConfig, modules: Modules, transposed: bool) -> PeftForm:
    """Returns KronA as peft's LoKr if one decompose factor does for all maps, else as LoRA."""
    factors = {name: (_own(module, "a"), _own(module, "b")) for name, module in modules.items()}
    shapes = {name: shape_of(*pair) for name, pair in factors.items()}
    [scale] = {cast(Krona, module).scale for module in modules.values()}
    factor = as_lokr(shapes, transposed=transposed)
    if factor is not None:
        return _as_lokr(scale, factor, factors)
    return _as_lora(scale, transposed, {name: _halves(*pair) for name, pair in factors.items()})


def krona_method_form(adapter: AdapterConfig, modules: Modules, transposed: bool) -> PeftForm:
    """Returns KronA as the method of peft that krona_tune adds."""
    config = resolve_name("krona_tune.peft_method:KronAConfig")
    sizes = {name: getattr(adapter, name) for name in ("a_out", "a_in", "terms", "scale", "scaling", "init")}
    named = {f"{place}.krona_{name}": _own(module, name) for place, module in modules.items() for name in "ab"}
    return config(**sizes), named


def _as_lokr(scale: float, decompose_factor: int, factors: Mapping[str, tuple[Tensor, Tensor]]) -> PeftForm:
    """Returns (A, B) by place as LoKr's full factors. The rank only says that both are full, and divides alpha: a power
    of two keeps the scale exact."""
    widest = max(size for _, b in factors.values() for size in b.shape)
    rank = 1 << (widest - 1).bit_length()
    named = {f"{name}.lokr_w{i}": t for name, pair in factors.items() for i, t in enumerate(pair, start=1)}
    return LoKrConfig(r=rank, alpha=scale * rank, decompose_factor=decompose_factor), named


def _as_lora(scale: float, transposed: bool, halves: Mapping[str, tuple[Tensor, Tensor]]) -> PeftForm:
    """Returns (left (d_out, rank), right (rank, d_in)) by place as LoRA's B and A; the rank may differ by place."""
    ranks = {name: left.shape[1] for name, (left, _) in halves.items()}
    most = max(ranks.values())
    patterns = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != most}
    config = LoraConfig(
        r=most,
        lora_alpha=scale * most,
        fan_in_fan_out=transposed,
        rank_pattern=patterns,
        alpha_pattern={pattern: scale * rank for pattern, rank in patterns.items()},
    )
    lefts = {f"{name}.lora_B.weight": left for name, (left, _) in halves.items()}
    return config, lefts | {f"{name}.lora_A.weight": right for name, (_, right) in halves.items()}


def _halves(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Returns Σ A⊗B as left (d_out, rank) times right (rank, d_in), exactly, the terms beside and below each other.

    A = A·I or I·A, whichever is narrower, and the same for B; (A₁A₂)⊗(B₁B₂) = (A₁⊗B₁)(A₂⊗B₂).
    """
    lefts, rights = [], []
    for one_a, one_b in zip(a.view(-1, *a.shape[-2:]), b.view(-1, *b.shape[-2:]), strict=True):
        (a_left, a_right), (b_left, b_right) = _split(one_a), _split(one_b)
        lefts.append(kron_weight(a_left, b_left))
        rights.append(kron_weight(a_right, b_right))
    return torch.cat(lefts, dim=1), torch.cat(rights)


def _split(factor: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = factor.shape
    if rows < columns:
        return torch.eye(rows, device=factor.device), factor
    return factor, torch.eye(columns, device=factor.device)


def _own(module: nn.Module, name: str) -> Tensor:
    return module.get_parameter(name).detach()
