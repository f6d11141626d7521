"""Resolves a request on a backbone: makes its space with sizes that divide the weights, refuses what does not fit."""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product

from krona_tune.adapters.method_table import METHODS, is_peft, method_named
from krona_tune.adapters.placement import MAPS, common_dimensions, sites
from krona_tune.backbones.geometry import Geometry, Site
from krona_tune.kron.factors import factor_shape
from krona_tune.refusal import Refusal
from krona_tune.search.planning.peft_fields import (
    fields_of_peft,
    refuse_odd_methods,
    refuse_unusable_values,
    refuse_unused_fields,
)
from krona_tune.search.planning.space import Space
from krona_tune.study.request.domain import Choice, Divisors, Domain, Fixed, Range, Value, one_of
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import (
    PLACES,
    SECTION_OF,
    SIZES,
    AdapterConfig,
    section_of,
)
from krona_tune.study.request.validation_errors import refuse_knob

NEVER_IGNORED = {"scaling", "init"}
"""Knobs that are refused if no method of the space reads them: their value would be believed to act."""


def resolve(spec: StudySpec, geometry: Geometry, place: str) -> Space:
    """Returns the spec's space on a backbone. Every value that can be drawn fits; some combinations of sizes may not.

    Raises:
        Refusal: a method, placement or size does not fit the backbone, or nothing is feasible for some method.
    """
    spec = narrowed(spec, geometry) if spec.backbone.narrow else spec
    method = spec.domains()["method"]
    if isinstance(method, Range | Divisors):
        raise Refusal(f"{place}: adapter.method", "a method is a name, not a number", f"known: {', '.join(METHODS)}")
    if any(map(is_peft, [*map(str, method.ends()), *spec.methods])):
        refuse_odd_methods(spec, place)
    knobs = {str(name): _knobs(spec, str(name), geometry, place) for name in method.ends()}
    for name in sorted(NEVER_IGNORED & spec.adapter.keys()):
        if not any(name in domains for domains in knobs.values()):
            raise Refusal(f"{place}: adapter.{name}", f"none of {', '.join(knobs)} reads it", "leave it out")
    refuse_unused_fields(spec, knobs, place)
    space = Space(method=method, knobs=knobs, geometry=geometry, limit=_limit(spec, geometry))
    for name in space.methods:
        refuse_unusable_values(space.of(name), place)
        _refuse_empty(space.of(name), name, place, spec.search.max_params)
    return space


def narrowed(spec: StudySpec, geometry: Geometry) -> StudySpec:
    """Returns the spec without the roles and layers of `adapter` that no site of the backbone has.

    Of several roles that all are lacking, every map stands in their place. A single value stays: somebody asked for it.
    """
    every = {"layers": "all", "roles": "+".join(sorted({site.role for site in geometry.sites} & MAPS))}
    found = dict(spec.adapter)
    for name in every.keys() & found.keys():
        asked = found[name].ends()
        offered = tuple(value for value in asked if _is_there(geometry, {**every, name: str(value)}))
        if name == "roles" and not offered and len(asked) > 1:
            offered = (every[name],)
        if offered and offered != asked:
            found[name] = one_of(offered)
    return spec.model_copy(update={"adapter": found})


def _is_there(geometry: Geometry, placed: Mapping[str, str]) -> bool:
    with suppress(Refusal):
        return bool(sites(geometry, AdapterConfig.model_validate(placed)))
    return False


def _knobs(spec: StudySpec, method: str, geometry: Geometry, place: str) -> dict[str, Domain]:
    """Returns the domains that a method reads, with factor sizes that divide every weight it may adapt."""
    row = method_named(method, f"{place}: adapter.method")
    if row.trains_head_alone:
        raise Refusal(f"{place}: adapter.method", f"{method} has nothing to search", "it is run as the baseline")
    for name in spec.methods.get(method, {}):
        if section_of(name) == "adapter" and name not in row.reads and not is_peft(method):
            raise Refusal(f"{place}: methods.{method}.{name}", f"{method} does not read it", what_it_reads(method))
    placed = () if spec.backbone.target_modules is None else PLACES  # named maps leave nothing to place
    domains = {
        name: domain
        for name, domain in spec.domains(method).items()
        if (name in row.reads and name not in placed) or section_of(name) == "training"
    }
    _refuse_zero_within(domains, place)
    if is_peft(method):
        domains |= fields_of_peft(spec, method, place)
    places = list(_every_placement(method, domains, geometry, place))
    for name, side in SIZES.items():
        if name in domains:
            domains[name] = _dividing(name, domains[name], common_dimensions(places)[side], f"{place}: adapter.{name}")
    if "terms" in domains:
        own = f"methods.{method}" if "terms" in spec.methods.get(method, {}) else "adapter"
        _refuse_terms(domains, places, f"{place}: {own}.terms")
    return domains


