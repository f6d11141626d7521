"""Puts the service of studies together, its pages, REST and queue, and serves a storage."""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from krona_tune.record.remote_files import UnreachableStore
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.report.html import packed_script
from krona_tune.service.access import Access
from krona_tune.service.access_token import VARIABLE, own_token
from krona_tune.service.adapter_routes import adapter_routes
from krona_tune.service.http_server import address_at, guarded_app, listening, run_app
from krona_tune.service.live_events import Streams
from krona_tune.service.login import login_routes
from krona_tune.service.new_study.data_roots import DataRoots
from krona_tune.service.new_study.new_studies import NewStudies, NotOfferedError
from krona_tune.service.new_study.new_study_routes import new_study_routes, no_new_studies
from krona_tune.service.pages import page_routes
from krona_tune.service.queue.database import UnavailableError, UnknownEntryError
from krona_tune.service.queue.entry import LEAST_PRIORITY, MOST_PRIORITY
from krona_tune.service.queue.queue_routes import no_queue, queue_routes
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.served_studies import ServedStudies, UnknownStudyError
from krona_tune.service.stamped_cache import SlowError
from krona_tune.service.study_routes import study_routes
from krona_tune.study import order
from krona_tune.study.study_state import UNREADABLE

logger = logging.getLogger(__name__)

WRITTEN = order.WRITTEN | {"priority": f"write a whole number from {LEAST_PRIORITY} to {MOST_PRIORITY}"}
"""Says how the fields of an order and of a new study are written."""
STATUSES: dict[type[Exception], int] = {
    UnknownStudyError: 404,
    UnknownEntryError: 404,
    NotOfferedError: 404,
    UnavailableError: 503,
    SlowError: 503,
    UnreachableStore: 503,
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
    roots: DataRoots | None = None,
) -> FastAPI:
    """Returns the service for a storage's studies.

    Args:
        token: what a request must know; empty: requests come from this machine, and there is no queue.
        pace: stretches how long values are kept; 0 reads everything anew.
        warm: reads the studies when the service starts, so that the first page comes soon.
        queue: the storage's queue; None: this service runs none. Whoever may submit to it may run code, so that it
            needs a token.
        of_account: the token is this account's own, see `Access`.
        roots: the folders of whose data and models studies can be begun in the queue; None: none can.

    Raises:
        Refusal: there is a queue and no token.
    """
    if queue and not token:
        raise Refusal("the queue", "needs a token", f"give one with --token-file or {VARIABLE}")
    access, streams = Access(token=token, of_account=of_account), Streams()
    studies = ServedStudies(storage, pace, resumes=queue is not None)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if warm:
            threading.Thread(target=_prepare, args=(studies,), name="prepare", daemon=True).start()
        if queue:
            queue.begin()
        yield
        if queue:
            queue.end()

    app = guarded_app(access, statuses=STATUSES, written=WRITTEN, lifespan=lifespan)
    app.include_router(study_routes(studies, access))
    app.include_router(adapter_routes(studies))
    app.include_router(queue_routes(queue, studies, access) if queue else no_queue())
    begins = queue is not None and roots is not None
    app.include_router(
        new_study_routes(NewStudies(roots, queue), access) if queue and roots else no_new_studies(*_why_none(queue))
    )
    app.include_router(page_routes(studies, streams, queue, begins=begins))
    app.include_router(login_routes(access))
    app.state.streams = streams
    return app


def _why_none(queue: StudyQueue | None) -> tuple[str, str]:
    """Returns why no study can be begun in a service, and what to do."""
    if queue is None:
        return "this service runs no queue", "ask the service that runs this storage's queue"
    return "this service offers no data", "start it with --data-root DIR, or send a study with krona-tune submit"


def _prepare(studies: ServedStudies) -> None:
    """Reads every study, and loads what the first chart needs; whoever asks for a page is told what can't be read."""
    try:
        packed_script()
        found = studies.summaries()
        if readable := [each.name for each in found if each.state != UNREADABLE]:
            studies.body(readable[0])
    except Exception:
        logger.info("the pages could not be prepared", exc_info=True)


def serve(
    storage: Storage,
    host: str,
    port: int,
    token: str,
    ready: Callable[[str, Path | None], None],
    make_queue: Callable[[], StudyQueue | None] = lambda: None,
    roots: DataRoots | None = None,
) -> None:
    """Serves a storage's studies until Ctrl-C; calls `ready` once the port is this process's.

    Args:
        token: what requests must know; empty: with a queue one is made for this account, without one none is needed.
        ready: gets the address, and the file with the token if one was made.
        make_queue: returns the storage's queue, if this service is to run it; called once the port is this process's.
        roots: the folders of whose data and models studies can be begun.

    Raises:
        Refusal: other machines could reach it and there is no token, or the host or port can't be used.
    """
    with listening(host, port, token) as opened, ExitStack() as ending:
        queue, file = make_queue(), None
        if queue and not token:
            token, file = ending.enter_context(own_token(*opened.getsockname()[:2], keep=port > 0))
        app = make_app(storage, token, warm=True, queue=queue, of_account=file is not None, roots=roots)
        ready(address_at(opened.getsockname()[0] if file else host, opened), file)
        run_app(app, opened, app.state.streams.end)
