"""Limits a space to what the targets of a deployment hold exactly, and says what that leaves out. No torch."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

from krona_tune.adapters.exact_forms import PlacedAdapter, misfit
from krona_tune.refusal import Refusal
from krona_tune.search.planning.space import Space, adapter_of
from krona_tune.study.request.deploy_target import DeployTarget
from krona_tune.study.request.domain import Choice, Domain, Fixed, Range, Value, one_of
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import PEFT_FIELD, PLACES, AdapterConfig

DECIDING_KNOBS = ("a_out", "a_in", "terms", "rank", "decompose_factor", "layer_norms", f"{PEFT_FIELD}lora_bias")
"""The knobs beside the places that decide what holds an adapter."""
MOST_COMBINATIONS = 20_000
"""The most combinations of those knobs that are all tried; of more, none is left out before it is drawn."""
MOST_VALUES = 512
"""The longest range whose whole numbers are tried one by one."""
SHOWN_VALUES = 6
Alike = frozenset[tuple[object, ...]]
"""What targets tell a placement by: the sizes and kinds of its maps, without how many of each there are."""


@dataclass(frozen=True, kw_only=True)
class Deployable:
    """A space that holds only what the targets hold, and what was left out of it, in words."""

    space: Space
    left_out: tuple[str, ...] = ()


def deployable(space: Space, spec: StudySpec, place: str) -> Deployable:
    """Returns the part of a space that every target of the request holds exactly.

    Methods and listed values that no held adapter has are left out; what else is not held is never feasible.

    Raises:
        Refusal: the targets hold no adapter of the space, or none within its limit of parameters.
    """
    if not spec.deploy:
        return Deployable(space=space)
    whole = replace(space, targets=spec.deploy, quantize=spec.backbone.quantize)
    knobs: dict[str, dict[str, Domain]] = {}
    refusals: dict[str, Refusal] = {}
    for method in space.methods:
        held = _held(whole.of(method))
        if isinstance(held, Refusal):
            refusals[method] = held
        else:
            knobs[method] = space.knobs[method] | held
    if not knobs:
        first = next(iter(refusals.values()))
        fix = first.fix if not first.place else "choose another target, or other methods, sizes and places"
        raise Refusal(f"{place}: deploy", first.problem, fix)
    limited = replace(whole, method=one_of(tuple(knobs)), knobs=knobs)
    for method in knobs:
        if limited.of(method).draw_where(limited.feasible, random.Random(0)) is None:
            problem = f"no adapter of {method} that {_named(spec)} holds was drawn within the other limits"
            raise Refusal(f"{place}: deploy", problem, "raise --max-params, or offer other sizes or fewer sites")
    return Deployable(space=limited, left_out=(*_methods_of(refusals), *_values_of(space, limited)))


def _methods_of(refusals: Mapping[str, Refusal]) -> Iterator[str]:
    """Yields the methods that are left out, those with the same reason together."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for method, refused in refusals.items():
        alike[refused.problem.replace(method, "")].append(method)
    for methods in alike.values():
        yield f"{', '.join(methods)} ({refusals[methods[0]].problem})"


def _values_of(before: Space, after: Space) -> Iterator[str]:
    """Yields the values that the domains of the methods that are left have lost."""
    for method, knobs in after.knobs.items():
        for name, domain in knobs.items():
            earlier = before.knobs[method][name]
            kept = set(_values(domain))
            if earlier != domain:
                yield f"{name} {_listed([value for value in _values(earlier) if value not in kept])} of {method}"


def _named(spec: StudySpec) -> str:
    return " and ".join(map(str, spec.deploy))


def _held(space: Space) -> dict[str, Domain] | Refusal:
    """Returns the narrowed domains of a space's only method, or why the targets hold none of its adapters."""
    [method] = space.methods
    knobs = space.knobs[method]
    sizes = {name: values for name in DECIDING_KNOBS if name in knobs and (values := _values(knobs[name]))}
    places = {name: knobs[name].ends() for name in PLACES if name in knobs}
    others = {name: domain.ends()[0] for name, domain in knobs.items()}
    kept: defaultdict[str, set[Value]] = defaultdict(set)
    first, able, is_held = dict[DeployTarget, Refusal](), set[DeployTarget](), False
    groups = _alike(space, {"method": method, **others}, places)
    if prod(map(len, sizes.values())) * len(groups) > MOST_COMBINATIONS:
        return {}
    for placed in groups:
        for combination in product(*sizes.values()):
            chosen = dict(zip(sizes, combination, strict=True))
            refused = _refused(space, adapter_of({"method": method, **others, **placed[0], **chosen}))
            first = refused | first
            able |= set(space.targets) - refused.keys()
            if refused:
                continue
            is_held = True
            for each in (chosen, *placed):
                for name, value in each.items():
                    kept[name].add(value)
    if is_held or not first:
        return {name: _narrowed(knobs[name], kept[name]) for name in kept}
    return next((first[target] for target in space.targets if target not in able), next(iter(first.values())))


def _alike(
    space: Space, params: Mapping[str, Any], places: Mapping[str, Sequence[Value]]
) -> list[list[dict[str, Value]]]:
    """Returns the placements by groups that the targets can't tell apart."""
    groups: defaultdict[Alike, list[dict[str, Value]]] = defaultdict(list)
    for values in product(*places.values()):
        placed = dict(zip(places, values, strict=True))
        adapter = adapter_of({**params, **placed})
        sites = PlacedAdapter(geometry=space.geometry, adapter=adapter).sites
        maps: defaultdict[str, list[object]] = defaultdict(list)
        for site in sites:
            maps[site.name].append((site.d_out, site.d_in, site.transposed, site.biased, site.rows is None))
        key: Alike = frozenset(map(tuple, maps.values()))
        groups[key].append(placed)
    return list(groups.values())


def _refused(space: Space, adapter: AdapterConfig) -> dict[DeployTarget, Refusal]:
    """Returns which targets do not hold an adapter, and why; a combination of sizes that fits nowhere is not held."""
    it = PlacedAdapter(geometry=space.geometry, adapter=adapter, quantize=space.quantize)
    found: dict[DeployTarget, Refusal] = {}
    for target in space.targets:
        try:
            refused = misfit(target, it)
        except ValueError as error:
            refused = error if isinstance(error, Refusal) else Refusal("adapter", str(error))
        if refused:
            found[target] = refused
    return found


def _values(domain: Domain) -> tuple[Value, ...]:
    """Returns the values of a domain that are tried one by one; none if they are too many."""
    match domain:
        case Fixed() | Choice():
            return domain.ends()
        case Range(low, step=None) if domain.whole and domain.last - low < MOST_VALUES:
            return tuple(range(int(low), int(domain.last) + 1))
    return ()


def _narrowed(domain: Domain, kept: set[Value]) -> Domain:
    """Returns a domain without the values that are not kept; of a range only the ends move."""
    match domain:
        case Choice(values):
            return one_of(tuple(value for value in values if value in kept))
        case Range():
            low, high = min(map(int, kept)), max(map(int, kept))
            return replace(domain, low=low, high=high) if low < high else Fixed(low)
    return domain


def _listed(values: Sequence[Value]) -> str:
    more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
    return ", ".join(map(str, values[:SHOWN_VALUES])) + more
