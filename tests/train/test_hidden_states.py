"""Tests that stored hidden states are those of their table and backbone, whole, and within their limit."""

import fcntl
import os
import zlib
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from krona_tune.data.batches import Ints, evaluation_batches
from krona_tune.train import hidden_states
from krona_tune.train.hidden_states import HiddenStates, HiddenStateStore, stored_bytes
from tests.train.conftest import table

TABLE = table(10, 1)
WIDTH = 6


def states(
    value: float, calls: list[float] | None = None, of: pa.Table = TABLE
) -> Generator[tuple[Ints, torch.Tensor]]:
    """Gives each token's id plus a value, with nonsense where the batch is padded."""
    if calls is not None:
        calls.append(value)
    for batch in evaluation_batches(of, 40, 0):
        ids = torch.from_numpy(batch.inputs["input_ids"]).float()
        yield batch.rows, (ids + value + (ids == 0) * 1e9)[..., None].expand(*ids.shape, WIDTH)


def get(
    store: HiddenStateStore, key: str, value: float, calls: list[float] | None = None, of: pa.Table = TABLE
) -> HiddenStates:
    """Returns the states of one table."""
    found = store.get(key, [of], WIDTH, torch.float32, lambda table: states(value, calls, table))
    assert found is not None
    return found[0]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_atime)


def test_rows_come_back_padded_with_zeros(tmp_path: Path) -> None:
    found = get(HiddenStateStore(tmp_path, 10**6), "a", 0.5)
    [batch] = evaluation_batches(TABLE.slice(0, 10), 10**6, 0)
    padded = found.padded(batch)
    ids = torch.from_numpy(batch.inputs["input_ids"]).float()
    expected = torch.where(torch.from_numpy(batch.inputs["attention_mask"]).bool(), ids + 0.5, 0.0)
    assert torch.equal(padded, expected[..., None].expand(-1, -1, WIDTH))


def test_they_are_computed_once_for_a_key_and_a_table(tmp_path: Path) -> None:
    calls: list[float] = []
    for _ in range(2):
        get(HiddenStateStore(tmp_path, 10**6), "a", 1.0, calls)
    assert calls == [1.0]
    get(HiddenStateStore(tmp_path, 10**6), "b", 2.0, calls)
    other = table(10, 2)
    get(HiddenStateStore(tmp_path, 10**6), "a", 3.0, calls, other)
    assert calls == [1.0, 2.0, 3.0]


def test_labels_do_not_matter(tmp_path: Path) -> None:
    calls: list[float] = []
    flipped = TABLE.set_column(1, "label", [1 - np.array(TABLE["label"])])
    for each in (TABLE, flipped):
        get(HiddenStateStore(tmp_path, 10**6), "a", 1.0, calls, each)
    assert calls == [1.0]


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_file_is_noticed_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, calls = HiddenStateStore(tmp_path, 10**6), []
    first = get(store, "a", 1.0, calls)
    whole = first.values.clone()
    del first
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes({"cut": content[:-7], "changed": content, "emptied": b""}[damage])
    again = get(store, "a", 1.0, calls)
    assert torch.equal(again.values, whole)
    assert calls == [1.0, 1.0]
    assert "is made again" in caplog.text


@pytest.mark.parametrize("odd", [os.mkfifo, lambda path: path.symlink_to("/nowhere")], ids=["pipe", "broken link"])
def test_what_is_no_file_is_replaced_and_never_waited_for(tmp_path: Path, odd: Callable[[Path], None]) -> None:
    store, calls = HiddenStateStore(tmp_path, 10**6), list[float]()
    get(store, "a", 1.0)
    [path] = files(tmp_path)
    path.unlink()
    odd(path)
    odd(tmp_path / "of-another.safetensors")
    for _ in range(2):
        get(store, "a", 1.0, calls)
    assert calls == [1.0]


def test_tables_that_are_too_large_together_are_not_even_computed(tmp_path: Path) -> None:
    size = stored_bytes([TABLE], WIDTH, 4)
    store = HiddenStateStore(tmp_path, int(1.5 * size))
    calls: list[float] = []
    assert store.get("a", [TABLE, TABLE], WIDTH, torch.float32, lambda table: states(1.0, calls)) is None
    assert calls == []
    assert not files(tmp_path)


