"""Holds what was read of a study: its files' stamp, its records with passwords masked, its drawn page."""

from dataclasses import dataclass, replace

from markupsafe import Markup

from krona_tune.record.driver_state import DriverState
from krona_tune.record.records import Records
from krona_tune.service.answers import StudySummary
from krona_tune.service.study_summary import Plan
from krona_tune.study.manifest import Manifest
from krona_tune.study.order import Order
from krona_tune.study.redact import redact


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a study's files are now: a stamp of its records, whether it runs, and what its driver wrote last."""

    stamp: str
    runs: bool
    driver: DriverState | None


@dataclass(frozen=True, kw_only=True)
class Read:
    """What was read of a study, with passwords masked."""

    stamp: str
    manifest: Manifest
    recorded: Records
    orders: tuple[Order, ...]
    plan: Plan
    summary: StudySummary
    spec: str


@dataclass(frozen=True, kw_only=True)
class Body:
    """A study's rendered page without the part about the present, and the stamp of the records that it shows."""

    stamp: str
    title: str
    html: Markup


def masked(recorded: Records) -> Records:
    """Returns records with the passwords in errors masked."""
    trials = tuple(replace(trial, error=redact(trial.error)) if trial.error else trial for trial in recorded.trials)
    return replace(recorded, trials=trials)


def masked_order(order: Order) -> Order:
    return order.model_copy(update={"outcome": redact(order.outcome), "settings": tuple(map(redact, order.settings))})
