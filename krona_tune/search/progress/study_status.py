"""Reads a study's state from its folder: from its rows, its request, its orders, and what its drivers have written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from krona_tune.record.driver_state import read_driver_state, running_state
from krona_tune.record.orders import given_orders
from krona_tune.refusal import Refusal
from krona_tune.search.progress.trials_left import not_begun
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest
from krona_tune.study.order import Order
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import TrialResult
from krona_tune.study.study_state import DriverState, StudyState, asked_trials


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """A study's state, and how many trials of each task are to come; None if nobody knows.

    `problem` says why the request can't be read, if that is the reason. `last` is what the last driver wrote, if none
    runs.
    """

    state: StudyState
    to_come: Mapping[str, int] | None = None
    problem: Refusal | None = None
    last: DriverState | None = None


def read_status(
    folder: StudyFolder,
    rows: Sequence[TrialResult],
    answered: Iterable[Order] = (),
    *,
    runs: bool,
    manifest: Manifest | None = None,
    spec: StudySpec | None = None,
) -> StudyStatus:
    """Returns a study's state.

    Args:
        rows: those of the study's records.
        answered: the orders of its records; what is to come depends on those that wait, too.
        runs: whether a process has the study.
        manifest: the study's; without it, nothing is said of what is to come.
        spec: another request than that in the folder, if somebody asks for more.
    """
    driver, last = (running_state(folder), None) if runs else (None, read_driver_state(folder))
    if manifest is None:
        return StudyStatus(state=StudyState.of(rows, runs=runs, driver=driver))
    to_come, problem = None, None
    try:
        over = driver is not None and driver.search_over
        to_come = _to_come(rows, manifest, spec or load_spec(folder.spec), last, search_over=over)
    except Refusal as refusal:
        problem = refusal
    count = None if to_come is None else sum(to_come.values())
    orders, cut_off = given_orders(folder, answered), last is not None and last.cut_off
    state = StudyState.of(rows, orders, runs=runs, to_come=count, driver=driver, cut_off=cut_off)
    return StudyStatus(state=state, to_come=to_come, problem=problem, last=last)


def _to_come(
    rows: Sequence[TrialResult], manifest: Manifest, spec: StudySpec, last: DriverState | None, *, search_over: bool
) -> dict[str, int]:
    """Returns how many trials of each task have not begun: none, if a driver has said so of a request for as many.

    A driver knows more than rows say: that no point of the space is left to try, for instance, or that its search is
    over, whatever that has left.
    """
    planned = manifest.planned_of(spec)
    if last and last.fulfilled is not None and last.fulfilled >= asked_trials(spec, planned):
        return dict.fromkeys(spec.tasks, 0)
    return not_begun(spec, planned, rows, manifest.tasks, search_over=search_over)
