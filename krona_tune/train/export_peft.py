"""Exports an adapter in the forms of the package peft: exactly, or as the nearest LoRA of a rank."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor

from krona_tune.adapters.adapter_files import head_of, read_tensors
from krona_tune.adapters.approximation import Approximation
from krona_tune.adapters.exact_forms import inexact
from krona_tune.adapters.export_forms import Form
from krona_tune.adapters.nearest_lora import nearest_lora
from krona_tune.refusal import Refusal, lacking_package
from krona_tune.train.backbone import quiet
from krona_tune.train.distil import fit
from krona_tune.train.export_check import (
    ExportCheck,
    Job,
    building,
    difference,
    logits,
    refuse_other_outputs,
    sample_inputs,
    validation_score,
    write_card,
)
from krona_tune.train.exported_tokenizer import save_tokenizer
from krona_tune.train.predict import AdaptedModel, load_adapted


def leave_as_peft(job: Job) -> ExportCheck:
    """Writes the same adapter as peft has it or, with a rank, the nearest LoRA and how near it is.

    A LoRA whose rank the adapter can't exceed is the same adapter, of no higher rank than it needs.

    Raises:
        Refusal: it is to be fitted, and there are no texts, or nothing that a fit could improve.
    """
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of what peft asks of transformers
        return _leave(job)


def _leave(job: Job) -> ExportCheck:
    rank = job.rank
    exact = rank is not None and inexact(Form.LORA, job.adapted, rank) is None
    if job.fitted and job.judged_on is None:
        raise Refusal("--distil", "the study's training texts can't be read", "use --format lora --rank instead")
    if job.fitted and exact:
        fix = f"use --format lora --rank {rank}"
        raise Refusal("--distil", f"the nearest LoRA of rank {rank} is the same adapter", fix)
    peft_form = _peft()
    # peft's are the same on quantised weights
    load = partial(load_adapted, job.adapter, model=job.model, quantized=False)
    whole = load()
    inputs, model, head = sample_inputs(whole), whole.answer.model, head_of(read_tensors(job.adapter))
    expected = logits(model, inputs)
    if rank is None:
        whole.adapters.detach()
        dressed = peft_form.as_peft(model, whole.adapters, head, job.form).eval()
        refuse_other_outputs(logits(dressed, inputs), expected, "in the form of peft")
        return ExportCheck(_write_peft(job, dressed, load, whole, expected, job.readme()))
    near = nearest_lora(whole.adapters, min(rank, job.adapted.rank or rank) if exact else rank)
    before = validation_score(whole, job.judged_on)
    whole.adapters.detach()
    dressed = peft_form.as_nearest_lora(model, whole.adapters, head, near).eval()
    found = Approximation(rank=near.rank, kept=near.kept, before=before, after=validation_score(whole, job.judged_on))
    if job.fitted and job.judged_on:
        halves = [each for name, each in dressed.named_parameters() if ".lora_" in name]
        done = fit(halves, whole, load(), job.judged_on)
        score = validation_score(whole, job.judged_on)
        found = replace(found, fitted=score, texts=done.texts, apart=(done.before, done.after))
    as_lora = logits(dressed, inputs)
    if exact:
        refuse_other_outputs(as_lora, expected, "as a LoRA")
    checked = expected if exact else as_lora
    return ExportCheck(_write_peft(job, dressed, load, whole, checked, job.readme(found)), found)


def _write_peft(
    job: Job, dressed: Any, load: Callable[[], AdaptedModel], whole: AdaptedModel, expected: Tensor, readme: str
) -> float:
    """Writes a PeftModel and its tokenizer, and compares what is read back; returns the largest difference of a
    logit."""
    from peft import PeftModel

    for config in dressed.peft_config.values():
        config.base_model_name_or_path = job.backbone
    with building(job.to) as built:
        dressed.save_pretrained(built, save_embedding_layers=False)
        save_tokenizer(whole, built)
        bare = load()
        bare.adapters.detach()
        written = logits(PeftModel.from_pretrained(bare.answer.model, built).eval(), sample_inputs(whole))
        refuse_other_outputs(written, expected, "read back")
        write_card(built, readme)
    return difference(written, expected)


def _peft() -> Any:
    """Returns the module that writes peft's forms."""
    try:
        with quiet():
            import_module("peft")
    except ImportError:
        raise lacking_package("--format", "peft") from None
    from krona_tune.adapters import peft_form

    return peft_form
