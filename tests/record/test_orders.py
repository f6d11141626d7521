"""Tests that orders wait as files beside a study, or at its copy, until they are rows in its records."""

import json
import os
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from krona_tune.record.orders import UNREADABLE, give_order, remove_order, waiting_orders
from krona_tune.record.parquet_reader import read_orders
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import read_records
from krona_tune.record.remote_files import Store
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OrderRequest

CLONE = OrderRequest(what="clone_trial", trial="cola-003", settings=("training.learning_rate=0.001",))


@pytest.fixture(params=["a folder", "a copy"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> StudyFolder:
    """A study's folder, and one with a copy elsewhere, at which orders are given."""
    root = tmp_path / "studies" / "first"
    root.mkdir(parents=True)
    (root / "study.yaml").write_text("model: x\n")
    return StudyFolder(root, f"file://{tmp_path}/copy/first" if request.param == "a copy" else None)


def test_an_order_waits_until_it_is_removed(folder: StudyFolder) -> None:
    assert waiting_orders(folder) == []
    first = give_order(folder, CLONE, by="ann")
    second = give_order(folder, OrderRequest(what="pause"))
    assert waiting_orders(folder) == sorted([first, second], key=lambda order: (order.given_at, order.id))
    assert first.request == CLONE
    assert first.text == "clone cola-003 training.learning_rate=0.001"
    assert (first.by, first.state) == ("ann", "waiting")
    assert "@" in second.by
    remove_order(folder, first)
    remove_order(folder, first)
    assert waiting_orders(folder) == [second]


def test_orders_survive_the_records(tmp_path: Path, folder: StudyFolder) -> None:
    order = give_order(folder, CLONE, by="ann")
    sink = ParquetSink(tmp_path / "results")
    sink.ordered(order.model_copy(update={"state": "taken"}))
    done = order.model_copy(update={"state": "done", "outcome": "it is cola-clone-0", "made": "cola-clone-0"})
    sink.ordered(done)
    assert read_orders(tmp_path / "results") == [done]
    sink.study_ended([])
    assert read_records(tmp_path / "results").orders == (done,)
    assert not list((tmp_path / "results" / "parts").iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 50_000, b"{}", b" " * 20_000],
    ids=["empty", "half", "a list", "a word", "no UTF-8", "deep", "no fields", "large"],
)
def test_a_damaged_file_is_an_order_that_nobody_can_read(tmp_path: Path, content: bytes) -> None:
    folder = StudyFolder(tmp_path)
    folder.orders.mkdir()
    (folder.orders / "20261127T000000Z-abcdef123456.json").write_bytes(content)
    (found,) = waiting_orders(folder)
    assert (found.what, found.request, found.state) == (UNREADABLE, None, "waiting")
    remove_order(folder, found)
    assert waiting_orders(folder) == []


def test_of_a_file_only_what_somebody_asks_is_believed(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("model: x\n")
    folder = StudyFolder(tmp_path)
    order = give_order(folder, CLONE)
    path = folder.orders / f"{order.id}.json"
    said = {"state": "done", "outcome": "it is done", "made": "cola-clone-7", "ended_at": 1.0, "by": ""}
    path.write_text(order.model_copy(update=said).model_dump_json())
    (found,) = waiting_orders(folder)
    assert (found.state, found.outcome, found.made, found.ended_at, found.by) == ("waiting", "", "", None, "somebody")
    for odd in (float("nan"), -1.0, 1e12):
        path.write_text(json.dumps({**order.model_dump(), "given_at": odd}))
        assert [each.what for each in waiting_orders(folder)] == [UNREADABLE]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_the_driver_may_not_read_holds_up_no_other(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("model: x\n")
    folder = StudyFolder(tmp_path)
    first, second = give_order(folder, CLONE), give_order(folder, CLONE)
    (folder.orders / f"{first.id}.json").chmod(0)
    assert {each.id: each.what for each in waiting_orders(folder)} == {first.id: UNREADABLE, second.id: "clone_trial"}


def test_whoever_runs_the_study_may_read_an_order(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("model: x\n")
    tmp_path.chmod(0o775)
    folder, before = StudyFolder(tmp_path), os.umask(0o077)
    try:
        order = give_order(folder, CLONE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder.orders / f"{order.id}.json").stat().st_mode) == 0o644
    assert stat.S_IMODE(folder.orders.stat().st_mode) == 0o775


def test_an_order_is_not_damaged_because_its_store_gave_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(tmp_path, remote=f"file://{tmp_path}/there")
    folder.spec.write_text("model: x\n")
    order, read = give_order(folder, CLONE), Store.read

    def away(store: Store, name: str) -> bytes:
        raise ConnectionError("no route")

    monkeypatch.setattr(Store, "read", away)
    with pytest.raises(Refusal, match="no route"):
        waiting_orders(folder)
    monkeypatch.setattr(Store, "read", read)
    assert [each.id for each in waiting_orders(folder)] == [order.id]


def test_other_files_and_links_are_no_orders(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.orders.mkdir()
    (tmp_path / "secret.json").write_text("{}")
    (folder.orders / "20261127T000000Z-abcdef.json").symlink_to(tmp_path / "secret.json")
    for name in ("notes.txt", "notes.json", ".20261127T000000Z-abcdef.json.tmp"):
        (folder.orders / name).write_text("{}")
    assert [each.what for each in waiting_orders(folder)] == [UNREADABLE]


def test_an_order_needs_a_study(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no study is here"):
        give_order(StudyFolder(tmp_path), CLONE)
    assert not (tmp_path / "orders").exists()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"what": "stop_trial"}, "stop_trial needs a trial"),
        ({"what": "pause", "trial": "cola-000"}, "pause takes no trial"),
        ({"what": "trials"}, "trials needs a value"),
        ({"what": "stop_trial", "trial": "cola-000", "settings": ("a=1",)}, "changes no settings"),
        ({"what": "stop_trial", "trial": "../x"}, "String should match"),
        ({"what": "stop_trial", "trial": "a/b"}, "String should match"),
        ({"what": "clone_trial", "trial": "a", "settings": ("no equals",)}, "String should match"),
        ({"what": "clone_trial", "trial": "a", "settings": ("a=1",) * 21}, "at most 20"),
        ({"what": "explode"}, "Input should be"),
        ({"what": "pause", "other": 1}, "not permitted"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(given: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        OrderRequest(**given)
