"""Tells the role of a linear map by its name in its layer, as the transformers library names maps. No torch."""

from enum import StrEnum

from krona_tune.backbones.geometry import Role


class Fused(StrEnum):
    """The role of a map whose rows have several: query, key and value."""

    ATTENTION = "query, key and value in one"


_ATTENTION: dict[Role | Fused, str] = {
    Role.QUERY: "q q_proj query query_proj q_lin wq",
    Role.KEY: "k k_proj key key_proj k_lin wk",
    Role.VALUE: "v v_proj value value_proj v_lin wv",
    Role.OUTPUT: "o o_proj output output_proj out_proj out_lin dense c_proj wo",
    Fused.ATTENTION: "c_attn wqkv query_key_value qkv_proj in_proj qkv",
}
_FEED_FORWARD: dict[Role | Fused, str] = {
    Role.FEED_FORWARD_IN: "fc1 fc_in c_fc lin1 wi wi_0 wi_1 ffn dense_h_to_4h up_proj gate_proj gate_up_proj",
    Role.FEED_FORWARD_OUT: "fc2 fc_out c_proj lin2 wo ffn_output dense_4h_to_h down_proj",
}
_DENSE = {"intermediate": Role.FEED_FORWARD_IN, "output": Role.FEED_FORWARD_OUT}
"""The roles of a map named `dense` outside attention, by the module that holds it."""
_CROSS = ("cross", "encdec", "encoder_attn", "enc_dec")


def _by_word(table: dict[Role | Fused, str]) -> dict[str, Role | Fused]:
    return {word: role for role, words in table.items() for word in words.split()}


_IN_ATTENTION, _OUTSIDE = _by_word(_ATTENTION), _by_word(_FEED_FORWARD)


def role_by_name(path: str) -> Role | Fused | None:
    """Returns the role that a map's dotted name inside its layer says; None if it says nothing."""
    *above, leaf = path.split(".")
    if not any("att" in word.lower() for word in above):
        return _DENSE.get(above[-1]) if leaf == "dense" and above else _OUTSIDE.get(leaf.lower())
    role = _IN_ATTENTION.get(leaf.lower())
    if isinstance(role, Role) and is_cross(path):
        return Role(f"cross_{role}")
    return role


def is_expert(path: str) -> bool:
    """Returns whether a map belongs to one expert of several, which only some tokens pass."""
    return "expert" in path.lower() and "shared" not in path.lower()


def is_cross(path: str) -> bool:
    """Returns whether a map's name says that its attention reads another stack."""
    return any(word in path.lower() for word in _CROSS)
