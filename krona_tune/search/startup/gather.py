"""Gathers what a plan needs to run: workers, a backbone on disk, data."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

from krona_tune.refusal import Refusal
from krona_tune.search.planning.plan import Plan
from krona_tune.search.preflight.findings import together
from krona_tune.search.startup.cluster import Cluster, Slots, slots
from krona_tune.search.startup.task_data import Prepared, prepare_data
from krona_tune.study.request.study_spec import Precision
from krona_tune.train.backbone_source import BackboneSource, download

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What a plan needs to run: workers, a backbone on disk, data. Nothing is written yet."""

    plan: Plan
    cluster: Cluster
    slots: Slots
    source: BackboneSource
    prepared: Prepared


def gather_study(plan: Plan, connecting: "Future[Cluster]") -> Gathered:
    """Returns workers, backbone and data; reads the data while Ray starts.

    Raises:
        Refusal: some of them are not available; it names all of those.
    """
    problems: list[Refusal] = []
    read = _result_or_problem(lambda: _backbone_and_data(plan), problems)
    cluster = _result_or_problem(connecting.result, problems)
    fit = _result_or_problem(lambda: slots(cluster, plan.spec.resources), problems) if cluster else None
    if cluster is None or fit is None or read is None:
        raise together(problems)
    return Gathered(plan=plan, cluster=cluster, slots=fit, source=read[0], prepared=read[1])


def computing_in(gathered: Gathered, precision: Precision | None) -> Gathered:
    """Returns the study with what `precision: auto` turned out to be; None if that is not known."""
    return replace(gathered, plan=replace(gathered.plan, computes_in=precision)) if precision else gathered


def _backbone_and_data(plan: Plan) -> tuple[BackboneSource, Prepared]:
    source = download(plan.source)
    return source, prepare_data(plan, source.location)


def _result_or_problem(get: Callable[[], Found], problems: list[Refusal]) -> Found | None:
    """Returns the result of `get`; on a Refusal adds it to `problems` and returns None."""
    try:
        return get()
    except Refusal as refusal:
        problems.append(refusal)
        return None
