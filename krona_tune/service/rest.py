"""Serves the REST interface: studies, their trials, reports and orders, and the queue, as JSON."""

from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from krona_tune import __version__
from krona_tune.adapters.export_forms import Form
from krona_tune.refusal import Refusal
from krona_tune.service.access import Access
from krona_tune.service.adapter_exports import (
    Exported,
    ExportRequest,
    adapter_folder,
    export_apart,
    exported_folder,
)
from krona_tune.service.answers import MOST_ROWS, Rows, StudyDetail, StudySummary, Version
from krona_tune.service.folder_archive import ZipAnswer
from krona_tune.service.queue.entry import (
    QUEUE,
    Entry,
    Move,
    QueueView,
    Resumption,
    Submission,
    Submitted,
    TrainingRequest,
)
from krona_tune.service.queue.resumption import resume_study, train_study
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.responses import PROBLEMS, json_answer, only_json, problems
from krona_tune.service.served_studies import ServedStudies
from krona_tune.study.order import Order, OrderRequest

MOST_OFFSET = 10_000_000
MOST_ORDERS = 4
"""The most orders that are left at once; the others wait, and hold up no page."""
UNKNOWN = problems({404: "There is no such study."})
NO_JSON = problems({415: "The request is no JSON."})
ZIP: dict[int | str, dict[str, Any]] = {200: {"description": "A ZIP file.", "content": {ZipAnswer.media_type: {}}}}

