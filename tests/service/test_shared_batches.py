"""Tests that requests that wait at the same time are computed in one batch, each with its own answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from threading import Event
from typing import Any

import pytest

from krona_tune.refusal import NotNow
from krona_tune.service.shared_batches import SharedBatches


class Gate:
    """Doubles numbers, each batch once it is let through, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.opened = Event()

    def double(self, rows: Sequence[int]) -> list[int]:
        self.batches.append(list(rows))
        assert self.opened.wait(60)
        if 13 in rows:
            raise ValueError("13 has no double")
        return [2 * row for row in rows]


async def settled(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0)  # sleep: gives the loop's other tasks a turn


def run(body: Callable[[Gate, SharedBatches[int, int]], Awaitable[Any]], most_waiting: int = 9) -> Gate:
    gate = Gate()

    async def started() -> None:
        try:
            await body(gate, SharedBatches(gate.double, most_together=5, most_waiting=most_waiting))
        finally:
            gate.opened.set()

    asyncio.run(asyncio.wait_for(started(), 60))
    return gate


def test_what_comes_while_a_batch_is_computed_is_the_next_batch() -> None:
    async def body(gate: Gate, shared: SharedBatches[int, int]) -> None:
        first = asyncio.create_task(shared.answer([1]))
        await settled(lambda: gate.batches == [[1]])
        others = [asyncio.create_task(shared.answer(rows)) for rows in ([2, 3], [4], [5, 6, 7])]
        await settled(lambda: shared.waiting == 6)
        gate.opened.set()
        assert await asyncio.gather(first, *others) == [[2], [4, 6], [8], [10, 12, 14]]

    assert run(body).batches == [[1], [2, 3, 4], [5, 6, 7]]


def test_a_failure_is_that_of_its_batch_alone() -> None:
    async def body(gate: Gate, shared: SharedBatches[int, int]) -> None:
        gate.opened.set()
        with pytest.raises(ValueError, match="13 has no double"):
            await shared.answer([13])
        assert await shared.answer([4]) == [8]

    run(body)


def test_a_request_that_is_given_up_costs_the_others_nothing() -> None:
    async def body(gate: Gate, shared: SharedBatches[int, int]) -> None:
        one, other = (asyncio.create_task(shared.answer([row])) for row in (1, 2))
        await settled(lambda: bool(gate.batches))
        one.cancel()
        await settled(one.cancelled)
        gate.opened.set()
        assert await other == [4]

    run(body)


def test_more_than_may_wait_are_refused_for_now_but_one_request_alone_never() -> None:
    async def body(gate: Gate, shared: SharedBatches[int, int]) -> None:
        first = asyncio.create_task(shared.answer([1, 2, 3, 4]))
        await settled(lambda: bool(gate.batches))
        large = asyncio.create_task(shared.answer([5] * 6))
        await settled(lambda: shared.waiting == 6)
        with pytest.raises(NotNow, match="the request: 6 others wait already; send it again in some seconds"):
            await shared.answer([6])
        gate.opened.set()
        assert [len(each) for each in await asyncio.gather(first, large)] == [4, 6]

    run(body, most_waiting=5)