def test_a_full_disk_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("krona_tune.train.hidden_states.save_file", full)
    found = get(HiddenStateStore(tmp_path, 10**6), "a", 0.5)
    assert found.values.shape == (stored_bytes([TABLE], 1, 1), WIDTH)
    assert "hidden states can't be stored: SafetensorError" in caplog.text
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock" and path.name != ".lock"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".states.safetensors.1234.tmp"
    leftover.write_bytes(b"half")
    get(HiddenStateStore(tmp_path, 10**6), "a", 0.5)
    assert not leftover.exists()


def test_the_least_recently_used_goes_where_room_is_needed(tmp_path: Path) -> None:
    size = stored_bytes([TABLE], WIDTH, 4)
    store = HiddenStateStore(tmp_path, int(2.5 * size) + 300)
    for age, key in ((300, "a"), (200, "b")):
        get(store, key, 1.0)
        os.utime(files(tmp_path)[-1], (1e9 - age, 1e9 - age))
    get(store, "a", 1.0)  # used again
    get(store, "c", 1.0)
    calls: list[float] = []
    for key in ("a", "c"):
        get(store, key, 1.0, calls)
    assert calls == []
    get(store, "b", 1.0, calls)
    assert calls == [1.0]


def others(path: Path, values: torch.Tensor, of: str | None = None) -> None:
    """Puts a file with other states and their right checksum in a file's place."""
    path.unlink()
    named = {"crc32": str(zlib.crc32(values.contiguous().view(torch.uint8).numpy().data))}
    save_file({"hidden_states": values}, path, named | ({"of": of} if of else {}))


@pytest.mark.parametrize("other", ["rows", "width", "type", "table"])
def test_other_states_are_not_taken_for_those_of_the_table(
    tmp_path: Path, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Their checksum is right: the file was copied here from another one."""
    store, calls = HiddenStateStore(tmp_path, 10**6), []
    whole = get(store, "a", 1.0, calls).values.clone()
    [path] = files(tmp_path)
    changed = {"rows": whole[1:], "width": whole[:, 1:], "type": whole.half(), "table": whole + 1}
    others(path, changed[other].contiguous(), "another" if other == "table" else path.stem)
    assert torch.equal(get(store, "a", 1.0, calls).values, whole)
    assert calls == [1.0, 1.0]
    assert "is made again" in caplog.text


def test_a_file_of_before_it_held_its_name_is_used(tmp_path: Path) -> None:
    store, calls = HiddenStateStore(tmp_path, 10**6), []
    whole = get(store, "a", 1.0, calls).values.clone()
    others(*files(tmp_path), whole)
    assert torch.equal(get(store, "a", 1.0, calls).values, whole)
    assert calls == [1.0]


@pytest.mark.parametrize("of", ["the file", "the folder"])
def test_a_process_that_stopped_while_it_filled_a_file_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, of: str
) -> None:
    monkeypatch.setattr(hidden_states, "SAID_SECONDS", 0.01)
    monkeypatch.setattr(hidden_states, "PATIENCE_SECONDS", 0.02)
    store, calls = HiddenStateStore(tmp_path, 10**6), []
    whole = get(store, "a", 1.0, calls).values.clone()
    [path] = files(tmp_path)
    path.unlink()
    with (path.with_suffix(".lock") if of == "the file" else tmp_path / ".lock").open("wb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert torch.equal(get(store, "a", 1.0, calls).values, whole)
    assert calls == [1.0, 1.0]
    assert not files(tmp_path)
    assert "it is waited for, at most 0.02 s" in caplog.text
    assert "its states are computed here too" in caplog.text
    get(store, "a", 1.0, calls)
    assert len(files(tmp_path)) == 1


def test_the_lock_of_a_file_that_is_removed_stays_for_those_who_wait_for_it(tmp_path: Path) -> None:
    size = stored_bytes([TABLE], WIDTH, 4)
    store = HiddenStateStore(tmp_path, int(1.5 * size))
    get(store, "a", 1.0)
    [path] = files(tmp_path)
    lock = path.with_suffix(".lock")
    before = lock.stat().st_ino
    get(store, "b", 1.0)
    assert not path.exists()
    assert lock.stat().st_ino == before
