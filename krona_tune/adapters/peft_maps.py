"""Puts a method of the package peft over the linear maps of a frozen model, and counts what it trains. Needs peft.

peft's tuner gets the maps alone, under their own names in a module that holds nothing else: copies that share the
model's weights. So the model's modules stay as they are, and every kind of backbone is the same to the tuner.
"""

import copy
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, cast

import torch
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from torch import Tensor, nn

from krona_tune.adapters.frozen_model import numbers
from krona_tune.adapters.peft_class import is_own_class, make_config
from krona_tune.backbones.geometry import Site
from krona_tune.refusal import Refusal, told
from krona_tune.study.request.trial import AdapterConfig

NAME = "default"
"""The name of a layer's adapter: a layer of peft may have several, here it has one."""
NO_SIZE = re.compile("alpha|bound|dropout|eps|key|lambda|scal|seed")
"""What is in the names of fields that hardly decide about sizes: this is tried, and then they are not counted again."""
COUNTED_ON = (("meta", "meta"), ("meta", "cpu"), ("cpu", "cpu"))
"""Where the maps and the tuner are when parameters are counted: without values, unless the method reads them."""
MOST_WEIGHTS = 10**8
"""The most weights that are drawn to count what a method trains."""
BASE = "base_layer"
"""Inside peft's layer, the map that it adapts."""


class PeftMap(nn.Module):
    """The layer of peft over one map. Its parameters are the layer's that are trained, by peft's names.

    What else the layer keeps, such as fixed random projections, are its buffers.
    """

    def __init__(self, layer: Any, leaf: nn.Module, part: nn.Module, known: set[int]) -> None:
        """`leaf` is the model's module and `part` its map, or that part of it that the site is. `known` holds the
        tensors of the maps before this one, by id: what several share belongs to the first."""
        super().__init__()
        self._frozen = (layer, leaf, part)  # in a tuple, so that they are no submodules
        self._shared = _sharing(leaf, (layer.get_base_layer(), part))
        for name, tensor in layer.state_dict(keep_vars=True).items():
            if BASE in name.split(".") or id(tensor) in known:
                continue
            known.add(id(tensor))
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
                self.register_parameter(_key(name), tensor)
            else:
                self.register_buffer(_key(name), tensor)

    @property
    def layer(self) -> Any:
        """Returns peft's own layer as the model's map is: in training or evaluation, since its dropout depends on that,
        and where that is, in its dtype."""
        layer, leaf, part = self._frozen
        if layer.training != leaf.training:
            layer.train(leaf.training)
        if _follow(leaf, layer, (layer.get_base_layer(), part), self._shared):
            moved = {_key(name): tensor for name, tensor in layer.state_dict(keep_vars=True).items()}
            for name in self._buffers.keys() & moved.keys():
                self._buffers[name] = moved[name]
        return layer

    def forward_with(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """Maps x (..., d_in) to (..., d_out): the whole output of the adapted map."""
        whole: Tensor = self.layer(x)
        return whole

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d_in) to (..., d_out): what the adapter changes of the map's output."""
        _, _, part = self._frozen
        whole = self.layer(x)  # first, since `part` follows the model with it
        changed: Tensor = whole - part(x)
        return changed

    @torch.no_grad()
    def give(self, layer: nn.Module) -> None:
        """Gives another layer of the same kind and sizes the values of this one."""
        places = layer.state_dict(keep_vars=True)
        for name, tensor in self.layer.state_dict(keep_vars=True).items():
            if BASE not in name.split("."):
                places[name].copy_(tensor)

    def delta(self) -> Tensor:
        """Returns what merging adds to the map's weight (d_out, d_in), if that is all.

        Raises:
            Refusal: peft can't merge the method, or would change the map's bias too.
        """
        changed = self.deltas()
        if "bias" in changed:
            raise Refusal("merge", "it changes the biases of the maps too", "use it as an adapter")
        return changed["weight"]

    def deltas(self) -> dict[str, Tensor]:
        """Returns what merging adds to the map's `weight` (d_out, d_in), and to its `bias` (d_out,) if that changes.

        Raises:
            Refusal: peft can't merge the method.
        """
        _, _, part = self._frozen
        merged = _apart(self.layer)
        try:
            with torch.no_grad(), warnings.catch_warnings(action="ignore"):
                merged.merge()
        except (NotImplementedError, ValueError, RuntimeError) as error:
            raise Refusal("merge", f"peft can't merge it ({told(error)})", "use it as an adapter") from None
        whole = merged.get_base_layer()
        bias = cast(nn.Linear, part).bias
        added = {"weight": whole.weight.detach() - part.get_parameter("weight").detach().float()}
        if bias is not None and not torch.equal(bias.float(), whole.bias):
            added["bias"] = whole.bias.detach() - bias.detach().float()
        return added


