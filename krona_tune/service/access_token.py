"""Finds the token of a service: what a person gave, or what the service made for its own account.

What it made is in a file that names the address for which it is. The account's commands send it to that address only,
and only while the service runs: any account may take a free port.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from urllib.parse import urlsplit

import platformdirs
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from krona_tune.hub import home
from krona_tune.record.ownership import LOOKING_SECONDS, is_lock_held
from krona_tune.refusal import Refusal

VARIABLE = "KRONA_TUNE_TOKEN"
"""The environment variable that may hold the token."""
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 4096
MOST_BYTES = 4096
FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""The permissions that the file must not have."""
GIVE_TOKEN = f"give a token with --token-file or {VARIABLE}"


def read_token(file: Path | None) -> str:
    """Returns the token in a file, or else in the environment; empty if there is none.

    Raises:
        Refusal: the file can't be read, or the token is too short or has signs that no header may have.
    """
    place = str(file) if file else VARIABLE
    text = _content(file) if file else os.environ.get(VARIABLE, "")
    return checked_token(text, place) if text.strip() or file else ""


def checked_token(text: str, place: str) -> str:
    """Returns a token without the blanks around it.

    Raises:
        Refusal: it is too short, or has signs that no header may have; the refusal does not say it.
    """
    token = text.strip()
    fix = f"use {SHORTEST_TOKEN} letters and digits or more, for example from `openssl rand -hex 32`"
    if len(token) < SHORTEST_TOKEN:
        raise Refusal(place, f"the token has {len(token)} characters", fix)
    if len(token) > LONGEST_TOKEN or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise Refusal(place, "the token is longer than a header may be, or has blanks or signs outside ASCII", fix)
    return token


def is_loopback(host: str) -> bool:
    """Returns whether only programs of this machine reach a host."""
    if host.lower() == "localhost":
        return True
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False


def is_http_address(url: str) -> bool:
    """Returns whether a program can ask at a URL by HTTP."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _content(file: Path) -> str:
    fix, file = "name a text file that holds the token alone", home(file)
    if not file.is_file():
        raise Refusal(str(file), "is no file", fix)
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(LONGEST_TOKEN + 2)
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(str(file), f"can't be read ({type(error).__name__})", fix) from None


class OwnToken(BaseModel):
    """Holds what is in the file: a token, and the address and port of the service that made it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str
    port: int
    token: str


@contextmanager
def own_token(address: str, port: int, *, keep: bool = True) -> Iterator[tuple[str, Path]]:
    """Gives the token of the service at an address of this machine, and its file; the first start makes both.

    Args:
        keep: the next service at this address has the same token; without it the file is removed at the end.

    Raises:
        Refusal: the file can't be written, or another service has it.
    """
    path = _file(address, port)
    lock = FileLock(_lock(path), mode=0o600)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=LOOKING_SECONDS, poll_interval=0.02)
        token = _token_in(path, address, port) or _made(path, address, port)
    except Timeout:
        raise Refusal(str(path), "another service has this file", GIVE_TOKEN) from None
    except OSError as error:
        raise Refusal(str(path), f"can't be written: {error.strerror}", GIVE_TOKEN) from None
    try:
        yield token, path
    finally:
        if not keep:
            path.unlink(missing_ok=True)
        lock.release()


def token_for(url: str) -> str:
    """Returns the token that this account's service at a URL made; empty if none runs at exactly that address."""
    try:
        parts = urlsplit(url)
        address, port = str(ip_address(parts.hostname or "")), parts.port
    except ValueError:  # a name may lead to another address than the service's
        return ""
    if parts.scheme != "http" or port is None:
        return ""
    path = _file(address, port)
    return _token_in(path, address, port) if is_lock_held(_lock(path)) else ""


def _file(address: str, port: int) -> Path:
    """Returns the file of one address; machines that share their home folders have one each."""
    return platformdirs.user_data_path("krona_tune") / "tokens" / f"{gethostname()}-{address}-{port}.json"


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")


def _made(path: Path, address: str, port: int) -> str:
    """Writes a new token, readable for this account from the first moment on."""
    made = OwnToken(address=address, port=port, token=secrets.token_urlsafe(32))
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(made.model_dump_json())
    return made.token


def _token_in(path: Path, address: str, port: int) -> str:
    """Returns the token in a file that this account alone can read; empty if it holds none for this address."""
    with suppress(OSError, ValidationError):
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & FOR_OTHERS:
                return ""
            found = OwnToken.model_validate_json(file.read(MOST_BYTES))
        if (found.address, found.port) == (address, port):
            return found.token
    return ""
