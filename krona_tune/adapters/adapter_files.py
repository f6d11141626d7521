"""Saves an adapter as files, safetensors and JSON and nothing that is pickled, and loads it onto a model."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from krona_tune.adapters.adapter_card import CARD, AdapterCard, read_card
from krona_tune.adapters.export_forms import Form
from krona_tune.adapters.frozen_model import fingerprint, part_fingerprints
from krona_tune.adapters.inject import Adapters, sets_on
from krona_tune.adapters.model_card import README, render_model_card
from krona_tune.adapters.peft_class import module_of
from krona_tune.adapters.placement import count
from krona_tune.atomic_write import atomic_folder
from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Geometry, Stack
from krona_tune.backbones.module_facts import attend_fully, base_of, is_quantised
from krona_tune.hub import home, refuse_unreadable
from krona_tune.refusal import Refusal, refusing
from krona_tune.refused_calls import refusing_at_the_caller

TENSORS = "adapter.safetensors"
TRIAL = "trial_id"
"""Names the fact that the file of the tensors keeps of them: the trial that trained them."""
HEAD = "head."
DIGITS = 12
"""How many digits of a fingerprint are shown."""


def save_adapter(folder: Path, tensors: dict[str, Tensor], card: AdapterCard, *, package: str = "") -> None:
    """Writes an adapter's whole folder; files that were there before under the same names are replaced.

    `package` is the one that the backbone was found in, for the lines of the model card.
    """
    with atomic_folder(folder, last=CARD) as built:
        save_file(tensors, built / TENSORS, {TRIAL: card.trial_id})
        (built / README).write_text(
            render_model_card(card, Form.ADAPTER, built.name, package=package), encoding="utf-8"
        )
        (built / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Returns an adapter's tensors by name, as `Adapters.state` gives them, and its head's as `head.<parameter>`.

    Raises:
        Refusal: there are none, the file is damaged, or a value is not a finite number.
    """
    path, fix = folder / TENSORS, "export the adapter again"
    if not os.path.exists(path):
        raise Refusal(str(folder), f"holds no {TENSORS}", "nothing else is read: pickled files are not")
    refuse_unreadable(path, fix)
    with refusing(str(path), "can't be read", fix):
        tensors: dict[str, Tensor] = load_file(path)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise Refusal(str(path), f"{name} holds a value that is not a finite number", fix)
    return tensors


def read_adapter(folder: Path) -> tuple[AdapterCard, dict[str, Tensor]]:
    """Returns a card and its tensors.

    Raises:
        Refusal: as `read_card` and `read_tensors` raise it, or the two are of different trials, as a copy leaves them
            that was cut off.
    """
    card = read_card(folder)
    tensors = read_tensors(folder)
    with safe_open(folder / TENSORS, "pt") as file:
        trial = (file.metadata() or {}).get(TRIAL, card.trial_id)
    refuse_replaced(folder, card)
    if trial != card.trial_id:
        problem = f"{TENSORS} is of {trial}, {CARD} of {card.trial_id}"
        raise Refusal(str(folder), problem, "copy the whole folder again")
    return card, tensors


def refuse_replaced(folder: Path, card: AdapterCard) -> None:
    """Refuses an adapter that another one has replaced since its card was read."""
    if read_card(folder) != card:
        raise Refusal(str(folder), "another adapter came here while it was read", "load it again")


def head_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the head's tensors by their names in the model."""
    return {name.removeprefix(HEAD): tensor for name, tensor in tensors.items() if name.startswith(HEAD)}


@refusing_at_the_caller
def load(model: nn.Module, folder: str | Path, *, check_backbone: bool = True) -> Adapters:
    """Puts a saved adapter on a model and returns it; from then on the model's outputs are the adapted ones.

    A model for sequence classification also gets the head that was trained with the adapter, until it is detached.

        model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
        adapters = krona_tune.load(model, "studies/NAME/adapters/cola")

    A BigBird attends to all tokens from then on, as it did in training. The adapter stands beside the model:
    `save_pretrained` and `state_dict` leave it out. Merge it first
    (`krona_tune.adapters.merge.merge`), or use `krona-tune export`.

    Args:
        model: a model of transformers, the adapter's backbone; if it is text to text, with its language-model head.
        folder: what a study leaves in `adapters/<task>`.
        check_backbone: refuse other weights than the adapter was trained on. They are recognised in float32 and
            bfloat16, by a sample of each. A model in another dtype passes if kind and sizes are right, and so do other
            embeddings, norms and biases with an adapter of an earlier version. False: a fine-tuned copy passes.

    Raises:
        Refusal: the files can't be read, the adapter belongs to another backbone, another one is on the model, or the
            model has no place for its head, or only a quantised one. The model is left as it was.
    """
    folder, model = home(Path(folder)), getattr(model, "_orig_mod", model)  # of a compiled model, which follows it
    card, tensors = read_adapter(folder)
    _refuse_foreign_class(folder, card.adapter.method)
    shape = _geometry_of(model, folder, card)
    base = base_of(model)
    if sets_on(base):
        raise Refusal(
            "model", "another adapter is on it, and both would add up", "detach the other set first; load a copy anew"
        )
    if check_backbone:
        _refuse_other_weights(model, base, shape, folder, card)
    try:
        places = _head_places(model, base, head_of(tensors))
        _refuse_larger(shape, card, tensors)
        adapters = Adapters(base, shape, card.adapter, torch.Generator(), model)
    except Refusal:
        raise
    except ValueError as error:
        raise _misfit(folder, card, error) from None
    try:
        adapters.load_state({name: tensor for name, tensor in tensors.items() if not name.startswith(HEAD)})
    except ValueError as error:
        adapters.detach()
        raise _misfit(folder, card, error) from None
    adapters.round_backbone_parameters()
    adapters.fill(places)
    attend_fully(model)
    return adapters


