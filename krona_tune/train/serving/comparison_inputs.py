"""Makes inputs to compare two forms of one model."""

import torch
from torch import Tensor, nn

from krona_tune.train.backbone import Batch
from krona_tune.train.serving.load_adapted import AdaptedModel

LENGTHS = (24, 3, 17, 8, 21, 5, 12, 15)
ANSWER_LENGTH = 4


def sample_inputs(whole: AdaptedModel) -> Batch:
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
def logits(model: nn.Module, inputs: Batch) -> Tensor:
    """Returns the model's logits, float32."""
    found: Tensor = model(**inputs).logits
    return found.float()


def difference(some: Tensor, others: Tensor) -> float:
    """Returns the largest absolute difference; not a number if one of them is not."""
    return (some - others).abs().max().item()
