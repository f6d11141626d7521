"""Writes the tokenizer beside an exported model, so that it reads a text as the study did."""

from inspect import signature
from pathlib import Path
from typing import Any

from tokenizers import processors

from krona_tune.train.predict import AdaptedModel

TYPES = "token_type_ids"
SAMPLE = "a"
"""A text that shows what a tokenizer writes around any."""


def save_tokenizer(whole: AdaptedModel, built: Path) -> None:
    """Writes the tokenizer. It pads texts as in training, cuts them so where it is asked to truncate, gives only what
    the model takes, and ends no text that a decoder is to continue."""
    tokenizer: Any = whole.tokenizer
    alone = whole.backbone.geometry.writes_alone
    tokenizer.model_max_length = whole.card.max_length
    # a decoder writes after the last position
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left" if alone else "right"
    if TYPES not in signature(type(whole.answer.model).forward).parameters:
        taken = [name for name in tokenizer.model_input_names if name != TYPES]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = taken
    if alone and tokenizer.is_fast:
        _end_no_text(tokenizer)
    tokenizer.save_pretrained(built)


def _end_no_text(tokenizer: Any) -> None:
    """Takes the end of sequence from what a fast tokenizer writes behind texts; what else is around them stays."""
    bare = tokenizer(SAMPLE, add_special_tokens=False).input_ids
    written = [tokenizer(*[SAMPLE] * texts).input_ids for texts in (1, 2)]
    if len(written[0]) == len(bare) or written[0][-1] != tokenizer.eos_token_id:
        return
    names = dict(zip(ids := sorted({*written[0], *written[1]}), tokenizer.convert_ids_to_tokens(ids), strict=True))
    single, pair = (_template(ids[:-1], bare, names) for ids in written)
    special = [(name, id_) for id_, name in names.items()]
    tokenizer.init_kwargs["add_eos_token"] = False  # an earlier transformers adds it again otherwise
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=special
    )


def _template(ids: list[int], bare: list[int], names: dict[int, str]) -> list[str]:
    """Returns ids as a template names them, with `$A` and `$B` in the place of the `bare` ids of a text."""
    found: list[str] = []
    texts = iter(("$A", "$B"))
    while ids:
        if ids[: len(bare)] == bare:
            found, ids = [*found, next(texts)], ids[len(bare) :]
        else:
            found, ids = [*found, names[ids[0]]], ids[1:]
    return found
