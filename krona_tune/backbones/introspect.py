"""Finds a backbone's geometry by three kinds of evidence that must agree: names, gradients, the config's numbers."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import takewhile
from typing import Any

from krona_tune.backbones.geometry import Geometry, LeftOut, Role, Site, Stack
from krona_tune.backbones.gradient_probe import ProbedLayers, probe
from krona_tune.backbones.map_roles import CROSS, MapRole, role_by_name, roles_of, stated_role
from krona_tune.backbones.meta_model import (
    LayerFacts,
    Layers,
    MetaModel,
    ModelFacts,
    build_meta_model,
    find_layers,
    is_decoder,
    model_facts,
    read_config,
)
from krona_tune.refusal import Refusal, refusing

CORRECT = "name its maps: backbone: {roles: {query: '*self_attn.q_proj', …}}"
NOT_RUN = f"correct its config, or, if transformers can run it, {CORRECT}"
NO_ATTENTION = re.compile(r"mamba|rwkv|recurrent|\bssm\b|linear_attn", re.IGNORECASE)
"""Names of modules that mix tokens without attention."""
ROLES = list(Role)
_ATTENTIONS = ((Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT), tuple(CROSS.values()))


def introspect(values: Mapping[str, Any], place: str, corrections: Mapping[Role, str] | None = None) -> Geometry:
    """Returns the geometry of the model that a config.json describes.

    A map whose name, gradients and size do not agree about its role is left out, and the geometry says so.

    Args:
        corrections: patterns of the names of maps in a layer, such as `*.q_proj`, by the roles that they have.

    Raises:
        Refusal: transformers has no such model, it has no repeated layers with attention or feed-forward maps, it can't
            be run on a few tokens, or a correction names no map.
    """
    config, stated = read_config(values, place), corrections or {}
    model = build_meta_model(config, 2, place)
    lists = find_layers(model.base)
    facts = model_facts(config, model, lists, place, says_untied=values.get("tie_word_embeddings") is False)
    _refuse_idle(stated, facts)
    _refuse_other_layers(facts, config, place, stated)
    probed = _probed(model, lists, place, stated)
    return _Reader(config, place, facts, probed, stated).geometry()


def _probed(
    model: MetaModel, lists: list[Layers], place: str, corrections: Mapping[Role, str]
) -> dict[str, ProbedLayers]:
    """Returns what gradients show; nothing of a model that can't be run, if a person has named its maps."""
    try:
        with refusing(place, f"a {model.config.model_type} can't be run on a few tokens", NOT_RUN):
            return probe(model, lists)
    except Refusal:
        if not corrections:
            raise
        return {layers.name: ProbedLayers(causal=is_decoder(model.config)) for layers in lists}


def _refuse_other_layers(facts: ModelFacts, config: Any, place: str, corrections: Mapping[Role, str]) -> None:
    """Refuses models whose layers are not one list for each stack, or mix tokens without attention."""
    fix = "give an encoder, a decoder or an encoder-decoder with attention"
    wanted = 2 if facts.text_to_text else 1
    if len(facts.layers) != wanted:
        said = f"has {len(facts.layers)} lists of layers with linear maps, not {wanted}: {', '.join(facts.layers)}"
        raise Refusal(place, f"a {config.model_type} {said.rstrip(': ')}", fix)
    for layers in facts.layers.values():
        for layer in layers:
            if other := next(filter(NO_ATTENTION.search, layer.modules), None):
                raise Refusal(
                    place, f"a {config.model_type} mixes tokens without attention ({layer.name}.{other})", fix
                )
            named = {stated_role(name, corrections) or role_by_name(name) for name in layer.maps}
            for query, key, value, output in _ATTENTIONS:
                if named & {key, value} and not {query, output} <= named:
                    said = f"{layer.name} has a {key} or {value} but no {query} or no {output}"
                    raise Refusal(place, f"a {config.model_type} has another kind of attention: {said}", CORRECT)


