"""Serves the queue as JSON."""

from contextlib import suppress
from typing import Annotated

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Request, Response

from krona_tune.refusal import Refusal
from krona_tune.service.access import Access
from krona_tune.service.queue.entry import (
    QUEUE,
    Entry,
    Move,
    QueueView,
    Resumption,
    Submission,
    SubmissionAnswer,
    TrainingRequest,
)
from krona_tune.service.queue.resumption import resume_study, train_study
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.response_models import StudySummary
from krona_tune.service.responses import PROBLEMS, UNAVAILABLE, UNKNOWN, json_answer, only_json, problems
from krona_tune.service.served_studies import ServedStudies

MOST_SUBMISSIONS = 20
"""The most submissions that wait for their check; further ones wait for these, and hold up no page."""
UNKNOWN_ENTRY = problems({404: "There is no such entry."})
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
        summaries: list[StudySummary] = []
        with suppress(Refusal):  # a storage that is not reached hides what studies have used, and nothing else
            summaries = studies.summaries()
        return json_answer(queue.view(summaries))

    @router.post("", response_model=SubmissionAnswer, status_code=201, dependencies=[Depends(only_json)])
    async def submit(asked: Submission, request: Request) -> Response:
        """Give a study a place in the queue, if it could run; X-User may say who submits it."""
        person = access.user(request.headers)
        answer = await run_sync(queue.submit, asked, person, limiter=submissions_at_once)
        return json_answer(answer, 200 if asked.only_plan else 201)

    @router.post("/resume", response_model=Entry, status_code=201, responses=UNKNOWN, dependencies=[Depends(only_json)])
    async def resume(asked: Resumption, request: Request) -> Response:
        """Resume a study of the storage that does not run, with more trials or more time if they are given."""
        person, by = access.user(request.headers), access.person(request.headers)
        answer = await run_sync(resume_study, queue, studies, asked, person, by, limiter=submissions_at_once)
        return json_answer(answer, 201)

    @router.post("/train", response_model=Entry, status_code=201, responses=UNKNOWN, dependencies=[Depends(only_json)])
    async def train(asked: TrainingRequest, request: Request) -> Response:
        """Train what a study that does not run has chosen again on all training examples, or on all data."""
        person = access.user(request.headers)
        answer = await run_sync(train_study, queue, studies, asked, person, limiter=submissions_at_once)
        return json_answer(answer, 201)

    @router.patch("/{key}", response_model=Entry, responses=UNKNOWN_ENTRY, dependencies=[Depends(only_json)])
    def move(key: Key, asked: Move) -> Response:
        """Give an entry another priority."""
        return json_answer(queue.move(key, asked.priority))

    @router.delete("/{key}", response_model=Entry, responses=UNKNOWN_ENTRY)
    def remove(key: Key, request: Request) -> Response:
        """Remove an entry; a study that runs keeps its trials."""
        return json_answer(queue.remove(key, access.user(request.headers)))

    @router.post("/{key}/again", response_model=Entry, responses=UNKNOWN_ENTRY)
    def put_back(key: Key) -> Response:
        """Give an entry that ended its place again; its study is resumed."""
        return json_answer(queue.put_back(key))

    return router
