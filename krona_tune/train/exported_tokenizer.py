"""Writes the tokenizer beside an exported model, so that it reads a text as the study did."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from tokenizers import Encoding, processors

from krona_tune.train.predict import AdaptedModel

TYPES = "token_type_ids"
SAMPLE = "a"
"""A text that shows what a tokenizer writes around any."""


def save_tokenizer(whole: AdaptedModel, built: Path) -> None:
    """Writes the tokenizer. It pads texts as in training, cuts them so where it is asked to truncate, gives only what
    the model takes and, if it is a fast one, ends no text that a decoder is to continue."""
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
    """Takes the end of sequence from what a fast tokenizer writes behind a text; what else is around it stays."""
    one, two = (tokenizer(*[SAMPLE] * texts).encodings[0] for texts in (1, 2))
    ends = [found.ids[-1:] == [tokenizer.eos_token_id] and found.sequence_ids[-1] is None for found in (one, two)]
    if not (ends[0] and {0, 1} <= {*two.sequence_ids}):
        return
    single, pair = (_template(found, ended=end) for found, end in zip((one, two), ends, strict=True))
    special = {name: tokenizer.convert_tokens_to_ids(name) for name in {*single, *pair} - {*TEXTS}}
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[*special.items()]
    )


TEXTS = ("$A", "$B")
"""The names of the texts in a template."""


def _template(found: Encoding, *, ended: bool) -> Sequence[str]:
    """Returns what a tokenizer has written, with the names of the texts in their places, without an end."""
    named = [
        token if number is None else TEXTS[number]
        for token, number in zip(found.tokens, found.sequence_ids, strict=True)
    ]
    named = named[:-1] if ended else named
    return [name for place, name in enumerate(named) if name not in TEXTS or name not in named[:place]]
