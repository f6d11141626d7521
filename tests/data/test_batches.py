"""Tests that batches hold every row once, padded right, with its label, with little padding, in a resumable order."""

import sys
from collections.abc import Iterable
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.data.batches import Batch, evaluation_batches, training_batches

PAD = 7  # also a token of some rows: only the mask marks padding


def padding_share(batches: Iterable[Batch]) -> float:
    """Returns the share of padding among all tokens of the batches."""
    masks = [batch.inputs["attention_mask"] for batch in batches]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)


def table_of(lengths, *, types=True, chunks=1, before=0, after=0):
    """Returns a table whose ids encode row and place; `before` and `after` extra rows are removed by slicing."""
    rng = np.random.default_rng(len(lengths))
    lengths = [*rng.integers(0, 9, before), *lengths, *rng.integers(0, 9, after)]
    ids = [[1_000 * (row - before) + at if at else PAD for at in range(n)] for row, n in enumerate(lengths)]
    columns = {"input_ids": pa.array(ids, pa.list_(pa.int32()))}
    if types:
        columns["token_type_ids"] = pa.array([[at % 2 for at in range(n)] for n in lengths], pa.list_(pa.int8()))
    columns["label"] = pa.array([float(row - before) for row in range(len(lengths))])
    table = pa.table(columns)
    size = max(1, -(-table.num_rows // chunks))
    pieces = [table.slice(start, size) for start in range(0, table.num_rows, size)]
    return pa.concat_tables(pieces or [table]).slice(before, len(lengths) - before - after)


def assert_every_row_once_and_whole(batches, table):
    ids, labels = table["input_ids"].to_pylist(), table["label"].to_pylist()
    types = table["token_type_ids"].to_pylist() if "token_type_ids" in table.column_names else None
    assert sorted(row for batch in batches for row in batch.rows) == list(range(table.num_rows))
    for batch in batches:
        assert set(batch.inputs) == {"input_ids", "attention_mask", *(["token_type_ids"] if types else [])}
        shape = (len(batch.rows), max([1, *(len(ids[row]) for row in batch.rows)]))
        assert all(array.shape == shape and array.dtype == np.int64 for array in batch.inputs.values())
        for at, row in enumerate(batch.rows):
            here, padding = len(ids[row]), shape[1] - len(ids[row])
            assert batch.inputs["input_ids"][at].tolist() == ids[row] + [PAD] * padding
            assert batch.inputs["attention_mask"][at].tolist() == [1] * here + [0] * padding
            if types:
                assert batch.inputs["token_type_ids"][at].tolist() == types[row] + [0] * padding
            assert batch.labels[at] == labels[row]


TABLES = st.builds(
    table_of,
    st.lists(st.integers(0, 12), max_size=60),
    types=st.booleans(),
    chunks=st.integers(1, 4),
    before=st.integers(0, 5),
    after=st.integers(0, 5),
)


@given(table=TABLES, batch_size=st.integers(1, 9), seed=st.integers(0, 5))
def test_an_epoch_has_every_row_once(table, batch_size, seed):
    batches = list(training_batches(table, batch_size, np.random.default_rng(seed), PAD))
    assert_every_row_once_and_whole(batches, table)
    assert all(len(batch.rows) == batch_size for batch in batches[:-1])
    assert len(batches) == -(-table.num_rows // batch_size)


@given(table=TABLES, tokens=st.integers(1, 40))
def test_an_evaluation_has_every_row_once_within_its_tokens(table, tokens):
    batches = list(evaluation_batches(table, tokens, PAD))
    assert_every_row_once_and_whole(batches, table)
    assert all(batch.inputs["input_ids"].size <= tokens or len(batch.rows) == 1 for batch in batches)


def test_an_evaluation_fills_its_batches_and_begins_with_the_longest():
    batches = list(evaluation_batches(table_of([13, 15, 14, 15, 15, 15]), 30, PAD))
    assert [batch.inputs["input_ids"].shape for batch in batches] == [(2, 15), (2, 15), (2, 14)]


def test_an_evaluation_batch_does_not_mix_long_and_short_rows_without_need():
    batches = list(evaluation_batches(table_of([100] * 20 + [10] * 30), 10_000, PAD))
    assert [batch.inputs["input_ids"].shape for batch in batches] == [(22, 100), (28, 10)]


def test_an_evaluation_takes_padding_that_costs_less_than_another_batch():
    (batch,) = evaluation_batches(table_of([9, 8, 5]), 640, PAD)
    assert batch.inputs["input_ids"].shape == (3, 9)


@pytest.mark.parametrize("rows", [140, 9_815])
def test_of_an_evaluation_at_most_a_tenth_is_padding(rows):
    lengths = np.random.default_rng(3).lognormal(mean=3.3, sigma=0.7, size=rows).astype(int).clip(5, 127)
    assert padding_share(evaluation_batches(table_of(lengths), 2048, PAD)) <= 0.1


def test_rows_bring_predictions_back_into_order():
    table = table_of([3, 9, 1, 4, 4, 2])
    restored = np.empty(6)
    for batch in evaluation_batches(table, 9, PAD):
        restored[batch.rows] = batch.labels
    assert restored.tolist() == table["label"].to_pylist()


def test_the_generator_alone_decides_the_order_and_another_epoch_has_another():
    table = table_of(np.random.default_rng(0).integers(1, 40, 333))
    rng = np.random.default_rng(4)
    first, second = ([b.rows.tolist() for b in training_batches(table, 8, rng, PAD)] for _ in range(2))
    again = [b.rows.tolist() for b in training_batches(table, 8, np.random.default_rng(4), PAD)]
    assert first == again
    assert first != second


def test_the_order_is_drawn_before_the_first_batch_is_asked_for():
    rng, used = np.random.default_rng(4), np.random.default_rng(4)
    batches = training_batches(table_of([2] * 20), 8, rng, PAD)
    after_call = rng.bit_generator.state
    assert after_call != used.bit_generator.state
    list(batches)
    assert rng.bit_generator.state == after_call


def test_an_epoch_taken_up_in_the_middle_goes_on_as_it_would_have_gone():
    table = table_of(np.random.default_rng(0).integers(1, 40, 100))
    whole = list(training_batches(table, 8, np.random.default_rng(4), PAD))
    rest = list(training_batches(table, 8, np.random.default_rng(4), PAD, at=5))
    skipped = list(islice(training_batches(table, 8, np.random.default_rng(4), PAD), 5, None))
    assert [b.rows.tolist() for b in rest] == [b.rows.tolist() for b in whole[5:]] == [b.rows.tolist() for b in skipped]


def test_long_and_short_batches_and_the_small_one_come_in_no_fixed_order():
    table = table_of(list(range(1, 103)))
    epochs = [list(training_batches(table, 10, np.random.default_rng(seed), PAD)) for seed in range(30)]
    first = {epoch[0].inputs["input_ids"].shape[1] for epoch in epochs}
    small = {epoch[-1].inputs["input_ids"].shape[1] for epoch in epochs}
    assert len(first) > 5
    assert len(small) > 5
    assert all(len(epoch[-1].rows) == 2 for epoch in epochs)


@pytest.mark.parametrize("rows", [4_000, 20_000])
def test_lengths_as_in_glue_leave_at_most_a_tenth_of_padding(rows):
    lengths = np.random.default_rng(1).lognormal(mean=2.4, sigma=0.6, size=rows).astype(int).clip(3, 66)
    table = table_of(lengths)
    share = padding_share(training_batches(table, 32, np.random.default_rng(2), PAD))
    assert share < 0.10
    unsorted = 1 - lengths.sum() / sum(len(part) * part.max() for part in np.array_split(lengths, rows // 32))
    assert unsorted > 0.4


def calls_for_ten_batches(batch_size: int, length: int) -> int:
    """Counts the functions, those in C too, that are called for ten batches of texts of one length."""
    table, calls = table_of([length] * 10 * batch_size), []
    sys.setprofile(lambda _, event, __: calls.append(event) if event in {"call", "c_call"} else None)
    try:
        batches = list(training_batches(table, batch_size, np.random.default_rng(2), PAD))
    finally:
        sys.setprofile(None)
    assert len(batches) == 10
    return len(calls)


def test_a_batch_takes_as_many_steps_whatever_its_rows_and_their_tokens():
    calls_for_ten_batches(4, 5)  # the first call imports more
    assert calls_for_ten_batches(64, 100) < 1.1 * calls_for_ten_batches(4, 5)


def test_a_table_in_one_chunk_is_not_copied():
    table = table_of([4] * 1_000)
    before = pa.total_allocated_bytes()
    batches = training_batches(table, 32, np.random.default_rng(2), PAD)
    assert pa.total_allocated_bytes() == before
    assert next(batches).rows.shape == (32,)
