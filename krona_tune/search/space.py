"""The space that a study searches on one backbone: every knob's domain, and which points are feasible."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import exp, log
from typing import Any

from krona_tune.adapters.methods import METHODS, Beside, method_named
from krona_tune.adapters.placement import common_dimensions, count, sites
from krona_tune.refusal import Refusal
from krona_tune.study.domain import Choice, Divisors, Domain, Fixed, Range, Value
from krona_tune.study.geometry import Geometry, Site
from krona_tune.study.spec import StudySpec
from krona_tune.study.trial import SECTION_OF, SIZES, AdapterConfig

EVEN_DRAWS = 20_000
PLACES = ("method", "roles", "stacks", "layers")


@dataclass(frozen=True, kw_only=True)
class Space:
    """Domains resolved against a backbone. `limit`: at most so many adapter and norm parameters, or None."""

    domains: dict[str, Domain]
    geometry: Geometry
    limit: int | None

    def reads(self, method: str) -> tuple[str, ...]:
        """The knobs that matter to a method, in a stable order, `method` first."""
        row = method_named(method)
        relevant = (name for name in self.domains if SECTION_OF[name] == "training" or name in row.reads)
        return ("method", *(name for name in relevant if name != "method"))

    def searched(self) -> dict[str, Domain]:
        """The knobs that are not fixed and that some method reads."""
        read = {name for method in self.domains["method"].ends() for name in self.reads(str(method))}
        return {n: d for n, d in self.domains.items() if n in read and not isinstance(d, Fixed)}

    def feasible(self, params: dict[str, Any]) -> bool:
        """Whether a point stays within the limit; it fits the backbone in any case."""
        return self.limit is None or self.parameters(params) <= self.limit

    def parameters(self, params: dict[str, Any]) -> int:
        """Adapter and norm parameters of a point, the head not counted."""
        counted = count(self.geometry, _adapter(params), outputs=0)
        return counted.adapter + counted.norms

    def draw(self, rng: random.Random) -> dict[str, Any]:
        """A point drawn uniformly (log-uniformly where the domain is), feasible or not."""
        method = str(_draw(self.domains["method"], rng))
        return {n: method if n == "method" else _draw(self.domains[n], rng) for n in self.reads(method)}

    def draw_feasible(self, rng: random.Random) -> dict[str, Any]:
        """A feasible point. Raises a Refusal where none comes up in many draws."""
        for _ in range(EVEN_DRAWS):
            point = self.draw(rng)
            if self.feasible(point):
                return point
        raise Refusal("--max-params", f"no feasible point in {EVEN_DRAWS:,} draws", "raise the limit")

    def feasible_share(self, draws: int = 2000) -> float:
        """The share of the space that stays within the limit, by drawing."""
        if self.limit is None:
            return 1.0
        rng = random.Random(0)
        return sum(self.feasible(self.draw(rng)) for _ in range(draws)) / draws


def resolve(spec: StudySpec, geometry: Geometry, place: str) -> Space:
    """The spec's space on a backbone, in which every point that can be drawn fits.

    Raises:
        Refusal: a method, placement or size does not fit the backbone, or nothing stays within the limit.
    """
    domains = spec.domains()
    for method in domains["method"].ends():
        row = method_named(str(method), f"{place}: adapter.method")
        if row.beside is Beside.NOTHING:
            raise Refusal(f"{place}: adapter.method", f"{row.name} has nothing to search", "it is run as the baseline")
    methods = [METHODS[str(name)] for name in domains["method"].ends()]
    places = list(_every_placement(domains, geometry, place))
    for name, side in SIZES.items():
        if any(name in method.reads for method in methods):
            domains[name] = _dividing(name, domains[name], common_dimensions(places)[side], f"{place}: adapter.{name}")
    space = Space(domains=domains, geometry=geometry, limit=_limit(spec, geometry))
    if space.feasible_share() == 0:
        rng = random.Random(0)
        least = min(space.parameters(space.draw(rng)) for _ in range(2000))
        raise Refusal(
            f"{place}: max_params",
            f"{spec.search.max_params} allows {space.limit:,} parameters, the smallest adapter drawn has {least:,}",
            "raise --max-params, or offer cheaper factor shapes or fewer sites",
        )
    return space


def _every_placement(domains: dict[str, Domain], geometry: Geometry, place: str) -> Iterator[Site]:
    """Every site that some point of the space adapts; each combination of placements must have one."""
    for method, roles, stacks, layers in product(*(map(str, domains[name].ends()) for name in PLACES)):
        try:
            yield from sites(geometry, AdapterConfig(method=method, roles=roles, stacks=stacks, layers=layers))
        except Refusal as refusal:
            where = f"{place}: adapter" + (f".{refusal.place}" if refusal.place in SECTION_OF else "")
            raise Refusal(where, refusal.problem, refusal.mend) from None


def _dividing(name: str, domain: Domain, dimension: int, place: str) -> Domain:
    """The sizes of a factor that divide every adapted weight."""
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


def _adapter(params: dict[str, Any]) -> AdapterConfig:
    return AdapterConfig(**{name: value for name, value in params.items() if SECTION_OF[name] == "adapter"})


def _draw(domain: Domain, rng: random.Random) -> Value:
    match domain:
        case Fixed(value):
            return value
        case Choice(values):
            return rng.choice(values)
        case Range(low, high, log=True):
            drawn = exp(rng.uniform(log(low), log(high)))
            return round(drawn) if domain.whole else drawn
        case Range(low, high, step=step):
            if step or domain.whole:
                return low + (step or 1) * rng.randrange(int((high - low) / (step or 1)) + 1)
            return rng.uniform(low, high)
        case Divisors():
            raise AssertionError("divisors are resolved before anything is drawn")
