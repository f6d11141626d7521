"""Adapters enter a frozen model through hooks and leave it as it was."""

from collections.abc import Callable, Iterator
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from krona_tune.adapters.krona import Krona
from krona_tune.adapters.krona_block import KronaBlock, KronaBlockResidual
from krona_tune.adapters.placement import sites
from krona_tune.study.geometry import Geometry, Part, Site
from krona_tune.study.trial import AdapterConfig

MODULES: dict[str, Callable[[Site, AdapterConfig, torch.Generator], nn.Module]] = {
    "krona": Krona,
    "krona_b": KronaBlock,
    "krona_b_res": KronaBlockResidual,
}


class Adapters:
    """The adapters of one trial on one model: a set of small modules by site, attached by hooks.

    The model's own modules and parameters stay in place under their names, so several sets can come and
    go on one frozen backbone. Used as a context, the set is detached at the end.

    Where layer norms are trained, the model's norm parameters are replaced by float32 copies, trained in
    place of them, and put back at `detach`.

    Args:
        model: the backbone's base model, whose module names the geometry's sites use.
        generator: draws the first values; the same seed gives the same adapters on every device.
    """

    def __init__(
        self, model: nn.Module, geometry: Geometry, adapter: AdapterConfig, generator: torch.Generator
    ) -> None:
        self.config = adapter
        self.sites = sites(geometry, adapter)
        self.modules = nn.ModuleDict(
            {_state_name(site): MODULES[adapter.method](site, adapter, generator) for site in self.sites}
        )
        self.norms: dict[str, nn.Parameter] = {}
        self.merged = False
        self.model = model
        self.modules.to(next(model.parameters()).device)
        self._handles: list[RemovableHandle] = []
        self._own_norms: list[tuple[nn.Module, str, nn.Parameter]] = []
        self.enter_hooks()
        if adapter.layer_norms:
            self._train_norms()

    def by_site(self) -> Iterator[tuple[Site, nn.Module]]:
        """Each site with its adapter."""
        for site in self.sites:
            yield site, self.modules[_state_name(site)]

    def enter_hooks(self) -> None:
        """From here on the model's outputs are the adapted ones."""
        self._handles = [handle for site, module in self.by_site() for handle in _hook(self.model, site, module)]

    def leave_hooks(self) -> None:
        """The adapters act no more; trained layer norms stay."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def detach(self) -> None:
        """Leaves the model exactly as it was; merged weights stay merged. A second call does nothing."""
        self.leave_hooks()
        for module, key, own in self._own_norms:
            setattr(module, key, own)
        self._own_norms = []

    def round_norms(self) -> None:
        """Brings trained norms to the model's own dtype, for use outside autocast."""
        for (_, _, own), trained in zip(self._own_norms, self.norms.values(), strict=True):
            trained.data = trained.data.to(own.dtype)

    def _train_norms(self) -> None:
        for name, module, key in list(norm_parameters(self.model)):
            own = getattr(module, key)
            trained = nn.Parameter(own.detach().float().clone())
            setattr(module, key, trained)
            self._own_norms.append((module, key, own))
            self.norms[name] = trained

    def __enter__(self) -> "Adapters":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Everything that the set trains: the adapters and, where they are trained, the layer norms."""
        yield from self.modules.parameters()
        yield from self.norms.values()

    def state(self) -> dict[str, Tensor]:
        """The trained tensors by name, `adapter.<site>.<factor>` and `norm.<parameter>`, detached and on the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self._named()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes tensors as `state` gives them.

        Raises:
            ValueError: a name or a shape differs from this set's.
        """
        own = dict(self._named())
        if own.keys() != state.keys():
            different = sorted(own.keys() ^ state.keys())
            raise ValueError(f"{len(different)} tensors are on one side only, the first {different[0]!r}")
        with torch.no_grad():
            for name, tensor in own.items():
                if tensor.shape != state[name].shape:
                    raise ValueError(f"{name} is {tuple(state[name].shape)}, the model takes {tuple(tensor.shape)}")
                tensor.copy_(state[name])

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for site, module in self.by_site():
            for name, tensor in module.named_parameters():
                yield f"adapter.{site.key}.{name}", tensor
        for name, norm in self.norms.items():
            yield f"norm.{name}", norm


def norm_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Each layer norm parameter of a model: its dotted name, its module and its key there."""
    for path, module in model.named_modules():
        if type(module).__name__.endswith(("LayerNorm", "RMSNorm", "FusedRMSNorm")):
            for key, _ in module.named_parameters(recurse=False):
                yield f"{path}.{key}", module, key


def _state_name(site: Site) -> str:
    """A ModuleDict takes no dots."""
    return site.key.replace(".", "/")


def _hook(model: nn.Module, site: Site, adapter: nn.Module) -> list[RemovableHandle]:
    """Adds adapter(what enters the site) to what leaves it."""
    leaves = model.get_submodule(site.name)
    if site.enters == site.name:

        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return _add(output, adapter(inputs[0]), site.part)

        return [leaves.register_forward_hook(add)]

    entered: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        entered[:] = [inputs[0]]

    def add_kept(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return _add(output, adapter(entered.pop()), site.part)

    return [
        model.get_submodule(site.enters).register_forward_pre_hook(keep),
        leaves.register_forward_hook(add_kept),
    ]


def _add(output: Tensor, delta: Tensor, part: Part | None) -> Tensor:
    """output + delta; in a fused map only the rows of one part: (..., heads, parts, width) at its index."""
    if part is None:
        return output + delta
    shape = (*output.shape[:-1], part.heads, part.parts, -1)
    widened = torch.zeros_like(output).view(shape)
    widened[..., part.index, :] = delta.view(*output.shape[:-1], part.heads, -1)
    return output + widened.view(output.shape)
