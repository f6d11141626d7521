"""What lies outside: the hub, whose clients are told before they wait where it can't be reached, and homes."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def settle_offline() -> None:
    """Sets HF_HUB_OFFLINE where the hub's name can't be resolved, so that its cache alone is asked.

    To be called before `huggingface_hub` is imported, which reads the variable then. Without it, each request
    is tried again for half a minute. Behind a proxy names are not resolved here, so nothing is settled.
    """
    if "HF_HUB_OFFLINE" in os.environ or any(os.environ.get(name) for name in PROXIES):
        return
    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"


def home(path: Path) -> Path:
    """A path with its `~` resolved; one of a person that nobody knows stays as it is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path
