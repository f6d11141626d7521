"""Answers examples by HTTP with a saved adapter on its backbone, until Ctrl-C."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response

from krona_tune import __version__
from krona_tune.data.answer_files import PREDICTION
from krona_tune.data.example_files import texts_of
from krona_tune.data.separated_text import refuse_lacking
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal
from krona_tune.service.access import Access
from krona_tune.service.http_server import address_at, guarded_app, listening, run_app
from krona_tune.service.response_models import MOST_EXAMPLES, PREDICT, GivenAnswers, GivenExamples, Version
from krona_tune.service.responses import PROBLEMS, json_answer, only_json, problems
from krona_tune.service.shared_batches import SharedBatches
from krona_tune.train.predict import AdaptedModel, Prediction, predictions

PROBABILITIES = "probabilities"
"""The name under which an answer holds all labels' probabilities."""
MOST_DEEP = 32
"""In how many lists and mappings a value beside the texts may be, which is sent back."""
MOST_WAITING = 8 * MOST_EXAMPLES
"""The most examples that wait for their batch."""


def make_answering_app(whole: AdaptedModel, token: str = "") -> FastAPI:
    """Returns the service that answers examples of an adapter's task.

    Args:
        token: what a request must know; empty: requests come from this machine.
    """
    texts = ", ".join(f'"{name}": "a text"' for name in whole.task.inputs)
    sent = f'send {{"examples": [{{{texts}}}]}}, at most {MOST_EXAMPLES} at once'
    app = guarded_app(Access(token=token), written={"examples": sent, "body": sent}, pages=False)
    app.include_router(_routes(whole, sent))
    return app


def _routes(whole: AdaptedModel, sent: str) -> APIRouter:
    router = APIRouter(responses=PROBLEMS | problems({503: "Too many examples wait."}))
    batches = SharedBatches[Sequence[str], Prediction](
        lambda rows: list(predictions(whole, rows)), most_together=MOST_EXAMPLES, most_waiting=MOST_WAITING
    )

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", response_model=Version, operation_id="health")
    async def version() -> Response:  # it answers also while a batch is computed
        """Return the service's version."""
        return json_answer(Version(version=__version__))

    @router.post(
        PREDICT,
        response_model=GivenAnswers,
        dependencies=[Depends(only_json)],
        description=f"Answer examples of {whole.task.title}: {sent}. At most {whole.card.max_length} tokens of each "
        "are read, as in training.",
    )
    async def predict(request: GivenExamples) -> Response:
        rows = [_texts(whole.task, row, f"examples[{number}]") for number, row in enumerate(request.examples)]
        found = await batches.answer(rows)
        answers = [_answer(whole.task, row, each) for row, each in zip(request.examples, found, strict=True)]
        return json_answer({"answers": answers})

    return router


def _texts(task: Task, row: Mapping[str, Any], place: str) -> list[str]:
    refuse_lacking(list(row), task.inputs, place, f"name its texts {' and '.join(task.inputs)}")
    if taken := [name for name in (PREDICTION, PROBABILITIES) if name in row and name not in task.inputs]:
        raise Refusal(place, f"it has {taken[0]!r}, which the answer gets", "rename that")
    if _is_deeper(row, MOST_DEEP):
        raise Refusal(place, "its values are nested too deeply", "send flat values")
    return texts_of(row, task.inputs, task, place)


def _is_deeper(value: Any, most: int) -> bool:
    """Returns whether values are nested in more than this many lists and mappings."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return most < 0 or any(_is_deeper(each, most - 1) for each in inner)


def _answer(task: Task, row: Mapping[str, Any], found: Prediction) -> dict[str, Any]:
    others = {name: value for name, value in row.items() if name not in task.inputs}
    likely = dict(zip(task.labels, found.probabilities, strict=True)) if found.probabilities else None
    return others | {PREDICTION: found.answer} | ({PROBABILITIES: likely} if likely else {})


def serve_answers(
    load: Callable[[], AdaptedModel], host: str, port: int, token: str, ready: Callable[[str, Task], object]
) -> None:
    """Answers examples until Ctrl-C.

    Args:
        load: returns the adapter on its backbone; called once the port is this process's.
        port: 0 for any free one.
        token: what requests must know; empty: none is needed.
        ready: gets the address and the task, when examples are answered.

    Raises:
        Refusal: other machines could reach it and there is no token, the host or port can't be used, or `load` refuses.
    """
    with listening(host, port, token) as opened:
        whole = load()
        app = make_answering_app(whole, token)
        ready(address_at(host, opened), whole.task)
        run_app(app, opened)
