"""Finds a backbone's geometry by three kinds of evidence that must agree: names, gradients, the config's numbers."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import takewhile
from typing import Any

from krona_tune.backbones.geometry import ANYWHERE, Geometry, Role, Site, Stack, UnadaptedMap
from krona_tune.backbones.gradient_probe import ProbedLayers, probe
from krona_tune.backbones.map_roles import CROSS, NO_ATTENTION, FusedRole, MapRole, role_by_name, roles_of, stated_role
from krona_tune.backbones.meta_model import (
    ArchitectureFacts,
    LayerFacts,
    Layers,
    MetaModel,
    architecture_facts,
    build_meta_model,
    find_layers,
    is_decoder,
    matrix_kinds,
    read_config,
    size_of,
    stated,
)
from krona_tune.refusal import Refusal, refusing

CORRECT = "name its maps: backbone: {roles: {query: '*self_attn.q_proj', …}}"
MOST_NAMES = 6
"""The most names of maps that a refusal proposes."""
SIZES = {"hidden_size": "width", "vocab_size": "vocabulary"}
"""What a config calls the numbers that a study needs of every model, and what they are."""
ROLES = list(Role)
NORM = re.compile(r"\(\w*Norm\w*\)")
"""The kind of a norm, as `LayerFacts.modules` writes it."""
_ATTENTIONS = ((Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT), tuple(CROSS.values()))
_IN_ATTENTION = {*_ATTENTIONS[0], *_ATTENTIONS[1], FusedRole.ATTENTION}


def introspect(values: Mapping[str, Any], place: str, corrections: Mapping[Role, str] | None = None) -> Geometry:
    """Returns the geometry of the model that a config.json describes.

    A map whose name, gradients and size do not agree about its role is left out, and the geometry says so.

    Args:
        corrections: patterns of the names of maps in a layer, such as `*.q_proj`, by the roles that they have; or,
            under `named`, regular expressions of the whole names of the maps that carry an adapter, one a line, and of
            no others.

    Raises:
        Refusal: transformers has no such model, it has no repeated layers with attention or feed-forward maps, it can't
            be run on a few tokens, or a correction names no map.
    """
    config, given = read_config(values, place), corrections or {}
    _refuse_unstated_sizes(config, place)
    model = build_meta_model(config, 2, place)
    _refuse_padded_head(model, place)
    lists = find_layers(model.base)
    facts = architecture_facts(config, model, lists, place, says_untied=values.get("tie_word_embeddings") is False)
    if not any(facts.layers.values()):
        said = f"has 0 lists of layers with linear maps: its weights are in {', '.join(matrix_kinds(model.base))}"
        raise Refusal(place, f"{config.model_type} {said}", "give another model: an adapter stands beside such a map")
    if Role.NAMED in given:
        return _named(config, place, model, lists, facts, given[Role.NAMED])
    _refuse_idle(given, facts)
    chosen = _attending(facts)
    _refuse_other_layers(chosen, config, place, given)
    probed = _probed(model, [layers for layers in lists if layers.name in chosen.layers], place, given, facts)
    return _Reader(config, place, chosen, probed, given, elsewhere=_in_other_lists(facts, chosen)).geometry()


def _refuse_unstated_sizes(config: Any, place: str) -> None:
    lacking = [word for name, word in SIZES.items() if not isinstance(stated(config, name), int)]
    if lacking:
        said = f"{config.model_type} states no {' and no '.join(lacking)}"
        raise Refusal(place, said, "give a model of tokens, whose config.json has both numbers")


def _refuse_padded_head(model: MetaModel, place: str) -> None:
    """Refuses a head that reads the last position of a batch, which in all but its longest rows is padding."""
    if any(getattr(module, "summary_type", None) == "last" for module in model.whole.modules()):
        said = f"the head of this {model.config.model_type} reads the last position of a batch, which may be padding"
        raise Refusal(place, said, "give a model whose head reads the first token, or the last one of each text")


def _named(
    config: Any, place: str, model: MetaModel, lists: list[Layers], facts: ArchitectureFacts, patterns: str
) -> Geometry:
    """Returns the geometry whose sites are the maps that a person has named, whatever they do."""
    prefix = "" if model.is_encoder_decoder else f"{model.whole.base_model_prefix}."
    maps = [name for name, module in model.base.named_modules() if size_of(module)]
    by_pattern = {
        pattern: {name for name in maps if any(re.fullmatch(pattern, each) for each in (name, prefix + name))}
        for pattern in patterns.split("\n")
    }
    named = set[str]().union(*by_pattern.values())
    inside = {f"{layer.name}.{name}" for layers in facts.layers.values() for layer in layers for name in layer.maps}
    if not named & inside:
        where = " in its layers" if named else ""
        said = f"they match no linear map{where} of this {config.model_type}"
        raise Refusal("backbone: target_modules", said, f"maps: {', '.join(_names(facts))}")
    if idle := next((pattern for pattern, found in by_pattern.items() if not found), ""):
        name = re.sub(r"\\(.)", r"\1", idle.removeprefix(ANYWHERE))
        said = f"{name!r} names no linear map of this {config.model_type}"
        raise Refusal("backbone: target_modules", said, f"maps: {', '.join(_names(facts))}")
    probed = _probed(model, lists, place, {Role.NAMED: patterns}, facts)
    outside = {name: UnadaptedMap(name, "it is in no layer") for name in sorted(named - inside)}
    return _Reader(config, place, facts, probed, {}, named=named, elsewhere=outside).geometry()


def _names(facts: ArchitectureFacts) -> list[str]:
    return sorted({name for layers in facts.layers.values() for layer in layers for name in layer.maps})


def _correct(facts: ArchitectureFacts) -> str:
    """Returns what a person can do about a model that is not understood: name its maps."""
    leaves = list(dict.fromkeys(name.rpartition(".")[2] for name in _names(facts)))
    more = ", …" * (len(leaves) > MOST_NAMES)
    return f"{CORRECT}, or as peft does: backbone: {{target_modules: [{', '.join(leaves[:MOST_NAMES])}{more}]}}"


def _attending(facts: ArchitectureFacts) -> ArchitectureFacts:
    """Returns the facts with the list of layers that carries adapters alone: of those with attention the longest.

    Those of an encoder-decoder, which has a list for each stack, stay.
    """
    if facts.is_encoder_decoder:
        return facts
    attends = {name: layers for name, layers in facts.layers.items() if any(map(_attends, layers))}
    return replace(facts, layers=dict([max((attends or facts.layers).items(), key=lambda each: len(each[1]))]))


def _attends(layer: LayerFacts) -> bool:
    """Returns whether some map's name says that it belongs to attention."""
    return any(role_by_name(name) in _IN_ATTENTION and not NO_ATTENTION.search(name) for name in layer.maps)


