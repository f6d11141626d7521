"""Tells by gradients what each row of each linear map in a layer does with one and with two tokens.

A weightless function stands for every linear map: y = (x·u)v + c, with random u (d_in) and v (d_out) and with c, one
number per token and row, in which the layer's output is differentiated. With one token a softmax gives it all the
weight, so that neither queries nor keys change the output; with two, the first token's keys and values reach the second
token's output and its queries do not.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from krona_tune.backbones.introspection.linear_maps import Layers, maps_of
from krona_tune.backbones.introspection.meta_model import MetaModel
from krona_tune.backbones.introspection.row_classes import ProbedMap, Reach, classify, is_causal
from krona_tune.backbones.introspection.stand_ins import MOST_TOKENS, MapStandIn, put_stand_ins

DRAWS = 2
"""How often the test is made with other random numbers: a ReLU or a saturated softmax hides some rows in one draw."""
SAMPLES = 2
"""How many layers of each structure are tested: the others are like them."""
OTHER_TOKENS = {1: 1, 2: MOST_TOKENS}
"""How many tokens an encoder reads, by the tokens that a decoder reads beside it."""


@dataclass(kw_only=True)
class ProbedLayers:
    """What was found about a list of layers: each map by its full name, whether a token reaches only itself and later
    ones, and how often a forward runs each layer."""

    maps: dict[str, ProbedMap] = field(default_factory=dict)
    causal: bool = False
    uses: int = 1


def probe(model: MetaModel, lists: list[Layers]) -> dict[str, ProbedLayers]:
    """Runs the model with stand-ins on one token and on two; returns what the gradients show by the lists' names.

    The model is used up: its maps are replaced and its other parameters made.
    """
    structures = _structures(lists)
    samples = {layer for each in structures for layer in each.samples}
    reaches: dict[str, list[Reach]] = defaultdict(list)
    cross: set[str] = set()
    uses: dict[str, int] = {}
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(0)
        maps = put_stand_ins(model, torch.Generator().manual_seed(0))
        for _ in range(DRAWS):
            single = {run.layer: run for run in _run(model, lists, maps, 1)}
            for run in _run(model, lists, maps, 2):
                uses[run.layer] = run.calls
                if run.layer in samples and run.layer in single:
                    cross |= run.reads_other_stack()
                    for name, reach in _reach(single[run.layer], run):
                        reaches[name].append(reach)
    return {layers.name: _probed_layers(layers, structures, reaches, cross, uses) for layers in lists}


@dataclass(frozen=True, kw_only=True)
class _Structure:
    """Layers of one list with the same modules and sizes, by their names, and the names of the maps in each of them."""

    list_name: str
    layers: list[str]
    maps: list[str]

    @property
    def samples(self) -> list[str]:
        return self.layers[:SAMPLES]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Computes on one thread: the tensors are tiny, and more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _structures(lists: list[Layers]) -> list[_Structure]:
    alike: dict[Any, _Structure] = {}
    for layers in lists:
        for name, module in layers.named():
            maps = maps_of(module)
            key = (layers.name, *((path, type(each)) for path, each in module.named_modules()), *maps.values())
            alike.setdefault(key, _Structure(list_name=layers.name, layers=[], maps=list(maps))).layers.append(name)
    return list(alike.values())


def _probed_layers(
    layers: Layers,
    structures: list[_Structure],
    reaches: dict[str, list[Reach]],
    cross: set[str],
    uses: dict[str, int],
) -> ProbedLayers:
    """Gives every layer of a list what was found in the samples of its structure."""
    maps: dict[str, ProbedMap] = {}
    of_own_stack: list[Reach] = []
    for structure in structures:
        for name in structure.maps:
            alike = [f"{sample}.{name}" for sample in structure.samples]
            draws = [reach for each in alike for reach in reaches.get(each, ())]
            if draws and structure.list_name == layers.name:
                probed = classify(draws, cross=not cross.isdisjoint(alike))
                maps |= {f"{layer}.{name}": probed for layer in structure.layers}
                of_own_stack += [] if probed.cross else draws
    return ProbedLayers(
        maps=maps,
        causal=is_causal(of_own_stack),
        uses=max(uses.get(layer, 1) for layer, _ in layers.named()),
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


def _run(model: MetaModel, lists: list[Layers], maps: dict[str, MapStandIn], tokens: int) -> Iterator[_Run]:
    """Runs the model once and yields each layer that ran."""
    for stand_in in maps.values():
        stand_in.added.clear()
    with _outputs(lists) as outputs:
        _forward(model, tokens)
    for layer, calls in outputs.items():
        added = {name: each.added[0] for name, each in maps.items() if name.startswith(f"{layer}.") and each.added}
        first = calls[0]
        if added and first.requires_grad:
            yield _Run(layer=layer, calls=len(calls), output=_by_token(first), added=added)


def _reach(single: _Run, double: _Run) -> Iterator[tuple[str, Reach]]:
    alone, last, first = single.gradients(0), double.gradients(-1), double.gradients(0)
    for name in single.added.keys() & double.added.keys():
        if len(alone[name]) == 1 and len(last[name]) in {len(double.output), OTHER_TOKENS[2]}:
            yield name, (alone[name][0], last[name][0], last[name][-1], first[name][-1])


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


def _forward(model: MetaModel, tokens: int) -> None:
    middle, padding = model.config.vocab_size // 2, model.config.pad_token_id
    ids = torch.tensor([[number for number in range(middle - 2, middle + 2) if number != padding][-3:]])
    base: Any = model.base
    with torch.enable_grad():
        if model.text_to_text:
            beside = ids[:, : OTHER_TOKENS[tokens]]
            base(input_ids=beside, attention_mask=torch.ones_like(beside), decoder_input_ids=ids[:, :tokens])
        else:
            base(input_ids=ids[:, :tokens], attention_mask=torch.ones_like(ids[:, :tokens]))
