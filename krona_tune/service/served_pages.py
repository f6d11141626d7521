"""Makes the pages that the service sends, with the templates of the report."""

import time
from functools import cache
from hashlib import sha256

from markupsafe import Markup
from plotly.offline import get_plotlyjs
from starlette.types import Scope

from krona_tune.report.pages.html import Served, environment, framed
from krona_tune.report.pages.study_page import NOW
from krona_tune.service.answers import Problem, StudySummary
from krona_tune.service.queue.entry import LEAST_PRIORITY, MOST_PRIORITY, QueueView
from krona_tune.service.queue.slots_picture import slots_picture
from krona_tune.service.study_reading import Body

MOST_CHANGES = 100
"""How many changes of slots the index lists in numbers."""


@cache
def plotly_address() -> str:
    """Returns the address of plotly.js, which changes with its content."""
    return f"/plotly.js?v={sha256(get_plotlyjs().encode()).hexdigest()[:12]}"


def index_body(studies: list[StudySummary], place: str, queue: QueueView | None = None) -> Markup:
    """Returns what the index shows: the studies, and the queue of a service that runs one."""
    template = environment().get_template("index.html.j2")
    shown = template.render(
        studies=studies,
        place=place,
        synthetic=any(each.synthetic for each in studies),
        queue=queue,
        picture=slots_picture(queue.changes, time.time()) if queue else None,
        least=LEAST_PRIORITY,
        most=MOST_PRIORITY,
        most_changes=MOST_CHANGES,
    )
    return Markup(shown)


def index_page(scope: Scope, body: Markup, stamp: str, *, queue: bool = False) -> str:
    """Returns the index around its body; `queue`: with what changes the queue."""
    served = _served(scope, source="/main", events="/events", stamp=stamp)
    changes = environment().get_template("queue_changes.html.j2").render(nonce=served.nonce) if queue else ""
    return framed("Studies", body + Markup(changes), served=served)


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
