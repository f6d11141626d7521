"""Says by hand which maps of each family have which role, by their names in a layer: what introspection must find."""

from krona_tune.backbones.geometry import Role

QUERY, KEY, VALUE, OUTPUT = Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT
IN, OUT = Role.FEED_FORWARD_IN, Role.FEED_FORWARD_OUT
CROSS = {
    QUERY: Role.CROSS_QUERY,
    KEY: Role.CROSS_KEY,
    VALUE: Role.CROSS_VALUE,
    OUTPUT: Role.CROSS_OUTPUT,
}
Expected = dict[Role, tuple[str, ...]]


def maps(attention: str, query: str, key: str, value: str, output: str, ins: str, out: str) -> Expected:
    """Returns the names by role: those of the attention follow its module's name, a role may have several."""
    inside = {QUERY: query, KEY: key, VALUE: value, OUTPUT: output}
    return {role: (f"{attention}{name}",) for role, name in inside.items()} | {IN: tuple(ins.split()), OUT: (out,)}


def t5(ins: str, *, decoder: bool = False) -> Expected:
    after = f"layer.{1 + decoder}.DenseReluDense."
    own = maps("layer.0.SelfAttention.", "q", "k", "v", "o", "", f"{after}wo")
    cross = {role: (f"layer.1.EncDecAttention.{letter}",) for role, letter in zip(CROSS.values(), "qkvo", strict=True)}
    return own | {IN: tuple(f"{after}{name}" for name in ins.split())} | (cross if decoder else {})


BERT = maps("attention.", "self.query", "self.key", "self.value", "output.dense", "intermediate.dense", "output.dense")
LLAMA = maps("self_attn.", "q_proj", "k_proj", "v_proj", "o_proj", "mlp.gate_proj mlp.up_proj", "mlp.down_proj")
BART = maps("self_attn.", "q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
CROSS_BART = {
    CROSS[role]: (name.replace("self_attn", "encoder_attn"),) for role, (name, *_) in BART.items() if role in CROSS
}
EXPECTED: dict[str, Expected | tuple[Expected, Expected]] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "electra": BERT,
    "distilbert": maps("attention.", "q_lin", "k_lin", "v_lin", "out_lin", "ffn.lin1", "ffn.lin2"),
    "deberta": BERT | dict.fromkeys((QUERY, KEY, VALUE), ("attention.self.in_proj",)),
    "deberta-v2": BERT | {role: (f"attention.self.{role}_proj",) for role in (QUERY, KEY, VALUE)},
    "albert": maps(
        "albert_layers.0.attention.",
        "query",
        "key",
        "value",
        "dense",
        "albert_layers.0.ffn",
        "albert_layers.0.ffn_output",
    ),
    "mpnet": maps("attention.attn.", "q", "k", "v", "o", "intermediate.dense", "output.dense"),
    "modernbert": maps("attn.", "Wqkv", "Wqkv", "Wqkv", "Wo", "mlp.Wi", "mlp.Wo"),
    "eurobert": LLAMA,
    "t5": (t5("wi"), t5("wi", decoder=True)),
    "t5 gated": (t5("wi_0 wi_1"), t5("wi_0 wi_1", decoder=True)),
    "mt5": (t5("wi_0 wi_1"), t5("wi_0 wi_1", decoder=True)),
    "umt5": (t5("wi_0 wi_1"), t5("wi_0 wi_1", decoder=True)),
    "bart": (BART, BART | CROSS_BART),
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": LLAMA,
    "phi3": maps("self_attn.", "qkv_proj", "qkv_proj", "qkv_proj", "o_proj", "mlp.gate_up_proj", "mlp.down_proj"),
    "opt": BART,
    "gpt2": maps("attn.", "c_attn", "c_attn", "c_attn", "c_proj", "mlp.c_fc", "mlp.c_proj"),
    "gpt_neox": maps("attention.", *["query_key_value"] * 3, "dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
}
"""By the name of a configuration or its model type; an encoder-decoder has two, the decoder's second."""
