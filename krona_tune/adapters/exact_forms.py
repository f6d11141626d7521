"""Says which forms of an export hold an adapter exactly, and which targets of a deployment do. No torch.

An export refuses what is refused here; a study that is to be deployed leaves it out of its space.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pkgutil import resolve_name
from typing import NamedTuple

from krona_tune.adapters.export_forms import Form
from krona_tune.adapters.method_table import AttachPoint, Method, is_peft, lokr_factor, method_named, shape_at
from krona_tune.adapters.placement import sites
from krona_tune.backbones.geometry import Geometry, Site
from krona_tune.kron.factors import FactorShape
from krona_tune.refusal import Refusal
from krona_tune.study.request.deploy_target import DeployTarget, TargetName
from krona_tune.study.request.study_spec import Quantize
from krona_tune.study.request.trial import AdapterConfig

MERGED_BY_NOBODY = {"peft:lily"}
"""The methods of peft that peft itself can't merge, in the spelling of `peft_class.plain_name`."""
MERGED_INTO_BIASES = {"peft:beft"}
"""The methods of peft that change the biases of maps alone, which must all have one, in the same spelling."""
SCALE_BIASES = {"peft:ia3"}
"""The methods of peft that change the bias of a map, where it has one, beside its weight, in the same spelling."""
SERVED_BY_VLLM = frozenset({"gemma", "gemma2", "llama", "mistral", "phi", "qwen2", "qwen3", "starcoder2"})
"""The model types of which vLLM serves LoRA on every linear map that a layer has here."""


class Architecture(NamedTuple):
    """Holds what llama.cpp calls a type of model, and whether its layout has the rows of the two halves of a head's
    query and key, which are rotated together, in turn."""

    name: str
    interleaves_halves: bool = False


