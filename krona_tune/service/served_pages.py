"""Makes the pages that the service sends, with the templates of the report."""

from functools import cache
from hashlib import sha256

from markupsafe import Markup
from plotly.offline import get_plotlyjs
from starlette.types import Scope

from krona_tune.report.pages.html import Served, environment, framed
from krona_tune.report.pages.study_page import NOW
from krona_tune.service.answers import Problem, StudySummary
from krona_tune.service.study_reading import Body


@cache
def plotly_address() -> str:
    """Returns the address of plotly.js, which changes with its content."""
    return f"/plotly.js?v={sha256(get_plotlyjs().encode()).hexdigest()[:12]}"


def index_body(studies: list[StudySummary], place: str) -> Markup:
    template = environment().get_template("index.html.j2")
    return Markup(template.render(studies=studies, place=place, synthetic=any(each.synthetic for each in studies)))


def index_page(scope: Scope, body: Markup, stamp: str) -> str:
    return framed("Studies", body, served=_served(scope, source="/main", events="/events", stamp=stamp))


def study_page(scope: Scope, name: str, body: Body, present: str) -> str:
    """Returns a study's page with what happens now."""
    address = f"/studies/{name}"
    served = _served(
        scope,
        source=f"{address}/main",
        events=f"{address}/events",
        orders=f"/api{address}/orders",
        stamp=body.stamp,
    )
    return framed(body.title, Markup(body.html.replace(NOW, Markup(present), 1)), served=served)


def login_page(scope: Scope, to: str, problem: str = "") -> str:
    body = environment().get_template("login.html.j2").render(to=to, problem=problem)
    return framed("Log in", Markup(body), served=_served(scope))


def problem_page(scope: Scope, said: Problem, title: str) -> str:
    body = environment().get_template("problem.html.j2").render(said=said, title=title)
    return framed(title, Markup(body), served=_served(scope))


def _served(scope: Scope, source: str = "", events: str = "", orders: str = "", stamp: str = "") -> Served:
    nonce, plotly = str(scope["nonce"]), plotly_address() if events else ""
    return Served(nonce=nonce, plotly=plotly, source=source, events=events, orders=orders, stamp=stamp)
