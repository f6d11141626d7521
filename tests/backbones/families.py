"""Builds a tiny config of every family of transformers, and says what of it is expected to carry adapters.

python -m tests.backbones.families > docs/families.md
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Geometry, Role
from krona_tune.backbones.introspect import introspect
from krona_tune.refusal import Refusal
from krona_tune.train.backbone import model_class
from tests.language_models import character_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 97, "max_position_embeddings": 64, "n_positions": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_size": 24, "d_model": 24, "n_embd": 24, "dim": 24, "emb_dim": 24, "embedding_size": 24,
    "word_embed_proj_dim": 24, "intermediate_size": 40, "n_inner": 40, "d_ff": 40, "dff": 40, "hidden_dim": 40,
    "ffn_dim": 40, "d_inner": 40, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 20, "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2,
    "encoder_layers": 2, "decoder_layers": 2, "num_encoder_layers": 2, "num_decoder_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "num_heads": 4, "n_heads": 4, "attention_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "d_kv": 6,
    "rotary_dim": 4, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "n_group": 2, "topk_group": 1, "q_lora_rank": 6, "kv_lora_rank": 5, "qk_rope_head_dim": 4, "qk_nope_head_dim": 6,
    "v_head_dim": 6, "attention_window": 4, "block_size": 4, "linear_key_head_dim": 4, "linear_value_head_dim": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "mamba_d_state": 8, "mamba_chunk_size": 8,
    "shared_intermediate_size": 20, "moe_num_experts": 4, "moe_k": 2, "decoder_vocab_size": 97,
    "vocab_size_per_layer_input": 97, "hidden_size_per_layer_input": 12, "entity_vocab_size": 97,
    "entity_emb_size": 12, "global_head_dim": 8, "src_vocab_size": 97, "tgt_vocab_size": 97,
    "shape_vocab_size": 97, "shape_embed_dim": 12, "pronunciation_vocab_size": 97, "pronunciation_embed_dim": 12,
    "max_2d_position_embeddings": 64, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64,
}  # fmt: skip
"""A tiny size for each name that configs have for one."""
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 6, "mamba_d_head": 8},
    "bert-generation": {"is_decoder": True},
    "convbert": {"embedding_size": 24},
    "deepseek_v2": {"num_key_value_heads": 4, "head_dim": 4, "kv_lora_rank": 6, "first_k_dense_replace": 1},
    "deepseek_v3": {"num_key_value_heads": 4, "head_dim": 4, "first_k_dense_replace": 1},
    "funnel": {"block_sizes": [2, 2], "d_head": 6},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "mamba_n_heads": 6, "mamba_d_head": 8},
    "helium": {"head_dim": 6},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 6, "head_dim": 8},
    "marian": {"decoder_start_token_id": 0},
    "minicpm3": {"num_key_value_heads": 4, "head_dim": 4},
    "mobilebert": {
        "embedding_size": 8, "true_hidden_size": 12, "intra_bottleneck_size": 12,
        "initializer_range": 0.3,  # as no norm enlarges what its layers add
    },
    "nemotron_h": {
        "mamba_num_heads": 6, "mamba_head_dim": 8, "n_groups": 2, "ssm_state_size": 8, "chunk_size": 8,
        "moe_shared_expert_intermediate_size": 20,
    },
    "persimmon": {"partial_rotary_factor": 0.67},
    "phi": {"partial_rotary_factor": 0.67},
    "prophetnet": {"num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"]},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
}  # fmt: skip
"""What some configs need beside."""
WHOLE = (
    "albert", "apertus", "arcee", "bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "biogpt", "bitnet",
    "blenderbot", "blenderbot-small", "bloom", "camembert", "codegen", "cohere", "cohere2", "ctrl", "cwm",
    "data2vec-text", "deberta", "deberta-v2", "diffllama", "distilbert", "electra", "ernie", "ernie4_5", "esm",
    "eurobert", "exaone", "exaone4", "falcon", "flint", "fsmt", "gemma", "gemma2", "gemma3_text", "gemma4_unified_text",
    "glm", "glm4", "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_neox_japanese", "gptj", "granite",
    "granite_swa", "gte", "helium", "hunyuan_v1_dense", "hyperclovax", "internlm3", "iquestcoder", "jais2",
    "jina_embeddings_v3", "layoutlm", "llama", "longt5", "m2m_100", "marian", "markuplm", "mbart", "megatron-bert",
    "ministral", "ministral3", "mistral", "modernbert", "modernbert-decoder", "mpnet", "mpt", "mt5", "mvp", "nanochat",
    "nemotron", "nomic_bert", "olmo", "olmo2", "olmo3", "openai-gpt", "opt", "pegasus", "persimmon", "phi", "phi3",
    "plbart", "qwen2", "qwen3", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "seed_oss",
    "smollm3", "stablelm", "starcoder2", "t5", "tapas", "ultrabert", "umt5", "vaultgemma", "xglm", "xlm-roberta",
    "xlm-roberta-xl", "yoso",
)  # fmt: skip
"""Every map that an adapter could stand beside has its role."""
LACKING: dict[str, str] = {
    "afmoe": "self_attn.gate_proj: its name says no role",
    "convbert": "attention.self.query: its name says query, its gradients token by token",
    "deepseek_v2": "self_attn.kv_b_proj: its name says no role",
    "deepseek_v3": "self_attn.kv_b_proj: its name says no role",
    "doge": "self_attn.dt_proj: its name says no role",
    "ernie4_5_moe": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "flaubert": "ffns.*.lin1: it is in another list of layers than attentions",
    "flex_olmo": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "fnet": "",
    "funnel": "attention.r_kernel: it is a parameter of 3 dimensions, no linear map",
    "gemma4_text": "per_layer_input_gate: its name says no role",
    "glm4_moe": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "gpt_oss": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "granitemoe": "block_sparse_moe.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "granitemoehybrid": "mamba.in_proj: it mixes tokens without attention",
    "granitemoeshared": "block_sparse_moe.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "hunyuan_v1_moe": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "led": "self_attn.longformer_self_attn.query_global: its name says no role",
    "lfm2": "conv.in_proj: its name says no role",
    "longformer": "attention.self.query_global: its name says no role",
    "luke": "attention.self.e2e_query: its name says no role",
    "minicpm3": "self_attn.q_a_proj: its name says no role",
    "minimax": "self_attn.qkv_proj: its name says query, key and value in one, its gradients",
    "minimax_m2": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "mixtral": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "mobilebert": "bottleneck.attention.dense: its name says output, its gradients a key",
    "mra": "attention.self.query: its name says query, its gradients reached by no gradient",
    "nemotron_h": "mixer.in_proj: its name says no role",
    "nystromformer": "attention.self.conv.weight: it is a parameter of 4 dimensions, no linear map",
    "olmo_hybrid": "linear_attn.q_proj: it mixes tokens without attention",
    "olmoe": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "pegasus_x": "self_attn.q_proj: its name says query, ",
    "phimoe": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "prophetnet": "self_attn.relative_pos_embeddings: its name says no role",
    "qwen2_moe": "mlp.shared_expert_gate: its name says no role",
    "qwen3_5_moe_text": "linear_attn.out_proj: it mixes tokens without attention",
    "qwen3_5_text": "linear_attn.out_proj: it mixes tokens without attention",
    "qwen3_moe": "mlp.experts.down_proj: it is a parameter of 3 dimensions, no linear map",
    "qwen3_next": "linear_attn.out_proj: it mixes tokens without attention",
    "xlm": "ffns.*.lin1: it is in another list of layers than attentions",
    "xmod": "output.adapter_modules.en_XX.dense1: its name says no role",
}
"""Something of it is left out, and this is said; of FNet nothing is, as it has no attention."""
REFUSED: dict[str, str] = {
    "bamba": "mixes tokens without attention",
    "canine": "canine states no vocabulary; give a model of tokens",
    "clip": "reads more than text; give its text model, clip_text_model",
    "cpmant": "no map of this cpmant can be adapted: .*its name says no role",
    "falcon_mamba": r"mixes tokens without attention .*target_modules: \[dt_proj, in_proj, out_proj, x_proj\]",
    "gemma3": "reads more than text; give its text model, gemma3_text",
    "ibert": "its weights are in .*QuantLinear",
    "jamba": r"mixes tokens without attention .*target_modules: \[",
    "jetmoe": "no map of this jetmoe can be adapted: .*its name says no role",
    "llama4": "reads more than text; give its text model, llama4_text",
    "mamba": r"mixes tokens without attention .*target_modules: \[dt_proj, in_proj, out_proj, x_proj\]",
    "mamba2": "mixes tokens without attention",
    "perceiver": "perceiver states no width",
    "recurrent_gemma": "mixes tokens without attention",
    "reformer": "has another kind of attention",
    "rwkv": r"has another kind of attention: blocks.0 has a key or value but no query or no output; .*target_modules",
    "squeezebert": "its weights are in Conv1d; give another model",
    "whisper": "transformers neither classifies nor answers with whisper",
    "xlnet": "the head of this xlnet reads the last position of a batch, which may be padding; give a model whose head",
}
"""The true reason, and what would work."""
KINDS = (
    "bert", "modernbert", "deberta-v2", "funnel", "longformer", "convbert", "mobilebert", "xlm", "fnet", "t5", "led",
    "llama", "granite", "deepseek_v3", "lfm2", "gpt2", "gpt_oss", "mixtral", "qwen3_next", "mamba", "squeezebert",
    "clip", "canine",
)  # fmt: skip
"""A family of each kind, which quick tests take."""


ABOUT = """# Families of models

