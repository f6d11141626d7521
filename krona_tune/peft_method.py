"""Adds KronA to the methods of the package peft as soon as this module is imported. Needs peft.

    from peft import PeftModel, get_peft_model
    from krona_tune.peft_method import KronAConfig

    model = get_peft_model(model, KronAConfig(target_modules=["query", "value"], a_out=24, a_in=32, scale=4.0))
    model.save_pretrained("adapter")
    model = PeftModel.from_pretrained(fresh_model, "adapter")

Import this module before you load what was saved. Unmerged, Σ A⊗B is formed only where `kron.contraction` finds that
faster.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from numbers import Real
from typing import Any, get_args

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PeftConfig
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, ModulesToSaveWrapper
from torch import Tensor, nn

from krona_tune.backbones.module_facts import is_quantised
from krona_tune.kron.factors import Init, Scaling, effective_scale, factor_shape, whole_size
from krona_tune.kron.product import first_factors, kron_linear, kron_weight
from krona_tune.refusal import Refusal

__all__ = ["KronAConfig"]


class _PeftType(StrEnum):
    """Is to peft what its own closed enumeration is, of which it reads the `value`."""

    KRONA = "KRONA"


PEFT_TYPE = _PeftType.KRONA
PREFIX = "krona_"


@dataclass(kw_only=True)
class KronAConfig(PeftConfig):  # type: ignore[misc]
    """Configures KronA in peft: which linear maps carry it, and in which factor shape (arXiv 2212.10650).

    Several terms are a sum of products (arXiv 2602.01267). The fields of peft's own PeftConfig are taken too.

    Raises:
        Refusal: a size is not a whole number from 1, the scale is not a positive number, a word is unknown, or layers
            are chosen where peft does not ask for them. Later, for a given model: a size does not divide a map's
            dimension, there are more terms than hold every matrix, or a target is not a linear map.
    """

    target_modules: list[str] | set[str] | str | None = None
    """The maps to adapt: names, or a regular expression that matches whole names; None: the maps of peft's LoRA."""
    exclude_modules: list[str] | set[str] | str | None = None
    """The maps to leave out, as `target_modules` names those to adapt."""
    a_out: int = 1
    """The rows of A, a divisor of each map's d_out; B has d_out / a_out."""
    a_in: int = 1
    """The columns of A, a divisor of each map's d_in; B has d_in / a_in."""
    terms: int = 1
    """The number of products A⊗B that are summed."""
    scale: float = 1.0
    """The plain factor of what is added to a map's output."""
    scaling: Scaling = "plain"
    """"stable" divides the scale by √(terms·a_in)."""
    init: Init = "krona"
    """Which factors start at zero: "krona" the B's, "cdka" the A's."""
    layers_to_transform: list[int] | int | None = None
    """The numbers of the layers to adapt, beside names as `target_modules`, as in peft's LoraConfig; None: all."""
    layers_pattern: list[str] | str | None = None
    """The name of the list of layers in the model, where peft does not find it; beside `layers_to_transform`."""
    modules_to_save: list[str] | None = None
    """Further modules that are trained as they are and saved with the adapter, such as a head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PEFT_TYPE
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)
        for name in ("a_out", "a_in", "terms"):
            size = whole_size(given := getattr(self, name))
            if size is None:
                raise Refusal(f"KronAConfig: {name}", f"is {given!r}", "write a whole number from 1")
            setattr(self, name, size)
        for name, word, known in (("scaling", self.scaling, Scaling), ("init", self.init, Init)):
            if word not in get_args(known):
                raise Refusal(f"KronAConfig: {name}", f"is {word!r}", f"write {' or '.join(get_args(known))}")
        for name in ("layers_to_transform", "layers_pattern"):
            if isinstance(self.target_modules, str) and (given := getattr(self, name)) is not None:
                said = f"is {given!r}, which peft does not read beside a text as target_modules"
                raise Refusal(f"KronAConfig: {name}", said, "list names there, or name the layers in the text")
        if self.layers_pattern and self.layers_to_transform is None:
            said = f"is {self.layers_pattern!r}, and no layers are chosen"
            raise Refusal("KronAConfig: layers_pattern", said, "add layers_to_transform, or leave it out")
        scale = self.scale
        if isinstance(scale, bool) or not isinstance(scale, Real) or not (scale > 0 and math.isfinite(scale)):
            raise Refusal("KronAConfig: scale", f"is {scale!r}", "give a positive number")
        self.scale = float(scale)  # as JSON writes it, whatever kind of number it was


class KronALayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A linear map W with adapters by name: x ↦ xWᵀ + s · x(Σᵢ Aᵢ⊗Bᵢ)ᵀ of each active one.

    `krona_a` holds A (a_out, a_in) and `krona_b` B (b_out, b_in) of each adapter, or (terms, ...) of each.
    """

    adapter_layer_names = ("krona_a", "krona_b")
    other_param_names = ("krona_scale",)
    base_layer: nn.Linear
    merged_adapters: list[str]
    active_adapters: list[str]
    set_adapter: Callable[..., None]
    _move_adapter_to_device_of_base_layer: Callable[[str], None]

    def __init__(self, base_layer: nn.Linear, adapter_name: str, config: KronAConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = base_layer.in_features, base_layer.out_features
        self.krona_a, self.krona_b = nn.ParameterDict(), nn.ParameterDict()
        self.krona_scale: dict[str, float] = {}
        self.merged_adapters = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: KronAConfig) -> None:
        """Adds a fresh adapter. Raises a ValueError if its sizes or terms do not fit the map."""
        shape = factor_shape(self.out_features, self.in_features, config.a_out, config.a_in, config.terms)
        a, b = first_factors(shape, config.init)
        self.krona_a[adapter_name], self.krona_b[adapter_name] = nn.Parameter(a), nn.Parameter(b)
        self.krona_scale[adapter_name] = effective_scale(shape, config.scale, config.scaling)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d_in) to (..., d_out)."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        result: Tensor = self.base_layer(x)
        if self.disable_adapters or self.merged:
            return result
        for name in self.active_adapters:
            if name in self.krona_a:
                result = result + kron_linear(x, self.krona_a[name], self.krona_b[name], self.krona_scale[name])
        return result

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """Returns s · Σᵢ Aᵢ⊗Bᵢ (d_out, d_in) of one adapter."""
        return kron_weight(self.krona_a[adapter_name], self.krona_b[adapter_name], self.krona_scale[adapter_name])

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Adds adapters, by default the active ones, to the map's weight, and rounds once.

        Raises:
            ValueError: the weight is quantised; or with `safe_merge`, the sum is not finite. All of them stay unmerged.
        """
        names = [name for name in check_adapters_to_merge(self, adapter_names) if name in self.krona_a]
        self._add(names, sign=1, safe=safe_merge)
        self.merged_adapters += names

    def unmerge(self) -> None:
        """Subtracts the merged adapters from the weight, within its dtype's rounding."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        self._add(self.merged_adapters, sign=-1)
        self.merged_adapters = []

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return True

    @torch.no_grad()
    def _add(self, adapter_names: list[str], sign: int, safe: bool = False) -> None:
        weight = total = self.base_layer.weight
        if adapter_names and is_quantised(weight):
            raise ValueError(f"an adapter can't be merged into a weight of {weight.dtype}; use it unmerged")
        for name in adapter_names:
            total = total + sign * self.get_delta_weight(name)
            if safe and not total.to(weight.dtype).isfinite().all():
                raise ValueError(f"adapter {name!r} makes a weight that is not finite")
        weight.copy_(total)


