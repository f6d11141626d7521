"""Tests that stored hidden states are those of their table and backbone, whole, and within their limit."""

import os
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from krona_tune.data.batches import Ints, evaluation_batches
from krona_tune.train.hidden_states import HiddenStateStore
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


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)


def test_rows_come_back_padded_with_zeros(tmp_path: Path) -> None:
    found = HiddenStateStore(tmp_path, 10**6).get("a", TABLE, lambda: states(0.5))
    assert found is not None
    [batch] = evaluation_batches(TABLE.slice(0, 10), 10**6, 0)
    padded = found.padded(batch)
    ids = torch.from_numpy(batch.inputs["input_ids"]).float()
    expected = torch.where(torch.from_numpy(batch.inputs["attention_mask"]).bool(), ids + 0.5, 0.0)
    assert torch.equal(padded, expected[..., None].expand(-1, -1, WIDTH))


def test_they_are_computed_once_for_a_key_and_a_table(tmp_path: Path) -> None:
    calls: list[float] = []
    for _ in range(2):
        HiddenStateStore(tmp_path, 10**6).get("a", TABLE, lambda: states(1.0, calls))
    assert calls == [1.0]
    HiddenStateStore(tmp_path, 10**6).get("b", TABLE, lambda: states(2.0, calls))
    other = table(10, 2)
    HiddenStateStore(tmp_path, 10**6).get("a", other, lambda: states(3.0, calls, other))
    assert calls == [1.0, 2.0, 3.0]


def test_labels_do_not_matter(tmp_path: Path) -> None:
    calls: list[float] = []
    flipped = TABLE.set_column(1, "label", [1 - np.array(TABLE["label"])])
    for each in (TABLE, flipped):
        HiddenStateStore(tmp_path, 10**6).get("a", each, lambda: states(1.0, calls))
    assert calls == [1.0]


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_file_is_noticed_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, calls = HiddenStateStore(tmp_path, 10**6), []
    first = store.get("a", TABLE, lambda: states(1.0, calls))
    assert first is not None
    whole = first.values.clone()
    del first
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes({"cut": content[:-7], "changed": content, "emptied": b""}[damage])
    again = store.get("a", TABLE, lambda: states(1.0, calls))
    assert again is not None
    assert torch.equal(again.values, whole)
    assert calls == [1.0, 1.0]
    assert "is made again" in caplog.text


def test_what_is_too_large_is_not_stored(tmp_path: Path) -> None:
    assert HiddenStateStore(tmp_path, 100).get("a", TABLE, lambda: states(1.0)) is None
    assert not files(tmp_path)


def test_the_least_recently_used_goes_where_room_is_needed(tmp_path: Path) -> None:
    size = sum(map(len, TABLE["input_ids"].to_pylist())) * WIDTH * 4
    store = HiddenStateStore(tmp_path, int(2.5 * size) + 300)
    for age, key in ((300, "a"), (200, "b")):
        store.get(key, TABLE, lambda: states(1.0))
        os.utime(files(tmp_path)[-1], (1e9 - age, 1e9 - age))
    store.get("a", TABLE, lambda: states(1.0))  # used again
    store.get("c", TABLE, lambda: states(1.0))
    calls: list[float] = []
    for key in ("a", "c"):
        store.get(key, TABLE, lambda: states(1.0, calls))
    assert calls == []
    store.get("b", TABLE, lambda: states(1.0, calls))
    assert calls == [1.0]