What is found in a tiny model of each family of transformers, built from its config alone: the roles of the maps that
can carry adapters, and what is left out and why, or why the family is refused. Where maps are left out,
`backbone.roles` or `backbone.target_modules` names them ([Your own model](own_model.md)).

Printed by `python -m tests.backbones.families`; the tests try every line again. On each family that is not refused they
train one step with `krona`, `lora` or `peft:dora`, merge it, export it to PEFT, and compare what transformers and PEFT
load. PEFT has no form for an adapter on a part of a fused map, and none but LoRA on a transposed one (GPT-2). Where a
model has experts, PEFT's LoRA may take the names of its other feed-forward maps for theirs, as in DeepSeek-V3: the
export is refused with that reason. Merging works for each.

In Nyströmformer, YOSO, FNet, Funnel, ConvBERT and MobileBERT a text's logits depend, in transformers' own code, on the
padding that longer texts beside it bring: compare their scores at one batch size. So do those of rotary models whose
`rope_type` is `longrope`, as in Phi-3 with 128k, or `dynamic`, in batches longer than the model was first trained to
read. In bfloat16 on a CPU, FNet, XGLM and M2M100 train only with `layer_norms: true`; a study whose space has other
values says so before it begins.

| family | carries adapters | left out, or why refused |
|---|---|---|"""


def tiny(model_type: str) -> dict[str, Any]:
    """Returns the config.json of a tiny model of a family, with the family's own defaults for all but sizes."""
    kind = transformers.CONFIG_MAPPING[model_type]
    stated = kind().to_dict()
    known = stated.keys() | set(getattr(kind, "attribute_map", {}).values())
    sizes = {name: size for name, size in SIZES.items() if name in known}
    if stated.get("layer_types"):
        sizes["layer_types"] = (list(dict.fromkeys(stated["layer_types"]))[:2] * 2)[:2]
    if "q_lora_rank" in sizes and stated.get("q_lora_rank") is None:
        del sizes["q_lora_rank"]
    return {"model_type": model_type, **sizes, **OWN.get(model_type, {})}


