"""Answers requests: with values as JSON, or with what is wrong, as JSON for a program and as a page for a browser."""

import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from typing import Any

from plotly.offline import get_plotlyjs
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from krona_tune.refusal import Refusal
from krona_tune.report.html import ServedPage, framed, rendered
from krona_tune.service.response_models import Problem
from krona_tune.study.formatting import plain
from krona_tune.study.redact import redact

FOR_PROGRAMS = ("/api/", "/openapi.json", "/healthz")
"""The beginnings of the paths that programs ask for."""

SEND_AGAIN = "correct that and send it again"
"""The fix of a refusal whose problem says it."""


def problems(texts: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Returns what a route may answer besides its value: what each status means."""
    return {status: {"model": Problem, "description": text} for status, text in texts.items()}


PROBLEMS = problems(
    {
        400: "The request can't be read.",
        401: "The token is missing or wrong.",
        403: "Another site's page sent this.",
        413: "The request is too large.",
        421: "The Host header is no name of this machine.",
        422: "The request can't be met.",
        503: "The storage does not answer now.",
    }
)
UNKNOWN = problems({404: "There is no such study."})
NO_JSON = problems({415: "The request is no JSON."})
UNAVAILABLE = problems({503: "The queue can't be kept now."})


def json_answer(value: Any, status: int = 200) -> Response:
    """Returns plain values or a model as JSON in ASCII, so that any text can be encoded."""
    held = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain(held), allow_nan=False)
    return Response(text, status_code=status, media_type="application/json")


def refused(scope: Scope, status: int, refusal: Refusal, headers: dict[str, str] | None = None) -> Response:
    """Returns the answer to a request that is refused with this status."""
    told = {name: redact(getattr(refusal, name)) for name in ("place", "problem", "fix")}
    said = Problem(**told | {"fix": told["fix"] or SEND_AGAIN})
    if is_for_program(scope) or scope["method"] not in {"GET", "HEAD"}:
        answer = json_answer(said, status)
    else:
        answer = HTMLResponse(_problem_page(scope, said, HTTPStatus(status).phrase), status)
    answer.headers.update(headers or {})
    return answer


def is_for_program(scope: Scope) -> bool:
    """Returns whether a program asks for a path: one of those for programs, or any of a service without pages."""
    return not scope["pages"] or str(scope["path"]).startswith(FOR_PROGRAMS)


def _problem_page(scope: Scope, said: Problem, title: str) -> str:
    body = rendered("problem.html.j2", {"said": said, "title": title})
    return framed(title, body, served=served_page(scope))


def served_page(scope: Scope, source: str = "", events: str = "", orders: str = "", stamp: str = "") -> ServedPage:
    """Returns what a page needs of the service: its script's nonce and its addresses."""
    nonce, plotly = str(scope["nonce"]), plotly_address() if events else ""
    return ServedPage(nonce=nonce, plotly=plotly, source=source, events=events, orders=orders, stamp=stamp)


@cache
def plotly_address() -> str:
    """Returns the address of plotly.js, which changes with its content."""
    return f"/plotly.js?v={sha256(get_plotlyjs().encode()).hexdigest()[:12]}"


def only_json(request: Request) -> None:
    """Refuses a body of another kind, which a form of another site could send."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send Content-Type: application/json")
