"""Holds the space that a study searches on one backbone: each method's domains, and which points are feasible."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from math import ceil
from typing import Any

from krona_tune.adapters.exact_forms import PlacedAdapter, misfit
from krona_tune.adapters.placement import count, sites
from krona_tune.backbones.geometry import Geometry
from krona_tune.refusal import Refusal
from krona_tune.study.request.deploy_target import DeployTarget
from krona_tune.study.request.domain import Choice, Divisors, Domain, Fixed, Value
from krona_tune.study.request.study_spec import Quantize
from krona_tune.study.request.trial import (
    PLACES,
    AdapterConfig,
    adapter_values,
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
        known = {name: value for name, value in params.items() if name in knobs or name not in PLACES}
        return bool(knobs) and self.adopted(params) == {**known, **own}

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
        """Returns the first accepted point of EVEN_DRAWS draws; None if none is accepted. Each is judged once."""
        judged = set[tuple[Any, ...]]()
        for point in (self.draw(rng) for _ in range(EVEN_DRAWS)):
            key = tuple(point.items())
            if key not in judged and accepted(point):
                return point
            judged.add(key)
        return None

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

    def sizes(self, draws: int = SIZE_DRAWS) -> list[int]:
        """Returns the numbers of parameters that feasible points have, in order, as far as draws find them."""
        return sorted({self.parameters(point) for point in self.feasible_points(draws)})

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
