"""Provides requests and spaces that need no Ray."""

from typing import Any

from krona_tune.adapters.placement import count
from krona_tune.backbones.geometry import Geometry
from krona_tune.data.tasks import TASKS
from krona_tune.search.ledger import Count
from krona_tune.search.planning.space import Space, resolve
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import StudySpec
from tests.models import build


def never(reason: str) -> None:
    """Takes the place of the function that halts a study, and fails the test if it is called."""
    raise AssertionError(reason)


def count_on(geometry: Geometry) -> Count:
    """Returns a function that counts what a trial of a GLUE task trains on a backbone."""
    return lambda trial: count(geometry, trial.adapter, TASKS[trial.task].outputs)


def spec(
    adapter: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    methods: dict[str, Any] | None = None,
    **search: Any,
) -> StudySpec:
    sections = {"adapter": adapter, "training": training, "methods": methods, "search": search}
    written = {name: section or {} for name, section in sections.items()}
    return build_spec({"model": "m", "name": "s", "tasks": ["cola"], **written}, "x.yaml")


def space(
    name: str = "bert",
    adapter: dict[str, Any] | None = None,
    methods: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **search: Any,
) -> Space:
    """Returns a space resolved on one of the tiny backbones of `tests.models`."""
    return resolve(spec(adapter, training, methods, **search), build(name)[0], "x.yaml")
