"""Serves studies, their trials, reports and orders as JSON."""

from typing import Annotated, Any, Literal

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from krona_tune import __version__
from krona_tune.refusal import refuse_unknown
from krona_tune.service.access import Access
from krona_tune.service.response_models import MOST_ROWS, Rows, StudyDetail, StudySummary, Version
from krona_tune.service.responses import NO_JSON, PROBLEMS, UNKNOWN, json_answer, only_json
from krona_tune.service.served_studies import ServedStudies
from krona_tune.study.order import Order, OrderRequest
from krona_tune.study.result import Status

MOST_OFFSET = 10_000_000
MOST_ORDERS = 4
"""The most orders that are left at once; the others wait, and hold up no page."""

Name = Annotated[str, Path(description="A study's name.", min_length=1, max_length=255)]
Offset = Annotated[int, Query(ge=0, le=MOST_OFFSET, description="How many rows to leave out.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="The most rows to return.")]
StatusFilter = Annotated[Status | Literal[""], Query(description="Only rows with this status; empty for all.")]
Filter = Annotated[str, Query(max_length=200, description="Only rows with this value; empty for all.")]


def study_routes(studies: ServedStudies, access: Access) -> APIRouter:
    """Returns the routes of studies, their records and their orders, and those of the service's version."""
    router = APIRouter(responses=PROBLEMS)
    orders_at_once = CapacityLimiter(MOST_ORDERS)

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", response_model=Version, operation_id="health")
    @router.get("/api/version", response_model=Version)
    async def version() -> Response:  # it answers also while every thread waits
        """Return the service's version."""
        return json_answer(Version(version=__version__))

    @router.get("/api/studies", response_model=list[StudySummary], operation_id="studies")
    def list_studies() -> Response:
        """List the studies, the newest first."""
        return json_answer([each.model_dump(mode="json") for each in studies.summaries()])

    @router.get("/api/studies/{name}", response_model=StudyDetail, responses=UNKNOWN)
    def study(name: Name) -> Response:
        """Return a study with its running trials and its orders."""
        return json_answer(studies.detail(name))

    @router.get("/api/studies/{name}/trials", response_model=Rows, responses=UNKNOWN)
    def trials(
        name: Name, task: Filter = "", status: StatusFilter = "", offset: Offset = 0, limit: Limit = MOST_ROWS
    ) -> Response:
        """Return a study's trials in the order in which they started."""
        results = studies.read(name).results
        if task:
            refuse_unknown("task", "task", results.manifest.tasks, task)
        rows = results.recorded.trials
        found = [row for row in rows if task in {"", row.task} and status in {"", row.status}]
        return _page(found, offset, limit)

    @router.get("/api/studies/{name}/reports", response_model=Rows, responses=UNKNOWN)
    def reports(name: Name, trial: Filter = "", offset: Offset = 0, limit: Limit = MOST_ROWS) -> Response:
        """Return a study's reports, a trial's by rung."""
        found = [row for row in studies.read(name).results.recorded.reports if trial in {"", row.trial_id}]
        return _page(found, offset, limit)

    @router.get("/api/studies/{name}/orders", response_model=list[Order], responses=UNKNOWN)
    def orders(name: Name) -> Response:
        """Return a study's orders, the newest first."""
        return json_answer([each.row() for each in studies.read(name).orders])

    @router.post(
        "/api/studies/{name}/orders",
        response_model=Order,
        status_code=202,
        responses=UNKNOWN | NO_JSON,
        dependencies=[Depends(only_json)],
    )
    async def order(name: Name, asked: OrderRequest, request: Request) -> Response:
        """Leave an order for the study's driver, which reads it within a few seconds.

        Where a token is needed, the header X-User may say who gives it.
        """
        by = access.person(request.headers)
        return json_answer(await run_sync(studies.order, name, asked, by, limiter=orders_at_once), 202)

    @router.post(
        "/api/studies/{name}/orders/check",
        status_code=204,
        responses=UNKNOWN | NO_JSON,
        dependencies=[Depends(only_json)],
    )
    async def check_order(name: Name, asked: OrderRequest) -> Response:
        """Say whether the study's driver would surely refuse an order; nothing is ordered."""
        await run_sync(studies.check, name, asked, limiter=orders_at_once)
        return Response(status_code=204)

    return router


def _page(found: list[Any], offset: int, limit: int) -> Response:
    rows = [row.row() for row in found[offset : offset + limit]]
    return json_answer({"total": len(found), "offset": offset, "rows": rows})
