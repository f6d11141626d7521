"""Compares what an export writes with the adapter, on inputs drawn from the vocabulary; what differs is not left."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from krona_tune.adapters.approximation import Nearness
from krona_tune.adapters.exact_forms import PlacedAdapter, unmergeable
from krona_tune.adapters.export_forms import Form, WrittenDtype
from krona_tune.adapters.merge import merge
from krona_tune.adapters.model_card import README
from krona_tune.atomic_write import UNFINISHED, atomic_folder
from krona_tune.hub import home
from krona_tune.processor import torch_threads
from krona_tune.refusal import Refusal, refusing
from krona_tune.train.backbone import Inputs, cast_parameters, quiet
from krona_tune.train.evaluate import evaluate
from krona_tune.train.loop import TaskWork
from krona_tune.train.predict import AdaptedModel, load_adapted

LENGTHS = (24, 3, 17, 8, 21, 5, 12, 15)
ANSWER_LENGTH = 4
Readme = Callable[..., str]
"""Returns the text of README.md; of what is near an adapter, from how near it is."""
WRITABLE = "name a writable folder with enough room"
WEIGHTS_ROUNDING = 1e-4
"""Logits from the same float32 sums in another order differ by less than this share of the largest."""
FEW_PRODUCTS = 2 * 10**10
"""A pass of fewer products takes a second of one thread at most; more threads would wait for each other most of it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Names what one export reads, an `adapter` and its `model` if that is not the card's, and what it writes where.

    `backbone` is what the written files call the backbone, `dequantised_by` what loads its weights if they are in few
    bits.
    The validation half of `judged_on` shows what a form that is only near costs; None: that is not measured. A LoRA has
    the `rank`, None for the adapter's own, and is `fitted` to what the adapter computes on the training texts.
    """

    adapter: Path
    to: Path
    form: Form
    adapted: PlacedAdapter
    model: str | None
    backbone: str
    dequantised_by: str
    dtype: WrittenDtype
    rank: int | None
    fitted: bool
    judged_on: TaskWork | None
    readme: Readme


class ExportCheck(NamedTuple):
    """Says what a form's writer has compared: the largest `difference` of a logit, and how near it is if only near."""

    difference: float
    approximation: Nearness | None = None


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
    products = inputs["input_ids"].numel() * sum(weights.numel() for weights in model.parameters())
    with torch_threads(1 if products < FEW_PRODUCTS else None):
        found: Tensor = model(**inputs, return_dict=True).logits.float()
    mask = inputs["attention_mask"]
    read = found.dim() == 3 and found.shape[1] == mask.shape[1]  # a decoder's, of which nobody reads those of padding
    return found * mask[..., None] if read else found


def difference(some: Tensor, others: Tensor) -> float:
    """Returns the largest absolute difference; not a number if one of them is not."""
    return (some - others).abs().max().item()


def refuse_other_outputs(found: Tensor, expected: Tensor, how: str) -> None:
    """Refuses logits that differ from the expected ones by more than sums in another order; `how` they were made."""
    apart, largest = difference(found, expected), expected.abs().max().item()
    if not apart <= WEIGHTS_ROUNDING * max(1.0, largest):
        raise Refusal(
            "export", f"a logit {how} differs by {apart:.2g}, of at most {largest:.2g}", "nothing was written"
        )


def load_merged(adapter: Path, name: str | None) -> tuple[AdaptedModel, Any, Inputs]:
    """Returns a loaded adapter, its model with the adapter merged into it, and inputs that gave the same logits."""
    whole = load_adapted(adapter, model=name)
    model: Any = whole.answer.model
    inputs = sample_inputs(whole)
    expected = logits(model, inputs)
    try:
        merge(whole.adapters)
    except Refusal as refusal:
        raise unmergeable(refusal.problem) from None
    refuse_other_outputs(logits(model, inputs), expected, "merged")
    _name_labels(model, whole)
    return whole, model, inputs


def in_float32(model: Any) -> Any:
    """Returns the model, whose parameters become float32."""
    cast_parameters(model, torch.float32)
    return model


def _name_labels(model: Any, whole: AdaptedModel) -> None:
    """Writes the task's labels to the model's config, so that a pipeline of transformers uses them."""
    if whole.card.text_to_text:
        return
    model.config.problem_type = "regression" if whole.task.is_regression else "single_label_classification"
    model.config.id2label = dict(enumerate(whole.task.labels or ["score"]))
    model.config.label2id = {label: index for index, label in model.config.id2label.items()}


def validation_score(whole: AdaptedModel, judged_on: TaskWork | None) -> float | None:
    """Returns the validation score of the model as it is now, adapted by us or by peft; None if there are no examples
    on which the adapter was not trained."""
    if judged_on is None or whole.card.score is None:
        return None
    pad = judged_on.pad_token_id
    return evaluate(whole.answer, whole.task, judged_on.validation, pad, whole.backbone.device)["score"]


def free_place(to: Path) -> Path:
    """Returns a folder to write to, as an absolute path.

    Raises:
        Refusal: something is there, or nothing can be written there.
    """
    to, fix = home(to, "--to").resolve(), "name a folder that is not there yet"
    with refusing("--to", f"{to} can't be looked at", fix):
        if to.exists() and not to.is_dir():
            raise Refusal("--to", f"{to} is no folder", fix)
        if to.is_dir() and any(not each.name.startswith(UNFINISHED) for each in to.iterdir()):
            raise Refusal("--to", f"{to} is not empty", fix)
        above = next(folder for folder in (to, *to.parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise Refusal("--to", f"{to} can't be written: {above} takes no files", WRITABLE)
    return to


ABANDONED_SECONDS = 6 * 3600
"""After how long without a change of its folder an export is taken for one that was killed."""


@contextmanager
def building(to: Path) -> Iterator[Path]:
    """Yields where to build what moves to `to` at the end of the context, or is removed if anything fails.

    What a killed export has left in that folder goes with it, and beside it what one has left of a folder of this name
    hours ago.

    Raises:
        Refusal: another export writes there, or has written meanwhile, or nothing can be written.
    """
    with refusing("--to", f"{to} can't be written", WRITABLE), _alone_in(to), quiet():
        before = time.time() - ABANDONED_SECONDS
        beside = [each / to.name for each in to.parent.glob(f"{UNFINISHED}*")]
        left = [each.parent for each in beside if each.is_dir() and each.stat().st_mtime < before]
        left += to.glob(f"{UNFINISHED}*")
        try:
            with atomic_folder(to) as built:
                yield built
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise Refusal("--to", f"{to} was written meanwhile", "name another folder") from None
            raise
        for each in left:
            shutil.rmtree(each, ignore_errors=True)


@contextmanager
def _alone_in(to: Path) -> Iterator[None]:
    """Keeps other exports out of a folder that exists. Raises a Refusal if one writes there or has written."""
    if not to.is_dir():
        yield
        return
    descriptor = os.open(to, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Refusal("--to", f"another export writes into {to}", "wait for its end, or name another folder") from None
    except OSError:
        pass  # a store without locks
    try:
        free_place(to)
        yield
    finally:
        os.close(descriptor)


def write_card(built: Path, readme: str) -> None:
    """Writes the model card beside what was built."""
    (built / README).write_text(readme, encoding="utf-8")
