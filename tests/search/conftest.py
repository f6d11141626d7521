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
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.planning.space import Space
from krona_tune.search.startup import begin_study, cluster
from krona_tune.search.startup.begin_study import Resources
from krona_tune.search.startup.cluster import connecting
from krona_tune.search.startup.slots import Cluster, Node
from krona_tune.search.worker.trainable import KronaTrial, Workplace
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.train.backbone import Backbone, warm_backbone
from krona_tune.train.device import this_device
from tests.models import build
from tests.search.models import saved_bert
from tests.search.workers import WORKS, Workers, worker_here

GIGABYTE = 2**30
SMALL: dict[str, Any] = {
    "data": "mini",
    "tasks": ["cola", "stsb"],
    "precision": "fp32",
    "adapter": {"a_out": "divisors", "a_in": "divisors", "roles": ["query", "query+value"]},
    "training": {"batch_size": [4, 16], "dropout": 0.0},
    "examples": {"train": 48, "validation": 24, "test": 24, "max_length": 40},
    "search": {"trials": 7},
}


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


def one_node(cpus: float = 3, memory_bytes: float = 64 * GIGABYTE) -> Cluster:
    return Cluster(nodes=(Node(cpus, 0, memory_bytes),), dashboard="")


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resources]:
    """Returns a study as it is before its first trial, on a machine of three CPUs; no Ray is started."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setattr(cluster, "connect", lambda address, nice: one_node())
        plan = make_plan(build_spec({**SMALL, "model": str(saved_bert(home / "bert"))}, "x.yaml"), "x.yaml")
        yield begin_study.gather_resources(plan, connecting(None))


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
