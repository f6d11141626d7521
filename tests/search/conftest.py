"""Provides requests, spaces and workers that need no Ray."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from krona_tune.adapters.placement import count
from krona_tune.backbones.geometry import Geometry
from krona_tune.data.tasks import TASKS
from krona_tune.search import study_orders
from krona_tune.search.ledger import Count
from krona_tune.search.planning.space import Space, resolve
from krona_tune.search.worker.trainable import KronaTrial, Workplace
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.train.backbone import Backbone, warm_backbone
from krona_tune.train.device import this_device
from tests.models import build
from tests.search.workers import WORKS, Workers, worker_here


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


@pytest.fixture(scope="session")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "bert"
    build("bert", outputs=2)[1].save_pretrained(folder)
    return str(folder)


@pytest.fixture
def worker(location: str, tmp_path: Path) -> Iterator[Workers]:
    """Returns a function that makes workers in this process, as Ray does; the test's end clears their backbone."""
    place = Workplace(
        folder=location, name="nowhere", precision="fp32", gpu=False, threads=1, checkpoints=str(tmp_path)
    )

    def make(first: dict[str, Any], **own: Any) -> KronaTrial:
        return worker_here(first, WORKS, replace(place, **own))

    yield make
    warm_backbone.cache_clear()


@pytest.fixture
def backbone(location: str) -> Backbone:
    """Returns the warm backbone that the workers of this process share."""
    return warm_backbone(location, this_device("fp32", gpu=False), None)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """A study whose driver was killed: trial cola-000 has ended, cola-001 was interrupted."""
    from tests.search.order_driver import cut_off_study

    return cut_off_study(tmp_path / "s")


@pytest.fixture
def prompt_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the drivers of a test look for orders whenever they are asked."""
    from tests.search.order_driver import PromptInbox

    monkeypatch.setattr(study_orders, "Inbox", PromptInbox)
