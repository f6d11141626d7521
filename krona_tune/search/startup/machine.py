"""Checks and describes the machine before Ray or torch start: hardware, environment and installed packages."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import NamedTuple

import platformdirs
import psutil
from packaging.requirements import Requirement
from packaging.version import InvalidVersion

from krona_tune.refusal import Refusal
from krona_tune.study.redact import redact

SOCKET = "ray/session_2026-01-31_23-59-59_123456_{pid}/sockets/plasma_store"
"""The longest path that Ray gives to a Unix socket below its temporary folder."""
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""The most bytes of a Unix socket's path."""


def refuse_gone_folder() -> None:
    """Raises a Refusal if the working directory was removed."""
    try:
        Path.cwd()
    except OSError as error:
        raise Refusal("the working directory", f"it can't be used: {error.strerror}", "change to another") from None


def refuse_cache() -> None:
    """Raises a Refusal if the cache folder can't be created or written."""
    folder = platformdirs.user_cache_path("krona_tune")
    _refuse_unwritable(folder, "the cache folder", "set HOME or XDG_CACHE_HOME to a folder that can be written")


def refuse_temporary_folder() -> None:
    """Raises a Refusal if Ray can't start in the temporary folder."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "the temporary folder")
    folder = Path(os.environ.get(name, "/tmp"))
    fix = "set RAY_TMPDIR to a folder with a short path, such as /tmp"
    if not os.environ.get(name, "/tmp").startswith("/"):
        raise Refusal(name, f"{os.environ[name]!r} is not an absolute path", fix)
    _refuse_unwritable(folder, name, fix)
    longest = len(os.fsencode(folder / SOCKET.format(pid=os.getpid())))
    if longest > LONGEST_SOCKET:
        most = LONGEST_SOCKET - longest + len(os.fsencode(folder))
        raise Refusal(name, f"{folder} is too long for Ray's sockets, which leave it {most} bytes", fix)


def _refuse_unwritable(folder: Path, place: str, fix: str) -> None:
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise Refusal(place, f"{folder} can't be made, {nearest} is no folder", fix)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise Refusal(place, f"{nearest} can't be written", fix)


SHARED_MEMORY = Path("/dev/shm")
GROUP = Path("/sys/fs/cgroup")
DRIVERS = {"/proc/driver/nvidia": "NVIDIA", "/dev/nvidiactl": "NVIDIA", "/dev/dxg": "WSL2", "/dev/kfd": "AMD"}
"""What is there with a GPU's driver, and whose it is."""
ASK = ("nvidia-smi", "--query-gpu=name,memory.total,compute_cap,driver_version", "--format=csv,noheader")
ASK_SECONDS = 3.0
BUSY = 2.0
"""The processes that want a core, from which on a machine is called busy."""
FIRST_WITH_BFLOAT16 = 8
"""The first compute capability of NVIDIA whose GPUs compute in bfloat16 (Ampere)."""


class Gpu(NamedTuple):
    """A GPU in words, and whether it computes in bfloat16; None if that is not known without torch."""

    said: str
    bfloat16: bool | None


def cores() -> int:
    """Returns the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy() -> str:
    """Returns how busy this machine is, if more processes want to run than it has cores for; else nothing."""
    load, there = psutil.getloadavg()[0], psutil.cpu_count() or 1
    return f"busy, {load:.0f} processes want its {there} cores" if load > BUSY * there else ""


def core_limit() -> float | None:
    """Returns the cores that a container may use at once; None without a limit."""
    with suppress(OSError, ValueError):
        quota, period = (GROUP / "cpu.max").read_text(encoding="utf-8").split()
        return int(quota) / int(period)  # "max" is no number
    return None


def memory() -> tuple[int, int]:
    """Returns the bytes of memory, within a container's limit, and of those how many are free."""
    there = psutil.virtual_memory()
    total, free = there.total, there.available
    with suppress(OSError, ValueError):
        limit = int((GROUP / "memory.max").read_text(encoding="utf-8"))
        used = int((GROUP / "memory.current").read_text(encoding="utf-8"))
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def shared_memory() -> int | None:
    """Returns the bytes of the file system for shared memory; None where there is none."""
    return shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else None


def free_bytes(folder: Path) -> int:
    """Returns the bytes that are free where a folder is or would be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


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
READ = (
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
    "RAY_TMPDIR",
    "RAY_AUTH_MODE",
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
    shown = {name: redact(there[name]) for name in READ if name in there}
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
