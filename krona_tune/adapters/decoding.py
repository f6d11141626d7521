"""Holds how a model that writes begins and ends an answer; its own rules of generation may say otherwise."""

from typing import Any

from krona_tune.study.frozen_value import FrozenValue


class Decoding(FrozenValue):
    """The rules by which a model writes an answer greedily, and the texts around it.

    Each of `eos_token_id` ends an answer; `ends` are the same tokens as text. `decoder_start_token_id` is what a
    decoder reads before its answer, None for one that continues its prompt. `before_answer` is what the tokenizer's
    chat template writes between its generation prompt and an answer, as the model reads it; None if there is no
    template.
    """

    eos_token_id: tuple[int, ...]
    pad_token_id: int
    decoder_start_token_id: int | None
    use_cache: bool
    ends: tuple[str, ...]
    before_answer: str | None

    def arguments(self, max_new_tokens: int) -> dict[str, Any]:
        """Returns the arguments of a GenerationConfig of transformers that writes so, without those that are None."""
        all_of_them = {
            "max_new_tokens": max_new_tokens,
            "do_sample": False,
            "num_beams": 1,
            "use_cache": self.use_cache,
            "eos_token_id": [*self.eos_token_id] or None,
            "pad_token_id": self.pad_token_id,
            "decoder_start_token_id": self.decoder_start_token_id,
        }
        return {name: value for name, value in all_of_them.items() if value is not None}
