"""Serves the login: a form for the token, and the cookie that a browser gets for it."""

import asyncio
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.types import Scope

from krona_tune.report.html import framed, rendered
from krona_tune.service.access import FAILED_SECONDS, Access
from krona_tune.service.responses import served_page


def login_routes(access: Access) -> APIRouter:
    """Returns the routes of the login, which answer with HTML."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/login")
    async def login(request: Request, to: str = "/") -> str:
        return login_page(request.scope, own_path(to))

    @router.post("/login")
    async def logged_in(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode(errors="replace"))
        token, to = (fields.get(name, [""])[0] for name in ("token", "to"))
        if not access.token or not access.is_token(token.strip()):
            await asyncio.sleep(FAILED_SECONDS)
            return HTMLResponse(login_page(request.scope, own_path(to), "That is not the token."), 401)
        answer = RedirectResponse(own_path(to), 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(access.cookie_name, access.cookie, httponly=True, samesite="strict", secure=secure, path="/")
        return answer

    return router


def own_path(to: str) -> str:
    """Returns a path of this service: `to`, or the index if `to` may lead elsewhere."""
    own = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
    return to if own else "/"


def login_page(scope: Scope, to: str, problem: str = "") -> str:
    body = rendered("login.html.j2", {"to": to, "problem": problem})
    return framed("Log in", body, served=served_page(scope))
