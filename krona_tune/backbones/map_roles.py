"""Gives each linear map of a layer its role, where its name, its gradients and the config's numbers agree."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from krona_tune.backbones.geometry import Role, RoleRows, UnadaptedMap
from krona_tune.backbones.meta_model import LayerFacts, MapSize


class FusedRole(StrEnum):
    """The role of a map whose rows have several: query, key and value."""

    ATTENTION = "query, key and value in one"


_ATTENTION: dict[Role | FusedRole, str] = {
    Role.QUERY: "q q_proj query query_proj q_lin q_head wq",
    Role.KEY: "k k_proj key key_proj k_lin k_head wk",
    Role.VALUE: "v v_proj value value_proj v_lin v_head wv",
    Role.OUTPUT: "o o_proj output output_proj out_proj out_lin post_proj dense c_proj wo",
    FusedRole.ATTENTION: "c_attn wqkv query_key_value qkv_proj in_proj qkv",
}
_FEED_FORWARD: dict[Role | FusedRole, str] = {
    Role.FEED_FORWARD_IN: "fc1 fc_in c_fc lin1 linear_1 wi wi_0 wi_1 ffn dense_h_to_4h up_proj gate_proj gate_up_proj",
    Role.FEED_FORWARD_OUT: "fc2 fc_out c_proj lin2 linear_2 wo ffn_output dense_4h_to_h down_proj",
}
_BY_HOLDER = {
    ("intermediate", "dense"): Role.FEED_FORWARD_IN,
    ("output", "dense"): Role.FEED_FORWARD_OUT,
    ("ff", "layer_1"): Role.FEED_FORWARD_IN,
    ("ff", "layer_2"): Role.FEED_FORWARD_OUT,
    ("feed_forward", "intermediate"): Role.FEED_FORWARD_IN,
    ("feed_forward", "output"): Role.FEED_FORWARD_OUT,
    ("feed_forward", "w1"): Role.FEED_FORWARD_IN,
    ("feed_forward", "w3"): Role.FEED_FORWARD_IN,
    ("feed_forward", "w2"): Role.FEED_FORWARD_OUT,
    ("ffn", "0"): Role.FEED_FORWARD_IN,
    ("ffn", "2"): Role.FEED_FORWARD_OUT,
}
"""The roles of maps outside attention whose name says something only with that of the module that holds them."""
NO_ATTENTION = re.compile(r"mamba|rwkv|recurrent|\bssm\b|linear_attn", re.IGNORECASE)
"""Names of modules that mix tokens without attention."""
_UNMISTAKABLE = {f"{letter}_proj" for letter in "qkvo"} | {"q_lin", "k_lin", "v_lin", "out_lin"}
"""Names of maps of attention, whatever holds them."""
WRAPPED = ".linear"
"""The end of the name of a map that is the only one in a module, which has the name that says something."""
_CROSS = ("cross", "encdec", "encoder_attn", "enc_dec")


def _by_word(table: dict[Role | FusedRole, str]) -> dict[str, Role | FusedRole]:
    return {word: role for role, words in table.items() for word in words.split()}


_IN_ATTENTION, _OUTSIDE = _by_word(_ATTENTION), _by_word(_FEED_FORWARD)


def role_by_name(path: str) -> Role | FusedRole | None:
    """Returns the role that a map's dotted name inside its layer says; None if it says nothing."""
    *above, leaf = path.removesuffix(WRAPPED).split(".")
    if leaf not in _UNMISTAKABLE and not any("att" in word.lower() for word in above):
        return _BY_HOLDER.get((above[-1] if above else "", leaf)) or _OUTSIDE.get(leaf.lower())
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


NOTHING, NOISE = 1e-4, 1e-7
"""A row reaches nothing with less than this share of what it reaches elsewhere, and nowhere with less of its map's."""
Reach = tuple[Tensor, Tensor, Tensor, Tensor]
"""How far each row of a map reaches, (rows,) each: a single token to its output; of two tokens the first to the output
of the second, the second to its own, the second to that of the first."""


class RowClass(StrEnum):
    """Names what a row does, as the gradients show it."""

    QUERY = "a query"
    KEY = "a key"
    VALUE = "a value"
    TOKEN = "token by token"
    UNKNOWN = "reached by no gradient"