def _in_other_lists(facts: ArchitectureFacts, chosen: ArchitectureFacts) -> dict[str, UnadaptedMap]:
    """Returns the maps of the lists of layers that carry no adapter, by their names with * for a number."""
    others = (layer for name, layers in facts.layers.items() if name not in chosen.layers for layer in layers)
    names = {f"{layer.name.rpartition('.')[0]}.*.{name}": name for layer in others for name in layer.maps}
    reason = f"it is in another list of layers than {', '.join(chosen.layers)}"
    roles = {whole: role_by_name(name) for whole, name in names.items()}
    return {name: UnadaptedMap(name, reason, role if isinstance(role, Role) else None) for name, role in roles.items()}


def _probed(
    model: MetaModel, lists: list[Layers], place: str, corrections: Mapping[Role, str], facts: ArchitectureFacts
) -> dict[str, ProbedLayers]:
    """Returns what gradients show; nothing of a model that can't be run, if a person has named its maps."""
    fix = f"correct its config, or, if transformers can run it, {_correct(facts)}"
    try:
        with refusing(place, f"{model.config.model_type} can't be run on a few tokens", fix):
            return probe(model, lists)
    except Refusal:
        if not corrections:
            raise
        return {layers.name: ProbedLayers(causal=is_decoder(model.config)) for layers in lists}


def _refuse_other_layers(facts: ArchitectureFacts, config: Any, place: str, corrections: Mapping[Role, str]) -> None:
    """Refuses models whose layers are not one list for each stack, or all mix tokens without attention."""
    wanted = 2 if facts.is_encoder_decoder else 1
    if len(facts.layers) != wanted:
        said = f"has {len(facts.layers)} lists of layers with linear maps, not {wanted}: {', '.join(facts.layers)}"
        raise Refusal(place, f"{config.model_type} {said}", _correct(facts))
    for layers in facts.layers.values():
        mixers = (f"{layer.name}.{name}" for layer in layers for name in layer.modules if NO_ATTENTION.search(name))
        if not any(map(_attends, layers)) and (other := next(mixers, None)):
            raise Refusal(place, f"{config.model_type} mixes tokens without attention ({other})", _correct(facts))
        for layer in layers:
            maps = [name for name in layer.maps if not NO_ATTENTION.search(name)]
            named = {stated_role(name, corrections) or role_by_name(name) for name in maps}
            for query, key, value, output in _ATTENTIONS:
                if named & {key, value} and not {query, output} <= named:
                    said = f"{layer.name} has a {key} or {value} but no {query} or no {output}"
                    raise Refusal(place, f"{config.model_type} has another kind of attention: {said}", _correct(facts))


