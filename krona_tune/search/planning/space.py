"""Holds the space that a study searches on one backbone: each method's domains, and which points are feasible.

`resolve` makes it from a request, fields of peft's configurations too, and refuses what does not fit.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, product
from math import ceil
from typing import Any

from krona_tune.adapters.exact_forms import PlacedAdapter, misfit
from krona_tune.adapters.method_table import METHODS, is_peft, method_named
from krona_tune.adapters.placement import MAPS, common_dimensions, count, sites
from krona_tune.backbones.geometry import Geometry, Site
from krona_tune.kron.factors import factor_shape
from krona_tune.refusal import Refusal, shown
from krona_tune.study.request.deploy_target import DeployTarget
from krona_tune.study.request.domain import Choice, Divisors, Domain, Fixed, Range, Value, as_real
from krona_tune.study.request.study_spec import Quantize, StudySpec
from krona_tune.study.request.trial import (
    PEFT_FIELD,
    PLACES,
    SECTION_OF,
    SIZES,
    AdapterConfig,
    adapter_values,
    section_of,
)

EVEN_DRAWS = 5_000
DRAWS = 500
"""Even draws among which a point is sought that is near another one."""
SAMPLED, MOST_DRAWS = 200, 1_000
"""The points of a sample of all methods, and the most draws for those of one."""
SIZE_DRAWS, SHARE_DRAWS = 200, 1_000
"""Draws that estimate the sizes of feasible points, and the share of them."""

Params = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Domains resolved on a backbone: that of `method`, and those of each method's knobs by name.

    `limit` is the most adapter and norm parameters, or None. Every target must hold a feasible adapter exactly, on a
    backbone that is quantised as `quantize` says.
    """

    method: Fixed | Choice
    knobs: dict[str, dict[str, Domain]]
    geometry: Geometry
    limit: int | None
    targets: tuple[DeployTarget, ...] = ()
    quantize: Quantize | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(map(str, self.method.ends()))

    def of(self, method: str) -> "Space":
        """Returns the part of the space that searches one method."""
        return replace(self, method=Fixed(method), knobs={method: self.knobs[method]})

    def label(self, method: str, name: str) -> str:
        """Returns a knob's label: its name, with the method's if the method's domain is not the most common one."""
        return self._labels[method][name]

    @cached_property
    def _labels(self) -> dict[str, dict[str, str]]:
        domains: dict[str, Counter[Domain]] = defaultdict(Counter)
        for knobs in self.knobs.values():
            for name, domain in knobs.items():
                domains[name][domain] += 1
        usual = {name: counted.most_common(1)[0][0] for name, counted in domains.items()}
        return {
            method: {name: name if domain == usual[name] else f"{name} of {method}" for name, domain in knobs.items()}
            for method, knobs in self.knobs.items()
        }

    def searched(self) -> dict[str, Domain]:
        """Returns the domains that are not fixed, by label."""
        found: dict[str, Domain] = {"method": self.method}
        for method, knobs in self.knobs.items():
            found |= {self.label(method, name): domain for name, domain in knobs.items()}
        return {label: domain for label, domain in found.items() if not isinstance(domain, Fixed)}

    def point(self, draw: Callable[[str, Domain], Value]) -> dict[str, Any]:
        """Returns the drawn method and its knobs: fixed values, or what `draw` returns for a label and a domain, as the
        domain writes it."""

        def value(label: str, domain: Domain) -> Value:
            return domain.value if isinstance(domain, Fixed) else _nearest(domain, draw(label, domain))

        method = str(value("method", self.method))
        knobs = self.knobs[method].items()
        return {"method": method, **{name: value(self.label(method, name), domain) for name, domain in knobs}}

    def drawn(self, params: Params) -> dict[str, Value]:
        """Returns what must be drawn to get a point, by label: the inverse of `point`."""
        method = params["method"]
        values: dict[str, Value] = {} if isinstance(self.method, Fixed) else {"method": method}
        for name, domain in self.knobs[method].items():
            if not isinstance(domain, Fixed):
                values[self.label(method, name)] = _nearest(domain, params[name])
        return values

    def adopted(self, params: Params) -> dict[str, Any] | None:
        """Returns another study's point adopted by this space: its values of what is searched here, and this space's
        fixed values. Returns None if a value can't be drawn here, or if the point is not feasible."""
        method = params["method"]
        if method not in self.knobs:
            return None
        point: dict[str, Any] = {"method": method}
        for name, domain in self.knobs[method].items():
            point[name] = domain.value if isinstance(domain, Fixed) else _equal_value(domain, params.get(name))
            if point[name] is None and not isinstance(domain, Fixed):
                return None
        return point if self.feasible(point) else None

    def holds(self, params: Params) -> bool:
        """Returns whether the point can be drawn here."""
        knobs = self.knobs.get(params.get("method", ""), {})
        own = {name: _nearest(domain, params[name]) for name, domain in knobs.items() if name in params}
        return bool(knobs) and self.adopted(params) == {**params, **own}

    def meaning(self, params: Params) -> str:
        """Returns a text that is equal for points with the same sites and the same other values."""
        adapter = adapter_of(params)
        places = ",".join(site.key for site in sites(self.geometry, adapter))
        others = {**params, **adapter.model_dump()}
        return f"{places} {sorted((name, value) for name, value in others.items() if name not in PLACES)}"

    def feasible(self, params: Params, limit: int | None = None) -> bool:
        """Returns whether a point's sizes fit, its parameters are within the space's limit and `limit`, and the targets
        hold it."""
        try:
            parameters = self.parameters(params)
        except Refusal:
            return False
        return all(most is None or parameters <= most for most in (self.limit, limit)) and self._deployable(params)

    def _deployable(self, params: Params) -> bool:
        if not self.targets:
            return True
        it = PlacedAdapter(geometry=self.geometry, adapter=adapter_of(params), quantize=self.quantize)
        return all(misfit(target, it) is None for target in self.targets)

    def parameters(self, params: Params) -> int:
        """Returns a point's adapter and norm parameters, without the head. Raises a Refusal if its sizes don't fit."""
        counted = count(self.geometry, adapter_of(params), outputs=0)
        return counted.adapter + counted.norms

    def draw(self, rng: random.Random) -> dict[str, Any]:
        """Returns a point drawn uniformly (log-uniformly from log domains), feasible or not."""
        return self.point(lambda _, domain: _at(domain, rng.random()))

    def changed(self, params: Params, labels: Collection[str], rng: random.Random) -> dict[str, Any]:
        """Returns a point whose values of these labels, and of what only it reads, are drawn anew."""
        kept = {label: value for label, value in self.drawn(params).items() if label not in labels}
        return self.point(lambda label, domain: kept[label] if label in kept else _at(domain, rng.random()))

    def at(self, shares: Mapping[str, float]) -> dict[str, Any]:
        """Returns the point whose searched domains are at these shares, by label; it may not be feasible."""
        return self.point(lambda label, domain: _at(domain, shares[label]))

    def draw_where(self, accepted: Callable[[Params], bool], rng: random.Random) -> dict[str, Any] | None:
        """Returns the first accepted point of EVEN_DRAWS draws; None if none is accepted."""
        draws = (self.draw(rng) for _ in range(EVEN_DRAWS))
        return next((point for point in draws if accepted(point)), None)

    def feasible_points(self, draws: int) -> Iterator[dict[str, Any]]:
        """Yields the feasible points of some draws; if none is, the first one of EVEN_DRAWS."""
        rng, found = random.Random(0), False
        for number in range(EVEN_DRAWS):
            if number >= draws and found:
                return
            if self.feasible(point := self.draw(rng)):
                found = True
                yield point

    def points_of(self, method: str) -> list[dict[str, Any]]:
        """Returns feasible points of one method, of DRAWS draws that are made once; none is to be changed."""
        if method not in self._drawn:
            self._drawn[method] = list(self.of(method).feasible_points(DRAWS))
        return self._drawn[method]

    @cached_property
    def sample(self) -> tuple[dict[str, Any], ...]:
        """Returns feasible points, equally many per method if found, at least one of each; none is to be changed."""
        few = ceil(SAMPLED / len(self.methods))
        return tuple(
            point for each in map(self.of, self.methods) for point in islice(each.feasible_points(MOST_DRAWS), few)
        )

    @cached_property
    def _drawn(self) -> dict[str, list[dict[str, Any]]]:
        return {}

    def sizes(self, draws: int = SIZE_DRAWS) -> tuple[int, int]:
        """Returns the least and the most parameters of feasible points, estimated by drawing; 0 and 0 if none is."""
        found = [self.parameters(point) for point in self.feasible_points(draws)]
        return (min(found), max(found)) if found else (0, 0)

    def feasible_share(self) -> float:
        """Returns the share of points that are feasible, estimated by drawing."""
        rng = random.Random(0)
        return sum(self.feasible(self.draw(rng)) for _ in range(SHARE_DRAWS)) / SHARE_DRAWS


