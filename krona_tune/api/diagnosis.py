"""Says what a report of a problem needs to know about an installation, and what is wrong with it, in two seconds."""

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.version import InvalidVersion

from krona_tune import __version__, hub
from krona_tune.machine import cache_folder, core_limit, cores, free_bytes, memory, shared_memory
from krona_tune.processor import this_processor
from krona_tune.record.mlflow_mirror.tracking_uri import TRACKING, explain_unreachable, refuse_no_store
from krona_tune.refusal import Refusal
from krona_tune.search.startup.cluster import OWN_RAY, refuse_cache, refuse_windows
from krona_tune.search.startup.slots import DRIVERS
from krona_tune.study.formatting import format_bytes, format_many
from krona_tune.study.redact import redact

LITTLE_SHARED, LITTLE_MEMORY, LITTLE_DISK = 2**30, 2 * 2**30, 2 * 2**30
"""Bytes below which a small study is slow or fails: of shared memory, of free memory and of free disk."""
NAME_SECONDS = 1.0
"""How long the hub's name may take to be found."""
YES, FALSE = "yes", {"0", "false", "no", "off"}
OF_THE_CPU = "+cpu"
"""The end of a version of torch that was built without GPUs."""


def refuse_gone_folder() -> None:
    """Raises a Refusal if the working directory was removed."""
    try:
        Path.cwd()
    except OSError as error:
        raise Refusal("the working directory", f"it can't be used: {error.strerror}", "change to another") from None


def refuse_tracking_variable() -> None:
    """Raises a Refusal if the environment names a tracking store that none can be."""
    try:
        refuse_no_store(os.environ.get(TRACKING) or None)
    except Refusal as refusal:
        raise refusal.at(TRACKING) from None


NECESSARY = (
    refuse_windows,
    refuse_gone_folder,
    refuse_cache,
    *OWN_RAY,
    refuse_tracking_variable,
    hub.hub_host,
)
"""What must hold before Ray or torch start."""


class Gpu(NamedTuple):
    """A GPU in words, and whether it computes in bfloat16; None if that is not known without torch."""

    text: str
    bfloat16: bool | None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The facts by section, what prevents any study, and what only may."""

    sections: dict[str, dict[str, str]]
    problems: tuple[Refusal, ...]
    warnings: tuple[Refusal, ...]


def diagnose() -> Diagnosis:
    """Returns the facts about this machine and installation, and what is wrong."""
    found, parts, reached = gpus(), extras(), _reached()
    problems = (*unmet(), *_refused(*NECESSARY))
    return Diagnosis(
        sections={
            "versions": versions(__version__),
            "machine": _machine(found),
            "hub": {"reached": reached, "its cache": _cache(), "our cache": str(cache_folder())},
            "extras": {
                each.name: f"lacks {', '.join(each.lacks)}: {each.command}" if each.lacks else "installed"
                for each in parts
            },
            "environment": variables(),
        },
        problems=problems,
        warnings=(*_warnings(found), *_tracking_warnings(problems)),
    )


def _refused(*checks: Callable[[], object]) -> Iterator[Refusal]:
    for check in checks:
        try:
            check()
        except Refusal as refusal:
            yield refusal


def _machine(gpus: list[Gpu]) -> dict[str, str]:
    processor, limit, (total, free) = this_processor(), core_limit(), memory()
    shared, here = shared_memory(), _here()
    return {
        "platform": platform.platform(),
        "processor": f"{processor.name} ({', '.join(processor.instructions) or 'instruction sets unknown'})",
        "precision": f"auto is {_precision(gpus, processor.prefers_bfloat16)}",
        "CPUs": f"{cores()}" + (f", a container's limit of {limit:g}" if limit else ""),
        "memory": f"{format_bytes(total)}, {format_bytes(free)} free",
        "/dev/shm": "none" if shared is None else format_bytes(shared),
        "disk": f"{format_bytes(free_bytes(here))} free in {here}" if here else "the folder is gone",
        "GPUs": "; ".join(each.text for each in gpus) or "none",
    }


def _precision(gpus: list[Gpu], on_the_cpu: bool) -> str:
    """Says which precision `auto` chooses: on a GPU if there is one, which only torch knows for sure."""
    fast = gpus[0].bfloat16 if gpus else on_the_cpu
    return "known when torch sees the GPU" if fast is None else "bf16" if fast else "fp32"


def _warnings(gpus: list[Gpu]) -> Iterator[Refusal]:
    shared, (_, free), here = shared_memory(), memory(), _here()
    if shared is not None and shared < LITTLE_SHARED:
        fix = "in a container, start it with --shm-size=2g"
        yield Refusal(
            "/dev/shm", f"has {format_bytes(shared)}, so Ray keeps its objects on the disk, which is slow", fix
        )
    if free < LITTLE_MEMORY:
        yield Refusal("memory", f"{format_bytes(free)} are free, a trial takes about 1 GB", "end other programs")
    if here and (left := free_bytes(here)) < LITTLE_DISK:
        yield Refusal(str(here), f"{format_bytes(left)} are free", "free space, or name another folder with --storage")
    if gpus and installed("torch").endswith(OF_THE_CPU):
        yield Refusal("torch", f"{installed('torch')} can't use the GPU", "install a build of torch for your GPU")


def _tracking_warnings(problems: Collection[Refusal]) -> Iterator[Refusal]:
    """Warns of a tracking store in the environment that does not answer."""
    refused = any(each.place == TRACKING for each in problems)
    trouble = None if refused else explain_unreachable(os.environ.get(TRACKING) or None)
    if trouble:
        yield Refusal(TRACKING, trouble)


def _reached() -> str:
    """Says whether the hub's name is found, which `settle_offline` asks too, but waits only a second for it."""
    if (said := os.environ.get("HF_HUB_OFFLINE")) and said.lower() not in FALSE:
        return f"no, HF_HUB_OFFLINE is {said}"
    try:
        host = hub.hub_host()
    except Refusal as refusal:
        return f"no, {refusal.problem}"
    if hub.behind_a_proxy():
        return f"{YES}, through a proxy"
    found: list[object] = []
    asking = Thread(target=lambda: found.append(_found(host)), daemon=True)
    asking.start()
    asking.join(NAME_SECONDS)
    return (
        f"{YES}, the name {host} is found"
        if found == [True]
        else f"no, the name {host} is not found" + ("" if found else f" within {NAME_SECONDS:g} s")
    )


