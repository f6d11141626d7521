"""Decides who may use the service, and lets only their requests in: those who know the token, or, without one, those
at this machine."""

import asyncio
import hmac
import logging
import re
import secrets
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from krona_tune.record.orders import whoami
from krona_tune.refusal import Refusal
from krona_tune.service.queue.entry import QUEUE
from krona_tune.service.response_models import PREDICT
from krona_tune.service.responses import is_for_program, refused

logger = logging.getLogger(__name__)

COOKIE = "krona_tune"
LONGEST_PERSON = 40
OPEN = frozenset({"/healthz", "/login"})
"""Paths that need no token."""
LOCAL_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
"""The Host headers that are accepted without a token: a name that an attacker's DNS points to this machine is none."""
SAME_SITE = frozenset({"same-origin", "none"})


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
        cookie = cookie_parser(headers.get("cookie", "")).get(self.cookie_name)
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

    A browser that says that the origin is the same has compared both itself, as before a proxy that names another host.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in SAME_SITE:
        return True
    if origin is None or site == "same-origin":
        return False
    return origin.lower().partition("://")[2] != headers.get("host", "").lower()


def _named(headers: Mapping[str, str]) -> str:
    """Returns the name that a request gives."""
    said = unquote(headers.get("x-user", "")).strip()
    if len(said) > LONGEST_PERSON or not said.isprintable():
        raise Refusal("X-User", "is no name of a person", f"use at most {LONGEST_PERSON} printable characters")
    return said


MOST_BYTES = 65_536
"""The most bytes of a request's body."""
LARGER = {QUEUE: 2_000_000, PREDICT: 2_000_000}
"""The most bytes of a study that is sent to the queue, and of examples that are to be answered."""
FAILED_SECONDS = 0.5
"""How long the answer to a wrong token waits."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data: blob:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Plotly sets style attributes; nothing else on a page comes without a nonce."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
BEARER = {"WWW-Authenticate": "Bearer"}


class Guard:
    """Stands before the application: checks the host, the token, the origin and the size of each request."""

    def __init__(self, app: ASGIApp, access: Access, *, pages: bool = True) -> None:
        self._app, self._access, self._pages = app, access, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        scope["nonce"], scope["pages"] = secrets.token_urlsafe(18), self._pages
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                _add_headers(message, scope["nonce"])
            await send(message)

        try:
            answer, heard = await self._answer(scope, receive)
            await (answer or self._app)(scope, heard, sent)
        except Exception:
            logger.exception("%s failed", scope["path"])
            if begun:
                raise
            fault = Refusal("the service", "failed at this request", "look at its output")
            await refused(scope, 500, fault)(scope, receive, sent)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Response | None, Receive]:
        """Returns the answer to a request that is refused, else None and the request's body."""
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) != 1 or not self._access.accepts_host(headers["host"]):
            fix = "use localhost or 127.0.0.1, or start the service with --token-file"
            return refused(scope, 421, Refusal("Host", "is no name of this machine", fix)), receive
        if scope["path"] not in OPEN and (answer := await self._unknown(scope, headers)):
            return answer, receive
        if scope["method"] not in READING and from_elsewhere(headers):
            return refused(scope, 403, Refusal("Origin", "another site's page sent this", "use the own page")), receive
        most = LARGER.get(scope["path"], MOST_BYTES)
        body = await _body(headers, receive, most)
        if body is None:
            problem = Refusal("the request", f"has more than {most:,} bytes", "send less")
            return refused(scope, 422 if scope["path"] == QUEUE else 413, problem, {"Connection": "close"}), receive
        return None, _replayed(body, receive)

    async def _unknown(self, scope: Scope, headers: Headers) -> Response | None:
        """Returns the answer to someone without the token."""
        known = self._access.knows(headers)
        if known:
            return None
        if known is False:
            await asyncio.sleep(FAILED_SECONDS)
        if scope["method"] == "GET" and not is_for_program(scope):
            asked = scope["query_string"].decode("ascii", "replace")
            return RedirectResponse(f"/login?to={quote(scope['path'] + f'?{asked}' * bool(asked))}", 303)
        fix = "name it with --token-file or KRONA_TUNE_TOKEN; a program sends the header 'Authorization: Bearer TOKEN'"
        return refused(scope, 401, Refusal("Authorization", "the token is missing or wrong", fix), BEARER)


async def _body(headers: Headers, receive: Receive, most: int) -> bytes | None:
    """Returns a request's body; None if it has more than `most` bytes."""
    length = headers.get("content-length", "")
    if not length and "transfer-encoding" not in headers:
        return b""
    if length.isdecimal() and int(length[:20]) > most:
        return None
    body: bytes = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > most:
            return None
        if message["type"] != "http.request" or not message.get("more_body"):
            return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns a receiver that gives the body, then what comes after it."""
    given = False

    async def heard() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return heard


def _add_headers(message: Message, nonce: str) -> None:
    headers = MutableHeaders(scope=message)
    headers.update(HEADERS)
    headers["Content-Security-Policy"] = POLICY.format(nonce=nonce)
    headers.setdefault("Cache-Control", "no-store")