def build_peft_maps(
    model: nn.Module, sites: Sequence[Site], adapter: AdapterConfig, generator: torch.Generator
) -> list[nn.Module]:
    """Returns the adapters of these sites, in their order.

    Args:
        generator: draws the seed of peft's random numbers.

    Raises:
        Refusal: peft does not take the maps or the fields.
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    leaves = [model.get_submodule(site.name) for site in sites]
    parts = [_part(*each) for each in zip(leaves, sites, strict=True)]
    own = is_own_class(adapter.method)  # a class of one's own may change the weights that it gets
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        tuner = _tuner(
            adapter, {_name(site): _alias(part, copied=own) for site, part in zip(sites, parts, strict=True)}
        )
    _in_float32(tuner.to(next(leaves[0].parameters()).device))
    known: set[int] = set()
    layers = [tuner.model.get_submodule(_name(site)) for site in sites]
    found: list[nn.Module] = [PeftMap(*each, known) for each in zip(layers, leaves, parts, strict=True)]
    for name, tensor in tuner.named_parameters():
        if tensor.requires_grad and id(tensor) not in known:  # what the tuner itself holds, for all its layers
            found[0].register_parameter(_key(f"shared.{name}"), tensor)
    return found


def count_peft(sites: Sequence[Site], adapter: AdapterConfig) -> int:
    """Returns the number of parameters that the method trains beside these sites; no weight is made for it.

    Raises:
        ValueError: peft does not take the maps or the fields.
    """
    fields = tuple(sorted((name, value) for name, value in adapter.peft.items() if _sizes(adapter.method, name, value)))
    return _count(adapter.method, fields, tuple((_name(site), site.d_out, site.d_in) for site in sites))


@lru_cache(maxsize=4096)
def _sizes(method: str, name: str, value: Any) -> bool:
    """Returns whether a field may decide about the number of parameters, so that each of its values is counted."""
    if not NO_SIZE.search(name) or isinstance(value, bool | str):
        return True
    toy = tuple((f"map_{number}", 64, 64) for number in range(2))
    with suppress(Refusal):
        return _count(method, ((name, value),), toy) != _count(method, (), toy)
    return True


@lru_cache(maxsize=4096)
def _count(method: str, fields: tuple[tuple[str, Any], ...], sizes: tuple[tuple[str, int, int], ...]) -> int:
    adapter = AdapterConfig(method=method, peft=dict(fields))
    for maps_on, tuner_on in COUNTED_ON:
        if maps_on == "cpu" and sum(d_out * d_in for _, d_out, d_in in sizes) > MOST_WEIGHTS:
            problem = "it reads the weights to tell how many parameters it trains, and these are too many for a plan"
            raise Refusal(method, problem, "adapt fewer roles or layers, or choose another method")
        with torch.device(maps_on):
            maps = {name: nn.Linear(d_in, d_out).requires_grad_(False) for name, d_out, d_in in sizes}
        with torch.device(tuner_on), suppress(NotImplementedError):
            tuner = _tuner(adapter, maps, values=tuner_on == maps_on == "cpu")
            return sum(each.numel() for each in tuner.parameters() if each.requires_grad)
    raise Refusal(method, "peft can't build it", "choose another method")


def _tuner(adapter: AdapterConfig, maps: Mapping[str, nn.Module], *, values: bool = True) -> Any:
    """Returns peft's tuner over the maps by name; without `values`, no weight of it is drawn."""
    config = make_config(adapter, list(maps))
    holder = nn.Module()
    for name, each in maps.items():
        *path, last = name.split(".")
        place = holder
        for part in path:
            if part not in place._modules:
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        place.add_module(last, each)
    make = PEFT_TYPE_TO_TUNER_MAPPING.get(config.peft_type)
    if make is None:
        raise Refusal(adapter.method, f"peft has no tuner of the type {config.peft_type}", "register it with peft")
    try:
        with warnings.catch_warnings(action="ignore"):
            return make(holder, config, NAME, low_cpu_mem_usage=not values)
    except NotImplementedError:
        raise
    except Exception as error:  # whatever a tuner, maybe the user's own, raises about its fields and the maps
        if "meta tensor" in str(error):
            raise NotImplementedError from error
        raise Refusal(adapter.method, told(error), "change its fields, or the roles") from None


