"""Exports an adapter as ONNX, merged into its model: in float32, or quantised to int8 with what that costs."""

from copy import copy
from dataclasses import replace
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from krona_tune.adapters.approximation import Quantisation
from krona_tune.adapters.export_forms import WrittenDtype
from krona_tune.refusal import Refusal
from krona_tune.train.backbone import Inputs
from krona_tune.train.export_check import (
    ExportCheck,
    Job,
    building,
    difference,
    in_float32,
    load_merged,
    logits,
    refuse_other_outputs,
    validation_score,
    write_card,
)
from krona_tune.train.exported_tokenizer import save_tokenizer
from krona_tune.train.loop import TaskWork
from krona_tune.train.onnx_form import GRAPH, OnnxModel, median_milliseconds, quantise, refuse_without_onnx, write_onnx
from krona_tune.train.predict import AdaptedModel

SHAPES = ((slice(None), None), (slice(0, 1), None), (slice(1, 4), 17))
"""The rows and lengths of the sample that a traced graph is compared on: all, one row, and some that end earlier."""
TRACEABLE_EXPERTS = "batched_mm"
"""The implementation of a mixture's experts, in transformers, that torch can trace; a model without any ignores it."""
TIMED_ROWS, TIMED_TOKENS = (1, 32), 64
"""The sizes of the batches that are timed, and the most tokens of their inputs."""


def leave_as_onnx(job: Job) -> ExportCheck:
    """Writes a graph that is traced with some inputs, and compares its logits on fewer and shorter ones too.

    In int8 it is quantised after that, and what this costs and saves is measured.
    """
    refuse_without_onnx()
    whole, model, inputs = load_merged(job.adapter, job.model)
    in_float32(model).base_model.set_experts_implementation(TRACEABLE_EXPERTS)
    if "token_type_ids" in whole.tokenizer.model_input_names:
        inputs |= {"token_type_ids": _second_texts(inputs["attention_mask"], model)}
    differing, found = 0.0, None
    with building(job.to) as built:
        write_onnx(model, inputs, built)
        in_onnx = OnnxModel(built)
        for rows, length in SHAPES:
            some = {key: tensor[rows, :length] for key, tensor in inputs.items()}
            written, expected = logits(in_onnx, some), logits(model, some)
            refuse_other_outputs(written, expected, "computed by onnxruntime")
            differing = max(differing, difference(written, expected))
        if job.dtype is WrittenDtype.INT8:
            found = _quantised(built, whole, in_onnx, inputs, job.judged_on)
            differing = found.difference
        save_tokenizer(whole, built)
        model.config.save_pretrained(built)
        write_card(built, job.readme(found) if found else job.readme())
    return ExportCheck(differing, found)


def _quantised(
    built: Path, whole: AdaptedModel, before: OnnxModel, inputs: Inputs, judged_on: TaskWork | None
) -> Quantisation:
    """Puts a graph with int8 weights in the place of the one that was built."""
    sizes = [_graph_bytes(built)]
    with TemporaryDirectory(dir=built.parent) as room:
        quantise(built / GRAPH, Path(room) / GRAPH)
        for file in built.iterdir():
            file.unlink()
        for file in Path(room).iterdir():
            file.rename(built / file.name)
    after = OnnxModel(built)
    tokens = min(whole.card.max_length, TIMED_TOKENS, whole.backbone.geometry.positions or TIMED_TOKENS)
    timed = {rows: _of_size(inputs, rows, tokens) for rows in TIMED_ROWS}
    apart = max(difference(logits(after, some), logits(before, some)) for some in (inputs, *timed.values()))
    if not isfinite(apart):
        raise Refusal("--dtype", "int8 gives logits that are no finite numbers", "leave --dtype int8 out")
    scores = [validation_score(_answered_by(each, whole), judged_on) for each in (before, after)]
    return Quantisation(
        difference=apart,
        file_bytes=(sizes[0], _graph_bytes(built)),
        milliseconds={
            rows: (median_milliseconds(before, some), median_milliseconds(after, some)) for rows, some in timed.items()
        },
        tokens=tokens,
        before=scores[0],
        after=scores[1],
    )


def _graph_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"{GRAPH}*"))


def _of_size(inputs: Inputs, rows: int, tokens: int) -> Inputs:
    """Returns inputs of so many rows and tokens, without padding, of the ids that the sample has."""
    ids = inputs["input_ids"][inputs["attention_mask"].bool()]
    ids = ids.repeat(-(-rows * tokens // len(ids)))[: rows * tokens].view(rows, tokens)
    return {name: torch.ones_like(ids) for name in inputs} | {
        "input_ids": ids,
        **({"token_type_ids": torch.zeros_like(ids)} if "token_type_ids" in inputs else {}),
    }


def _answered_by(model: OnnxModel, whole: AdaptedModel) -> AdaptedModel:
    """Returns the adapted model with the logits of a graph."""
    answer = copy(whole.answer)
    answer.model = model
    return replace(whole, answer=answer)


def _second_texts(mask: Tensor, model: Any) -> Tensor:
    """Returns token types (n, length) of pairs whose second text is the latter half, where the model knows a second."""
    second = mask.cumsum(1) > mask.sum(1, keepdim=True) // 2
    return (second & mask.bool() & (getattr(model.config, "type_vocab_size", 0) > 1)).long()