def adapter_of(params: Params) -> AdapterConfig:
    """Makes the configuration of an adapter from a point, without the knobs of the training."""
    return AdapterConfig(**adapter_values(params))


def _at(domain: Domain, share: float) -> Value:
    assert not isinstance(domain, Divisors), "divisors are resolved before anything is drawn"
    return domain.at(share)


def _equal_value(domain: Domain, value: Any) -> Any:
    """Returns the domain's own value that equals another, which records may write in another way; None if none does."""
    assert not isinstance(domain, Divisors), "divisors are resolved before anything is held"
    return domain.equal_value(value)


def _nearest(domain: Domain, value: Any) -> Any:
    """Returns the domain's own value that equals another, or else the other: a person's clone may lie outside."""
    own = _equal_value(domain, value)
    return value if own is None else own


TRIES = 50
"""Draws of the other knobs before a field's value is believed to fit nowhere."""


def fields_of_peft(spec: StudySpec, method: str, place: str) -> dict[str, Domain]:
    """Returns the domains of a method's fields: those of its own section, and those of `adapter` that it has.

    Raises:
        Refusal: there is no such method, field or type of value; or the method needs data to start.
    """
    from krona_tune.adapters.peft_class import check_field, field_types

    try:
        types = field_types(method)
    except Refusal as refusal:
        raise refusal.at(f"{place}: {refusal.place}") from None
    own = spec.methods.get(method, {})
    found = {}
    for name, domain in spec.domains(method).items():
        field = name.removeprefix(PEFT_FIELD)
        if not name.startswith(PEFT_FIELD) or (name not in own and field not in types):
            continue
        section = f"{place}: " + (f"methods.{method}" if name in own else "adapter")
        found[name] = as_real(domain) if types.get(field) is float else domain
        for value in found[name].ends():
            check_field(method, field, value, section)
    return found


