"""Exports a study's adapter in another form; what is written gives the same outputs, or nothing is written."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from krona_tune.adapters.adapter_card import (
    UNPUBLISHED,
    Approximation,
    Form,
    Published,
    WrittenDtype,
    loading,
    read_card,
)
from krona_tune.adapters.adapter_files import head_of, read_tensors, save_adapter
from krona_tune.adapters.exact_forms import EXACT_FOR, Adapted, refuse_inexact, unmergeable
from krona_tune.adapters.merge import merge
from krona_tune.adapters.model_card import README, render_model_card
from krona_tune.atomic_write import atomic_folder
from krona_tune.hub import home
from krona_tune.refusal import Refusal, refusing
from krona_tune.train.backbone import Inputs, cast_parameters, quiet
from krona_tune.train.backbone_source import package_of
from krona_tune.train.evaluate import evaluate
from krona_tune.train.loop import TaskWork
from krona_tune.train.onnx_form import onnx_logits, refuse_without_onnx, write_onnx
from krona_tune.train.predict import AdaptedModel, backbone_of, load_adapted

LENGTHS = (24, 3, 17, 8, 21, 5, 12, 15)
ANSWER_LENGTH = 4
SHAPES = ((slice(None), None), (slice(0, 1), None), (slice(1, 4), 17))
"""The rows and lengths of the sample that a traced graph is compared on: all, one row, and some that end earlier."""


def sample_inputs(whole: AdaptedModel) -> Inputs:
    """Returns eight padded sequences of different lengths: ids drawn from the vocabulary without its special tokens.

    `input_ids` and `attention_mask` int64 (8, length); a text-to-text model also gets `decoder_input_ids`.
    """
    tokenizer, longest = whole.tokenizer, min(max(LENGTHS), whole.backbone.geometry.positions or max(LENGTHS))
    size = min(len(tokenizer), whole.backbone.geometry.vocabulary)
    words = torch.tensor(sorted(set(range(size)) - set(tokenizer.all_special_ids)))
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    ids = words[torch.randint(len(words), mask.shape, generator=generator)]
    inputs = {"input_ids": ids.masked_fill(~mask, int(tokenizer.pad_token_id)), "attention_mask": mask.long()}
    if whole.backbone.geometry.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :ANSWER_LENGTH]
    return inputs


@torch.no_grad()
def logits(model: nn.Module, inputs: Inputs) -> Tensor:
    """Returns the model's logits, float32."""
    found: Tensor = model(**inputs).logits
    return found.float()


def difference(some: Tensor, others: Tensor) -> float:
    """Returns the largest absolute difference; not a number if one of them is not."""
    return (some - others).abs().max().item()


