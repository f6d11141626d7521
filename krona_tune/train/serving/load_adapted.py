"""Loads a backbone with a saved adapter on it, ready to answer its task."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from krona_tune.adapters.files.adapter_card import AdapterCard, read_card, task_of
from krona_tune.adapters.files.adapter_files import load, refuse_replaced, shape_for
from krona_tune.adapters.inject import Adapters
from krona_tune.data.tasks import Task
from krona_tune.refusal import refusing
from krona_tune.train.backbone import Backbone, Batch, load_backbone, quiet
from krona_tune.train.backbone_source import BackboneSource, download, find_backbone
from krona_tune.train.device import Device
from krona_tune.train.task_heads import Answer, make_answer
from krona_tune.train.text_answer import TextAnswer
from krona_tune.train.tokenizer import candidates, open_tokenizer

CPU = Device(kind="cpu", dtype=torch.float32)


def _try(answer: Answer, inputs: Batch) -> None:
    """Answers a first input; of a text only the likelihood of one token."""
    if isinstance(answer, TextAnswer):
        answer.loss({name: inputs[name] for name in ("input_ids", "attention_mask")}, inputs["input_ids"][:, :1])
    else:
        answer.predict(inputs)


@dataclass(frozen=True, kw_only=True)
class AdaptedModel:
    """A backbone with the adapter from a folder. `answer.model` gives the adapted outputs."""

    card: AdapterCard
    task: Task
    source: BackboneSource
    backbone: Backbone
    answer: Answer
    adapters: Adapters
    tokenizer: PreTrainedTokenizerBase


def load_adapted(
    folder: Path, *, model: str | None = None, device: Device = CPU, quantized: bool = True
) -> AdaptedModel:
    """Loads an adapter's backbone and puts the adapter on it, as training does.

    Args:
        folder: what a study leaves in `adapters/<task>`.
        model: a hub name or folder of the backbone; without it, the card's.
        quantized: keep its weights in as few bits as in training; False: in the device's dtype.

    Raises:
        Refusal: the adapter can't be read, the backbone can't be found, or they do not belong together.
    """
    card = read_card(folder)
    task = task_of(card, folder)
    source = download(find_backbone(card.backbone if model is None else model, card.roles))
    shape = shape_for(card, source.geometry, folder)
    tokenizer = open_tokenizer(source.location, shape.vocabulary)
    device = replace(device, quantize=card.quantize if quantized else None)
    backbone = load_backbone(source.location, device, shape)
    words = candidates(task, tokenizer) if backbone.geometry.text_to_text else ()
    unable = (source.location, f"can't answer {task.title}", "save the model again")
    with quiet(), refusing(*unable):
        answering = make_answer(backbone, task, 0, words, tokenizer.pad_token_id, tokenizer)  # its head is replaced
    adapters = load(answering.model, folder)
    refuse_replaced(folder, card)
    answering.model.eval()
    with torch.no_grad(), refusing(*unable):
        _try(answering, dict(tokenizer("a word", return_tensors="pt").to(device.kind)))
    return AdaptedModel(
        card=card,
        task=task,
        source=source,
        backbone=backbone,
        answer=answering,
        adapters=adapters,
        tokenizer=tokenizer,
    )
