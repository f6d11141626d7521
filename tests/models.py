"""Builds tiny, randomly initialised models of every family, in which all sizes differ."""

from collections.abc import Container, Iterable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from krona_tune.adapters.placement import STORES_STATES
from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Geometry
from krona_tune.backbones.meta_model import size_of

SMALL = {"vocab_size": 97, "max_position_embeddings": 40}
ENCODER = {**SMALL, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4}
T5 = {
    "vocab_size": 97, "d_model": 24, "d_ff": 40, "d_kv": 5, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 3,
    "decoder_start_token_id": 0,
}  # fmt: skip
T5_BASE_SIZES = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "d_kv": 64}
FEW_KEYS = {**ENCODER, "num_key_value_heads": 2}
OWN_HEADS = {**FEW_KEYS, "head_dim": 10}
GPT = {"vocab_size": 97, "n_positions": 40, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_inner": 40}
BART = {
    "vocab_size": 97, "max_position_embeddings": 40, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3,
    "encoder_ffn_dim": 40, "decoder_ffn_dim": 36, "encoder_attention_heads": 4, "decoder_attention_heads": 3,
    "init_std": 0.4,
}  # fmt: skip
HALF: dict[str, Any] = {**OWN_HEADS, "model_type": "t5_gemma_module"}
T5GEMMA: dict[str, Any] = {
    "vocab_size": 97, "encoder": HALF, "decoder": {**HALF, "hidden_size": 36, "intermediate_size": 44},
}  # fmt: skip
"""An encoder and a decoder of other widths."""
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("t5", T5),
    "t5 gated": ("t5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": ("mt5", T5),
    "umt5": ("umt5", T5),
    "bert": ("bert", ENCODER),
    "roberta": ("roberta", {**ENCODER, "type_vocab_size": 1}),
    "xlm-roberta": ("xlm-roberta", ENCODER),
    "electra": ("electra", {**ENCODER, "embedding_size": 24}),
    "electra projected": ("electra", {**ENCODER, "embedding_size": 8}),
    "distilbert": ("distilbert", {**SMALL, "dim": 24, "hidden_dim": 40, "n_layers": 3, "n_heads": 4}),
    "deberta": ("deberta", {**ENCODER, **RELATIVE}),
    "deberta absolute": ("deberta", ENCODER),
    "deberta-v2": ("deberta-v2", {**ENCODER, **RELATIVE}),
    "deberta-v3": (
        "deberta-v2",
        {**ENCODER, **RELATIVE, "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 16,
         "position_biased_input": False, "type_vocab_size": 0},
    ),
    "deberta-v2 convolution": ("deberta-v2", {**ENCODER, **RELATIVE, "conv_kernel_size": 3, "conv_act": "gelu"}),
    "albert": ("albert", {**ENCODER, "embedding_size": 8}),
    "mpnet": ("mpnet", ENCODER),
    "modernbert": ("modernbert", {**ENCODER, "pad_token_id": 0}),
    "eurobert": ("eurobert", {**FEW_KEYS, "pad_token_id": 0}),
    "bart": ("bart", BART),
    "llama": ("llama", {**OWN_HEADS, "pad_token_id": 0}),
    "mistral": ("mistral", {**OWN_HEADS, "pad_token_id": 0}),
    "qwen2": ("qwen2", {**FEW_KEYS, "pad_token_id": 0}),
    "qwen3": ("qwen3", {**OWN_HEADS, "pad_token_id": 0}),
    "gemma": ("gemma", OWN_HEADS),
    "phi3": ("phi3", {**FEW_KEYS, "pad_token_id": 0}),
    "opt": ("opt", {**SMALL, "hidden_size": 24, "ffn_dim": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
                    "word_embed_proj_dim": 20, "init_std": 0.2}),
    "gpt2": ("gpt2", {**GPT, "pad_token_id": 0}),
    "gpt_neox": ("gpt_neox", {**ENCODER, "pad_token_id": 0}),
}  # fmt: skip
STORING = [name for name, (model_type, _) in CONFIGS.items() if model_type in STORES_STATES]
"""Those whose first layers stored states can replace."""
ENCODER_DECODERS = {"t5", "mt5", "umt5", "bart"}
HEADED = [name for name, (model_type, _) in CONFIGS.items() if model_type not in ENCODER_DECODERS]
"""Those that answer with a head."""
KINDS = {"t5", "bert", "deberta-v3", "electra projected", "bart", "llama", "phi3", "gpt2"}
"""One of each kind: an encoder, a decoder and both; maps of its own attention, maps before it, fused and transposed."""


def of_each_kind(names: Iterable[str] = CONFIGS, usual: Container[str] = KINDS) -> list[Any]:
    """Returns the models as cases of a test; those that are of the kind of another one, not `usual`, are `long`."""
    return [pytest.param(name, marks=() if name in usual else pytest.mark.long) for name in names]


def build(name: str, outputs: int = 3, device: str = "cpu") -> tuple[Geometry, nn.Module, nn.Module]:
    """Returns the geometry, the model with its head, and the base model, to which the geometry's names are relative."""
    model_type, values = CONFIGS[name]
    return build_from(model_type, values, outputs, device)


def build_from(
    model_type: str, values: dict[str, Any], outputs: int = 3, device: str = "cpu"
) -> tuple[Geometry, nn.Module, nn.Module]:
    config = transformers.AutoConfig.for_model(model_type, num_labels=outputs, **values)
    shape = geometry(config.to_dict())
    kind = transformers.AutoModelForSeq2SeqLM if shape.text_to_text else transformers.AutoModelForSequenceClassification
    torch.manual_seed(0)
    with torch.device(device):
        model = kind.from_config(config)
    for module in model.modules():
        if size_of(module) and module.bias is not None:
            torch.nn.init.normal_(module.bias, std=0.1)  # a fresh one has zeros, which hide what is done to them
    model.eval().requires_grad_(False)
    return shape, model, model if shape.text_to_text else model.get_submodule(model.base_model_prefix)


def tokens(shape: Geometry, rows: int = 5, length: int = 11) -> dict[str, torch.Tensor]:
    """Returns random inputs with some padding; for a text-to-text model also what its decoder reads."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 97, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs | ({"decoder_input_ids": ids[:, :4]} if shape.text_to_text else {})