def _refuse_zero_within(domains: Mapping[str, Domain], place: str) -> None:
    """Raises a Refusal if a range from a negative to a positive number holds a 0 that its knob refuses."""
    for name, domain in domains.items():
        spans = isinstance(domain, Range) and domain.low < 0 < domain.high and domain.equal_value(0) is not None
        if spans and name in SECTION_OF:
            refuse_knob(name, 0, f"{place}: {section_of(name)}")


def _refuse_terms(domains: dict[str, Domain], places: Iterable[Site], place: str) -> None:
    """Raises a Refusal if some number of terms is more than every offered shape needs to reach every matrix."""
    dimensions = {(site.d_out, site.d_in) for site in places}
    sizes = list(product(map(int, domains["a_out"].ends()), map(int, domains["a_in"].ends())))
    most = max(min(factor_shape(*each, *size).max_terms for each in dimensions) for size in sizes)
    for terms in domains["terms"].ends():
        if int(terms) > most:
            problem = f"{terms} terms: {most} reach every matrix in any offered shape"
            raise Refusal(place, problem, f"write {most} or less")


def what_it_reads(method: str) -> str:
    """Says which knobs a method reads."""
    return f"it reads {', '.join(sorted(method_named(method).reads)) or 'nothing'}, and the keys under training"


def _refuse_empty(space: Space, method: str, place: str, max_params: str | None) -> None:
    """Raises a Refusal that says why no point of a method is feasible, if none is."""
    rng = random.Random(0)
    least: int | None = None
    for _ in range(1000):
        try:
            parameters = space.parameters(space.draw(rng))
        except Refusal as misfit:
            reason = misfit
            continue
        if space.limit is None or parameters <= space.limit:
            return
        least = min(parameters, least or space.geometry.parameters)
    if least is None:
        raise Refusal(f"{place}: {method}: adapter", reason.problem, reason.fix)
    raise Refusal(
        f"{place}: search.max_params",
        f"{max_params} allows {space.limit:,} parameters, {method}'s smallest adapter drawn has {least:,}",
        "raise --max-params, or offer cheaper sizes or fewer sites",
    )


def _every_placement(method: str, domains: dict[str, Domain], geometry: Geometry, place: str) -> Iterator[Site]:
    """Yields every site that some point of the space adapts; raises a Refusal if some placement has no site."""
    read = {name: domains[name].ends() for name in PLACES if name in domains}
    for values in product(*read.values()):
        chosen = dict(zip(read, map(str, values), strict=True))
        try:
            yield from sites(geometry, AdapterConfig.model_validate({"method": method, **chosen}))
        except Refusal as refusal:
            where = f"{place}: adapter" + (f".{refusal.place}" if refusal.place in SECTION_OF else "")
            raise refusal.at(where) from None


def _dividing(name: str, domain: Domain, dimension: int, place: str) -> Domain:
    """Returns the domain of a factor's sizes that divide `dimension`, common to all adapted weights."""
    offered = Divisors().of(dimension).values
    match domain:
        case Divisors():
            found = domain.of(dimension).values
            if not found:
                raise Refusal(place, f"no divisor of {dimension} within the limits", f"divisors: {_listed(offered)}")
            return one_of(found)
        case Range():
            raise Refusal(place, "a range of sizes holds some that do not divide", "write divisors, or a list")
        case Fixed() | Choice():
            for size in domain.ends():
                if size not in offered:
                    problem = f"{name} {size} does not divide {dimension}, common to all adapted weights"
                    raise Refusal(place, problem, f"divisors: {_listed(offered)}")
            return domain


def _listed(values: tuple[Value, ...]) -> str:
    return ", ".join(map(str, values))


def _limit(spec: StudySpec, geometry: Geometry) -> int | None:
    text = spec.search.max_params
    if text is None:
        return None
    return int(float(text[:-1]) / 100 * geometry.parameters) if text.endswith("%") else int(text)
