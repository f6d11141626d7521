"""Exports a study's adapter in another form; what is written gives the same outputs, or nothing is written."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch

from krona_tune.adapters.adapter_card import AdapterCard, read_card
from krona_tune.adapters.adapter_files import read_tensors, save_adapter
from krona_tune.adapters.approximation import Nearness, Rounding
from krona_tune.adapters.exact_forms import PlacedAdapter, refuse_unheld
from krona_tune.adapters.export_forms import UNPUBLISHED, Form, Publication, WrittenDtype, loading
from krona_tune.adapters.model_card import HUB_NAME, render_model_card
from krona_tune.processor import torch_threads
from krona_tune.refusal import Refusal
from krona_tune.train.backbone import cast_parameters
from krona_tune.train.backbone_source import BackboneSource, package_of
from krona_tune.train.evaluate import Diverged
from krona_tune.train.export_check import (
    ExportCheck,
    Job,
    building,
    difference,
    free_place,
    in_float32,
    load_merged,
    logits,
    refuse_other_outputs,
    sample_inputs,
    validation_score,
    write_card,
)
from krona_tune.train.exported_tokenizer import save_tokenizer
from krona_tune.train.hub_push import licence_beside
from krona_tune.train.loop import TaskWork
from krona_tune.train.predict import AdaptedModel, backbone_of, load_adapted, named_backbone
from krona_tune.train.task_heads import START, TextAnswer, start_token

DTYPES = {WrittenDtype.FLOAT32: torch.float32, WrittenDtype.BFLOAT16: torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """The result of an export. `difference` is the largest one between a logit of the study's adapter and of this; of a
    near LoRA, between a logit before it was written and after it was loaded. `dequantised`: both are computed on
    weights in full, while the adapter was trained on the same in few bits. `approximation` says how near the written
    is, if it is not the same."""

    folder: Path
    difference: float
    loading: str
    dequantised: bool
    approximation: Nearness | None = None


@torch_threads()
def export_adapter(
    adapter: Path,
    to: Path,
    form: Form,
    *,
    model: str | None = None,
    dtype: WrittenDtype = WrittenDtype.FLOAT32,
    rank: int | None = None,
    fitted: bool = False,
    judged_on: TaskWork | None = None,
    published: Publication = UNPUBLISHED,
    forms: Iterable[Form] = Form,
) -> ExportResult:
    """Writes an adapter's folder in another form to `to`.

    Args:
        adapter: what a study leaves in `adapters/<task>`.
        to: a folder that does not exist yet, or is empty.
        model: a hub name or folder of the backbone, which what is written names; without it, the card's. What goes to
            the hub names the card's if only that is a name there.
        dtype: of a whole model's weights.
        rank: of the nearest LoRA; None for gguf: the adapter's own.
        fitted: the nearest LoRA is fitted to what the adapter computes on the training texts of `judged_on`.
        judged_on: data whose validation half shows what the nearest LoRA, int8 or bfloat16 costs; None: that is not
            measured.
        published: what the model card says of the licence, and of the hub's repository that the folder goes to.
        forms: those that whoever asks can have, of which a refusal names some.

    Raises:
        Refusal: `to` is taken, the form can't carry the method, the backbone can't be found or has no name on the hub
            that the hub's readers need, or the outputs differ.
    """
    to = free_place(to)
    if form.facts.needs_rank if rank is None else not form.facts.near:
        problem = f"{form} needs a rank" if rank is None else f"{form} has none"
        raise Refusal("--rank", problem, "write --format lora --rank 16, or leave both out")
    if dtype not in form.facts.dtypes:
        fix = f"{form} is written in {' or '.join(form.facts.dtypes)}"
        raise Refusal("--dtype", f"{form} has no weights in {dtype}", fix)
    card = read_card(adapter)
    source, shape = backbone_of(card, adapter, model)
    told = source.lasting_name if model else named_backbone(card, adapter)
    if published.repo:
        told = _name_on_hub(card, source, form) or told
    card = card.model_copy(update={"backbone": told, "dequantised_by": source.dequantised_by})
    adapted, package = PlacedAdapter(geometry=shape, adapter=card.adapter, quantize=card.quantize), package_of(source)
    published = replace(published, licence=published.licence or licence_beside(source.folder))
    refuse_unheld(form, adapted, rank, forms)
    if card.decoding is None and card.own_task and card.own_task.generation:  # an earlier version's
        card = card.model_copy(update={"decoding": load_adapted(adapter, model=model).answer.decoding})
    readme = partial(render_model_card, card, form, to.name, published, package=package)
    job = Job(
        adapter=adapter,
        to=to,
        form=form,
        adapted=adapted,
        model=model,
        backbone=told,
        dequantised_by=source.dequantised_by,
        dtype=dtype,
        rank=rank,
        fitted=fitted,
        judged_on=judged_on,
        readme=readme,
    )
    written: ExportCheck = resolve_name(form.facts.writer)(job)
    lines = loading(card, form, to, package=package)
    return ExportResult(
        folder=to,
        difference=written.difference,
        loading=lines,
        dequantised=card.quantize is not None and form is not Form.ADAPTER,
        approximation=written.approximation,
    )


def _name_on_hub(card: AdapterCard, source: BackboneSource, form: Form) -> str:
    """Returns the backbone's name on the hub, as it was asked for or as the card has it; empty if it has none.

    Raises:
        Refusal: it has none, and the form needs one: others have no such folder, whose name may say who wrote it.
    """
    named = next(filter(HUB_NAME.fullmatch, (source.lasting_name, card.backbone)), "")
    if not named and form.facts.names_backbone:
        problem = f"{form} holds no weights, and its backbone is a folder of this machine, {source.lasting_name}"
        fix = "if the hub has the same one, name it with --model ORG/NAME; else use --format merged"
        raise Refusal("--push", problem, fix)
    return named


def leave_as_adapter(job: Job) -> ExportCheck:
    """Writes the same files, with the model card that this version makes."""
    whole = load_adapted(job.adapter, model=job.model)
    inputs = sample_inputs(whole)
    expected = logits(whole.answer.model, inputs)
    with building(job.to) as built:
        own = {"backbone": job.backbone, "dequantised_by": job.dequantised_by, "decoding": whole.answer.decoding}
        card = whole.card.model_copy(update=own)
        save_adapter(built, read_tensors(job.adapter), card)
        write_card(built, job.readme())
        written = logits(load_adapted(built, model=job.model).answer.model, inputs)
        refuse_other_outputs(written, expected, "read back")
    return ExportCheck(difference(written, expected))


def leave_merged(job: Job) -> ExportCheck:
    """Writes the model of transformers with the adapter in its weights, and its tokenizer, in the dtype."""
    dtype = DTYPES[job.dtype]
    rounded = dtype is not torch.float32
    whole, model, inputs = load_merged(job.adapter, job.model)
    expected = logits(model, inputs)
    before = _score(whole, job.judged_on) if rounded else None
    cast_parameters(model, dtype)
    after = _score(whole, job.judged_on) if rounded else None
    with building(job.to) as built:
        if whole.backbone.use_cache is not None:
            model.config.use_cache = whole.backbone.use_cache
        if whole.backbone.geometry.is_encoder_decoder and getattr(model.config, START, None) is None:
            setattr(model.config, START, start_token(whole.backbone))  # without it no reader can compute an answer
        if isinstance(whole.answer, TextAnswer):
            model.generation_config = whole.answer.how
        model.save_pretrained(built)
        save_tokenizer(whole, built)
        written = logits(_read_again(built, whole, torch.float32), inputs)
        kept = logits(in_float32(model), inputs) if rounded else expected
        refuse_other_outputs(written, kept, "read back")
        moved = difference(written, expected)
        if rounded:
            with suppress(RuntimeError):  # such as FNet, which a processor can't compute in it
                computed = difference(logits(_read_again(built, whole, dtype), inputs), expected)  # as the card's lines
                moved = moved if computed <= moved else computed
        near = Rounding(dtype=job.dtype, difference=moved, before=before, after=after) if rounded else None
        write_card(built, job.readme(near))
    return ExportCheck(moved, near)


def _score(whole: AdaptedModel, judged_on: TaskWork | None) -> float | None:
    """Returns the validation score of the model in its dtype, in which a processor may not compute it."""
    with suppress(RuntimeError, Diverged):
        return validation_score(whole, judged_on)
    return None


def _read_again(built: Path, whole: AdaptedModel, dtype: torch.dtype) -> Any:
    """Returns the model that was written, as a reader loads it."""
    kind: Any = type(whole.answer.model)
    again = kind.from_pretrained(built, dtype=dtype).eval()
    if whole.backbone.use_cache is not None:
        again.config.use_cache = False  # as in training: with it an FSMT sees all tokens of one call
    return again
