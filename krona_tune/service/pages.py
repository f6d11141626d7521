"""Serves the pages: the index of studies, each study, several compared, and what keeps them up to date."""

import time
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from starlette.types import Scope

from krona_tune.api.folders import NAMES
from krona_tune.report.html import framed, packed_script, rendered
from krona_tune.report.study_page import NOW
from krona_tune.service.live_events import News, Streams
from krona_tune.service.queue.entry import LEAST_PRIORITY, MOST_PRIORITY, QueueView
from krona_tune.service.queue.slots_chart import draw_slots
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.response_models import StudySummary
from krona_tune.service.responses import served_page
from krona_tune.service.served_studies import ServedStudies
from krona_tune.service.stamped_cache import StampedCache
from krona_tune.service.study_files import PageBody

A_YEAR = {"Cache-Control": "private, max-age=31536000, immutable"}
STAMP = "X-Stamp"
SHARED_SECONDS = 2.0
"""For how long an index is given to all who ask, unless its stamp changes: some of what it shows is in no stamp."""
Chosen = Annotated[Sequence[str], Query()]
"""The names of the studies that are compared."""


def page_routes(
    studies: ServedStudies, streams: Streams, queue: StudyQueue | None = None, *, begins: bool = False
) -> APIRouter:
    """Returns the routes of the index, of each study and of several compared, which answer with HTML; `begins`: studies
    can be begun from the index."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_index(router, studies, streams, queue, begins=begins)
    _add_studies(router, studies, streams)
    _add_comparison(router, studies, streams)

    @router.get("/plotly.js")
    def plotly(request: Request) -> Response:
        small = "gzip" in request.headers.get("accept-encoding", "")
        headers = A_YEAR | {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if small else {})
        return Response(packed_script() if small else get_plotlyjs(), media_type="text/javascript", headers=headers)

    return router


def _add_index(
    router: APIRouter, studies: ServedStudies, streams: Streams, queue: StudyQueue | None, *, begins: bool
) -> None:
    place = str(studies.storage)
    bodies: StampedCache[Markup] = StampedCache(1)

    def stamp() -> str:
        return f"{studies.stamp()}{queue.stamp() if queue else ''}"

    def drawn() -> tuple[str, Markup]:
        """Returns the index's body behind its stamp."""

        def made() -> Markup:
            found = studies.summaries()
            return index_body(found, place, queue.view(found) if queue else None, begins=begins)

        shown, html = bodies.get("", f"{stamp()} {time.monotonic() // SHARED_SECONDS}", made)
        return shown.partition(" ")[0], html

    @router.get("/")
    def index(request: Request) -> str:
        now, html = drawn()
        return index_page(request.scope, html, now, queue=queue is not None, begins=begins)

    @router.get("/main")
    def index_main() -> HTMLResponse:
        now, html = drawn()
        return HTMLResponse(html, headers={STAMP: now})

    @router.get("/events")
    def index_events(request: Request, since: str = "") -> StreamingResponse:
        return streams.answer(request, lambda: News(stamp=stamp()), since)


def _add_studies(router: APIRouter, studies: ServedStudies, streams: Streams) -> None:
    @router.get("/studies/{name}")
    def study(request: Request, name: str) -> str:
        return study_page(request.scope, name, studies.body(name), studies.present(name))

    @router.get("/studies/{name}/main")
    def study_main(name: str) -> HTMLResponse:
        body = studies.body(name)
        return HTMLResponse(body.html, headers={STAMP: body.stamp})

    @router.get("/studies/{name}/clone/{trial}")
    def clone_form(name: str, trial: str) -> HTMLResponse:
        return HTMLResponse(studies.clone_form(name, trial))

    @router.get("/studies/{name}/events")
    def study_events(request: Request, name: str, since: str = "") -> StreamingResponse:
        studies.folder(name)

        def news() -> News:
            stamp = studies.look(name).stamp if studies.may_draw(name) else None
            return News(stamp=stamp, now=studies.present(name))

        return streams.answer(request, news, since)


def _add_comparison(router: APIRouter, studies: ServedStudies, streams: Streams) -> None:
    @router.get("/compare")
    def compare(request: Request, study: Chosen = ()) -> str:
        address = f"?{urlencode({'study': study}, doseq=True)}"
        body = studies.comparison(study)
        served = served_page(
            request.scope, source=f"/compare/main{address}", events=f"/compare/events{address}", stamp=body.stamp
        )
        return framed(body.title, body.html, served=served)

    @router.get("/compare/main")
    def compare_main(study: Chosen = ()) -> HTMLResponse:
        body = studies.comparison(study)
        return HTMLResponse(body.html, headers={STAMP: body.stamp})

    @router.get("/compare/events")
    def compare_events(request: Request, study: Chosen = (), since: str = "") -> StreamingResponse:
        studies.comparison_stamp(study)
        return streams.answer(request, lambda: News(stamp=studies.comparison_stamp(study)), since)


MOST_CHANGES = 100
"""How many changes of slots the index lists in numbers."""


def index_body(
    studies: list[StudySummary], place: str, queue: QueueView | None = None, *, begins: bool = False
) -> Markup:
    """Returns what the index shows: the studies, and the queue of a service that runs one; `begins`: with the button
    that opens the form of a new study."""
    values = {
        "studies": studies,
        "named": {each.name for each in studies if NAMES.fullmatch(each.name)},
        "place": place,
        "synthetic": any(each.synthetic for each in studies),
        "queue": queue,
        "begins": begins,
        "picture": draw_slots(queue.changes, time.time()) if queue else None,
        "least": LEAST_PRIORITY,
        "most": MOST_PRIORITY,
        "most_changes": MOST_CHANGES,
    }
    return rendered("index.html.j2", values)


def index_page(scope: Scope, body: Markup, stamp: str, *, queue: bool = False, begins: bool = False) -> str:
    """Returns the index around its body; `queue`: with what changes the queue; `begins`: with the form of a new
    study."""
    served = served_page(scope, source="/main", events="/events", stamp=stamp)
    changes = rendered("queue_changes.html.j2", {"nonce": served.nonce}) if queue else ""
    form = rendered("new_study.html.j2", {"nonce": served.nonce}) if begins else ""
    return framed("Studies", body + changes + form, served=served)


def study_page(scope: Scope, name: str, body: PageBody, present: str) -> str:
    """Returns a study's page with what happens now."""
    address = f"/studies/{name}"
    served = served_page(
        scope,
        source=f"{address}/main",
        events=f"{address}/events",
        orders=f"/api{address}/orders",
        stamp=body.stamp,
    )
    return framed(body.title, Markup(body.html.replace(NOW, Markup(present), 1)), served=served)
