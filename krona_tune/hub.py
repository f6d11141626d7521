"""Handles what is outside this program: an unreachable hub, home folders, and files that others wrote."""

import os
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from urllib.parse import urlsplit

from krona_tune.refusal import Refusal, refusing

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
PORTS = {"http": 80, "https": 443}
ANSWER_SECONDS = 5.0
"""How long the hub may take to accept a connection."""
PACKAGES = ("datasets", "mlflow", "numpy", "optuna", "pandas", "peft", "pyarrow", "ray", "torch", "transformers")
"""The packages whose names a folder of a person's own may well have."""
POINTER = b"version https://git-lfs"
"""The first bytes of the text that Git LFS leaves in place of a large file."""


OFFLINE = "HF_HUB_OFFLINE"
READERS = ("huggingface_hub.constants", "datasets.config")
"""The modules that read the variable once, when they are imported."""
AGAIN_SECONDS = 60.0
"""How long a hub that was out of reach is not asked for again."""


@dataclass
class HubState:
    """Remembers when this process last found the hub out of reach; None if it did not."""

    lost_at: float | None = None


hub_state = HubState()


def settle_offline() -> None:
    """Sets HF_HUB_OFFLINE while the hub's name can't be resolved, so that only the local cache is used.

    Without it, each request is retried for half a minute. If a person has set the variable, or behind a proxy, where
    names are not resolved, it does nothing.

    Raises:
        Refusal: HF_ENDPOINT is not an address.
    """
    if OFFLINE not in os.environ:
        hub_state.lost_at = None
    elif hub_state.lost_at is None or time.monotonic() - hub_state.lost_at < AGAIN_SECONDS:
        return
    host = hub_host()
    if behind_a_proxy():
        return
    try:
        socket.getaddrinfo(host, 443)
    except (OSError, UnicodeError):  # UnicodeError: the name is too long for a host
        hub_state.lost_at = time.monotonic()
        os.environ[OFFLINE] = "1"
        _tell_readers(offline=True)
    else:
        if hub_state.lost_at is not None:
            hub_state.lost_at = None
            del os.environ[OFFLINE]
            _tell_readers(offline=False)


def _tell_readers(*, offline: bool) -> None:
    for module in filter(None, map(sys.modules.get, READERS)):
        vars(module)[OFFLINE] = offline


def environment_of_others() -> dict[str, str]:
    """Returns this process's environment for another one, which finds out for itself whether it reaches the hub."""
    found = hub_state.lost_at is not None
    return {name: os.environ[name] for name in os.environ if not (found and name == OFFLINE)}


def hub_host() -> str:
    """Returns the host of the hub. Raises a Refusal if HF_ENDPOINT is not an address."""
    return _hub_place()[0]


def hub_answers() -> bool:
    """Returns whether the hub accepts a connection; requests to one that does not are repeated for half a minute.

    Asks nothing offline, or behind a proxy, which connects itself.

    Raises:
        Refusal: HF_ENDPOINT is not an address.
    """
    place = _hub_place()
    if os.environ.get("HF_HUB_OFFLINE") or behind_a_proxy():
        return True
    with suppress(OSError, UnicodeError):
        socket.create_connection(place, ANSWER_SECONDS).close()
        return True
    return False


def _hub_place() -> tuple[str, int]:
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    wrong, fix = f"{address!r} is no address of a hub", "write https://HOST, or unset it"
    with refusing("HF_ENDPOINT", wrong, fix):
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port  # either may raise
    if parts.scheme not in PORTS or not host:
        raise Refusal("HF_ENDPOINT", wrong, fix)
    return host, port or PORTS[parts.scheme]


def behind_a_proxy() -> bool:
    """Returns whether requests go through a proxy, which resolves names itself."""
    return any(os.environ.get(name) for name in PROXIES)


def home(path: Path, place: str = "") -> Path:
    """Returns a path with its `~` resolved, or unchanged if it begins with a folder of that name here.

    Raises:
        Refusal: there is no such home folder, so a folder named `~…` would be made; names `place`.
    """
    try:
        return path.expanduser()
    except (RuntimeError, ValueError):
        if os.path.lexists(path.parts[0]):
            return path
    raise Refusal(place or str(path), f"there is no home folder {path.parts[0]!r}", "give the folder's whole path")


def refuse_hidden_packages() -> None:
    """Refuses a file or folder of a person's own that is imported in a package's place: it lies beside the program, or
    in the working folder."""
    beside, others = os.path.abspath(sys.path[0]) if sys.path[0] else os.curdir, sys.path[1:]
    for name in PACKAGES:
        found, package = (_origin(name, places) for places in ([beside], others))
        if found and package and found != package:
            place = Path(found.removesuffix("/__init__.py"))
            raise Refusal(str(place), f"it is imported in place of the package {name}", "rename it, or start elsewhere")


def _origin(name: str, places: list[str]) -> str:
    """Returns the file that is imported for a name from these folders; empty if none is."""
    found = PathFinder.find_spec(name, places)
    return os.path.realpath(found.origin) if found and found.origin else ""


def refuse_unreadable(path: Path, fix: str = "") -> None:
    """Refuses a folder, a fifo, a device or a Git LFS pointer in place of a file. A missing file passes."""
    with refusing(str(path), "can't be read", fix):
        if not os.path.exists(path):
            return
        if not path.is_file():
            raise Refusal(str(path), "is no file", fix)
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise Refusal(str(path), "is a Git LFS pointer", "fetch the file with git lfs pull")
