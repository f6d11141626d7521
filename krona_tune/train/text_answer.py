"""Lets a decoder or an encoder-decoder answer a task with text: it learns the targets' tokens and generates."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedTokenizerBase

from krona_tune.backbones.geometry import Stack
from krona_tune.data.batches import NO_TOKEN
from krona_tune.data.prompts import stop_ids
from krona_tune.data.target_checks import text_of
from krona_tune.data.tasks import Task
from krona_tune.data.withheld_error import withholding
from krona_tune.train.backbone import Backbone, Batch


class TextAnswer:
    """A text-to-text backbone that generates its answers greedily. Nothing is trained beside the adapter.

    The targets of `loss` and `losses` are token ids (n, tokens), `NO_TOKEN` where they are padded.
    """

    def __init__(self, backbone: Backbone, task: Task, tokenizer: PreTrainedTokenizerBase) -> None:
        assert task.generation
        self.task, self.model = task, backbone.whole
        self._tokenizer, self._pad = tokenizer, int(cast(int, tokenizer.pad_token_id))
        self.vocabulary = backbone.geometry.vocabulary or len(tokenizer)
        self._is_decoder = not backbone.geometry.is_encoder_decoder
        self._start = None if self._is_decoder else start_token(backbone.config)
        self._stops = torch.tensor(stop_ids(task, tokenizer), dtype=torch.long, device=backbone.device.kind)
        self._keeps_some = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        depths = backbone.geometry.depths
        cached = depths.get(Stack.ENCODER, depths[Stack.DECODER])  # transformers makes a T5's cache that deep
        self._how = GenerationConfig(
            max_new_tokens=task.generation.max_new_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=cached >= depths[Stack.DECODER],
            eos_token_id=self._stops.tolist() or None,
            pad_token_id=self._pad,
            decoder_start_token_id=self._start,
        )

    def head(self) -> Iterator[tuple[str, nn.Parameter]]:
        return iter(())

    def loss(self, inputs: Batch, labels: Tensor) -> Tensor:
        return self.losses(inputs, labels).sum() / self.counted(labels)

    def counted(self, labels: Tensor) -> Tensor:
        return (labels != NO_TOKEN).sum()

    def losses(self, inputs: Batch, targets: Tensor) -> Tensor:
        """Returns the negative log-likelihood of each target token in nats, (n, tokens), 0 where there is none."""
        logits = self._after_prompt(inputs, targets) if self._is_decoder else self._decoded(inputs, targets)
        return functional.cross_entropy(
            logits.float().transpose(1, 2), targets, ignore_index=NO_TOKEN, reduction="none"
        )

    @torch.no_grad()
    def predict(self, inputs: Batch) -> list[str]:
        """Returns the generated answers, without special tokens and blanks around them."""
        given = _left_padded(inputs, self._pad) if self._is_decoder else inputs
        with _without_generation_config(self.model):
            found = cast(Any, self.model).generate(**given, generation_config=self._how)
        new = found[:, given["input_ids"].shape[1] if self._is_decoder else 1 :]
        ended = torch.isin(new, self._stops).cumsum(1) > 0
        with withholding("the generated tokens are no text"):
            return [text_of(row[~end].tolist(), self._tokenizer) for row, end in zip(new, ended, strict=True)]

    def _decoded(self, inputs: Batch, targets: Tensor) -> Tensor:
        """Returns the logits for each target token, given the input and the tokens before it."""
        decoder_inputs = shifted(targets, cast(int, self._start), self._pad)
        logits: Tensor = self.model(**inputs, decoder_input_ids=decoder_inputs).logits
        return logits

    def _after_prompt(self, inputs: Batch, targets: Tensor) -> Tensor:
        """Returns the logits for each target token, given the prompt and the tokens before it.

        Each row's target follows its prompt without padding between them. Logits of prompts are left out where the
        model offers that, since they are most of a large vocabulary's memory.
        """
        mask = inputs["attention_mask"]
        begins, there = mask.sum(1), targets != NO_TOKEN
        n, most = targets.shape
        total = int((begins + there.sum(1)).max())
        ids = targets.new_full((n, mask.shape[1] + most), self._pad)
        ids[:, : mask.shape[1]] = inputs["input_ids"]
        places = begins[:, None] + torch.arange(most, device=mask.device)
        ids.scatter_(1, places, targets.masked_fill(~there, self._pad))
        attended = (torch.arange(total, device=mask.device) < (begins + there.sum(1))[:, None]).to(mask.dtype)
        first = int(begins.min()) - 1
        kept = {"logits_to_keep": torch.arange(first, total, device=mask.device)} if self._keeps_some else {}
        logits: Tensor = self.model(input_ids=ids[:, :total], attention_mask=attended, **kept).logits
        at = (places - 1 - (first if self._keeps_some else 0)).clamp(max=logits.shape[1] - 1)
        return logits.gather(1, at[:, :, None].expand(-1, -1, logits.shape[2]))


def start_token(config: Any) -> int:
    """Returns the token that an encoder-decoder's answer begins after; without one, a T5 begins with padding."""
    first = getattr(config, "decoder_start_token_id", None)
    return int(config.pad_token_id if first is None else first)


def shifted(targets: Tensor, start: int, pad: int) -> Tensor:
    """Returns what a decoder reads to write targets (n, tokens): the start token and all of them but the last."""
    first = targets.new_full((len(targets), 1), start)
    return torch.cat([first, targets.masked_fill(targets == NO_TOKEN, pad)[:, :-1]], dim=1)


def _left_padded(inputs: Batch, pad: int) -> Batch:
    """Returns right-padded rows as left-padded ones, which a decoder continues."""
    mask = inputs["attention_mask"]
    length = mask.shape[1]
    places = (torch.arange(length, device=mask.device) + mask.sum(1)[:, None]) % length
    moved = mask.gather(1, places)
    ids = inputs["input_ids"].gather(1, places).masked_fill(moved == 0, pad)
    return {"input_ids": ids, "attention_mask": moved}


@contextmanager
def _without_generation_config(model: nn.Module) -> Iterator[None]:
    """Hides the model's generation config, whose sampling and length rules would apply where ours says nothing."""
    kept: Any = model.generation_config
    cast(Any, model).generation_config = GenerationConfig()
    try:
        yield
    finally:
        cast(Any, model).generation_config = kept
