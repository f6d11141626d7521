"""Exports an adapter of a decoder that writes as a LoRA for llama.cpp, the same one or the nearest of a rank."""

from functools import partial

from krona_tune.adapters.approximation import Approximation
from krona_tune.adapters.exact_forms import inexact
from krona_tune.adapters.export_forms import Form
from krona_tune.adapters.nearest_lora import add_lora, nearest_lora
from krona_tune.refusal import lacking_package
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
from krona_tune.train.predict import load_adapted


def leave_as_gguf(job: Job) -> ExportCheck:
    """Writes a LoRA, reads it back, and compares the logits of the model that it is added to."""
    adapted, rank = job.adapted, job.rank
    try:
        from krona_tune.adapters.gguf_form import LoraLayout, read_gguf, write_gguf
    except ImportError:
        raise lacking_package("--format", "gguf") from None
    load = partial(load_adapted, job.adapter, model=job.model, quantized=False)
    whole = load()
    inputs, model = sample_inputs(whole), whole.answer.model
    expected = logits(model, inputs)
    exact = inexact(Form.LORA, adapted, rank) is None
    near = nearest_lora(
        whole.adapters, min(rank or adapted.rank or 1, adapted.rank or rank or 1) if exact else rank or 1
    )
    layout = LoraLayout(config=whole.backbone.config, maps=tuple(near.halves))
    before = validation_score(whole, job.judged_on)
    whole.adapters.detach()
    add_lora(whole.backbone.base, near.halves)
    as_lora, found = logits(model, inputs), None
    if exact:
        refuse_other_outputs(as_lora, expected, "as a LoRA")
    if rank is not None:
        after = validation_score(whole, job.judged_on)
        found = Approximation(rank=near.rank, kept=near.kept, before=before, after=after)
    with building(job.to) as built:
        write_gguf(built / job.form.facts.mark, near.halves, layout, near.rank)
        bare = load()
        bare.adapters.detach()
        add_lora(bare.backbone.base, read_gguf(built / job.form.facts.mark, layout))
        written = logits(bare.answer.model, inputs)
        refuse_other_outputs(written, as_lora, "read back")
        write_card(built, job.readme(found) if found else job.readme())
    return ExportCheck(difference(written, expected if exact else as_lora), found)