@dataclass(frozen=True, kw_only=True)
class ProbedMap:
    """Holds what was found about one linear map: its class, that of each row by itself, and whether it reads another
    stack.

    The map's class is that of its rows together, because one row may be idle, such as one that a ReLU cuts off.
    """

    whole: RowClass
    rows: list[RowClass]
    cross: bool


_TABLE = {
    (True, True): RowClass.VALUE,
    (True, False): RowClass.TOKEN,
    (False, True): RowClass.KEY,
    (False, False): RowClass.QUERY,
}


def classify(draws: list[Reach], *, cross: bool) -> ProbedMap:
    """Returns what the rows of a map do, from the largest reach of all draws."""
    alone, across, own, _ = (torch.stack(each).amax(0) for each in zip(*draws, strict=True))
    every = torch.maximum(alone, torch.maximum(across, own))
    reached, most = every > NOISE * every.max(), float(every.max())
    rows = [
        _TABLE[one, two] if there else RowClass.UNKNOWN
        for there, one, two in zip(
            reached.tolist(), (alone > NOTHING * every).tolist(), (across > NOTHING * every).tolist(), strict=True
        )
    ]
    whole = _TABLE[float(alone.max()) > NOTHING * most, float(across.max()) > NOTHING * most]
    return ProbedMap(whole=whole if most else RowClass.UNKNOWN, rows=rows, cross=cross)


def is_causal(reaches: Iterable[Reach]) -> bool:
    """Returns whether tokens reach later ones and none an earlier one."""
    forwards = backwards = 0.0
    for _, forward, own, backward in reaches:
        least = NOTHING * float(own.max())
        forwards += float((forward > least).sum())
        backwards += float((backward > least).sum())
    return forwards > 0 and backwards == 0


ROLE_OF_ROWS = {RowClass.QUERY: Role.QUERY, RowClass.KEY: Role.KEY, RowClass.VALUE: Role.VALUE}
_ROWS_OF_ROLE = {role: row_class for row_class, role in ROLE_OF_ROWS.items()}
WIDTHS = ("hidden_size", "true_hidden_size")
"""What a config calls the features of a hidden state; the second are those inside a layer with a bottleneck."""
CROSS = {each: Role(f"cross_{each}") for each in (Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT)}
_SELF = {cross: role for role, cross in CROSS.items()}


@dataclass(frozen=True)
class MapRole:
    """The role of a map, or of some rows of it."""

    name: str
    role: Role
    size: MapSize
    rows: RoleRows | None = None


def roles_of(
    layer: LayerFacts, probed: Mapping[str, ProbedMap], config: Any, corrections: Mapping[Role, str]
) -> Iterator[MapRole | UnadaptedMap]:
    """Yields each map of a layer, with its role or with the reason why it is left out.

    Args:
        probed: what the gradients show, by the maps' full names.
        corrections: patterns of names of maps in a layer, whose role a person has stated.
    """
    for name, size in layer.maps.items():
        if stated := stated_role(name, corrections):
            yield MapRole(name, stated, size)
            continue
        found = _agreed(name, size, probed.get(f"{layer.name}.{name}"), config)
        if isinstance(found, str):
            named = role_by_name(name)
            yield UnadaptedMap(name, found, named if isinstance(named, Role) else None)
        else:
            yield from found
    for name, dimensions in layer.stacked.items():
        yield UnadaptedMap(name, f"it is a parameter of {dimensions} dimensions, no linear map")


def stated_role(name: str, corrections: Mapping[Role, str]) -> Role | None:
    """Returns the role that a person has stated for a map; a map of cross-attention has the cross role."""
    role = next((role for role, pattern in corrections.items() if fnmatchcase(name, pattern)), None)
    return CROSS.get(role, role) if role and is_cross(name) else role


