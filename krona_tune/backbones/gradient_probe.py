"""Tells by gradients what each row of each linear map does, in a layer whose maps have weightless functions instead."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from krona_tune.backbones.map_roles import ProbedMap, Reach, classify, is_causal
from krona_tune.backbones.meta_model import Layers, MapSize, MetaModel, maps_of, size_of, stated
from krona_tune.processor import torch_threads

MOST_TOKENS, IN_WINDOWS = 3, 4
"""The most tokens that a model reads, and the most of an input whose addition is remembered: windows are filled up."""
LONGER = 16
"""To how many tokens an input is padded for a model that can't run on a few, such as one that pools them."""
LARGE = 2**24
"""The most values of a parameter that is really made."""
NOWHERE = -1e4
"""A logit of what gets no attention."""
SIZE = 0.3
"""The size of the numbers that maps put out: small enough for a softmax without scaling, as T5 has."""


class MapStandIn(nn.Module):
    """Stands for a linear map and remembers what it added in each call."""

    bias = None

    def __init__(self, size: MapSize, generator: torch.Generator) -> None:
        super().__init__()
        self.in_features = self.nx = size.d_in
        self.out_features = self.nf = size.d_out
        self.weight = torch.empty(0)
        self._u = torch.randn(size.d_in, generator=generator) / sqrt(size.d_in)
        self._v = torch.randn(size.d_out, generator=generator) * SIZE
        self._generator = generator
        self.most = IN_WINDOWS
        self.added: list[Tensor] = []

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        y = (x @ self._u)[..., None] * self._v
        if self.added or x[..., 0].numel() > self.most:
            return y  # a second call, or one for a table of positions
        c = (torch.randn((*x.shape[:-1], self.out_features), generator=self._generator) * SIZE).requires_grad_()
        self.added.append(c)
        return y + c


class _EmbeddingStandIn(nn.Module):
    """Stands for a large table of embeddings: a smooth function of the id."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.weight, self.padding_idx = torch.empty(0), table.padding_idx
        self._phases = torch.arange(table.embedding_dim) * 0.7

    def forward(self, *args: Any, **named: Any) -> Tensor:
        given = [each for each in (*args, *named.values()) if isinstance(each, Tensor)]
        ids = given[0] if given else torch.arange(args[0][-1])[None]  # some tables of positions get a shape
        return torch.sin(ids[..., None] * 1.3 + self._phases)


class _ThroughStandIn(nn.Module):
    """Stands for a module of large parameters that are no linear map, such as experts: gives its first input back."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x


def put_stand_ins(model: MetaModel, generator: torch.Generator) -> dict[str, MapStandIn]:
    """Replaces maps, large embeddings and other large parameters, and makes the rest; returns the maps' stand-ins."""
    made: dict[nn.Module, nn.Module] = {}
    for name, module in list(model.whole.named_modules(remove_duplicate=False)):
        if not name:
            continue
        if module not in made and (stand_in := _stand_in(module, generator)):
            made[module] = stand_in
        if module in made:
            parent, _, key = name.rpartition(".")
            model.whole.get_submodule(parent)._modules[key] = made[module]
    whole = cast(Any, model.whole)
    for module in list(model.whole.modules()):
        module.to_empty(device="cpu", recurse=False)
        _fill(module)
        whole._init_weights(module)
        if (sinks := getattr(module, "sinks", None)) is not None:  # a token alone would not attend only to itself
            sinks.data.fill_(NOWHERE)
    model.whole.eval().requires_grad_(False)
    named = model.base.named_modules()
    return {name: module for name, module in named if isinstance(module, MapStandIn)}


def _fill(module: nn.Module) -> None:
    """Sets a module's own values, which are whatever the memory held, for a family that starts some of them itself."""
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        tensor.data.fill_(tensor.is_floating_point())