DTYPES = {WrittenDtype.FLOAT32: torch.float32, WrittenDtype.BFLOAT16: torch.bfloat16}
Readme = Callable[..., str]
"""Returns the text of README.md; of a near LoRA, from how near it is."""
WEIGHTS_ROUNDING = 1e-4
"""Logits from the same float32 sums in another order differ by less than this share of the largest."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """The result of an export. `difference` is the largest one between a logit of the study's adapter and of this; of a
    near LoRA, between a logit before it was written and after it was loaded."""

    folder: Path
    difference: float
    loading: str
    approximation: Approximation | None = None


def export_adapter(
    adapter: Path,
    to: Path,
    form: Form,
    *,
    model: str | None = None,
    dtype: WrittenDtype = WrittenDtype.FLOAT32,
    rank: int | None = None,
    judged_on: TaskWork | None = None,
    published: Published = UNPUBLISHED,
) -> ExportResult:
    """Writes an adapter's folder in another form to `to`.

    Args:
        adapter: what a study leaves in `adapters/<task>`.
        to: a folder that does not exist yet, or is empty.
        model: a hub name or folder of the backbone; without it, the card's.
        dtype: of a merged model's weights.
        rank: of the nearest LoRA.
        judged_on: data whose validation half shows what the nearest LoRA costs; None: that is not measured.
        published: what the model card says of the licence, and of the hub's repository that the folder goes to.

    Raises:
        Refusal: `to` is taken, the form can't carry the method, the backbone can't be found, or the outputs differ.
    """
    to = home(to, "--to").resolve()
    _refuse_taken(to)
    if (rank is None) == (form is Form.LORA):
        problem = "lora needs a rank" if rank is None else f"{form} has none"
        raise Refusal("--rank", problem, "write --format lora --rank 16, or leave both out")
    card, approximation = read_card(adapter), None
    source, shape = backbone_of(card, adapter, model)
    adapted, package = Adapted(geometry=shape, adapter=card.adapter, quantize=card.quantize), package_of(source)
    readme = partial(render_model_card, card, form, to.name, published, package=package)
    if form is not Form.LORA:  # which may be near instead
        refuse_inexact(form, adapted)
    match form:
        case Form.ADAPTER:
            differing = _leave_as_adapter(adapter, to, model, readme)
        case Form.MERGED:
            differing = _leave_merged(adapter, to, model, DTYPES[dtype], readme)
        case Form.ONNX:
            differing = _leave_as_onnx(adapter, to, model, readme)
        case Form.PEFT | Form.KRONA | Form.LORA:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of what peft asks of transformers
                differing, approximation = _leave_as_peft(adapter, to, form, adapted, model, rank, judged_on, readme)
    lines = loading(card, form, to, package=package)
    return ExportResult(folder=to, difference=differing, loading=lines, approximation=approximation)


def _leave_as_adapter(adapter: Path, to: Path, name: str | None, readme: Readme) -> float:
    whole = load_adapted(adapter, model=name)
    inputs = sample_inputs(whole)
    expected = logits(whole.answer.model, inputs)
    with _written(to) as built:
        save_adapter(built, read_tensors(adapter), whole.card)
        _write_card(built, readme())
        written = logits(load_adapted(built, model=name).answer.model, inputs)
        _refuse_other_outputs(written, expected, "read back")
    return difference(written, expected)


def _merged(adapter: Path, name: str | None) -> tuple[AdaptedModel, Any, Inputs]:
    """Returns a loaded adapter, its model with the adapter merged into it, and inputs that gave the same logits."""
    whole = load_adapted(adapter, model=name)
    model: Any = whole.answer.model
    inputs = sample_inputs(whole)
    expected = logits(model, inputs)
    try:
        merge(whole.adapters)
    except Refusal as refusal:
        raise unmergeable(refusal.problem) from None
    _refuse_other_outputs(logits(model, inputs), expected, "merged")
    _name_labels(model, whole)
    return whole, model, inputs


def _leave_merged(adapter: Path, to: Path, name: str | None, dtype: torch.dtype, readme: Readme) -> float:
    whole, model, inputs = _merged(adapter, name)
    expected = logits(model, inputs)
    cast_parameters(model, dtype)
    with _written(to) as built:
        model.save_pretrained(built)
        whole.tokenizer.save_pretrained(built)
        again = type(model).from_pretrained(built, dtype=torch.float32).eval()
        written = logits(again, inputs)
        _refuse_other_outputs(written, logits(_in_float32(model), inputs), "read back")
        _write_card(built, readme())
    return difference(written, expected)


def _leave_as_onnx(adapter: Path, to: Path, name: str | None, readme: Readme) -> float:
    """Writes a graph that is traced with some inputs, and compares its logits on fewer and shorter ones too."""
    refuse_without_onnx()
    whole, model, inputs = _merged(adapter, name)
    _in_float32(model)
    if "token_type_ids" in whole.tokenizer.model_input_names:
        inputs |= {"token_type_ids": _second_texts(inputs["attention_mask"], model)}
    differing = 0.0
    with _written(to) as built:
        write_onnx(model, inputs, built)
        whole.tokenizer.save_pretrained(built)
        model.config.save_pretrained(built)
        for rows, length in SHAPES:
            some = {key: tensor[rows, :length] for key, tensor in inputs.items()}
            written, expected = onnx_logits(built, some), logits(model, some)
            _refuse_other_outputs(written, expected, "computed by onnxruntime")
            differing = max(differing, difference(written, expected))
        _write_card(built, readme())
    return differing


def _second_texts(mask: Tensor, model: Any) -> Tensor:
    """Returns token types (n, length) of pairs whose second text is the latter half, where the model knows a second."""
    second = mask.cumsum(1) > mask.sum(1, keepdim=True) // 2
    return (second & mask.bool() & (getattr(model.config, "type_vocab_size", 0) > 1)).long()


def _in_float32(model: Any) -> Any:
    cast_parameters(model, torch.float32)
    return model


def _leave_as_peft(
    adapter: Path,
    to: Path,
    form: Form,
    adapted: Adapted,
    name: str | None,
    rank: int | None,
    judged_on: TaskWork | None,
    readme: Readme,
) -> tuple[float, Approximation | None]:
    """Writes the same adapter as peft has it or, with a rank, the nearest LoRA and how near it is.

    A LoRA whose rank the adapter can't exceed is the same adapter, of no higher rank than it needs.
    """
    peft_form = _peft()
    load = partial(load_adapted, adapter, model=name, quantized=False)  # peft's are the same on quantised weights
    whole = load()
    inputs, model, head = sample_inputs(whole), whole.answer.model, head_of(read_tensors(adapter))
    expected = logits(model, inputs)
    if rank is None:
        whole.adapters.detach()
        dressed = peft_form.as_peft(model, whole.adapters, head, form).eval()
        _refuse_other_outputs(logits(dressed, inputs), expected, "in the form of peft")
        return _write_peft(dressed, to, load, whole, expected, readme()), None
    exact = EXACT_FOR[Form.LORA](adapted, rank) is None
    near = peft_form.nearest_lora(whole.adapters, min(rank, adapted.rank or rank) if exact else rank)
    before = _score(whole, judged_on)
    whole.adapters.detach()
    dressed = peft_form.as_nearest_lora(model, whole.adapters, head, near).eval()
    found = Approximation(rank=near.rank, kept=near.kept, before=before, after=_score(whole, judged_on))
    as_lora = logits(dressed, inputs)
    if exact:
        _refuse_other_outputs(as_lora, expected, "as a LoRA")
    return _write_peft(dressed, to, load, whole, as_lora, readme(found)), found


def _score(whole: AdaptedModel, judged_on: TaskWork | None) -> float | None:
    """Returns the validation score of the model as it is now, adapted by us or by peft."""
    if judged_on is None:
        return None
    pad = judged_on.pad_token_id
    return evaluate(whole.answer, whole.task, judged_on.validation, pad, whole.backbone.device)["score"]


def _write_peft(
    dressed: Any, to: Path, load: Callable[[], AdaptedModel], whole: AdaptedModel, expected: Tensor, readme: str
) -> float:
    """Writes a PeftModel and compares what is read back; returns the largest difference of a logit."""
    from peft import PeftModel

    for config in dressed.peft_config.values():
        config.base_model_name_or_path = whole.card.backbone
    with _written(to) as built:
        dressed.save_pretrained(built, save_embedding_layers=False)
        bare = load()
        bare.adapters.detach()
        written = logits(PeftModel.from_pretrained(bare.answer.model, built).eval(), sample_inputs(whole))
        _refuse_other_outputs(written, expected, "read back")
        _write_card(built, readme)
    return difference(written, expected)


def _peft() -> Any:
    """Returns the module that writes peft's forms."""
    try:
        with quiet():
            import_module("peft")
    except ImportError:
        raise Refusal("--format", "the package peft is not installed", "pip install 'krona_tune[peft]'") from None
    from krona_tune.adapters import peft_form

    return peft_form


