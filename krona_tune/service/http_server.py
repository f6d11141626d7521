"""Runs an application behind the guard, on a port of this machine, until Ctrl-C."""

import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from krona_tune import __version__
from krona_tune.refusal import LONGEST_LINE, NotNow, Refusal
from krona_tune.service.access import Access, Guard
from krona_tune.service.access_token import SHORTEST_TOKEN, VARIABLE, is_loopback
from krona_tune.service.responses import refused

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
GRACE_SECONDS = 1
"""How long open requests may delay the end."""


def guarded_app(
    access: Access,
    *,
    statuses: Mapping[type[Exception], int] | None = None,
    written: Mapping[str, str] | None = None,
    pages: bool = True,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """Returns an application without routes whose refusals are answers, and that the guard stands before.

    Args:
        access: who may use it.
        statuses: the status of the answer to each kind of refusal; that of the others is 422, of a `NotNow` 503.
        written: how the fields of a request are written, by their names.
        pages: it has pages and a login; False: every answer is for a program.
        lifespan: what begins and ends with it.
    """
    app = FastAPI(
        title="krona_tune",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    known: dict[type[Exception], int] = {NotNow: 503, **(statuses or {})}
    fields = written or {}

    def refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return refused(request.scope, known.get(type(error), 422), error)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        problem = str(first["msg"])[:LONGEST_LINE].removeprefix("Value error, ")
        fix = next((fields[str(each)] for each in first["loc"] if str(each) in fields), "see /openapi.json")
        if first["type"] == "string_pattern_mismatch":
            problem = "is not written as it must be"
        return refused(request.scope, 422, Refusal(".".join(map(str, first["loc"])), problem, fix))

    app.add_exception_handler(Refusal, refusal)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(GZipMiddleware, minimum_size=10_000, compresslevel=4)
    app.add_middleware(Guard, access=access, pages=pages)
    return app


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(str(request.scope["path"])[:200], str(error.detail), "see /openapi.json")
    return refused(request.scope, error.status_code, refusal, dict(error.headers or {}))


class Server(uvicorn.Server):
    """A server that calls `ending` when it is told to end."""

    def __init__(self, config: uvicorn.Config, ending: Callable[[], object]) -> None:
        super().__init__(config)
        self._ending = ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ending()
        super().handle_exit(sig, frame)


def run_app(app: FastAPI, opened: socket.socket, ending: Callable[[], object] = lambda: None) -> None:
    """Runs an application on an open port until Ctrl-C.

    Args:
        ending: is called from the signal's handler, before open requests get their last second.
    """
    config = uvicorn.Config(
        app,
        log_level="critical",  # the guard logs what fails
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    with suppress(KeyboardInterrupt):
        Server(config, ending).run(sockets=[opened])


def listening(host: str, port: int, token: str) -> socket.socket:
    """Returns an open port of a host of this machine.

    Args:
        port: 0 for any free one.
        token: what requests must know; empty: none is needed.

    Raises:
        Refusal: other machines could reach it and there is no token, or the host or port can't be used.
    """
    if not token and not is_loopback(host):
        fix = f"give a token of at least {SHORTEST_TOKEN} characters with --token-file or {VARIABLE}"
        raise Refusal("--host", f"{host} can be reached by other machines, and there is no token", fix)
    fix = "name a host of this machine, and a free port"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise Refusal("--host", f"{host} can't be found ({_error_text(error)})", fix) from None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen()
    except OSError as error:
        opened.close()
        raise Refusal("--port", f"{host} port {port} can't be used ({_error_text(error)})", fix) from None
    return opened


def _error_text(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def address_at(host: str, opened: socket.socket) -> str:
    """Returns the address of an open port, with the host as it is to be written."""
    return f"http://{f'[{host}]' if ':' in host else host}:{opened.getsockname()[1]}"