def build(model_type: str, **changes: Any) -> tuple[Geometry, Any]:
    """Returns the geometry of a tiny model whose config has these changes, and the model, made for two labels."""
    config = transformers.AutoConfig.for_model(**{**tiny(model_type), **changes})
    shape = geometry(config.to_dict())
    torch.manual_seed(0)
    return shape, model_class(shape).from_config(config).eval().requires_grad_(False)


def saved_family(model_type: str, folder: Path, *, halved: bool = False, **changes: Any) -> Path:
    """Writes a tiny model of a family, its weights in two files if `halved`, and a tokenizer that knows characters."""
    shape, model = build(model_type, **changes)
    size = sum(parameter.nbytes for parameter in model.parameters())
    model.save_pretrained(folder, max_shard_size=size * 6 // 10 if halved else size)
    character_tokenizer(encoder=shape.is_encoder_decoder).save_pretrained(folder)
    return folder


@cache
def introspected(name: str) -> Geometry | Refusal:
    """Returns what introspection finds in a tiny model of a family, or why it refuses it."""
    try:
        return introspect(tiny(name), "config.json")
    except Refusal as refused:
        return refused


def line(name: str) -> str:
    """Returns the row of a family in the table of docs/families.md: what carries adapters, or why nothing does."""
    shape = introspected(name)
    if isinstance(shape, Refusal):
        return f"| {name} | refused | {shape.problem} |"
    roles = ", ".join(dict.fromkeys(str(site.role) for site in shape.sites if site.role is not Role.FEED_FORWARD))
    lacks = "; ".join(f"{each.name}: {each.reason}" for each in shape.left_out)
    return f"| {name} | {roles} | {lacks.replace('*', chr(92) + '*')} |"


def main() -> None:
    print(ABOUT)
    for name in sorted((*WHOLE, *LACKING, *REFUSED)):
        print(line(name))


if __name__ == "__main__":
    main()