Name = Annotated[str, Path(description="A study's name.", min_length=1, max_length=255)]
Task = Annotated[str, Path(description="A task's name.", min_length=1, max_length=255)]
Offset = Annotated[int, Query(ge=0, le=MOST_OFFSET, description="How many rows to leave out.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="The most rows to return.")]
Filter = Annotated[str, Query(max_length=200, description="Only rows with this value; empty for all.")]


def rest_routes(studies: ServedStudies, access: Access) -> APIRouter:
    """Returns the routes below /api, and /healthz."""
    router = APIRouter(responses=PROBLEMS)
    orders_at_once, exports_at_once = CapacityLimiter(MOST_ORDERS), CapacityLimiter(1)

    @router.get("/healthz", response_model=Version, operation_id="health")
    @router.get("/api/version", response_model=Version, operation_id="version")
    async def version() -> Response:  # it answers also while every thread waits
        """Return the service's version."""
        return json_answer(Version(version=__version__))

    @router.get("/api/studies", response_model=list[StudySummary], operation_id="studies")
    def list_studies() -> Response:
        """List the studies, the newest first."""
        return json_answer([each.model_dump(mode="json") for each in studies.summaries()])

    @router.get("/api/studies/{name}", response_model=StudyDetail, responses=UNKNOWN, operation_id="study")
    def study(name: Name) -> Response:
        """Return a study with its running trials and its orders."""
        return json_answer(studies.detail(name))

    @router.get("/api/studies/{name}/trials", response_model=Rows, responses=UNKNOWN, operation_id="trials")
    def trials(
        name: Name, task: Filter = "", status: Filter = "", offset: Offset = 0, limit: Limit = MOST_ROWS
    ) -> Response:
        """Return a study's trials in the order in which they started."""
        found = [
            row
            for row in studies.read(name).results.recorded.trials
            if task in {"", row.task} and status in {"", str(row.status)}
        ]
        return _page(found, offset, limit)

    @router.get("/api/studies/{name}/reports", response_model=Rows, responses=UNKNOWN, operation_id="reports")
    def reports(name: Name, trial: Filter = "", offset: Offset = 0, limit: Limit = MOST_ROWS) -> Response:
        """Return a study's reports, a trial's by rung."""
        found = [row for row in studies.read(name).results.recorded.reports if trial in {"", row.trial_id}]
        return _page(found, offset, limit)

    @router.get("/api/studies/{name}/orders", response_model=list[Order], responses=UNKNOWN, operation_id="orders")
    def orders(name: Name) -> Response:
        """Return a study's orders, the newest first."""
        return json_answer([each.row() for each in studies.read(name).orders])

    @router.post(
        "/api/studies/{name}/orders",
        response_model=Order,
        status_code=202,
        responses=UNKNOWN | NO_JSON,
        operation_id="order",
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
        operation_id="check_order",
        dependencies=[Depends(only_json)],
    )
    async def check_order(name: Name, asked: OrderRequest) -> Response:
        """Say whether the study's driver would surely refuse an order; nothing is ordered."""
        await run_sync(studies.check, name, asked, limiter=orders_at_once)
        return Response(status_code=204)

    @router.post(
        "/api/studies/{name}/exports",
        response_model=Exported,
        status_code=201,
        responses=UNKNOWN | NO_JSON,
        operation_id="export",
        dependencies=[Depends(only_json)],
    )
    async def export(name: Name, asked: ExportRequest) -> Response:
        """Export what a study has chosen of a task into the study's folder; answer when it is written."""
        folder = await run_sync(studies.with_adapters, name)
        done = await run_sync(export_apart, folder, asked, limiter=exports_at_once)
        return json_answer(done.model_dump(), 201)

    @router.get(
        "/api/studies/{name}/adapters/{task}", response_class=Response, responses=UNKNOWN | ZIP, operation_id="adapter"
    )
    def adapter(name: Name, task: Task) -> Response:
        """Return what a study has chosen of a task as a ZIP file of its folder."""
        return ZipAnswer(adapter_folder(studies.with_adapters(name), task), f"{name}-{task}")

    @router.get(
        "/api/studies/{name}/exports/{task}/{form}",
        response_class=Response,
        responses=UNKNOWN | ZIP,
        operation_id="exported",
    )
    def exported(name: Name, task: Task, form: Form) -> Response:
        """Return what was exported of a task in this form as a ZIP file of its folder."""
        return ZipAnswer(exported_folder(studies.folder(name), task, form), f"{name}-{task}-{form}")

    return router


def _page(found: list[Any], offset: int, limit: int) -> Response:
    rows = [row.row() for row in found[offset : offset + limit]]
    return json_answer({"total": len(found), "offset": offset, "rows": rows})


MOST_SUBMISSIONS = 20
"""The most submissions that wait for their check; further ones wait for these, and hold up no page."""
UNKNOWN_ENTRY = problems({404: "There is no such entry."})
UNAVAILABLE = problems({503: "The queue can't be kept now."})
Key = Annotated[int, Path(ge=1, le=2**53, description="An entry's number.")]


def no_queue() -> APIRouter:
    """Returns the routes of a service that runs no queue: each is refused."""
    router = APIRouter(include_in_schema=False)

    @router.api_route(QUEUE + "{rest:path}", methods=["GET", "POST", "PATCH", "DELETE"])
    def refuse(rest: str) -> Response:
        raise Refusal("the queue", "this service runs none", "ask the service that runs this storage's queue")

    return router


def queue_routes(queue: StudyQueue, studies: ServedStudies, access: Access) -> APIRouter:
    """Returns the routes below /api/queue."""
    router = APIRouter(prefix=QUEUE, responses=PROBLEMS | UNAVAILABLE)
    submissions_at_once = CapacityLimiter(MOST_SUBMISSIONS)

    @router.get("", response_model=QueueView, operation_id="queue")
    def view() -> Response:
        """Return the queue: who has which slots, who waits, what has ended."""
        return json_answer(queue.view(studies.summaries()))

    @router.post(
        "", response_model=Submitted, status_code=201, operation_id="submit", dependencies=[Depends(only_json)]
    )
    async def submit(asked: Submission, request: Request) -> Response:
        """Give a study a place in the queue, if it could run; X-User may say who submits it."""
        person = access.user(request.headers)
        answer = await run_sync(queue.submit, asked, person, limiter=submissions_at_once)
        return json_answer(answer, 200 if asked.only_plan else 201)

    @router.post(
        "/resume",
        response_model=Entry,
        status_code=201,
        responses=UNKNOWN,
        operation_id="resume",
        dependencies=[Depends(only_json)],
    )
    async def resume(asked: Resumption, request: Request) -> Response:
        """Resume a study of the storage that does not run, with more trials or more time if they are given."""
        person, by = access.user(request.headers), access.person(request.headers)
        answer = await run_sync(resume_study, queue, studies, asked, person, by, limiter=submissions_at_once)
        return json_answer(answer, 201)

    @router.post(
        "/train",
        response_model=Entry,
        status_code=201,
        responses=UNKNOWN,
        operation_id="train",
        dependencies=[Depends(only_json)],
    )
    async def train(asked: TrainingRequest, request: Request) -> Response:
        """Train what a study that does not run has chosen again on all training examples, or on all data."""
        person = access.user(request.headers)
        answer = await run_sync(train_study, queue, studies, asked, person, limiter=submissions_at_once)
        return json_answer(answer, 201)

    @router.patch(
        "/{key}", response_model=Entry, responses=UNKNOWN_ENTRY, operation_id="move", dependencies=[Depends(only_json)]
    )
    def move(key: Key, asked: Move) -> Response:
        """Give an entry another priority."""
        return json_answer(queue.move(key, asked.priority))

    @router.delete("/{key}", response_model=Entry, responses=UNKNOWN_ENTRY, operation_id="remove")
    def remove(key: Key, request: Request) -> Response:
        """Remove an entry; a study that runs keeps its trials."""
        return json_answer(queue.remove(key, access.user(request.headers)))

    @router.post("/{key}/again", response_model=Entry, responses=UNKNOWN_ENTRY, operation_id="put_back")
    def put_back(key: Key) -> Response:
        """Give an entry that ended its place again; its study is resumed."""
        return json_answer(queue.put_back(key))

    return router
