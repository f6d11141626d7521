"""What lies outside: the hub, whose clients are told before they wait in vain; homes; files that others wrote."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from krona_tune.refusal import Refusal, refusing

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
POINTER = b"version https://git-lfs"
"""How the text begins that Git LFS leaves in the place of a large file."""


def settle_offline() -> None:
    """Sets HF_HUB_OFFLINE where the hub's name can't be resolved, so that its cache alone is asked.

    To be called before `huggingface_hub` is imported, which reads the variable then. Without it, each request
    is tried again for half a minute. Behind a proxy names are not resolved here, so nothing is settled.

    Raises:
        Refusal: HF_ENDPOINT is no address.
    """
    if "HF_HUB_OFFLINE" in os.environ:
        return
    host = _hub_host(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if any(os.environ.get(name) for name in PROXIES):
        return
    try:
        socket.getaddrinfo(host, 443)
    except (OSError, UnicodeError):  # a name that is too long for any host is no Unicode
        os.environ["HF_HUB_OFFLINE"] = "1"


def _hub_host(address: str) -> str:
    wrong, fix = f"{address!r} is no address of a hub", "write https://HOST, or unset it"
    with refusing("HF_ENDPOINT", wrong, fix):
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port  # either may raise
    if parts.scheme not in {"http", "https"} or not host:
        raise Refusal("HF_ENDPOINT", wrong, fix)
    return host


def home(path: Path) -> Path:
    """A path with its `~` resolved; one of a person that nobody knows, or can, stays as it is."""
    try:
        return path.expanduser()
    except (RuntimeError, ValueError):
        return path


def refuse_unreadable(path: Path, fix: str = "") -> None:
    """Refuses a folder, a fifo or a device in the place of a file, and a Git LFS pointer. What is missing passes."""
    with refusing(str(path), "can't be read", fix):
        if not os.path.exists(path):
            return
        if not path.is_file():
            raise Refusal(str(path), "is no file", fix)
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise Refusal(str(path), "is a Git LFS pointer", "fetch the file with git lfs pull")
