"""Says what a report of a problem needs to know about an installation, and what is wrong with it, in two seconds."""

import os
import platform
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import platformdirs

from krona_tune import __version__, hub
from krona_tune.processor import this_processor
from krona_tune.refusal import Refusal
from krona_tune.search.startup import machine
from krona_tune.search.startup.machine import (
    US,
    extras,
    installed,
    refuse_cache,
    refuse_gone_folder,
    refuse_temporary_folder,
    unmet,
    variables,
    versions,
)
from krona_tune.study.formatting import format_bytes

LITTLE_SHARED, LITTLE_MEMORY, LITTLE_DISK = 2**30, 2 * 2**30, 2 * 2**30
"""Bytes below which a small study is slow or fails: of shared memory, of free memory and of free disk."""
NAME_SECONDS = 1.0
"""How long the hub's name may take to be found."""
YES, FALSE = "yes", {"0", "false", "no", "off"}
OF_THE_CPU = "+cpu"
"""The end of a version of torch that was built without GPUs."""
NECESSARY = (refuse_gone_folder, refuse_cache, refuse_temporary_folder, hub.hub_host)
"""What must hold before Ray or torch start."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The facts by section, what prevents any study, and what only may."""

    sections: dict[str, dict[str, str]]
    problems: tuple[Refusal, ...]
    warnings: tuple[Refusal, ...]


def diagnose() -> Diagnosis:
    """Returns the facts about this machine and installation, and what is wrong."""
    gpus, parts, reached = machine.gpus(), extras(), _reached()
    return Diagnosis(
        sections={
            "versions": versions(__version__),
            "machine": _machine(gpus),
            "hub": {"reached": reached, "its cache": _cache(), "our cache": str(platformdirs.user_cache_path(US))},
            "extras": {
                each.name: f"lacks {', '.join(each.lacks)}: {each.command}" if each.lacks else "installed"
                for each in parts
            },
            "environment": variables(),
        },
        problems=(*unmet(), *_refused(*NECESSARY)),
        warnings=tuple(_warnings(gpus)),
    )


def _refused(*checks: Callable[[], object]) -> Iterator[Refusal]:
    for check in checks:
        try:
            check()
        except Refusal as refusal:
            yield refusal


def _machine(gpus: list[machine.Gpu]) -> dict[str, str]:
    processor, limit, (total, free) = this_processor(), machine.core_limit(), machine.memory()
    shared, here = machine.shared_memory(), _here()
    return {
        "platform": platform.platform(),
        "processor": f"{processor.name} ({', '.join(processor.instructions) or 'instruction sets unknown'})",
        "precision": f"auto is {_precision(gpus, processor.prefers_bfloat16)}",
        "CPUs": f"{machine.cores()}" + (f", a container's limit of {limit:g}" if limit else ""),
        "memory": f"{format_bytes(total)}, {format_bytes(free)} free",
        "/dev/shm": "none" if shared is None else format_bytes(shared),
        "disk": f"{format_bytes(machine.free_bytes(here))} free in {here}" if here else "the folder is gone",
        "GPUs": "; ".join(each.said for each in gpus) or "none",
    }


def _precision(gpus: list[machine.Gpu], on_the_cpu: bool) -> str:
    """Says which precision `auto` chooses: on a GPU if there is one, which only torch knows for sure."""
    fast = gpus[0].bfloat16 if gpus else on_the_cpu
    return "known when torch sees the GPU" if fast is None else "bf16" if fast else "fp32"


def _warnings(gpus: list[machine.Gpu]) -> Iterator[Refusal]:
    shared, (_, free), here = machine.shared_memory(), machine.memory(), _here()
    if shared is not None and shared < LITTLE_SHARED:
        fix = "in a container, start it with --shm-size=2g"
        yield Refusal(
            "/dev/shm", f"has {format_bytes(shared)}, so Ray keeps its objects on the disk, which is slow", fix
        )
    if free < LITTLE_MEMORY:
        yield Refusal("memory", f"{format_bytes(free)} are free, a trial takes about 1 GB", "end other programs")
    if here and (left := machine.free_bytes(here)) < LITTLE_DISK:
        yield Refusal(str(here), f"{format_bytes(left)} are free", "free space, or name another folder with --storage")
    if gpus and installed("torch").endswith(OF_THE_CPU):
        yield Refusal("torch", f"{installed('torch')} can't use the GPU", "install a build of torch for your GPU")


def _reached() -> str:
    """Says whether the hub's name is found, which `settle_offline` asks too, but waits only a second for it."""
    if said := os.environ.get("HF_HUB_OFFLINE"):
        return f"{YES if said.lower() in FALSE else 'no'}, HF_HUB_OFFLINE is {said}"
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
    try:
        return bool(socket.getaddrinfo(host, 443))
    except (OSError, UnicodeError):
        return False


def _cache() -> str:
    """Returns the hub's cache, by the rule of huggingface_hub, and how many models and data sets it holds."""
    there = os.environ
    general = Path(there.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    folder = Path(os.path.expanduser(there.get("HF_HUB_CACHE") or Path(there.get("HF_HOME") or general) / "hub"))
    counts = {kind: len(list(folder.glob(f"{kind}--*"))) for kind in ("models", "datasets")}
    return f"{folder}, {counts['models']} model(s), {counts['datasets']} data set(s)"


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        return None