OF_LLAMA_CPP = {
    "gemma": Architecture("gemma"),
    "gemma2": Architecture("gemma2"),
    "llama": Architecture("llama", interleaves_halves=True),
    "mistral": Architecture("llama", interleaves_halves=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "starcoder2": Architecture("starcoder2"),
}
"""The model types of which llama.cpp takes LoRA on every linear map that a layer has here."""


@dataclass(frozen=True, kw_only=True)
class PlacedAdapter:
    """An adapter on a backbone, whose weights are kept in few bits if `quantize` says so."""

    geometry: Geometry
    adapter: AdapterConfig
    quantize: Quantize | None = None

    @property
    def method(self) -> Method:
        return method_named(self.adapter.method)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return sites(self.geometry, self.adapter)

    @property
    def part_of_map(self) -> Site | None:
        """Returns the first site that is a part of a fused map; None if all are whole maps."""
        return next((site for site in self.sites if site.rows), None)

    @property
    def transposed(self) -> bool:
        """Returns whether its maps keep their weights as (d_in, d_out); in a model all do, or none."""
        return any(site.transposed for site in self.sites)

    @cached_property
    def shapes(self) -> dict[str, FactorShape]:
        """Returns the factor shapes of a Kronecker adapter by the names of its maps."""
        return {site.name: shape_at(site, self.adapter) for site in self.sites}

    @property
    def rank(self) -> int | None:
        """Returns the highest rank that its change of a whole map's weight reaches; None if that is not known."""
        reached, ranks = self.method.rank, dict[str, int]()
        if reached is None:
            return None
        for site in self.sites:
            most = min(site.rows.total if site.rows else site.d_out, site.d_in)
            ranks[site.name] = min(most, ranks.get(site.name, 0) + reached(site, self.adapter))
        return max(ranks.values(), default=0)


_one_factor = lru_cache(maxsize=1024)(lokr_factor)


def as_lokr(shapes: dict[str, FactorShape], *, transposed: bool) -> int | None:
    """Returns the decompose factor with which peft's LoKr holds these shapes; None if none does."""
    alone = not transposed and all(shape.terms == 1 for shape in shapes.values())
    return _one_factor(frozenset(shapes.values())) if alone else None


Rule = Callable[[PlacedAdapter, int | None], Refusal | None]
"""Returns why a form, of a rank if it has one, does not hold an adapter exactly; None if it does."""


def held_as_itself(it: PlacedAdapter, rank: int | None) -> Refusal | None:
    return None


def held_as_merged(it: PlacedAdapter, rank: int | None) -> Refusal | None:
    of_peft = _plain(it) if is_peft(it.method.name) else ""
    into_biases = it.method.merges_into == "bias" or of_peft in MERGED_INTO_BIASES or it.adapter.peft.get("lora_bias")
    unbiased = next((site.name for site in it.sites if into_biases and not site.biased), "")
    reasons = {
        f"{it.method.name} can't be added to the weights of the model": it.method.merges_into is None,
        f"peft can't merge {it.method.name}": of_peft in MERGED_BY_NOBODY,
        f"its backbone is quantised ({it.quantize}), and what is merged would be rounded to that": it.quantize,
        f"{unbiased} has no bias to merge it into": unbiased,
    }
    return next((unmergeable(reason) for reason, applies in reasons.items() if applies), None)


def held_as_onnx(it: PlacedAdapter, rank: int | None) -> Refusal | None:
    if it.geometry.text_to_text:
        return unfit(f"onnx: it holds a task's head, and this {it.geometry.model_type} answers with text")
    return held_as_merged(it, rank)


def unmergeable(problem: str) -> Refusal:
    return Refusal("--format", f"merged: {problem}", "use --format adapter")


def _plain(it: PlacedAdapter) -> str:
    from krona_tune.adapters.peft_class import plain_name

    return f"peft:{plain_name(it.method.name)}"


def unfit(problem: str) -> Refusal:
    """Returns the refusal of what no adapter of peft holds, but a whole model does."""
    return Refusal("--format", problem, "use --format merged")


def held_as_peft(it: PlacedAdapter, rank: int | None) -> Refusal | None:
    if is_peft(it.method.name):
        odd = it.part_of_map or it.transposed
        return unfit("peft adapts whole linear maps, and this model has fused or transposed ones") if odd else None
    if refused := _none_of(it, "peft", bool(it.method.peft_form)):
        return refused
    if it.transposed and not it.method.peft_transposes:
        return unfit(f"peft's {it.method.name} adapts no transposed maps, which this model has")
    if "a_out" not in it.method.reads or as_lokr(it.shapes, transposed=it.transposed) is not None:
        return None
    return next((refused for name, shape in it.shapes.items() if (refused := _wide(name, shape))), None)


def _none_of(it: PlacedAdapter, library: str, has_form: bool) -> Refusal | None:
    """Returns the refusal of a method that a library does not have, or of a part of a map, which it can't adapt."""
    if it.method.trains_head_alone:
        return unfit(f"the adapter is the head alone, which changes no map, and {library} has no such method")
    if not has_form:
        return Refusal("--format", f"{library} has no {it.method.name}", _elsewhere(it))
    if part := it.part_of_map:
        return unfit(f"peft adapts whole maps, and {part.key} is a part of one")
    return None


def _elsewhere(it: PlacedAdapter) -> str:
    """Names a form that holds an adapter which peft does not have."""
    return f"use --format {Form.ADAPTER if held_as_merged(it, None) else Form.MERGED}"


def _wide(name: str, shape: FactorShape) -> Refusal | None:
    """Refuses two thin matrices that hold as many numbers as the weight or more, which are no adapter."""
    if shape.max_rank * (shape.d_out + shape.d_in) < shape.d_out * shape.d_in:
        return None
    return unfit(
        f"peft's LoKr, of one term and with one decompose factor for both sides and all maps, has no {shape}, "
        f"and LoRA of its rank {shape.max_rank} is no smaller than {name} itself"
    )


def held_as_krona(it: PlacedAdapter, rank: int | None) -> Refusal | None:
    of_maps = it.method.attach_point is AttachPoint.BESIDE_MAPS and "a_out" in it.method.reads
    if refused := _none_of(it, "krona_tune.peft_method", of_maps):
        return refused
    return unfit("KronA as a method of peft adapts no transposed maps, which this model has") if it.transposed else None


def changes_weights(it: PlacedAdapter) -> Refusal | None:
    """Returns why no LoRA, of whatever rank, is near an adapter: it adds to no weight of a linear map, or to biases
    too."""
    scales = is_peft(it.method.name) and _plain(it) in SCALE_BIASES and any(site.biased for site in it.sites)
    problem = f"{it.method.name} changes no weight of a linear map, as LoRA does"
    if it.method.merges_into == "weight" and it.sites:
        if not (scales or it.adapter.peft.get("lora_bias")):
            return None
        problem = f"{it.method.name} changes biases too, which LoRA leaves as they are"
    return Refusal("--format", problem, _elsewhere(it))


def held_as_lora(it: PlacedAdapter, rank: int | None) -> Refusal | None:
    if refused := changes_weights(it):
        return refused
    if it.rank is None:
        return Refusal("--format", f"lora: the rank of {it.method.name} is not known", "use --format merged")
    if rank is not None and it.rank > rank:
        return Refusal("--rank", f"the adapter reaches rank {it.rank}, more than {rank}", f"write {it.rank} or more")
    return None


def taken_by_llama_cpp(it: PlacedAdapter) -> Refusal | None:
    model = it.geometry.model_type
    if not it.geometry.text_to_text:
        return unfit(f"gguf: llama.cpp's LoRA has no head of a task, and this {model} answers with one")
    if it.geometry.is_encoder_decoder or model not in OF_LLAMA_CPP:
        known = ", ".join(sorted(OF_LLAMA_CPP))
        return Refusal("--format", f"gguf: llama.cpp is not known to take LoRA on a {model}", f"known: {known}")
    if it.adapter.layer_norms:
        return unfit("gguf: llama.cpp's LoRA has no trained layer norms")
    return changes_weights(it)


def held_as_gguf(it: PlacedAdapter, rank: int | None) -> Refusal | None:
    if refused := taken_by_llama_cpp(it) or held_as_lora(it, rank):
        return refused
    reached = it.rank or 0
    wide = next((site for site in it.sites if reached * (site.d_out + site.d_in) >= site.d_out * site.d_in), None)
    if rank is not None or wide is None:
        return None
    problem = f"gguf: LoRA of the adapter's rank {reached} is no smaller than {wide.name} itself"
    return Refusal("--format", problem, "name a lower one with --rank, or use --format merged")


def inexact(form: Form, it: PlacedAdapter, rank: int | None = None) -> Refusal | None:
    """Returns why a form, of a rank if it has one, does not hold an adapter exactly; None if it does."""
    refused: Refusal | None = resolve_name(form.facts.exact)(it, rank)
    return refused


def never_near(form: Form, it: PlacedAdapter) -> Refusal | None:
    """Returns why a form that has a rank holds no LoRA near an adapter, of whatever rank; None if it holds one."""
    refused: Refusal | None = resolve_name(form.facts.near)(it)
    return refused


def refuse_unheld(form: Form, it: PlacedAdapter, rank: int | None = None, forms: Iterable[Form] = Form) -> None:
    """Raises a Refusal if a form does not hold an adapter exactly or, with a rank, no LoRA near it. In place of an
    adapter of peft it names all those `forms` that hold this one, and the nearest LoRA if there is one: those that
    whoever asks can have."""
    refused = inexact(form, it) if rank is None else never_near(form, it)
    if refused and rank is None and form.facts.library == "peft":
        *others, itself = (  # the last form holds every adapter
            each.facts.instead for each in forms if each.facts.instead and _is_way(each, it)
        )
        refused = refused.at(refused.place, fix=f"use {' or '.join(filter(None, (', '.join(others), itself)))}")
    if refused:
        raise refused


def _is_way(form: Form, it: PlacedAdapter) -> bool:
    return (never_near if form.facts.near else inexact)(form, it) is None


def _everywhere(it: PlacedAdapter) -> Refusal | None:
    return None


def _served_by_vllm(it: PlacedAdapter) -> Refusal | None:
    if not it.geometry.writes_alone:
        kind = "an encoder-decoder" if it.geometry.is_encoder_decoder else "a model with a task's head"
        return Refusal("", f"vLLM serves LoRA on decoders that write, not on {kind}", "take merged or peft")
    if it.geometry.model_type not in SERVED_BY_VLLM:
        known = ", ".join(sorted(SERVED_BY_VLLM))
        return Refusal("", f"vLLM is not known to serve LoRA on a {it.geometry.model_type}", f"known: {known}")
    if it.adapter.layer_norms:
        return Refusal("", "vLLM's LoRA has no trained layer norms", "write adapter.layer_norms: false")
    return None


class DeployedForm(NamedTuple):
    """The form that a target's export has, and why an adapter can't be used there even so."""

    form: Form
    unserved: Callable[[PlacedAdapter], Refusal | None] = _everywhere


DEPLOYED_AS: dict[TargetName, DeployedForm] = {
    name: DeployedForm(Form[name.name]) for name in TargetName if name.name in Form.__members__
} | {TargetName.VLLM: DeployedForm(Form.LORA, _served_by_vllm)}
"""A target with the name of a form is that form; each other one has its own row."""


def misfit(target: DeployTarget, it: PlacedAdapter) -> Refusal | None:
    """Returns why a target does not hold an adapter exactly; None if it does.

    Raises:
        ValueError: the adapter's sizes do not divide those of a site.
    """
    form, unserved = DEPLOYED_AS[target.name]
    return unserved(it) or inexact(form, it, target.rank)