def refuse_odd_methods(spec: StudySpec, place: str) -> None:
    """Refuses two spellings of one method of peft, and unknown methods or fields in the section `methods`, searched or
    not."""
    from krona_tune.adapters.peft_class import plain_name

    spelt: dict[str, str] = {}
    for method in filter(is_peft, [*map(str, spec.domains()["method"].ends()), *spec.methods]):
        if spelt.setdefault(plain_name(method), method) != method:
            both = f"{spelt[plain_name(method)]} and {method} are one method"
            raise Refusal(f"{place}: methods.{method}", both, "write it the same way everywhere")
        fields_of_peft(spec, method, place)


def refuse_unused_fields(spec: StudySpec, knobs: Mapping[str, Collection[str]], place: str) -> None:
    """Refuses, in the section `adapter`, a field that no searched method has, and a knob of ours that none reads and
    that a searched method of peft has as a field."""
    searched = list(filter(is_peft, knobs))
    for name, domain in spec.adapter.items():
        if any(name in domains for domains in knobs.values()):
            continue
        field, where = name.removeprefix(PEFT_FIELD), f"{place}: adapter"
        if name.startswith(PEFT_FIELD):
            _refuse_unknown(searched, field, domain, where)
        elif owner := next((method for method in searched if _has(method, field)), None):
            problem = f"no searched method reads this knob of ours, and {owner} has a field of that name"
            raise Refusal(f"{where}.{name}", problem, f"write it under methods: {{'{owner}': …}}")


def _refuse_unknown(searched: list[str], field: str, domain: Domain, place: str) -> None:
    if not searched:
        raise Refusal(f"{place}.{PEFT_FIELD}{field}", "no searched method is one of peft's", "leave it out")
    from krona_tune.adapters.peft_class import check_field

    check_field(searched[0], field, domain.ends()[0], place)
    raise AssertionError(f"{searched[0]} has the field {field}")


