"""Requests, spaces and journals that need no Ray."""

from typing import Any

from krona_tune.search.planning.resolve_space import resolve
from krona_tune.search.planning.space import Space
from krona_tune.study.spec.loader import build_spec
from krona_tune.study.spec.study_spec import StudySpec
from tests.models import build


def never(reason: str) -> None:
    """In the place of what halts a study."""
    raise AssertionError(reason)


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
    name: str = "bert", adapter: dict[str, Any] | None = None, methods: dict[str, Any] | None = None, **search: Any
) -> Space:
    """A space resolved on one of the tiny backbones of `tests.models`."""
    return resolve(spec(adapter, methods=methods, **search), build(name)[0], "x.yaml")