def _stand_in(module: nn.Module, generator: torch.Generator) -> nn.Module | None:
    if size := size_of(module):
        return MapStandIn(size, generator)
    if all(parameter.numel() <= LARGE for parameter in module.parameters(recurse=False)):
        return None
    return _EmbeddingStandIn(module) if isinstance(module, nn.Embedding) else _ThroughStandIn()


DRAWS = 2
"""How often the test is made with other random numbers: a ReLU or a saturated softmax hides some rows in one draw."""
SAMPLES = 2
"""How many layers of each structure are tested: the others are like them."""
OTHER_TOKENS = {1: 1, 2: MOST_TOKENS}
"""How many tokens an encoder reads, by the tokens that a decoder reads beside it."""


@dataclass(kw_only=True)
class ProbedLayers:
    """Holds what was found about a list of layers: each map by its full name, whether a token reaches only itself and
    later ones, and how often a forward runs each layer."""

    maps: dict[str, ProbedMap] = field(default_factory=dict)
    causal: bool = False
    uses: int = 1


def probe(model: MetaModel, lists: list[Layers]) -> dict[str, ProbedLayers]:
    """Runs the model with stand-ins on one token and on two; returns what the gradients show by the lists' names.

    The model is used up: its maps are replaced and its other parameters made.
    """
    structures = _structures(lists)
    with torch.random.fork_rng(devices=[]), torch_threads(1):
        torch.manual_seed(0)
        maps = put_stand_ins(model, torch.Generator().manual_seed(0))
        try:
            seen = _see(model, lists, maps, structures)
        except Exception:  # whatever a family does with so few tokens
            for stand_in in maps.values():
                stand_in.most = LONGER
            seen = _see(model, lists, maps, structures, LONGER)
    return {layers.name: _probed_layers(layers, structures, seen) for layers in lists}


@dataclass
class _Seen:
    """Collects what some runs show: how far the rows of each map reach, the maps that read another stack, and how often
    each layer runs."""

    reaches: dict[str, list[Reach]] = field(default_factory=lambda: defaultdict(list))
    cross: set[str] = field(default_factory=set)
    uses: dict[str, int] = field(default_factory=dict)


def _see(
    model: MetaModel,
    lists: list[Layers],
    maps: dict[str, MapStandIn],
    structures: Iterable["_Structure"],
    length: int = 0,
) -> _Seen:
    """Runs the model on one token and on two, padded to `length`."""
    samples = {layer for each in structures for layer in each.samples}
    seen = _Seen()
    for _ in range(DRAWS):
        single = {run.layer: run for run in _run(model, lists, maps, 1, length)}
        for run in _run(model, lists, maps, 2, length):
            seen.uses[run.layer] = run.calls
            if run.layer in samples and run.layer in single:
                seen.cross |= run.reads_other_stack()
                for name, reach in _reach(single[run.layer], run):
                    seen.reaches[name].append(reach)
    return seen


@dataclass(frozen=True, kw_only=True)
class _Structure:
    """Layers of one list with the same modules and sizes, by their names, and the names of the maps in each of them."""

    list_name: str
    layers: list[str]
    maps: list[str]

    @property
    def samples(self) -> list[str]:
        return self.layers[:SAMPLES]


def _structures(lists: list[Layers]) -> list[_Structure]:
    alike: dict[Any, _Structure] = {}
    for layers in lists:
        for name, module in layers.named():
            maps = maps_of(module)
            key = (layers.name, *((path, type(each)) for path, each in module.named_modules()), *maps.values())
            alike.setdefault(key, _Structure(list_name=layers.name, layers=[], maps=list(maps))).layers.append(name)
    return list(alike.values())


