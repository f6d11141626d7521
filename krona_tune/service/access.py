"""Decides who may use the service: whoever knows the token, or, without one, whoever sits at this machine."""

import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

from krona_tune.record.orders import whoami
from krona_tune.refusal import Refusal

VARIABLE = "KRONA_TUNE_TOKEN"
"""The environment variable that may hold the token."""
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 4096
COOKIE = "krona_tune"
LONGEST_PERSON = 40
OPEN = frozenset({"/healthz", "/login"})
"""Paths that need no token."""
LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
"""The Host headers that are accepted without a token: a name that an attacker's DNS points to this machine is none."""
SAME_SITE = frozenset({"same-origin", "none"})


def read_token(file: Path | None) -> str:
    """Returns the token in a file, or else in the environment; empty if there is none.

    Raises:
        Refusal: the file can't be read, or the token is too short or has signs that no header may have.
    """
    place = str(file) if file else VARIABLE
    text = _content(file) if file else os.environ.get(VARIABLE, "")
    token = text.strip()
    if not token and not file:
        return ""
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
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Access:
    """The rule of one service; `token` empty: none is needed.

    `of_account`: the token was made for the account of this process, on this machine; nobody else has it.
    """

    token: str = ""
    of_account: bool = False

    @property
    def cookie(self) -> str:
        """Returns the cookie's value, from which the token can't be computed."""
        return hmac.digest(self.token.encode(), b"krona_tune: a browser that has logged in", "sha256").hex()

    @property
    def cookie_name(self) -> str:
        """Returns the cookie's name; a browser sends the cookies of all of a machine's ports to each of them."""
        return f"{COOKIE}_{hmac.digest(self.token.encode(), b'krona_tune: the name of a cookie', 'sha256').hex()[:12]}"

    def accepts_host(self, host: str) -> bool:
        return self._for_others or LOCAL_HOST.fullmatch(host) is not None

    def is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self.token.encode())

    def knows(self, headers: Mapping[str, str]) -> bool | None:
        """Returns whether a request may pass; None if it names neither a token nor a cookie of ours."""
        if not self.token:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip())
        cookie = _cookie(headers.get("cookie", ""), self.cookie_name)
        return None if cookie is None else hmac.compare_digest(cookie.encode(errors="replace"), self.cookie.encode())

    def person(self, headers: Mapping[str, str]) -> str:
        """Returns who gives an order: the user of this process, or with a token for others whoever `X-User` names.

        Raises:
            Refusal: the name is long, or can't be printed.
        """
        if not self._for_others:
            return whoami()
        said = _named(headers)
        return f"the service ({said})" if said else "the service"

    def user(self, headers: Mapping[str, str]) -> str:
        """Returns whose study is submitted: whoever `X-User` names, else the user of this process, or with a token for
        others `somebody`. Raises what `person` raises."""
        return _named(headers) or ("somebody" if self._for_others else whoami().partition("@")[0])

    @property
    def _for_others(self) -> bool:
        return bool(self.token) and not self.of_account


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Returns whether a browser says that another site's page makes this request.

    A browser gives a form of a page without a referrer the origin `null`; then it must say that the site is the same.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in SAME_SITE:
        return True
    if origin is None or (origin == "null" and site == "same-origin"):
        return False
    return origin.lower().partition("://")[2] != headers.get("host", "").lower()


def _named(headers: Mapping[str, str]) -> str:
    """Returns the name that a request gives."""
    said = unquote(headers.get("x-user", "")).strip()
    if len(said) > LONGEST_PERSON or not said.isprintable():
        raise Refusal("X-User", "is no name of a person", f"use at most {LONGEST_PERSON} printable characters")
    return said


def _content(file: Path) -> str:
    fix = "name a text file that holds the token alone"
    if not file.is_file():
        raise Refusal(str(file), "is no file", fix)
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(LONGEST_TOKEN + 2)
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(str(file), f"can't be read ({type(error).__name__})", fix) from None


def _cookie(header: str, name: str) -> str | None:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return found.value if found else None
