"""Tests what a study writes at its end, also if the disk is full."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from krona_tune.search import artifacts, driver
from krona_tune.search.budget import Amount, Budget, Rates
from krona_tune.search.startup import cluster
from krona_tune.search.startup.cluster import Cluster, Node
from krona_tune.search.startup.resources import Resources
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.study_spec import ResourcesSpec
from tests.search.conftest import spec
from tests.search.test_ledger import ledger


def full(*asked: object) -> Any:
    raise OSError(28, "No space left on device")


def one(*asked: object) -> list[Path]:
    return [Path("a")]


@pytest.mark.parametrize(
    ("adapters", "page", "halted", "no_page", "paths"),
    [
        (one, lambda folder: Path("page"), "", "", (Path("a"), Path("page"))),
        (one, full, "", "OSError: [Errno 28] No space left on device", (Path("a"),)),
        (full, lambda folder: Path("page"), "the adapters could not be written: OSError: [Errno 28]", "",
         (Path("page"),)),
        (full, full, "the adapters could not be written: OSError: [Errno 28] No space", "OSError: [Errno 28] No space "
         "left on device", ()),
    ],
)  # fmt: skip
def test_adapters_that_can_not_be_written_halt_the_study_and_a_page_does_not(
    monkeypatch: pytest.MonkeyPatch, adapters: Any, page: Any, halted: str, no_page: str, paths: tuple[Path, ...]
) -> None:
    context: Any = SimpleNamespace(folder=StudyFolder(Path("x")), manifest=None, plan=None)
    stopping = StudyStopper(Budget(), Amount)
    monkeypatch.setattr(artifacts, "save_best_adapters", adapters)
    left = artifacts.write_artifacts(context, ledger()[0], page, stopping.halt)
    assert (left.paths, left.no_page) == (paths, no_page)
    assert stopping.halted.startswith(halted)
    assert bool(stopping.halted) == bool(halted)


@pytest.mark.parametrize(
    ("allowed", "asked", "slots"), [(2, None, 2), (50, None, 12), (8, 3, 8), (0, 3, 1), (40, 20, 20)]
)
def test_as_many_trials_run_at_once_as_are_allowed_and_have_room(allowed: int, asked: int | None, slots: int) -> None:
    nodes = Cluster(nodes=(Node(10, 2), Node(6, 1)), dashboard="")
    resources = ResourcesSpec(gpus_per_trial=0.25, max_concurrent=asked)
    started: Any = SimpleNamespace(cluster=nodes, slots=cluster.slots(nodes, resources))
    assert Resources.rates(started, allowed) == Rates(devices=0.25, slots=slots)


@pytest.mark.parametrize(("left", "said"), [(0, []), (3, ["The budget of seconds ended the search with 3 trials"])])
def test_a_search_that_has_just_ended_is_not_said_to_be_cut_short(
    monkeypatch: pytest.MonkeyPatch, left: int, said: list[str]
) -> None:
    heard: list[str] = []
    view: Any = SimpleNamespace(expect=lambda new: None, say=heard.append)
    plan = SimpleNamespace(spec=spec())
    session: Any = SimpleNamespace(
        context=SimpleNamespace(plan=plan, prepared=SimpleNamespace(works={}), folder=StudyFolder(Path("x"))),
        ledger=ledger()[0],
        stopper=StudyStopper(Budget(seconds=1), lambda: Amount(seconds=2)),
        view=view,
        orders=SimpleNamespace(plan=plan),
        forecast=None,
        _rates=lambda: Rates(devices=1, slots=1),
        _run=lambda phase, stage: None,
    )
    monkeypatch.setattr(driver, "search_phase", lambda *asked: SimpleNamespace(new={}, trials=4, model=None))
    monkeypatch.setattr(driver, "search_left", lambda *asked: left)
    assert driver.Driver._search(session)
    assert [line[: len(begin)] for line, begin in zip(heard, said, strict=True)] == said
