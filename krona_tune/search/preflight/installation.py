"""Reads which packages are installed, and which of krona_tune's requirements are not met, without importing them."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.version import InvalidVersion

from krona_tune.refusal import Refusal

US = "krona_tune"
SHOWN = (
    "ray",
    "torch",
    "transformers",
    "datasets",
    "optuna",
    "mlflow",
    "pyarrow",
    "peft",
    "numpy",
    "pandas",
    "pydantic",
)
"""The packages whose versions a report of a problem needs first."""
OF_DEVELOPERS = frozenset({"test", "dev", "docs"})
"""Extras that no user needs."""


@dataclass(frozen=True, kw_only=True)
class Extra:
    """An optional part of krona_tune, and which of its packages are missing or too old."""

    name: str
    lacks: tuple[str, ...]

    @property
    def command(self) -> str:
        return f"pip install '{US}[{self.name}]'"


def installed(package: str) -> str:
    """Returns a package's version; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def versions(ours: str) -> dict[str, str]:
    """Returns the versions of Python and of the packages that matter; `ours` is that of the code that runs."""
    known, python = installed(US), ".".join(map(str, sys.version_info[:3]))
    own = ours if known == ours else f"{ours}, installed as {known}" if known else f"{ours}, not installed"
    return {"Python": python, US: own, **{name: installed(name) or "not installed" for name in SHOWN}}


def extras() -> list[Extra]:
    """Returns the optional parts for users, in pyproject.toml's order; none if krona_tune is not installed."""
    try:
        names = metadata(US).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return []
    return [
        Extra(name=name, lacks=tuple(_written(each) for each in _required(US, name) if _unmet(each)))
        for name in names
        if name not in OF_DEVELOPERS
    ]


def unmet() -> Iterator[Refusal]:
    """Yields what is missing, or has a version that krona_tune was not made for."""
    for each in _required(US, ""):
        if why := _unmet(each):
            yield Refusal(each.name, why, f"pip install '{_written(each)}{each.specifier}'")


def _written(requirement: Requirement) -> str:
    """Returns a package with its extras, as pip reads them: `ray[default]`."""
    extras = ",".join(sorted(requirement.extras))
    return requirement.name + (f"[{extras}]" if extras else "")


def _required(package: str, extra: str) -> list[Requirement]:
    """Returns the packages that an extra of a package adds; without one, those that it always requires."""
    try:
        every = [Requirement(each) for each in requires(package) or ()]
    except PackageNotFoundError:
        return []
    return [each for each in every if _applies(each, extra) and (not extra or not _applies(each, ""))]


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _unmet(requirement: Requirement) -> str:
    """Returns why a requirement is not met; empty if it is."""
    there = installed(requirement.name)
    if not there:
        return f"is not installed, krona_tune needs {requirement.specifier or 'it'}"
    try:
        fits = requirement.specifier.contains(there, prereleases=True)
    except InvalidVersion:
        fits = False
    if not fits:
        return f"is version {there}, krona_tune needs {requirement.specifier}"
    parts = [each for extra in requirement.extras for each in _required(requirement.name, extra)]
    lacking = sorted(each.name for each in parts if _unmet(each))
    return f"lacks {', '.join(lacking)}" if lacking else ""
