"""Writes folders with tiny, randomly initialised backbones and tokenizers that know mini-GLUE's words."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from krona_tune.data.corpus import load
from krona_tune.data.tasks import TASKS
from krona_tune.train.backbone import quiet
from tests.models import ENCODER, T5, build_from

MINI_TASKS = ("cola", "stsb")


def saved_bert(folder: Path, sizes: Mapping[str, object] = ENCODER) -> Path:
    specials = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = _tokenizer(specials, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    return saved_model(folder, "bert", sizes, tokenizer)


def saved_t5(folder: Path) -> Path:
    specials = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    return saved_model(folder, "t5", T5, _tokenizer(specials, "$A </s>", "$A </s> $B </s>"))


def saved_model(folder: Path, model_type: str, sizes: Mapping[str, object], tokenizer: PreTrainedTokenizerFast) -> Path:
    model: Any = build_from(model_type, {**sizes, "vocab_size": len(tokenizer)}, outputs=2)[1]
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(specials: dict[str, str], single: str, pair: str) -> PreTrainedTokenizerFast:
    """Returns a tokenizer with one token per word, and special tokens where the templates put them."""
    names = list(specials.values())
    words = Tokenizer(models.WordLevel(unk_token=specials["unk_token"]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(_texts(), trainers.WordLevelTrainer(special_tokens=names))
    ids = [(name, words.token_to_id(name)) for name in names]
    words.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=words, **specials)


def _texts() -> Iterator[str]:
    for name in MINI_TASKS:
        task = TASKS[name]
        data = load(task, "mini", train_examples=64, validation_examples=32, test_examples=32)
        yield from (task.prompt([row[column] for column in task.inputs]) for row in data.train.to_pylist())
        yield from task.candidates