def _has(method: str, field: str) -> bool:
    from krona_tune.adapters.peft_class import field_types

    return field in field_types(method)


def refuse_unusable_values(space: Space, place: str) -> None:
    """Refuses a listed value of a field with which no point fits the backbone, with what peft says of it."""
    [method] = space.methods
    if not is_peft(method):
        return
    for name, domain in space.knobs[method].items():
        if name.startswith(PEFT_FIELD) and isinstance(domain, Fixed | Choice):
            for value in domain.ends():
                if misfit := _misfit(space, method, name, value):
                    where = f"{place}: {method}: {name.removeprefix(PEFT_FIELD)}"
                    raise Refusal(where, f"{shown(value)} fits no adapted map: {misfit.problem}", misfit.fix)


def _misfit(space: Space, method: str, name: str, value: Any) -> Refusal | None:
    """Returns why no draw with this value fits; None if one does."""
    narrowed = replace(space, knobs={method: {**space.knobs[method], name: Fixed(value)}})
    rng, misfit = random.Random(0), None
    for _ in range(TRIES):
        try:
            narrowed.parameters(narrowed.draw(rng))
        except Refusal as refusal:
            misfit = refusal
        else:
            return None
    return misfit


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
    _refuse_overridden(spec, knobs, place)
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
            found[name] = Choice(offered) if len(offered) > 1 else Fixed(*offered)
    return spec.model_copy(update={"adapter": found})


def _is_there(geometry: Geometry, placed: Mapping[str, str]) -> bool:
    with suppress(Refusal):
        return bool(sites(geometry, AdapterConfig.model_validate(placed)))
    return False


def _refuse_overridden(spec: StudySpec, knobs: Mapping[str, Mapping[str, Domain]], place: str) -> None:
    """Raises a Refusal if every method that reads a knob of `adapter` or `training` has a value of its own for it."""
    for name in (*spec.adapter, *spec.training):
        readers = [method for method, domains in knobs.items() if name in domains]
        if readers and all(name in spec.methods.get(method, {}) for method in readers):
            key = name.removeprefix(PEFT_FIELD)
            problem = f"it is never used: every method that reads it has its own ({', '.join(readers)})"
            fix = f"leave it out, or write methods.{readers[0]}.{key}"
            raise Refusal(f"{place}: {section_of(name)}.{key}", problem, fix)


def _knobs(spec: StudySpec, method: str, geometry: Geometry, place: str) -> dict[str, Domain]:
    """Returns the domains that a method reads, with factor sizes that divide every weight it may adapt."""
    row = method_named(method, f"{place}: adapter.method")
    if row.trains_head_alone:
        raise Refusal(f"{place}: adapter.method", f"{method} has nothing to search", "it is run as the baseline")
    for name in spec.methods.get(method, {}):
        if section_of(name) == "adapter" and name not in row.reads and not is_peft(method):
            raise Refusal(f"{place}: methods.{method}.{name}", f"{method} does not read it", _reads(method))
    domains = {
        name: domain
        for name, domain in spec.domains(method).items()
        if name in row.reads or section_of(name) == "training"
    }
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


def _refuse_terms(domains: dict[str, Domain], places: Iterable[Site], place: str) -> None:
    """Raises a Refusal if some number of terms is more than every offered shape needs to reach every matrix."""
    dimensions = {(site.d_out, site.d_in) for site in places}
    sizes = list(product(map(int, domains["a_out"].ends()), map(int, domains["a_in"].ends())))
    most = max(min(factor_shape(*each, *size).max_terms for each in dimensions) for size in sizes)
    for terms in domains["terms"].ends():
        if int(terms) > most:
            problem = f"{terms} terms: {most} reach every matrix in any offered shape"
            raise Refusal(place, problem, f"write {most} or less")


def _reads(method: str) -> str:
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
            found = domain.of(dimension)
            if not found.values:
                raise Refusal(place, f"no divisor of {dimension} within the limits", f"divisors: {_listed(offered)}")
            return found if len(found.values) > 1 else Fixed(found.values[0])
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