def _agreed(name: str, size: MapSize, probed: ProbedMap | None, config: Any) -> list[MapRole] | str:
    """Returns the roles of a map's rows, or why it has none."""
    named = role_by_name(name)
    if other := _no_site(name, named, probed):
        return other
    assert named is not None
    assert probed is not None
    if not isinstance(named, Role):
        return _fused(name, size, probed.rows)
    if named is Role.QUERY and (rows := _beside_a_gate(probed.rows)):
        return [_part(name, named, size, rows)]
    if probed.whole is not _ROWS_OF_ROLE.get(_SELF.get(named, named), RowClass.TOKEN):
        return f"its name says {named}, its gradients {probed.whole}"
    if probed.cross != (named in _SELF) and named in {Role.KEY, Role.VALUE, Role.CROSS_KEY, Role.CROSS_VALUE}:
        return f"its name says {named}, but it reads {'the other' if probed.cross else 'its own'} stack"
    return _wrong_number(named, size, config) or [MapRole(name, named, size)]


def _no_site(name: str, named: Role | FusedRole | None, probed: ProbedMap | None) -> str:
    """Returns why nothing can be known of a map's role; nothing if it can."""
    reasons = {
        "it is one expert of several": is_expert(name),
        "it mixes tokens without attention": NO_ATTENTION.search(name),
        "its name says no role": named is None,
        f"its name says {named}, but it does not run on a few tokens": probed is None,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _fused(name: str, size: MapSize, classes: list[RowClass]) -> list[MapRole] | str:
    if set(classes) != set(ROLE_OF_ROWS):
        return f"its name says {FusedRole.ATTENTION}, its gradients {' and '.join(sorted(set(classes)))}"
    found = []
    for row_class, role in ROLE_OF_ROWS.items():
        rows = regular_rows([each is row_class for each in classes])
        if rows is None:
            return f"the rows of its {role} are irregular"
        found.append(_part(name, role, size, rows))
    return found


def _beside_a_gate(classes: list[RowClass]) -> RoleRows | None:
    """Returns the rows of a query, if the other half of the map's rows is the gate of the attention's output."""
    rows = regular_rows([each is RowClass.QUERY for each in classes])
    halves = rows is not None and 2 * rows.block * rows.count == rows.total
    return rows if halves and set(classes) == {RowClass.QUERY, RowClass.TOKEN} else None


def _part(name: str, role: Role, size: MapSize, rows: RoleRows) -> MapRole:
    return MapRole(name, role, replace(size, d_out=rows.block * rows.count), rows)


def regular_rows(chosen: list[bool]) -> RoleRows | None:
    """Returns the chosen rows as equal blocks at equal distances; None if they are not."""
    starts = [i for i, each in enumerate(chosen) if each and not (i and chosen[i - 1])]
    ends = [i + 1 for i, each in enumerate(chosen) if each and not (i + 1 < len(chosen) and chosen[i + 1])]
    blocks = {end - start for start, end in zip(starts, ends, strict=True)}
    strides = {b - a for a, b in pairwise(starts)} or blocks
    if len(blocks) != 1 or len(strides) != 1:
        return None
    [block], [stride] = blocks, strides
    return RoleRows(start=starts[0], block=block, stride=stride, count=len(starts), total=len(chosen))


def _wrong_number(named: Role, size: MapSize, config: Any) -> str:
    """Returns how a map's size contradicts the config; nothing where the config does not state the number."""
    role = _SELF.get(named, named)
    widths = [width for key in WIDTHS if (width := getattr(config, key, None)) is not None]
    inner = size.d_out if role in {Role.OUTPUT, Role.FEED_FORWARD_OUT} else size.d_in
    if widths and named not in {Role.CROSS_KEY, Role.CROSS_VALUE} and inner not in widths:
        return f"its name says {named}, but it is {size.d_out}×{size.d_in} in a model of width {widths[0]}"
    heads = _heads(role, config)
    if heads and size.d_out % heads:
        return f"its name says {named}, but its {size.d_out} rows are not those of {heads} heads"
    return ""


def _heads(role: Role, config: Any) -> int:
    """Returns how many heads a query, key or value has; 0 if the config does not say so, or for another role."""
    every = getattr(config, "num_attention_heads", 0)
    few = getattr(config, "num_key_value_heads", every)
    if not isinstance(every, int) or not isinstance(few, int | None):
        return 0
    return {Role.QUERY: every, Role.KEY: few or every, Role.VALUE: few or every}.get(role, 0)