def _refuse_foreign_class(folder: Path, method: str) -> None:
    """Refuses to import a module because a file names it: only the user may do that."""
    module = module_of(method)
    if module not in {"", *sys.modules} and not module.startswith("krona_tune."):
        raise Refusal(
            str(folder),
            f"was trained by {method}, which is not imported",
            f"import {module} before, or pass --import {module}",
        )


def config_of(model: nn.Module) -> dict[str, Any]:
    """Returns the config of a model in memory. Raises a Refusal if it is none of transformers."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_dict"):
        raise Refusal("model", f"a {type(model).__name__} has no config", "give a model of transformers")
    found: dict[str, Any] = config.to_dict()
    return found


def _geometry_of(model: nn.Module, folder: Path, card: AdapterCard) -> Geometry:
    """Returns the model's geometry; refuses another kind or other sizes than the card names."""
    shape = shape_for(card, geometry(config_of(model), "model", card.roles), folder)
    found = (shape.model_type, shape.width, sum(shape.depths.values()))
    named = (card.model_type, card.backbone_width, card.backbone_layers)
    if found != named:
        ours, theirs = ("a {} of width {} in {} layers".format(*sizes) for sizes in (named, found))
        raise Refusal(str(folder), f"belongs to {ours} ({card.backbone}), the model is {theirs}")
    return shape


def shape_for(card: AdapterCard, shape: Geometry, folder: Path) -> Geometry:
    """Returns a backbone's geometry as one that answers as the card says. Raises a Refusal if it can't."""
    if card.text_to_text == shape.text_to_text:
        return shape
    if card.text_to_text and Stack.DECODER in shape.depths:
        return shape.writing()
    answers = "with words" if card.text_to_text else "with a head"
    said = f"the adapter in {folder} answers {answers}, on a {card.model_type}, which a {shape.model_type} does not"
    raise Refusal("the model", said, f"give the backbone that it was trained on, {card.backbone}")


class OtherBackbone(Refusal):
    """An adapter was trained on other weights than the model's."""


def _refuse_other_weights(model: nn.Module, base: nn.Module, shape: Geometry, folder: Path, card: AdapterCard) -> None:
    parts = part_fingerprints(base, shape, model) if card.backbone_parts else {}
    compared = [("weights", card.backbone_fingerprint, fingerprint(base, shape))]
    compared += [(f"weights in {part}", named, parts.get(part)) for part, named in card.backbone_parts.items()]
    for what, named, found in compared:
        if found and named and found != named:
            raise OtherBackbone(
                str(folder),
                f"was trained on {card.backbone}, whose {what} are {named[:DIGITS]}; the model's are {found[:DIGITS]}",
                "load that backbone, or pass check_backbone=False for a copy of it that was trained further",
            )


def _refuse_larger(shape: Geometry, card: AdapterCard, tensors: dict[str, Tensor]) -> None:
    """Refuses a card of an adapter with more parameters than its file holds, before they take memory."""
    counted, held = count(shape, card.adapter, outputs=0), sum(tensor.numel() for tensor in tensors.values())
    if counted.adapter + counted.norms > held:
        raise ValueError(f"its card means {counted.adapter + counted.norms:,} parameters, {TENSORS} holds {held:,}")


def _head_places(model: nn.Module, base: nn.Module, head: dict[str, Tensor]) -> list[tuple[nn.Parameter, Tensor]]:
    """Returns the parameters outside the base, each with its tensor of the head; none for a base model alone."""
    if model is base:
        return []
    inside = {id(parameter) for parameter in base.parameters()}
    own = {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in inside}
    lacking = sorted(head.keys() - own.keys())
    if lacking and not head.keys() & own.keys():
        fix = "give one for sequence classification, or its base_model for the adapter without its head"
        raise Refusal("model", f"a {type(model).__name__} has no {lacking[0]}", fix)
    if lacking:
        raise ValueError(f"the model has no {lacking[0]}")
    for name, tensor in head.items():
        if is_quantised(own[name]):
            fix = f"load it with BitsAndBytesConfig(llm_int8_skip_modules=[{name.partition('.')[0]!r}])"
            raise Refusal("model", f"its head is quantised: {name} is kept in {own[name].dtype}", fix)
        if own[name].shape != tensor.shape:
            sizes = f"{name} is {tuple(tensor.shape)}, the model takes {tuple(own[name].shape)}"
            raise ValueError(f"{sizes}; num_labels must be the task's")
    return [(own[name], tensor) for name, tensor in head.items()]


def _misfit(folder: Path, card: AdapterCard, error: ValueError) -> Refusal:
    return Refusal(str(folder), f"does not fit the model: {error}", f"it was trained on {card.backbone}")