def _in_float32(tuner: nn.Module) -> None:
    """Converts what the tuner added, whatever the dtype of the frozen maps is."""
    for name, module in tuner.named_modules():
        if BASE in name.split("."):
            continue
        for key, tensor in module._parameters.items():
            if tensor is not None and tensor.is_floating_point():
                module._parameters[key].data = tensor.data.float()
        for key, tensor in module._buffers.items():
            if tensor is not None and tensor.is_floating_point():
                module._buffers[key] = tensor.float()


def _follow(leaf: nn.Module, layer: nn.Module, maps: Sequence[nn.Module], sharing: Sequence[nn.Module]) -> bool:
    """Moves and casts a layer of peft and its maps if the model was moved or cast since: that gave the module's own
    parameters other values. Returns whether it was.

    Args:
        maps: those over the module's weights.
        sharing: those of them that share its values and not copies, so that what merging adds to these is in both.
    """
    weight = leaf._parameters.get("weight")
    own = next((each.weight for each in maps if isinstance(each, nn.Linear)), None)
    if weight is None or own is None or weight.is_meta or not weight.is_floating_point():
        return False
    if (own.device, own.dtype) == (weight.device, weight.dtype):
        return False
    layer.to(weight.device)
    for each in maps:
        if any(each is other for other in sharing):
            for name, tensor in leaf._parameters.items():
                if tensor is not None:
                    each.get_parameter(name).data = tensor.data
        else:
            each.to(weight.device, weight.dtype)
    return True


def _sharing(leaf: nn.Module, maps: Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    """Returns those of the maps that share a module's values."""
    if type(leaf) is not nn.Linear or leaf.weight.is_meta:
        return ()
    at = leaf.weight.data_ptr()
    return tuple(each for each in maps if isinstance(each, nn.Linear) and each.weight.data_ptr() == at)


def _name(site: Site) -> str:
    """Returns the name of a site's map: the module's, and for a part of a fused one also its role."""
    return site.key.replace("#", ".")


def _key(name: str) -> str:
    """Returns a tensor's name without dots, which a module does not accept."""
    return name.replace(".", "/")


def _part(leaf: nn.Module, site: Site) -> nn.Module:
    """Returns a linear map with the weights of a site's module, or with copies of the site's rows of a fused one."""
    if site.rows is None and not site.transposed:
        return _alias(leaf)
    weight, bias = leaf.get_parameter("weight").detach(), getattr(leaf, "bias", None)
    weight = weight.T if site.transposed else weight
    rows = slice(None) if site.rows is None else numbers(site.rows)
    with torch.device("meta"):
        part = nn.Linear(site.d_in, site.d_out, bias=bias is not None)
    part.weight = nn.Parameter(weight[rows], requires_grad=False)
    if bias is not None:
        part.bias = nn.Parameter(bias.detach()[rows], requires_grad=False)
    return part


def _alias(linear: nn.Module, *, copied: bool = False) -> nn.Module:
    """Returns a map over the same values or over copies, without hooks: giving it others leaves the first as it is."""
    if getattr(getattr(linear, "weight", None), "CB", None) is not None:
        linear.init_8bit_state()  # type: ignore[operator]  # its first forward would take the scales from the copies
    found = copy.copy(linear)
    tensors = dict(linear._parameters)
    if type(linear) is nn.Linear:
        tensors = {
            name: None if t is None else nn.Parameter(t.detach().clone() if copied else t.detach(), requires_grad=False)
            for name, t in tensors.items()
        }
    found.__dict__ |= {"_parameters": tensors, "_forward_hooks": OrderedDict(), "_forward_pre_hooks": OrderedDict()}
    found.__dict__.pop("forward", None)
    if "state" in found.__dict__:  # bitsandbytes keeps there what a first forward makes of the codes
        found.__dict__["state"] = copy.copy(found.__dict__["state"])
    return found


def _apart(layer: Any) -> Any:
    """Returns a copy of a layer whose frozen map has values of its own, in float32."""
    copied = copy.deepcopy(layer)
    base = copied.get_base_layer()
    for name, tensor in list(base._parameters.items()):
        if tensor is not None:
            whole = tensor.detach().float().clone(memory_format=torch.contiguous_format)  # some methods view it flat
            base._parameters[name] = nn.Parameter(whole, requires_grad=False)
    return copied
