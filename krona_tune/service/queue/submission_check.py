"""Checks a submission as `run` does, in a process of its own: what a request names is imported, and that is code."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from rich.text import Text

from krona_tune.api.chosen_space import choose_space
from krona_tune.api.folders import earlier_studies, refuse_odd, refuse_taken, with_whole_paths
from krona_tune.api.plan_printing import print_dry_run, print_plan
from krona_tune.api.plan_view import plan_lines
from krona_tune.api.printing import console
from krona_tune.api.study_request import default_to_glue, spec_of
from krona_tune.child_process import ChildProcess, ProcessEnded, TooSlow
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.startup.slots import Cluster, slots, this_machine
from krona_tune.service.queue.drivers import MOST_PACKED, packed
from krona_tune.service.queue.entry import LONGEST_SPACE, Submission, start_of
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.given_values import GivenValue
from krona_tune.study.request.loader import dump_spec, read_request, spec_with
from krona_tune.study.request.study_spec import ResourcesSpec, StudySpec

CHECK_SECONDS = 120.0
"""How long a check may take; it may fetch a model's sizes from the hub."""


@dataclass(frozen=True, kw_only=True)
class CheckedSubmission:
    """A request that passed all checks: its whole YAML, the lines of its plan, what its trials need, and, if that was
    asked for, all that `run --dry-run` prints of it."""

    space: str
    lines: Mapping[str, str]
    resources: ResourcesSpec
    printed: str = ""


def check_apart(
    storage: Storage, asked: Submission, on: Cluster | None = None, *, prints: bool = False
) -> CheckedSubmission:
    """Returns what `check` returns, from a process that ends with it.

    Raises:
        Refusal: what `check` raises, or the request's own code takes too long or ends its process.
    """
    with ChildProcess() as child:
        try:
            return child.call(partial(check, prints=prints), storage, asked, on, seconds=CHECK_SECONDS)
        except (TooSlow, ProcessEnded) as error:
            fix = "look at what it names: metrics, methods, data"
            raise Refusal("the request", f"no plan could be made of it: {error}", fix) from None


def check(storage: Storage, asked: Submission, on: Cluster | None = None, *, prints: bool = False) -> CheckedSubmission:
    """Returns the request as it would run.

    Args:
        on: what the queue has, for which a space is chosen or made if the request names none; None: this machine.
        prints: makes all that `run --dry-run` prints, with what the study takes there.

    Raises:
        Refusal: it is wrong, or its name is taken.
    """
    with _of_the_name():
        refuse_odd(asked.name)
    folder = storage.brought(asked.name).anchored()
    with _of_the_name(fix="choose another name"):
        refuse_taken(folder, asked.name)
    start_of(asked).refuse_odd()
    requested, place, reason = _requested(asked, storage, on)
    spec = _with_earlier_studies(requested.settled(), storage)
    plan = make_plan(with_whole_paths(spec.model_copy(update={"name": asked.name})), place)
    space = dump_spec(plan.spec)
    if len(space) > LONGEST_SPACE:
        raise Refusal("space", f"whole it has {len(space):,} characters", f"write one of at most {LONGEST_SPACE:,}")
    if (size := len(packed(space))) > MOST_PACKED:
        raise Refusal("space", f"packed it has {size:,} characters", f"write a request of at most {MOST_PACKED:,}")
    lines = plan_lines(plan, reason, folder.where_from_afar)
    printed = _dry_run(plan, reason, folder, on or this_machine()) if prints else ""
    return CheckedSubmission(space=space, lines=lines, resources=plan.spec.resources, printed=printed)


@contextmanager
def _of_the_name(fix: str | None = None) -> Iterator[None]:
    """Turns refusals of a name into those of the field that holds it, with another fix if one is given."""
    try:
        yield
    except Refusal as refusal:
        raise refusal.at("name", fix=fix) from None


def _dry_run(plan: Plan, reason: str, folder: StudyFolder, on: Cluster) -> str:
    """Returns what a dry run prints, without colours."""
    needed = slots(on, plan.spec.resources)
    with console.capture() as printed:
        print_plan(plan, reason, folder.where_from_afar)
        print_dry_run(plan, needed, folder)
    return Text.from_ansi(printed.get()).plain


def _requested(asked: Submission, storage: Storage, on: Cluster | None) -> tuple[StudySpec, str, str]:
    """Returns the request, the place that messages name, and in words why its space was taken if it names none."""
    given = [GivenValue(each.key, each.value, each.by) for each in asked.given]
    if asked.space or not given:
        values = read_request(asked.space, "space")
        return default_to_glue(spec_with(values, "space", storage.folder, given)), "the request", ""
    chosen = choose_space(given, on=on)
    return spec_of(chosen.source, given), str(chosen.place), chosen.reason


def _with_earlier_studies(spec: StudySpec, storage: Storage) -> StudySpec:
    """Returns the request with the whole paths of the studies that it learns from. A bare name is a study's of this
    storage, also of the usual one, and no folder's where the service runs."""
    if not spec.search.warm_start:
        return spec
    found = earlier_studies(replace(storage, folder=storage.folder.absolute()), spec.search.warm_start)
    return spec.model_copy(update={"search": spec.search.model_copy(update={"warm_start": found})})