def _probed_layers(layers: Layers, structures: list[_Structure], seen: _Seen) -> ProbedLayers:
    """Gives every layer of a list what was found in the samples of its structure."""
    maps: dict[str, ProbedMap] = {}
    of_own_stack: list[Reach] = []
    for structure in structures:
        for name in structure.maps:
            alike = [f"{sample}.{name}" for sample in structure.samples]
            draws = [reach for each in alike for reach in seen.reaches.get(each, ())]
            if draws and structure.list_name == layers.name:
                probed = classify(draws, cross=not seen.cross.isdisjoint(alike))
                maps |= {f"{layer}.{name}": probed for layer in structure.layers}
                of_own_stack += [] if probed.cross else draws
    return ProbedLayers(
        maps=maps,
        causal=is_causal(of_own_stack),
        uses=max(seen.uses.get(layer, 1) for layer, _ in layers.named()),
    )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The first call of a layer in one forward: its output by token, and what each of its maps added."""

    layer: str
    calls: int
    output: Tensor
    added: dict[str, Tensor]

    def reads_other_stack(self) -> set[str]:
        """Returns the maps that see as many tokens as an encoder reads beside this decoder."""
        return {name for name, c in self.added.items() if len(self.output) < len(_by_token(c)) == OTHER_TOKENS[2]}

    def gradients(self, token: int) -> dict[str, Tensor]:
        """Returns the absolute gradients of a random sum of a token's output in what each map added, (tokens, rows)."""
        output = self.output[token].float()
        total = (output * torch.randn(output.shape)).sum()
        found = torch.autograd.grad(total, list(self.added.values()), retain_graph=True, allow_unused=True)
        return {
            name: _by_token(torch.zeros_like(c) if g is None else g.abs())
            for (name, c), g in zip(self.added.items(), found, strict=True)
        }


def _run(
    model: MetaModel, lists: list[Layers], maps: dict[str, MapStandIn], tokens: int, length: int
) -> Iterator[_Run]:
    """Runs the model once and yields each layer that ran."""
    for stand_in in maps.values():
        stand_in.added.clear()
    with _outputs(lists) as outputs:
        _forward(model, tokens, length)
    for layer, calls in outputs.items():
        added = {name: each.added[0] for name, each in maps.items() if name.startswith(f"{layer}.") and each.added}
        first = calls[0]
        if added and first.requires_grad:
            yield _Run(layer=layer, calls=len(calls), output=_by_token(first), added=added)


def _reach(single: _Run, double: _Run) -> Iterator[tuple[str, Reach]]:
    alone, last, first = single.gradients(0), double.gradients(1), double.gradients(0)
    for name in single.added.keys() & double.added.keys():
        if len(alone[name]) in {1, len(single.output)} and len(last[name]) in {len(double.output), OTHER_TOKENS[2]}:
            yield name, (alone[name][0], last[name][0], last[name][1], first[name][1])


def _by_token(values: Tensor) -> Tensor:
    return values.reshape(-1, values.shape[-1])


@contextmanager
def _outputs(lists: list[Layers]) -> Iterator[dict[str, list[Tensor]]]:
    """Gives what the layers put out, call by call, by their names."""
    outputs: dict[str, list[Tensor]] = defaultdict(list)

    def keeper(name: str) -> Any:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            outputs[name].append(output if isinstance(output, Tensor) else output[0])

        return keep

    def cut(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(each.detach() if isinstance(each, Tensor) else each for each in inputs)

    named = [each for layers in lists for each in layers.named()]
    handles = [module.register_forward_hook(keeper(name)) for name, module in named]
    handles += [module.register_forward_pre_hook(cut) for _, module in named]  # a gradient stays in its layer
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _forward(model: MetaModel, tokens: int, length: int) -> None:
    """Runs the model on a few tokens, padded to `length`."""
    middle, padding = stated(model.config, "vocab_size") // 2, stated(model.config, "pad_token_id")
    ids = torch.tensor([[number for number in range(middle - 2, middle + 2) if number != padding][-3:]])
    base: Any = model.base
    read = ids[:, : OTHER_TOKENS[tokens] if model.is_encoder_decoder else tokens]
    filled = (0, max(0, length - read.shape[1]))
    given = {"input_ids": pad(read, filled, value=padding or 0), "attention_mask": pad(torch.ones_like(read), filled)}
    with torch.enable_grad():
        base(**given, **({"decoder_input_ids": ids[:, :tokens]} if model.is_encoder_decoder else {}))
