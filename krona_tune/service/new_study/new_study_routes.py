"""Serves the form that begins a study to the page and to programs: what it offers, its plan, and what it sends."""

import secrets
from typing import Annotated

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse

from krona_tune.api.folders import new_name
from krona_tune.report.html import rendered
from krona_tune.service.access import Access
from krona_tune.service.new_study.new_studies import NewStudies, NotOfferedError
from krona_tune.service.new_study.study_form import (
    BEGIN,
    COLUMNS,
    FIELDS,
    NEEDED,
    OFFER,
    PLAN,
    DataColumns,
    NewStudy,
    Offer,
    PrintedPlan,
)
from krona_tune.service.queue.entry import SubmissionAnswer
from krona_tune.service.queue.queue_routes import MOST_SUBMISSIONS
from krona_tune.service.responses import NO_JSON, PROBLEMS, UNAVAILABLE, json_answer, only_json

ROUTES = {OFFER: "GET", COLUMNS: "GET", PLAN: "POST", BEGIN: "POST"}
"""The paths of what a program needs to begin a study, with their methods."""
FORM_BYTES = 8
"""The random bytes of a form's id."""

File = Annotated[str, Query(max_length=4_096, description="A data file's value in the offer.")]


def no_new_studies(reason: str, fix: str) -> APIRouter:
    """Returns the routes of a service in which no study can be begun: each is refused with the reason."""
    router = APIRouter(include_in_schema=False)

    def refuse() -> Response:
        raise NotOfferedError("a new study", reason, fix)

    for path, method in ROUTES.items():
        router.add_api_route(path, refuse, methods=[method])
    return router


def new_study_routes(studies: NewStudies, access: Access) -> APIRouter:
    """Returns the routes that begin studies, and that of the form's fields for the page."""
    router, at_once = APIRouter(responses=PROBLEMS | UNAVAILABLE), CapacityLimiter(MOST_SUBMISSIONS)

    @router.get("/new", response_class=HTMLResponse, include_in_schema=False)
    def fields() -> HTMLResponse:
        held = NewStudy.model_fields.items()
        filled = {name: each.get_default() for name, each in held if not each.is_required()}
        filled |= {"id": secrets.token_hex(FORM_BYTES), "name": new_name("")}
        values = {"fields": FIELDS, "offer": studies.offer(), "filled": filled, "needed": NEEDED}
        return HTMLResponse(rendered("new_study_fields.html.j2", values))

    @router.get(OFFER, response_model=Offer)
    def offer() -> Response:
        """Return what a new study may be made of: data, tasks, models, spaces, targets."""
        return json_answer(studies.offer())

    @router.get(COLUMNS, response_model=DataColumns)
    def columns(file: File) -> Response:
        """Return the names of a data file's columns."""
        return json_answer(DataColumns(columns=studies.columns(file)))

    @router.post(PLAN, response_model=PrintedPlan, responses=NO_JSON, dependencies=[Depends(only_json)])
    async def plan(asked: NewStudy) -> Response:
        """Return the plan of a new study as a dry run prints it; nothing is begun."""
        return json_answer(PrintedPlan(text=await run_sync(studies.plan, asked, limiter=at_once)))

    @router.post(
        BEGIN, response_model=SubmissionAnswer, status_code=201, responses=NO_JSON, dependencies=[Depends(only_json)]
    )
    async def begin(asked: NewStudy, request: Request) -> Response:
        """Give a new study a place in the queue; X-User may say who begins it."""
        person = access.user(request.headers)
        return json_answer(await run_sync(studies.begin, asked, person, limiter=at_once), 201)

    return router