def _name_labels(model: Any, whole: AdaptedModel) -> None:
    """Writes the task's labels to the model's config, so that a pipeline of transformers uses them."""
    if whole.card.text_to_text:
        return
    model.config.problem_type = "regression" if whole.task.is_regression else "single_label_classification"
    model.config.id2label = dict(enumerate(whole.task.labels or ["score"]))
    model.config.label2id = {label: index for index, label in model.config.id2label.items()}


@contextmanager
def _written(to: Path) -> Iterator[Path]:
    """Yields where to build what moves to `to` at the end of the context, or is removed if anything fails."""
    fix = "name a writable folder with enough room"
    with refusing("--to", f"{to} can't be written", fix), atomic_folder(to) as built:
        yield built


def _refuse_taken(to: Path) -> None:
    fix = "name a folder that is not there yet"
    with refusing("--to", f"{to} can't be looked at", fix):
        if to.exists() and not to.is_dir():
            raise Refusal("--to", f"{to} is no folder", fix)
        if to.is_dir() and any(to.iterdir()):
            raise Refusal("--to", f"{to} is not empty", fix)


def _refuse_other_outputs(found: Tensor, expected: Tensor, how: str) -> None:
    apart, largest = difference(found, expected), expected.abs().max().item()
    if not apart <= WEIGHTS_ROUNDING * max(1.0, largest):
        raise Refusal(
            "export", f"a logit {how} differs by {apart:.2g}, of at most {largest:.2g}", "nothing was written"
        )


def _write_card(built: Path, readme: str) -> None:
    (built / README).write_text(readme, encoding="utf-8")