def _refuse_idle(corrections: Mapping[Role, str], facts: ModelFacts) -> None:
    """Refuses a correction that decides about no map."""
    maps = sorted({name for layers in facts.layers.values() for layer in layers for name in layer.maps})
    for number, (role, pattern) in enumerate(corrections.items()):
        named = [name for name in maps if fnmatchcase(name, pattern)]
        if not named:
            raise Refusal(f"backbone: roles: {role}", f"{pattern!r} names no map", f"maps: {', '.join(maps)}")
        earlier = dict(list(corrections.items())[:number])
        if all(stated_role(name, earlier) for name in named):
            said = f"an earlier pattern has named all maps of {pattern!r}"
            raise Refusal(f"backbone: roles: {role}", said, "leave one of them out")


@dataclass
class _Reader:
    """Puts the sites of a model together from the facts and what was probed."""

    config: Any
    place: str
    facts: ModelFacts
    probed: Mapping[str, ProbedLayers]
    corrections: Mapping[Role, str]
    left_out: dict[str, LeftOut] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._probed_maps = {name: each for layers in self.probed.values() for name, each in layers.maps.items()}
        with refusing(self.place, f"a {self.config.model_type} states no width or vocabulary", "give another model"):
            self._width, self._vocabulary = int(self.config.hidden_size), int(self.config.vocab_size)

    def geometry(self) -> Geometry:
        facts = self.facts
        stacks = {self._stack(name): name for name in facts.layers}
        sites = tuple(site for stack, name in stacks.items() for site in self._sites(stack, facts.layers[name]))
        if not sites:
            said = next((f": {each.name}: {each.reason}" for each in self.left_out.values()), "")
            raise Refusal(self.place, f"no map of this {self.config.model_type} can be adapted{said}", CORRECT)
        return Geometry(
            model_type=self.config.model_type,
            sites=sites,
            depths={stack: len(facts.layers[name]) for stack, name in stacks.items()},
            norms=facts.norms,
            norm_biases=facts.norm_biases,
            norms_of_layer={s: tuple(each.norms for each in facts.layers[name]) for s, name in stacks.items()},
            parameters=facts.parameters,
            width=self._width,
            head=facts.head,
            text_to_text=facts.text_to_text,
            vocabulary=self._vocabulary,
            positions=facts.positions,
            uses=max(each.uses for each in self.probed.values()),
            left_out=tuple(self.left_out.values()),
        )

    def _stack(self, name: str) -> Stack:
        if self.facts.text_to_text:
            return Stack.DECODER if "decoder" in name else Stack.ENCODER
        return Stack.DECODER if self.probed[name].causal else Stack.ENCODER

    def _sites(self, stack: Stack, layers: tuple[LayerFacts, ...]) -> Iterator[Site]:
        for number, layer in enumerate(layers):
            found = list(roles_of(layer, self._probed_maps, self.config, self.corrections))
            self.left_out |= {each.name: each for each in found if isinstance(each, LeftOut)}
            roles = sorted((each for each in found if isinstance(each, MapRole)), key=lambda e: ROLES.index(e.role))
            here = partial(Site, stack=stack, layer=number, layer_name=layer.name)
            for each in roles:
                name, size, rows = f"{layer.name}.{each.name}", each.size, each.rows
                map_site = partial(here, name=name, enters=name, role=each.role, rows=rows, transposed=size.transposed)
                yield map_site(d_out=size.d_out, d_in=size.d_in)
            if block := feed_forward_block(layer, roles):
                enters, leaves = (f"{layer.name}.{name}" for name in block)
                width = self._width
                yield here(name=leaves, enters=enters, role=Role.FEED_FORWARD, d_out=width, d_in=width)


def feed_forward_block(layer: LayerFacts, roles: list[MapRole]) -> tuple[str, str] | None:
    """Returns the modules through which a layer's feed-forward block is entered and left.

    They are the same where a module holds just its maps; None where the layer has no such block, or several.
    """
    ins = [each.name for each in roles if each.role is Role.FEED_FORWARD_IN]
    outs = [each.name for each in roles if each.role is Role.FEED_FORWARD_OUT]
    if not ins or len(outs) != 1:
        return None
    around = _common_module([*ins, *outs])
    others = {name for name in layer.maps if name.startswith(f"{around}.")} - {*ins, *outs}
    if around in layer.takes_one and not others:
        return around, around
    return ins[0], outs[0]


def _common_module(names: list[str]) -> str:
    shared = takewhile(lambda words: len(set(words)) == 1, zip(*(name.split(".")[:-1] for name in names), strict=False))
    return ".".join(words[0] for words in shared)
