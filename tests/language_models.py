"""Writes folders with tiny decoders and encoder-decoders that know single characters, and generated sums for them."""

import csv
import random
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.models import CONFIGS, ENCODER_DECODERS

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789+=:?. "
PAD, END, TURN = "<pad>", "</s>", "<turn>"
CHAT = (
    "{% for m in messages %}<turn>{{ m['role'][0] }}: {{ m['content'] }}<turn>{% endfor %}"
    "{% if add_generation_prompt %}<turn>a:{% endif %}"
)


def character_tokenizer(*, encoder: bool = False, chat: bool = False) -> PreTrainedTokenizerFast:
    """Returns a tokenizer with one token per character.

    Args:
        encoder: it ends every text, as that of an encoder-decoder does.
        chat: it has a chat template.
    """
    ids = {word: number for number, word in enumerate((PAD, END, TURN, *CHARACTERS))}
    whole = Tokenizer(models.WordLevel(ids, unk_token=PAD))
    whole.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    whole.decoder = decoders.Fuse()
    if encoder:
        whole.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, ids[END])])
    extra: dict[str, Any] = {"chat_template": CHAT} if chat else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=whole, pad_token=PAD, eos_token=END, additional_special_tokens=[TURN], **extra
    )


def saved_language_model(folder: Path, name: str = "llama", *, chat: bool = False, **sizes: Any) -> Path:
    """Writes a tiny model of a family of `tests.models`, with its language-model head and a tokenizer; of another
    family, that of its model type and `sizes`."""
    model_type, values = CONFIGS.get(name, (name, {}))
    encoder = model_type in ENCODER_DECODERS
    tokenizer = character_tokenizer(encoder=encoder, chat=chat)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    words = {"vocab_size": len(tokenizer)}  # more rows would only make some tokens impossible to learn
    config = transformers.AutoConfig.for_model(model_type, **{**values, **special, **words, **sizes})
    kind = transformers.AutoModelForSeq2SeqLM if encoder else transformers.AutoModelForCausalLM
    torch.manual_seed(0)
    kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def saved_decoder_of_words(folder: Path, positions: int) -> Path:
    """Writes a tiny decoder of a family that has no class for classification, so that it answers with label words."""
    return saved_language_model(
        folder, "codegen", n_positions=positions, n_embd=32, n_layer=2, n_head=4, n_inner=40, rotary_dim=4
    )


def sums(count: int, seed: int, most: int = 99) -> list[dict[str, str]]:
    """Returns different sums of two numbers up to `most`: the columns `a`, `b` and `sum`."""
    pairs = [(a, b) for a in range(most + 1) for b in range(most + 1)]
    chosen = random.Random(seed).sample(pairs, count)
    return [{"a": str(a), "b": str(b), "sum": str(a + b)} for a, b in chosen]


def write_sums(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["a", "b", "sum"])
        writer.writeheader()
        writer.writerows(rows)
    return path
