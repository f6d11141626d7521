"""Checks orders, by a driver or before one reads them: by a study's request and rows, without Ray, torch and Optuna."""

from collections.abc import Collection, Mapping
from contextlib import suppress

from krona_tune.record.orders import give_order, waiting_orders
from krona_tune.record.ownership import is_running
from krona_tune.record.parquet_reader import read_orders, read_trials
from krona_tune.refusal import Refusal, unknown
from krona_tune.search.clone import clone_of
from krona_tune.search.request_change import KEYS, new_value
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.order import SEARCH, Order, OrderRequest, is_paused, search_ended_by
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status, TrialResult

Rows = Mapping[str, TrialResult]


def give_checked_order(folder: StudyFolder, request: OrderRequest, by: str = "") -> Order:
    """Leaves an order for the study's driver, unless the driver would surely refuse it; returns it as it waits.

    Args:
        by: who gives it; empty for the user of this process.

    Raises:
        Refusal: it makes no sense, or what `give_order` raises.
    """
    if folder.spec.exists():
        _refuse_senseless(folder, request)
    return give_order(folder, request, by)


def _refuse_senseless(folder: StudyFolder, request: OrderRequest) -> None:
    spec = load_spec(folder.spec)
    if request.what in KEYS:
        new_value(request, spec, folder)
    elif request.trial:
        _refuse_trial(request, folder, spec)
    elif not is_running(folder):
        _refuse_now(request, folder)


def _refuse_trial(request: OrderRequest, folder: StudyFolder, spec: StudySpec) -> None:
    rows: Rows | None = None
    with suppress(Refusal):  # what can't be read is renamed by the driver, which then knows more
        rows = {row.trial_id: row for row in read_trials(folder.results)}
    if rows is not None and request.what == "stop_trial":
        stoppable(request, rows)
    elif rows is not None:
        clone_of(request, clonable(request, rows, spec), 0, lambda trial: None)


def _refuse_now(request: OrderRequest, folder: StudyFolder) -> None:
    """Raises a Refusal if an order means nothing to a study that does not run, by the orders before it."""
    if request.what == "cancel":
        raise Refusal(request.said, "the study does not run", "there is nothing to end")
    orders: list[Order] = []
    with suppress(Refusal):
        orders = [*read_orders(folder.results), *waiting_orders(folder)]
    if any(order.state in {"waiting", "taken"} for order in orders):
        return  # they may change it before
    paused = is_paused(orders)
    if request.what == "pause":
        refuse_pause(request, paused=paused)
    elif request.what == "continue":
        what_goes_on(request, paused=paused, ended=bool(search_ended_by(orders)))


def stoppable(order: Order | OrderRequest, rows: Rows, running: Collection[str] = ()) -> TrialResult:
    """Returns the row of a trial that can be stopped. Raises a Refusal if it can't be."""
    row = _row(order, rows, running)
    if row.status is not Status.INTERRUPTED:
        state = str(row.status).replace("_", " ")
        raise Refusal(order.said, f"{row.trial_id} does not run, it is {state}", "look at the trials that run")
    if row.kind != TrialKind.SEARCH:
        raise Refusal(order.said, f"a {row.kind} is compared with the others", "pause or cancel the study instead")
    return row


def clonable(order: Order | OrderRequest, rows: Rows, spec: StudySpec, running: Collection[str] = ()) -> TrialResult:
    """Returns the row of a trial that can be cloned. Raises a Refusal if it can't be."""
    row = _row(order, rows, running)
    if row.kind != TrialKind.SEARCH:
        raise Refusal(order.said, f"{row.trial_id} is a {row.kind}", "clone a trial of the search")
    if spec.search.shared:
        problem = "the tasks share their configurations, and a clone would have one task only"
        raise Refusal(order.said, problem, "begin a study of this task")
    return row


def _row(order: Order | OrderRequest, rows: Rows, running: Collection[str]) -> TrialResult:
    row = rows.get(order.trial)
    if row is None:
        raise unknown(order.said, "trial", order.trial, running or rows)
    return row


def refuse_pause(order: Order | OrderRequest, *, paused: bool) -> None:
    """Raises a Refusal if a paused study would be paused again."""
    if paused:
        raise Refusal(order.said, "the study is paused already", "let it go on with continue")


def what_goes_on(order: Order | OrderRequest, *, paused: bool, ended: bool) -> str:
    """Returns what goes on by an order to continue. Raises a Refusal if nothing waits; `ended`: the search was."""
    if paused:
        return "study"
    if ended:
        return SEARCH
    raise Refusal(order.said, "the study is not paused, and nobody ended its search", "there is nothing to do")
