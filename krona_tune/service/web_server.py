"""Puts the service together, pages and REST behind the guard, and runs it until Ctrl-C."""

import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from krona_tune import __version__
from krona_tune.record.storage import Storage
from krona_tune.refusal import LONGEST_LINE, Refusal
from krona_tune.report.html import packed_script
from krona_tune.service.access import Access, Guard
from krona_tune.service.live_events import Streams
from krona_tune.service.pages import page_routes
from krona_tune.service.queue.database import UnavailableError, UnknownEntryError
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.responses import refused
from krona_tune.service.rest import no_queue, queue_routes, rest_routes
from krona_tune.service.served_studies import ServedStudies, UnknownStudyError
from krona_tune.service.stamped_cache import SlowError
from krona_tune.service.tokens import SHORTEST_TOKEN, VARIABLE, is_loopback, own_token
from krona_tune.study.study_state import UNREADABLE

WRITTEN = {
    "settings": "write each change as NAME=VALUE, such as training.learning_rate=0.001",
    "trial": "name a trial as the page does",
    "value": "write +20 trials, a number of trials at once, or a time such as 2h",
}
"""How the fields of an order are written."""
STATUSES: dict[type[Exception], int] = {
    UnknownStudyError: 404,
    UnknownEntryError: 404,
    UnavailableError: 503,
    SlowError: 503,
}
"""The status of the answer to each kind of refusal; that of the others is 422."""


def make_app(
    storage: Storage,
    token: str = "",
    pace: float = 1.0,
    *,
    warm: bool = False,
    queue: StudyQueue | None = None,
    of_account: bool = False,
) -> FastAPI:
    """Returns the service for a storage's studies.

    Args:
        token: what a request must know; empty: requests come from this machine, and there is no queue.
        pace: stretches how long values are kept; 0 reads everything anew.
        warm: reads the studies when the service starts, so that the first page comes soon.
        queue: the storage's queue; None: this service runs none. Whoever may submit to it may run code, so that it
            needs a token.
        of_account: the token is this account's own, see `Access`.

    Raises:
        Refusal: there is a queue and no token.
    """
    if queue and not token:
        raise Refusal("the queue", "needs a token", f"give one with --token-file or {VARIABLE}")
    access, studies, streams = Access(token=token, of_account=of_account), ServedStudies(storage, pace), Streams()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if warm:
            threading.Thread(target=_prepare, args=(studies,), name="prepare", daemon=True).start()
        if queue:
            queue.begin()
        yield
        if queue:
            queue.end()

    app = FastAPI(
        title="krona_tune",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.include_router(rest_routes(studies, access))
    app.include_router(queue_routes(queue, studies, access) if queue else no_queue())
    app.include_router(page_routes(studies, access, streams, queue))
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(GZipMiddleware, minimum_size=10_000, compresslevel=4)
    app.add_middleware(Guard, access=access)
    app.state.streams = streams
    return app


def _prepare(studies: ServedStudies) -> None:
    """Reads every study, and loads what the first chart needs."""
    with suppress(Exception):
        packed_script()
        found = studies.summaries()
        if readable := [each.name for each in found if each.state != UNREADABLE]:
            studies.body(readable[0])


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(request.scope, STATUSES.get(type(error), 422), error)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    problem = str(first["msg"])[:LONGEST_LINE].removeprefix("Value error, ")
    fix = next((WRITTEN[str(each)] for each in first["loc"] if str(each) in WRITTEN), "see /openapi.json")
    if first["type"] == "string_pattern_mismatch":
        problem = "is not written as it must be"
    return refused(request.scope, 422, Refusal(".".join(map(str, first["loc"])), problem, fix))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(str(request.scope["path"])[:200], str(error.detail), "see /openapi.json")
    return refused(request.scope, error.status_code, refusal, dict(error.headers or {}))


GRACE_SECONDS = 1
"""How long open event streams may delay the end."""


class Server(uvicorn.Server):
    """A server that ends its event streams when it is told to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.streams.end()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def serve(
    storage: Storage,
    host: str,
    port: int,
    token: str,
    ready: Callable[[str, Path | None], None],
    make_queue: Callable[[], StudyQueue | None] = lambda: None,
) -> None:
    """Serves a storage's studies until Ctrl-C; calls `ready` once the port is this process's.

    Args:
        token: what requests must know; empty: with a queue one is made for this account, without one none is needed.
        ready: gets the address, and the file with the token if one was made.
        make_queue: returns the storage's queue, if this service is to run it; called once the port is this process's.

    Raises:
        Refusal: other machines could reach it and there is no token, or the host or port can't be used.
    """
    if not token and not is_loopback(host):
        fix = f"give a token of at least {SHORTEST_TOKEN} characters with --token-file or {VARIABLE}"
        raise Refusal("--host", f"{host} can be reached by other machines, and there is no token", fix)
    with _listening(host, port) as opened, ExitStack() as ending:
        queue, file = make_queue(), None
        if queue and not token:
            token, file = ending.enter_context(own_token(*opened.getsockname()[:2], keep=port > 0))
        config = uvicorn.Config(
            make_app(storage, token, warm=True, queue=queue, of_account=file is not None),
            log_level="critical",  # the guard logs what fails
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = Server(config)
        bound, port = opened.getsockname()[:2]
        ready(_address(bound if file else host, port), file)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[opened])


def _listening(host: str, port: int) -> socket.socket:
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


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
