"""Defines the command that steers a running study: order."""

import time
from typing import Annotated

import typer
from pydantic import ValidationError

from krona_tune.api.folders import study_folder
from krona_tune.api.printing import say
from krona_tune.cli import options
from krona_tune.record.driver_state import running_state
from krona_tune.record.ownership import is_locked
from krona_tune.record.parquet_reader import read_orders
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.search.waiting_orders import give_checked_order, takes_orders
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import FOR_PEOPLE, OF_A_FULL_TRAINING, Order, OrderKind, OrderRequest, order_request

WORDS = tuple(dict.fromkeys(kind.word for kind in FOR_PEOPLE))
"""The orders by the word on the command line; `stop` means another one if it names a trial."""
OF_A_TRIAL = " or ".join(kind.word for kind in FOR_PEOPLE if "trial" in kind.facts.takes)
ANSWER_SECONDS, LOOK_SECONDS = 10.0, 0.3
"""How long the command waits for the driver's answer, and the time between two looks."""


def order(
    study: options.Study,
    what: Annotated[str, typer.Argument(metavar="ORDER", help=f"One of {', '.join(WORDS)}.")],
    about: Annotated[
        str | None,
        typer.Argument(metavar="TRIAL|VALUE", help=f"The trial to {OF_A_TRIAL}, or the new value."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a knob of the clone: PATH=VALUE. May be repeated.")
    ] = None,
    from_last_rung: Annotated[
        bool, typer.Option("--from-last-rung", help="Let the clone start from the trial's last state.")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="Who gives the order; without it your name and machine.")] = "",
    storage: options.Storage = options.STUDIES,
) -> None:
    """Order something of a running study, such as stop cola-003, clone cola-003, pause or trials +20."""
    request = _request(what, about, tuple(settings or ()), from_last_rung=from_last_rung)
    folder = study_folder(storage_at(storage), study)
    try:
        given = give_checked_order(folder, request, by)
    except ValidationError as error:
        raise Refusal("--by", error.errors()[0]["msg"], "write a name of at most 80 characters") from None
    answer = "its driver reads it within a few seconds"
    state = running_state(folder) if is_locked(folder) else None
    if state and state.training and request.what not in OF_A_FULL_TRAINING:
        answer = "a full training runs; the next driver of the search reads it"
    elif not takes_orders(folder):
        answer = "the study does not run; its next driver reads it"
    elif is_locked(folder) and (found := _answered(folder, given)):
        if found.state == "refused":
            raise Refusal(f"{given.text} was refused", found.outcome)
        answer = ", ".join(filter(None, (found.state, found.outcome)))
    say(f"{given.text}: {answer}")


def _answered(folder: StudyFolder, given: Order) -> Order | None:
    """Returns the order as the driver on this machine has answered it; None if it takes long."""
    end = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        for order in read_orders(folder.results):
            if order.id == given.id:
                return order
    return None


def _request(what: str, about: str | None, settings: tuple[str, ...], *, from_last_rung: bool) -> OrderRequest:
    refuse_unknown("ORDER", "order", WORDS, what)
    kinds = {bool(kind.facts.takes): kind for kind in FOR_PEOPLE if kind.word == what}
    kind = kinds.get(about is not None)
    if kind is None:
        problem = "needs a further word" if about is None else f"takes no {about!r}"
        raise Refusal(what, problem, _example(*kinds.values()))
    names = [name for name in kind.facts.takes if name != "settings"]
    given = dict(zip(names, (about or "").split(" ", len(names) - 1), strict=False))
    return order_request(what=kind, settings=settings, from_last_rung=from_last_rung, **given)


def _example(kind: OrderKind) -> str:
    """Says in words what a person writes for an order of this kind, as the fix of a refusal."""
    facts = kind.facts
    if not facts.takes:
        return f"write {kind.word} alone"
    return f"{'name a trial:' if 'trial' in facts.takes else 'write'} {kind.word} {facts.example}"