class KronAModel(BaseTuner):  # type: ignore[misc]
    """The tuner that peft uses: it replaces each targeted linear map by a KronALayer."""

    prefix = PREFIX
    tuner_layer_cls = KronALayer
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    def _create_and_replace(
        self,
        peft_config: KronAConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        try:
            if isinstance(target, KronALayer):
                target.update_layer(adapter_name, peft_config)
                return
            if isinstance(parent, nn.MultiheadAttention):
                raise ValueError("torch's attention reads this map's weight and never calls it")
            if not isinstance(target, nn.Linear):
                raise ValueError(f"KronA adapts linear maps, not a {type(target).__name__}")
            layer = KronALayer(target, adapter_name, peft_config)
        except ValueError as error:
            raise Refusal("KronAConfig", f"{error}", f"needed at {current_key}") from None
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """Puts a module in another's place; a saved head goes as it is, since it may have no weight of its own."""
        if isinstance(child, ModulesToSaveWrapper):
            setattr(parent, child_name, new_module)
        else:
            super()._replace_module(parent, child_name, new_module, child)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **words: Any) -> Iterator[None]:
        """Refuses a batch whose rows name an adapter each: all would get the active one."""
        if words.get("adapter_names"):
            raise Refusal("adapter_names", "KronA computes a batch with one adapter", "set_adapter, a batch for each")
        yield


PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = KronAConfig
PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = KronAModel
PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = PREFIX
