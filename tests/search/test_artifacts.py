"""Tests what a study writes at its end, also if the disk is full."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from krona_tune.search import artifacts
from krona_tune.search.budget import Amount, Budget
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.study.folder import StudyFolder
from tests.search.ledgers import ledger


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
