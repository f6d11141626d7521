"""Lets a backbone answer a task: with a head, with label words that it scores, or with text that it writes."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from krona_tune.adapters.adapter_files import HEAD
from krona_tune.adapters.decoding import Decoding
from krona_tune.backbones.geometry import Stack
from krona_tune.data.batches import NO_TOKEN
from krona_tune.data.prompts import around_answer, in_chat_template, stop_ids, text_of
from krona_tune.data.tasks import Task
from krona_tune.data.user_code import withholding
from krona_tune.refusal import Refusal
from krona_tune.train.backbone import Backbone, Inputs


class TextAnswer:
    """A text-to-text backbone that generates its answers greedily. Nothing is trained beside the adapter.

    The targets of `loss` and `losses` are token ids (n, tokens), `NO_TOKEN` where they are padded. `how` are the rules
    by which it generates, `decoding` what of them another place needs.
    """

    def __init__(self, backbone: Backbone, task: Task, tokenizer: PreTrainedTokenizerBase) -> None:
        assert task.generation
        self.task, self.model = task, backbone.whole
        self._tokenizer, self._pad = tokenizer, int(cast(int, tokenizer.pad_token_id))
        self.vocabulary = backbone.geometry.vocabulary or len(tokenizer)
        self._is_decoder = not backbone.geometry.is_encoder_decoder
        self._start = None if self._is_decoder else start_token(backbone)
        stops = stop_ids(task, tokenizer)
        self._stops = torch.tensor(stops, dtype=torch.long, device=backbone.device.kind)
        depths = backbone.geometry.depths
        cached = depths.get(Stack.ENCODER, depths[Stack.DECODER])  # transformers makes a T5's cache that deep
        before = around_answer(task, tokenizer)[0] if in_chat_template(task, tokenizer) else None
        self.decoding: Decoding | None = Decoding(
            eos_token_id=tuple(stops),
            pad_token_id=self._pad,
            decoder_start_token_id=self._start,
            use_cache=cached >= depths[Stack.DECODER],
            ends=tuple(tokenizer.decode([stop]) for stop in stops),
            # blanks at the end of a decoder's prompt belong to the answer
            before_answer=before.rstrip(" ") if before and self._is_decoder else before,
        )
        self.how = transformers.GenerationConfig(**self.decoding.arguments(task.generation.max_new_tokens))

    def head(self) -> Iterator[tuple[str, nn.Parameter]]:
        return iter(())

    def loss(self, inputs: Inputs, labels: Tensor) -> Tensor:
        return self.losses(inputs, labels).sum() / self.counted(labels)

    def counted(self, labels: Tensor) -> Tensor:
        return (labels != NO_TOKEN).sum()

    def losses(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Returns the negative log-likelihood of each target token in nats, (n, tokens), 0 where there is none."""
        logits = self.logits(inputs, targets).float().transpose(1, 2)
        return functional.cross_entropy(logits, targets, ignore_index=NO_TOKEN, reduction="none")

    def logits(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Returns the logits (n, tokens, words) of each target token, given the input and the tokens before it."""
        if self._is_decoder:
            return logits_after_prompt(self.model, inputs, targets, self._pad)
        decoder_inputs = shifted(targets, cast(int, self._start), self._pad)
        found: Tensor = self.model(**inputs, decoder_input_ids=decoder_inputs).logits
        return found

    @torch.no_grad()
    def predict(self, inputs: Inputs) -> list[str]:
        """Returns the generated answers, without special tokens and blanks around them."""
        given = _left_padded(inputs, self._pad) if self._is_decoder else inputs
        with _without_generation_config(self.model):
            found = cast(Any, self.model).generate(**given, generation_config=self.how)
        new = found[:, given["input_ids"].shape[1] if self._is_decoder else 1 :]
        ended = torch.isin(new, self._stops).cumsum(1) > 0
        with withholding("the generated tokens are no text"):
            return [text_of(row[~end].tolist(), self._tokenizer) for row, end in zip(new, ended, strict=True)]


def logits_after_prompt(model: nn.Module, inputs: Inputs, targets: Tensor, pad: int) -> Tensor:
    """Returns a decoder's logits for each target token, given the prompt and the tokens before it.

    Each row's target follows its prompt without padding between them. Logits of prompts are left out where the model
    offers that, since they are most of a large vocabulary's memory.
    """
    mask = inputs["attention_mask"]
    begins, there = mask.sum(1), targets != NO_TOKEN
    n, most = targets.shape
    total = int((begins + there.sum(1)).max())
    ids = targets.new_full((n, mask.shape[1] + most), pad)
    ids[:, : mask.shape[1]] = inputs["input_ids"]
    places = begins[:, None] + torch.arange(most, device=mask.device)
    ids.scatter_(1, places, targets.masked_fill(~there, pad))
    attended = (torch.arange(total, device=mask.device) < (begins + there.sum(1))[:, None]).to(mask.dtype)
    keeps_some = leaves_prompts_out(model)
    first = int(begins.min()) - 1
    kept = {"logits_to_keep": torch.arange(first, total, device=mask.device)} if keeps_some else {}
    logits: Tensor = model(input_ids=ids[:, :total], attention_mask=attended, **kept).logits
    at = (places - 1 - (first if keeps_some else 0)).clamp(max=logits.shape[1] - 1)
    return logits.gather(1, at[:, :, None].expand(-1, -1, logits.shape[2]))


def leaves_prompts_out(model: nn.Module) -> bool:
    """Returns whether a decoder can compute the logits of some places alone."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


START = "decoder_start_token_id"
"""What a config calls the first token that a decoder reads."""


def start_token(backbone: Backbone) -> int:
    """Returns the token that an encoder-decoder's answer begins after: that of its config or its rules of generation,
    else its decoder's first one, as in a T5Gemma, else padding, as in a T5.

    Raises:
        Refusal: none of them is named.
    """
    config, rules = backbone.config, getattr(backbone.whole, "generation_config", None)
    named = [getattr(holder, START, None) for holder in (config, rules)]
    named += [getattr(getattr(config, "decoder", None), "bos_token_id", None), getattr(config, "pad_token_id", None)]
    first = next((each for each in named if each is not None), None)
    if first is None:
        problem = f"this {config.model_type} names no token that an answer begins after"
        raise Refusal("config.json", problem, "give it a decoder_start_token_id")
    return int(first)


def shifted(targets: Tensor, start: int, pad: int) -> Tensor:
    """Returns what a decoder reads to write targets (n, tokens): the start token and all of them but the last."""
    first = targets.new_full((len(targets), 1), start)
    return torch.cat([first, targets.masked_fill(targets == NO_TOKEN, pad)[:, :-1]], dim=1)


def _left_padded(inputs: Inputs, pad: int) -> Inputs:
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
    cast(Any, model).generation_config = transformers.GenerationConfig()
    try:
        yield
    finally:
        cast(Any, model).generation_config = kept


MOST_LOGITS = 1 << 28
"""The most logits of targets that are computed at once: with 128,000 words those of 2,000 tokens, about 3 GB."""
CANDIDATE_ROWS = 512
"""The most (example, candidate) pairs that go through a decoder at once."""


class Answer(Protocol):
    """A task's answer on a backbone: what is trained beside the adapter, the loss and the prediction.

    `decoding` says how a text is written; None where none is.
    """

    model: nn.Module
    decoding: Decoding | None

    def head(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Returns the head's parameters by name; nothing for a text-to-text model."""

    def loss(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Returns the mean training loss; labels as a batch has them."""

    def counted(self, labels: Tensor) -> Tensor:
        """Returns how much the loss of these labels weighs in a larger batch's: a number."""

    def predict(self, inputs: Inputs) -> Tensor | list[str]:
        """Returns n label indices, scores of a regression, or texts."""


def make_answer(
    backbone: Backbone,
    task: Task,
    seed: int,
    candidates: Sequence[Sequence[int]] = (),
    pad_token_id: int | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Answer:
    """Returns the answer for the backbone's kind and the task.

    Args:
        seed: draws the head.
        candidates: label words as token ids, for a text-to-text backbone.
        pad_token_id: what fills the batches; a decoder's head reads the last token that is another one. None: as the
            model's config says.
        tokenizer: reads what is generated, for a task whose answers are texts.
    """
    if task.generation:
        assert tokenizer is not None
        return TextAnswer(backbone, task, tokenizer)
    if backbone.geometry.text_to_text:
        return VerbalizedAnswer(backbone, task, candidates)
    return Head(backbone, task, seed, pad_token_id)


class Head:
    """A fresh float32 head on a shared backbone; the head is everything outside the pretrained base model."""

    decoding: Decoding | None = None

    def __init__(self, backbone: Backbone, task: Task, seed: int, pad_token_id: int | None = None) -> None:
        self.task = task
        self.model = with_head(backbone, task.outputs, seed, pad_token_id)
        self._prefix = f"{self.model.base_model_prefix}."
        self._weights = class_weights(task, backbone.device.kind)
        self._centre = task.centre if _last_layer_has_bias(dict(self.head())) else 0.0

    def head(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self.model.named_parameters() if not name.startswith(self._prefix))

    def loss(self, inputs: Inputs, labels: Tensor) -> Tensor:
        logits = self.model(**inputs).logits.float()
        if self.task.is_regression:
            standard = (labels.double() - self._centre) / self.task.spread
            return functional.mse_loss(logits.squeeze(-1), standard.float())
        return functional.cross_entropy(logits, labels, weight=self._weights)

    def counted(self, labels: Tensor) -> Tensor:
        return torch.tensor(float(len(labels))) if self._weights is None else self._weights[labels].sum()

    def predict(self, inputs: Inputs) -> Tensor:
        return self.chosen(self.outputs(inputs))

    def outputs(self, inputs: Inputs) -> Tensor:
        """Returns the logits (n, outputs) that `chosen` takes."""
        logits: Tensor = self.model(**inputs).logits.float()
        return logits

    def chosen(self, logits: Tensor) -> Tensor:
        if self.task.is_regression:
            return logits.squeeze(-1).double() * self.task.spread + self._centre
        return logits.argmax(-1)


def _last_layer_has_bias(head: Mapping[str, Tensor]) -> bool:
    """Returns whether a regression's head can learn an offset; a decoder's has no bias."""
    return any(tensor.ndim == 1 and len(tensor) == 1 for tensor in head.values())


def class_weights(task: Task, device: str) -> Tensor | None:
    """Returns the weight of each label in the loss, (labels,); None if all weigh the same."""
    return torch.tensor(task.class_weights, device=device) if task.class_weights else None


def in_units_of_labels(tensors: dict[str, Tensor], task: Task) -> dict[str, Tensor]:
    """Returns a regression's head, changed so that its output needs no `centre` and `spread`.

    Args:
        tensors: an adapter's, of which those of a head are named `head.…`; the last layer's have one row.
        task: what they were trained on; with its centre 0 and its spread 1 they are returned as they are.
    """
    if (task.centre, task.spread) == (0.0, 1.0):
        return tensors
    last = {name: tensor for name, tensor in tensors.items() if name.startswith(HEAD) and len(tensor) == 1}
    # a last layer without a bias was trained on labels that were not centred: `Head`
    shifts = {name: task.centre if tensor.ndim == 1 else 0.0 for name, tensor in last.items()}
    return tensors | {name: tensor * task.spread + shifts[name] for name, tensor in last.items()}


def with_head(backbone: Backbone, outputs: int, seed: int, pad_token_id: int | None = None) -> nn.Module:
    """Returns the family's model for sequence classification around the shared base, with a head drawn from `seed`."""
    known = {key: value for key, value in backbone.config.to_dict().items() if key != "quantization_config"}
    config = type(backbone.config).from_dict({**known, "num_labels": outputs})
    if pad_token_id is not None and backbone.geometry.first_stack is Stack.DECODER:
        config.pad_token_id = pad_token_id  # an encoder's own may say where its positions begin
    config._attn_implementation = backbone.config._attn_implementation
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    setattr(model, model.base_model_prefix, backbone.base)
    device = backbone.device.kind
    with torch.random.fork_rng(devices=[0] if device == "cuda" else []):
        torch.manual_seed(seed)
        for name, module in model.named_children():
            if name != model.base_model_prefix:
                module.to_empty(device="cpu").apply(model._init_weights)
                module.to(device=device, dtype=torch.float32)
    headed: nn.Module = model
    return headed


class VerbalizedAnswer:
    """A backbone that answers in words: it learns the label's word and answers with the most likely candidate.

    The log-likelihood of a candidate is the sum over its tokens, including the end of sequence; all candidates of an
    example share one pass of an encoder, while a decoder reads the prompt with each. Nothing is generated.
    """

    decoding: Decoding | None = None

    def __init__(self, backbone: Backbone, task: Task, candidates: Sequence[Sequence[int]]) -> None:
        self.task = task
        self.model, config = backbone.whole, backbone.config
        self._encoder: Any = cast(Any, self.model).get_encoder() if backbone.geometry.is_encoder_decoder else None
        self._pad = max(0, getattr(config, "pad_token_id", None) or 0)  # some families' configs have none, or -1
        self._vocabulary = max(1, backbone.geometry.vocabulary)
        device = backbone.device.kind
        width = max(map(len, candidates))
        padded = [[*ids, *[NO_TOKEN] * (width - len(ids))] for ids in candidates]
        self._targets = torch.tensor(padded, device=device)
        if self._encoder is not None:
            self._decoder_inputs = shifted(self._targets, start_token(backbone), self._pad)
        values = torch.tensor(task.grid, dtype=torch.float64) if task.grid else torch.arange(len(padded))
        self._values = values.to(device)
        self._weights = class_weights(task, device)

    def head(self) -> Iterator[tuple[str, nn.Parameter]]:
        return iter(())

    def loss(self, inputs: Inputs, labels: Tensor) -> Tensor:
        chosen = self._chosen(labels)
        targets = self._targets[chosen]
        if self._encoder is None:
            logits = logits_after_prompt(self.model, inputs, targets, self._pad).float()
        else:
            logits = self.model(**inputs, decoder_input_ids=self._decoder_inputs[chosen]).logits.float()
        if self._weights is None:
            return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_TOKEN)
        losses = functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=NO_TOKEN, reduction="none")
        weights = self._token_weights(chosen)
        return (losses * weights).sum() / weights.sum()

    def counted(self, labels: Tensor) -> Tensor:
        return self._token_weights(self._chosen(labels)).sum()

    def _chosen(self, labels: Tensor) -> Tensor:
        """Returns the index of each label's candidate, (n,)."""
        return (labels.double()[:, None] - self._values.double()).abs().argmin(-1)  # dates differ by little

    def _token_weights(self, chosen: Tensor) -> Tensor:
        """Returns the weight in the loss of each token of these candidates, (n, tokens)."""
        there = self._targets[chosen] != NO_TOKEN
        return there if self._weights is None else self._weights[chosen][:, None] * there

    def predict(self, inputs: Inputs) -> Tensor:
        return self.chosen(self.outputs(inputs))

    def chosen(self, log_likelihoods: Tensor) -> Tensor:
        return self._values[log_likelihoods.argmax(-1)]

    def outputs(self, inputs: Inputs) -> Tensor:
        """Returns the log-likelihoods (n, candidates) of each candidate given each input, which `chosen` takes."""
        mask, count = inputs["attention_mask"], len(self._targets)
        read = inputs["input_ids"] if self._encoder is None else self._encoder(**inputs).last_hidden_state
        pairs, most = torch.arange(len(read) * count, device=mask.device), self._pairs_at_once(mask)
        found = [self._scored(read, mask, pairs[i : i + most]) for i in range(0, len(pairs), most)]
        return torch.cat(found).view(len(read), count)

    def _pairs_at_once(self, mask: Tensor) -> int:
        """Returns how many pairs of an input and a candidate are scored at once: of whole inputs, if one's fit."""
        count, tokens = self._targets.shape
        if self._encoder is None:
            lengths = mask.sum(1)
            tokens += int(lengths.max() - (lengths.min() if leaves_prompts_out(self.model) else 0))
        most = max(1, min(CANDIDATE_ROWS, MOST_LOGITS // (tokens * self._vocabulary)))
        return most if most < count else most // count * count

    def _scored(self, read: Tensor, mask: Tensor, pairs: Tensor) -> Tensor:
        """Returns the log-likelihood of pairs (n,), which are numbered input by input."""
        rows, candidates = pairs // len(self._targets), pairs % len(self._targets)
        each, masks, targets = read[rows], mask[rows], self._targets[candidates]
        if self._encoder is None:
            inputs = {"input_ids": each, "attention_mask": masks}
            logits = logits_after_prompt(self.model, inputs, targets, self._pad).float()
        else:
            words, encoded = (
                self._decoder_inputs[candidates],
                transformers.modeling_outputs.BaseModelOutput(last_hidden_state=each),
            )
            logits = self.model(encoder_outputs=encoded, attention_mask=masks, decoder_input_ids=words).logits.float()
        losses = functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=NO_TOKEN, reduction="none")
        return -losses.sum(-1)
