"""Attaches adapters to a frozen model with hooks, and leaves the model as it was when it detaches them."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from types import TracebackType
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from krona_tune.adapters.frozen_model import (
    ForwardOverride,
    FusedAdapter,
    Holders,
    backbone_parameters,
    can_override,
    module_at,
    norm_partners,
    spread,
)
from krona_tune.adapters.method_table import AttachPoint, TrainedModelPart, method_named
from krona_tune.adapters.placement import sites
from krona_tune.adapters.replaced_parameters import (
    copies_in,
    leave_in_model,
    put_back,
    replace_by_copy,
    round_as_replaced,
)
from krona_tune.backbones.geometry import Geometry, RoleRows, Site
from krona_tune.study.request.trial import AdapterConfig

__all__ = ["Adapters"]

Handle = RemovableHandle | ForwardOverride
"""A hook or a replaced forward of an adapter; `remove` takes it out of the model."""

SETS = "krona_tune_sets"
"""The attribute of a base model that counts the sets on it; a copy of the model has it, as it has their hooks."""


def sets_on(model: nn.Module) -> int:
    """Counts the sets that are attached to a base model."""
    counted: int = vars(model).get(SETS, 0)
    return counted


class Adapters:
    """Attaches the adapters of one trial to one model: small modules, one for each site, called by hooks::

        shape = geometry(model.config.to_dict())
        config = AdapterConfig(method="krona", a_out=16, a_in=16, scale=4.0)
        with Adapters(model, shape, config, torch.Generator().manual_seed(0)) as adapters:
            optimizer = torch.optim.AdamW(adapters.parameters(), lr=1e-3)

    `geometry` is `krona_tune.backbones.find_geometry.geometry`. The model's own modules and parameters keep their
    places and names, so several sets can be attached and detached on one frozen backbone. Used as a context, the set is
    detached at the end.

    If parameters of the model's own are trained (layer norms, their biases, or all parameters), float32 copies replace
    them, and `detach` puts the model's own back. Those of a later set stay in the model until that is detached.

    Args:
        model: the backbone's base model, frozen, in which the geometry's sites name modules.
        geometry: where the model has linear maps, and of which sizes.
        adapter: the method, its sizes and the sites that carry it.
        generator: draws the first values; the same seed gives the same adapters on every device.
        whole: a decoder with its language-model head, if it answers with text: the method `full` trains that, too.

    Raises:
        Refusal: the model has no such site.
        ValueError: the adapter's sizes do not divide those of a site.
    """

    def __init__(
        self,
        model: nn.Module,
        geometry: Geometry,
        adapter: AdapterConfig,
        generator: torch.Generator,
        whole: nn.Module | None = None,
    ) -> None:
        method = method_named(adapter.method)
        self.config, self.geometry = adapter, geometry
        self.sites = sites(geometry, adapter)
        for name in dict.fromkeys(name for site in self.sites for name in (site.enters, site.name)):
            module_at(model, name)
        with torch.device(generator.device):  # it draws nowhere else, whatever torch's default is
            built = method.make_modules(model, self.sites, adapter, generator)
        self.modules = nn.ModuleDict({_key(site): module for site, module in zip(self.sites, built, strict=True)})
        self.backbone_parameters: dict[str, nn.Parameter] = {}
        self.merged = False
        self.added: list[tuple[nn.Parameter, Tensor]] = []
        """What `merge` added, where that depends on the weights themselves, so that `unmerge` subtracts the same."""
        self.model = model
        self.modules.to(_device_of(model))
        self._reads_output = method.attach_point is AttachPoint.AFTER_SUBLAYERS
        self._handles: list[Handle] = []
        self._replaced: list[tuple[Holders, nn.Parameter]] = []
        self._filled: list[tuple[nn.Parameter, Tensor]] = []
        self._stayed: tuple[nn.Parameter, torch.dtype] | None = None
        self.attached = True
        setattr(model, SETS, sets_on(model) + 1)
        try:
            self.enter_hooks()
            self._replace_trained(method.trains_of_model(adapter), whole if geometry.writes_alone else None)
        except BaseException:
            self.detach()
            raise

    def _replace_trained(self, own: TrainedModelPart, whole: nn.Module | None) -> None:
        """Replaces the parameters of the model's own that are trained, and keeps one that stays, with its dtype."""
        layers = {site.layer_name for site in self.sites}
        for name, holders in backbone_parameters(self.model, own, layers, whole).items():
            self.backbone_parameters[name] = self._replace(holders)
        for holders in norm_partners(self.model, own):
            self._replace(holders).requires_grad_(False)
        copies = copies_in(self.model)
        stay = (each for each in self.model.parameters() if each.is_floating_point() and id(each) not in copies)
        self._stayed = next(((each, each.dtype) for each in stay), None)

    def by_site(self) -> Iterator[tuple[Site, nn.Module]]:
        """Yields each site with its adapter."""
        for site in self.sites:
            yield site, self.modules[_key(site)]

    def enter_hooks(self) -> None:
        """Attaches the hooks: from then on the model's outputs are the adapted ones."""
        hook = _hook_after if self._reads_output else _hook_beside
        for site, module in self.by_site():
            self._handles += hook(self.model, site, module)

    def leave_hooks(self) -> None:
        """Removes the hooks; trained parameters of the model's own stay."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def detach(self) -> None:
        """Leaves the model as it was, on the device and in the dtype that it has now; a merged one stays merged, with
        what was trained of its own.

        A second call does nothing.
        """
        self.leave_hooks()
        dtype = self._cast_to()
        for holders, copy in self._replaced:
            if self.merged:
                leave_in_model(holders, copy)
            else:
                put_back(holders, copy, dtype)
        if not self.merged:
            _copy(reversed(self._filled))
        self._replaced, self._filled = [], []
        if self.attached:
            self.attached = False
            if left := sets_on(self.model) - 1:
                setattr(self.model, SETS, left)
            else:
                delattr(self.model, SETS)

    def _cast_to(self) -> torch.dtype | None:
        """Returns what the model was cast to beside the set, by a parameter of it that stayed in place; None if it was
        not, or if all of them are replaced."""
        if self._stayed is None or self._stayed[0].dtype == self._stayed[1]:
            return None
        return self._stayed[0].dtype

    def round_backbone_parameters(self) -> None:
        """Converts the trained parameters of the model's own to its dtype, for use outside autocast."""
        for holders, copy in self._replaced:
            round_as_replaced(holders, copy)

    def fill(self, places: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
        """Copies tensors into parameters of the model beside the set; `detach` puts their values back.

        Args:
            places: parameters, such as a head's, each with a tensor of its shape.
        """
        self._filled += [(parameter, parameter.detach().clone()) for parameter, _ in places]
        _copy(places)

    def _replace(self, holders: Holders) -> nn.Parameter:
        """Puts a copy in place of a parameter, until the set is detached."""
        copy = replace_by_copy(holders)
        self._replaced.append((holders, copy))
        return copy

    def __enter__(self) -> "Adapters":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yields everything that the set trains: the adapters' parameters and the model's own."""
        yield from self.modules.parameters()
        yield from self.backbone_parameters.values()

    def state(self) -> dict[str, Tensor]:
        """Returns the trained tensors by name, detached and on the CPU.

        The names are `adapter.<site>.<parameter>`, with the first site of a parameter that several share, and
        `model.<parameter>`.
        """
        return {name: tensor.detach().cpu().clone() for name, tensor in self._named()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes tensors as the method `state` gives them.

        Args:
            state: every trained tensor of this set by its name.

        Raises:
            ValueError: a name or a shape differs from this set's; nothing was changed.
        """
        own = dict(self._named())
        if own.keys() != state.keys():
            different = sorted(own.keys() ^ state.keys())
            raise ValueError(f"{len(different)} tensors are on one side only, the first {different[0]!r}")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, the model takes {tuple(tensor.shape)}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for key, tensor in chain(self.modules.named_parameters(), self.modules.named_buffers()):  # each once
            yield f"adapter.{key.replace('/', '.')}", tensor
        for name, parameter in self.backbone_parameters.items():
            yield f"model.{name}", parameter


def _device_of(model: nn.Module) -> torch.device:
    """Returns the first device that holds values: parameters that accelerate offloads have none, on `meta`."""
    devices = (parameter.device for parameter in model.parameters() if not parameter.is_meta)
    return next(devices, torch.device("cpu"))


@torch.no_grad()
def _copy(places: Iterable[tuple[nn.Parameter, Tensor]]) -> None:
    """Copies each tensor into its parameter."""
    for parameter, tensor in places:
        parameter.copy_(tensor)


def _key(site: Site) -> str:
    """Returns the site's key without dots, which a ModuleDict does not accept."""
    return site.key.replace(".", "/")


# The hooks are partial functions, which deepcopy and pickle take along: a copy of the model has its own adapters.


def _hook_after(model: nn.Module, site: Site, adapter: nn.Module) -> list[Handle]:
    """Adds adapter(the site's output) to the site's output."""
    return [model.get_submodule(site.name).register_forward_hook(partial(_add_after, adapter))]


def _hook_beside(model: nn.Module, site: Site, adapter: nn.Module) -> list[Handle]:
    """Adds adapter(the site's input) to the site's output."""
    leaves = model.get_submodule(site.name)
    if site.enters == site.name:
        if site.rows is None and isinstance(adapter, FusedAdapter) and can_override(leaves):
            return [ForwardOverride(cast(nn.Linear, leaves), adapter)]
        return [leaves.register_forward_hook(partial(_add_beside, adapter, site.rows))]
    entered: list[Tensor] = []
    return [
        model.get_submodule(site.enters).register_forward_pre_hook(partial(_keep, entered)),
        leaves.register_forward_hook(partial(_add_kept, adapter, site.rows, entered)),
    ]


def _add_after(adapter: nn.Module, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return _sum(output, adapter(output))


def _add_beside(
    adapter: nn.Module, rows: RoleRows | None, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    return _sum(output, spread(adapter(inputs[0]), rows))


def _keep(entered: list[Tensor], _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    entered[:] = [inputs[0]]


def _add_kept(
    adapter: nn.Module,
    rows: RoleRows | None,
    entered: list[Tensor],
    _: nn.Module,
    inputs: tuple[Tensor, ...],
    output: Tensor,
) -> Tensor:
    return _sum(output, spread(adapter(entered.pop()), rows))


def _sum(output: Tensor, added: Tensor) -> Tensor:
    """Returns the sum in the output's dtype, on which some families rely."""
    return output + added.to(output.dtype)
