"""Puts the service together: pages and REST behind the guard."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from krona_tune import __version__
from krona_tune.record.remote.storage import Storage
from krona_tune.refusal import LONGEST_LINE, Refusal
from krona_tune.service.access import VARIABLE, Access
from krona_tune.service.guard import Guard
from krona_tune.service.kept_values import SlowError
from krona_tune.service.live_events import Streams
from krona_tune.service.pages import packed_script, pages
from krona_tune.service.queue.database import UnavailableError, UnknownEntryError
from krona_tune.service.queue.queue_routes import no_queue, queue_routes
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.responses import refused
from krona_tune.service.rest import rest
from krona_tune.service.served_studies import ServedStudies, UnknownStudyError

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
    app.include_router(rest(studies, access))
    app.include_router(queue_routes(queue, studies, access) if queue else no_queue())
    app.include_router(pages(studies, access, streams, queue))
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
        import_module("krona_tune.report.charts.importance")
        if readable := [each.name for each in found if each.state != "unreadable"]:
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
