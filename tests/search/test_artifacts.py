"""Tests what a study writes at its end, also on a full disk, or if the state that an adapter comes from is gone."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from krona_tune.adapters.adapter_card import read_card
from krona_tune.adapters.adapter_files import read_tensors
from krona_tune.search import artifacts
from krona_tune.search.budget import Amount, Budget
from krona_tune.search.ledger import Ledger
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import StepResult, TrialMessage
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import Status
from krona_tune.study.standings import BEST_OF_ALL
from krona_tune.train import checkpoint
from tests.record.events import manifest
from tests.search.ledgers import ledger
from tests.search.plans import plan
from tests.search.workers import Workers, all_steps, config


def full(*asked: object) -> Any:
    raise OSError(28, "No space left on device")


def one(*asked: object) -> list[Path]:
    return [Path("a")]


def trained(book: Ledger, folder: StudyFolder, worker: Workers, number: int = 0, **params: Any) -> None:
    """Trains a trial whose states are kept in a study's folder, and records it."""
    message = TrialMessage.from_dict(config(number, **params))
    book.started(message)
    folder.root.mkdir(exist_ok=True)
    for result in all_steps(worker(message.to_dict(), checkpoints=str(folder.checkpoints.resolve()))):
        step = StepResult.from_dict(result)
        assert step.report
        book.reported(step.report, step.checkpoint)
    book.ended(message.trial_id, Status.COMPLETED)


def written(folder: StudyFolder, book: Ledger) -> artifacts.Artifacts:
    """Writes the adapters and the page of a study as its driver does."""
    facts = manifest("cola", "rte")
    context: Any = SimpleNamespace(
        folder=folder,
        plan=plan(),
        manifest=facts.model_copy(update={"versions": {**facts.versions, "krona_tune": "1.0"}}),
    )

    def never(reason: str) -> None:
        raise AssertionError(reason)

    return artifacts.write_artifacts(context, book, lambda folder: folder.page, never)


def test_a_study_that_was_renamed_writes_its_own_weights_also_where_another_has_its_old_name(
    worker: Workers, tmp_path: Path
) -> None:
    first, renamed = StudyFolder(tmp_path / "a"), StudyFolder(tmp_path / "b")
    book = ledger()[0]
    trained(book, first, worker)
    written(first, book)
    own = read_tensors(first.adapter("rte"))
    first.root.rename(renamed.root)
    other = ledger()[0]
    trained(other, first, worker, learning_rate=3e-2)
    written(first, other)
    shutil.rmtree(renamed.adapter("rte"))
    assert written(renamed, book).lacking == ()
    again = read_tensors(renamed.adapter("rte"))
    assert all(again[name].equal(tensor) for name, tensor in own.items())
    assert not all(read_tensors(first.adapter("rte"))[name].equal(tensor) for name, tensor in own.items())


def test_an_adapter_whose_state_is_gone_or_of_another_trial_stays_the_earlier_one_and_that_is_said(
    worker: Workers, tmp_path: Path
) -> None:
    folder, book = StudyFolder(tmp_path / "s"), ledger()[0]
    trained(book, folder, worker)
    assert written(folder, book).lacking == ()
    shutil.rmtree(folder.checkpoints / "rte-000")
    assert written(folder, book).lacking == (), "it is there"
    trained(book, folder, worker, 1, learning_rate=3e-2)
    book.rows["rte-001"] = replace(book.rows["rte-001"], score=1.5, fingerprint="of another")
    of = checkpoint.read_trained(folder.checkpoints / "rte-001" / "rung-3").fingerprint
    (said,) = written(folder, book).lacking
    assert said == f"adapters/rte: the state of rte-001 is of another trial, {of}, so it stays that of rte-000"
    shutil.rmtree(folder.checkpoints / "rte-001")
    (said,) = written(folder, book).lacking
    assert said == "adapters/rte: the state of rte-001 is gone, so it stays that of rte-000"
    assert read_card(folder.adapter("rte")).trial_id == "rte-000"
    shutil.rmtree(folder.adapter("rte"))
    (said,) = written(folder, book).lacking
    assert said == "adapters/rte: the state of rte-001 is gone, so there is none"


def test_the_records_say_which_trial_is_chosen_and_why(worker: Workers, tmp_path: Path) -> None:
    folder, book = StudyFolder(tmp_path / "s"), ledger()[0]
    trained(book, folder, worker)
    written(folder, book)
    table = pq.read_table(folder.results / "choices.parquet").to_pylist()
    assert table == [{"task": "rte", "chosen": "rte-000", "winner": "rte-000", "reason": BEST_OF_ALL}]


@pytest.mark.parametrize("named", [None, "elsewhere/rung-1"])
def test_a_trial_whose_driver_was_killed_has_the_state_of_its_last_report(
    worker: Workers, tmp_path: Path, named: str | None
) -> None:
    """Its row was written when it began, so it names no state, or one that is gone."""
    folder, book = StudyFolder(tmp_path / "s"), ledger()[0]
    trained(book, folder, worker)
    book.rows["rte-000"] = replace(book.rows["rte-000"], status=Status.INTERRUPTED, ended_at=None, checkpoint=named)
    assert written(folder, book).lacking == ()
    assert read_card(folder.adapter("rte")).trial_id == "rte-000"


@pytest.mark.parametrize("file", [checkpoint.TENSORS, checkpoint.PROGRESS])
def test_an_adapter_whose_state_is_damaged_is_left_out_and_the_others_are_written(
    worker: Workers, tmp_path: Path, file: str
) -> None:
    folder, book = StudyFolder(tmp_path / "s"), ledger()[0]
    for number in range(2):
        trained(book, folder, worker, number)
        kind = {"kind": TrialKind.FULL_TRAIN, "of": "rte-000"}
        book.rows[f"rte-00{number}"] = replace(book.rows[f"rte-00{number}"], **kind)
    path = folder.checkpoints / "rte-000" / "rung-3" / file
    path.write_bytes(path.read_bytes()[:-9])
    left = written(folder, book)
    assert left.paths == (folder.adapter("rte-001"), folder.page)
    (said,) = left.lacking
    assert said.startswith(
        f"adapters/rte-000: the state of rte-000 is damaged: {path.parent.resolve()} can't be read ("
    )
    assert said.endswith(", so there is none")


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
    stopper = StudyStopper(Budget(), Amount)
    monkeypatch.setattr(artifacts, "save_best_adapters", adapters)
    left = artifacts.write_artifacts(context, ledger()[0], page, stopper.halt)
    assert (left.paths, left.no_page) == (paths, no_page)
    assert stopper.halted.startswith(halted)
    assert bool(stopper.halted) == bool(halted)