def _found(host: str) -> bool:
    with suppress(OSError, UnicodeError):
        return bool(socket.getaddrinfo(host, 443))
    return False


def _cache() -> str:
    """Returns the hub's cache, by the rule of huggingface_hub, and how many models and data sets it holds."""
    there = os.environ
    general = Path(there.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    folder = Path(os.path.expanduser(there.get("HF_HUB_CACHE") or Path(there.get("HF_HOME") or general) / "hub"))
    counts = {kind: len(list(folder.glob(f"{kind}--*"))) for kind in ("models", "datasets")}
    return f"{folder}, {format_many(counts['models'], 'model')}, {format_many(counts['datasets'], 'data set')}"


def _here() -> Path | None:
    with suppress(OSError):
        return Path.cwd()
    return None


ASK = ("nvidia-smi", "--query-gpu=name,memory.total,compute_cap,driver_version", "--format=csv,noheader")
ASK_SECONDS = 3.0
FIRST_WITH_BFLOAT16 = 8
"""The first compute capability of NVIDIA whose GPUs compute in bfloat16 (Ampere)."""


def gpus() -> list[Gpu]:
    """Returns the GPUs as NVIDIA's own program lists them, else whose driver is there."""
    try:
        done = subprocess.run(ASK, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)
        return [_gpu(line) for line in done.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError):
        makers = dict.fromkeys(maker for path, maker in DRIVERS.items() if Path(path).exists())
        return [Gpu(f"a driver of {maker}, which did not list its GPUs", None) for maker in makers]


def _gpu(line: str) -> Gpu:
    name, size, capability, driver = (*(part.strip() for part in line.split(",")), "", "", "")[:4]
    major = capability.partition(".")[0]
    fast = int(major) >= FIRST_WITH_BFLOAT16 if major.isdecimal() else None
    return Gpu(f"{name}, {size}, compute capability {capability}, driver {driver}", fast)


MASK = "***"
READ_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "XDG_CACHE_HOME",
    "TMPDIR",
    "COLUMNS",
    "KRONA_TUNE_PERSON",
    "KRONA_TUNE_SERVICE",
    "KRONA_TUNE_TRACKING_URI",
    "MALLOC_TRIM_THRESHOLD_",
    "OMP_NUM_THREADS",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_TMPDIR",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN_PATH",
    "MLFLOW_ALLOW_FILE_STORE",
    "MLFLOW_TRACKING_USERNAME",
    "WANDB_BASE_URL",
    "WANDB_ENTITY",
    "WANDB_MODE",
)
"""Variables whose values may be shown; passwords inside addresses are masked."""
SECRET = (
    "KRONA_TUNE_NOTIFY",
    "KRONA_TUNE_TOKEN",
    "HF_TOKEN",
    "RAY_AUTH_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "WANDB_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
"""Variables of which only is told that they are set."""


def variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the variables that are set and that krona_tune, or a package that it calls, reads."""
    there = os.environ if environment is None else environment
    shown = {name: redact(there[name]) for name in READ_VARIABLES if name in there}
    return shown | {name: MASK for name in SECRET if name in there}


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
    with suppress(PackageNotFoundError):
        return version(package)
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