def _refuse_idle(corrections: Mapping[Role, str], facts: ArchitectureFacts) -> None:
    """Refuses a correction that decides about no map."""
    maps = _names(facts)
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
    """Puts the sites of a model together from the facts and what was probed.

    `named` are the whole names of the maps that alone carry adapters, if a person has named them, `elsewhere` the maps
    that are left out because they are in none of the layers.
    """

    config: Any
    place: str
    facts: ArchitectureFacts
    probed: Mapping[str, ProbedLayers]
    corrections: Mapping[Role, str]
    named: Collection[str] = ()
    elsewhere: Mapping[str, UnadaptedMap] = field(default_factory=dict)
    left_out: dict[str, UnadaptedMap] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._probed_maps = {name: each for layers in self.probed.values() for name, each in layers.maps.items()}
        self._width, self._vocabulary = (stated(self.config, name) for name in SIZES)

    def geometry(self) -> Geometry:
        facts, stacks = self.facts, dict[Stack, tuple[LayerFacts, ...]]()
        for name, layers in facts.layers.items():
            stack = self._stack(name)
            stacks[stack] = stacks.get(stack, ()) + layers
        found = self._named_sites if self.named else self._sites
        sites = tuple(site for stack, layers in stacks.items() for site in found(stack, layers))
        if not sites:
            said = next((f": {each.name}: {each.reason}" for each in self.left_out.values()), "")
            raise Refusal(self.place, f"no map of this {self.config.model_type} can be adapted{said}", _correct(facts))
        return Geometry(
            model_type=self.config.model_type,
            sites=sites,
            depths={stack: len(layers) for stack, layers in stacks.items()},
            norms=facts.norms,
            norm_biases=facts.norm_biases,
            norms_of_layer={stack: tuple(each.norms for each in layers) for stack, layers in stacks.items()},
            parameters=facts.parameters,
            output_embeddings=facts.output_embeddings,
            width=self._width,
            head=facts.head,
            text_to_text=facts.text_to_text,
            vocabulary=self._vocabulary,
            positions=facts.positions,
            uses=max(each.uses for each in self.probed.values()),
            layer_names={stack: tuple(each.name for each in layers) for stack, layers in stacks.items()},
            left_out=tuple({**self.left_out, **self.elsewhere}.values()),
            weights=facts.weights,
            spared=facts.spared,
        )

    def _stack(self, name: str) -> Stack:
        if self.facts.is_encoder_decoder:
            return Stack.DECODER if "decoder" in name else Stack.ENCODER
        return Stack.DECODER if self.facts.text_to_text or self.probed[name].causal else Stack.ENCODER

    def _named_sites(self, stack: Stack, layers: tuple[LayerFacts, ...]) -> Iterator[Site]:
        for number, layer in enumerate(layers):
            here = partial(Site, role=Role.NAMED, stack=stack, layer=number, layer_name=layer.name)
            for name, size in layer.maps.items():
                if (whole := f"{layer.name}.{name}") in self.named:
                    yield here(name=whole, enters=whole, **asdict(size))

    def _sites(self, stack: Stack, layers: tuple[LayerFacts, ...]) -> Iterator[Site]:
        for number, layer in enumerate(layers):
            found = list(roles_of(layer, self._probed_maps, self.config, self.corrections))
            self.left_out |= {each.name: each for each in found if isinstance(each, UnadaptedMap)}
            roles = sorted((each for each in found if isinstance(each, MapRole)), key=lambda e: ROLES.index(e.role))
            here = partial(Site, stack=stack, layer=number, layer_name=layer.name)
            for each in roles:
                name = f"{layer.name}.{each.name}"
                yield here(name=name, enters=name, role=each.role, rows=each.rows, **asdict(each.size))
            if block := feed_forward_block(layer, roles):
                enters, leaves = (f"{layer.name}.{name}" for name in block)
                sizes = {each.role: each.size for each in roles}
                d_out, d_in = sizes[Role.FEED_FORWARD_OUT].d_out, sizes[Role.FEED_FORWARD_IN].d_in
                yield here(name=leaves, enters=enters, role=Role.FEED_FORWARD, d_out=d_out, d_in=d_in)


def feed_forward_block(layer: LayerFacts, roles: list[MapRole]) -> tuple[str, str] | None:
    """Returns the modules through which a layer's feed-forward block is entered and left.

    They are the same where a module holds just its maps, and no norm, which may follow a residual of its own. None
    where the layer has no such block, or several.
    """
    ins = [each.name for each in roles if each.role is Role.FEED_FORWARD_IN]
    outs = [each.name for each in roles if each.role is Role.FEED_FORWARD_OUT]
    if not ins or len(outs) != 1:
        return None
    around = _common_module([*ins, *outs])
    others = {name for name in layer.maps if name.startswith(f"{around}.")} - {*ins, *outs}
    norms = (name for name in layer.modules if name.startswith(f"{around}.") and NORM.search(name))
    if around and around in layer.takes_one and not others and not any(norms):
        return around, around
    return ins[0], outs[0]


def _common_module(names: list[str]) -> str:
    shared = takewhile(lambda words: len(set(words)) == 1, zip(*(name.split(".")[:-1] for name in names), strict=False))
    return ".".join(words[0] for words in shared)
