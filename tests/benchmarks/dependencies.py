"""Measures what each direct dependency of krona_tune costs, for docs/dependencies.md.

`python -m tests.benchmarks.dependencies DIR`

Installs each package alone into a fresh environment below DIR, and once all together, and prints a table. The MB that
a package alone brings in are those of the packages that no other requirement needs: what would be saved without it. A
package that brings nothing is not installed alone. The environment with all packages stays, for the next time.
The seconds are of pip without its cache: they depend on the network and are rough.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FOR_USE = ("peft", "notebook", "quantize", "s3", "gs", "dashboard", "service")
"""The extras for users of krona_tune, not for its developers."""
MEGABYTE = 10**6


def main() -> None:
    """Prints the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path, help="where the environments are made and removed")
    asked = words.parse_args()
    required, extras = declared()
    whole, every = asked.folder / "whole", [*required, *(each for packages in extras.values() for each in packages)]
    if not whole.exists():
        install(whole, every)
    there = distributions(path=[str(packages_of(whole))])
    found: dict[str, Distribution] = {canonicalize_name(each.name): each for each in there}
    everything = reached(required, found)
    print(f"All that is required: {len(everything)} packages, {megabytes(size(everything, found))} MB\n")
    print("| package | seconds | MB with what it requires | MB that it alone brings in |\n|---|---|---|---|")
    for row in dict.fromkeys(every):
        alone = reached([row], found) - reached([each for each in required if each != row], found)
        brings = megabytes(size(alone, found))
        seconds, in_all = measured(row, asked.folder / "alone") if alone else ("–", "–")
        print(f"| {re.split('[<>=]', row)[0]} | {seconds} | {in_all} | {brings} |", flush=True)


def declared() -> tuple[list[str], dict[str, list[str]]]:
    """Returns the requirements of pyproject.toml, and those of each extra for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"], {extra: project["optional-dependencies"][extra] for extra in FOR_USE}


def measured(row: str, environment: Path) -> tuple[str, str]:
    """Returns the seconds of a requirement's installation into a fresh environment, and the MB that are then there."""
    seconds = install(environment, [row])
    in_all = sum(path.stat().st_size for path in packages_of(environment).rglob("*") if path.is_file())
    shutil.rmtree(environment)
    return f"{seconds:.0f}", megabytes(in_all)


def install(environment: Path, requirements: Sequence[str]) -> float:
    """Makes an environment with these packages; returns the seconds that pip took."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--quiet"]
    start = time.perf_counter()
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, "--no-cache-dir", *requirements], check=True, env=elsewhere)
    return time.perf_counter() - start


def reached(requirements: Iterable[str], found: Mapping[str, Distribution]) -> set[str]:
    """Returns the names of the installed packages that the requirements need, directly or not."""
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(each), "") for each in requirements]
    while waiting:
        asked, extra = waiting.pop()
        name = canonicalize_name(asked.name)
        if name not in found or (asked.marker and not asked.marker.evaluate({"extra": extra})):
            continue
        for wanted in {"", *asked.extras} - {known for each, known in seen if each == name}:
            seen.add((name, wanted))
            waiting += [(Requirement(each), wanted) for each in found[name].requires or ()]
    return {name for name, _ in seen}


def size(names: Iterable[str], found: Mapping[str, Distribution]) -> int:
    """Returns the bytes of the packages' files."""
    paths = {Path(str(file.locate())) for name in names for file in found[name].files or ()}
    return sum(path.stat().st_size for path in paths if path.is_file())


def packages_of(environment: Path) -> Path:
    (found,) = environment.glob("lib/python*/site-packages")
    return found


def megabytes(count: int) -> str:
    """Returns bytes in MB, with one digit below ten."""
    return re.sub(r"\.0$", "", f"{count / MEGABYTE:.{0 if count >= 10 * MEGABYTE else 1}f}")


if __name__ == "__main__":
    main()
