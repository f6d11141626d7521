"""Answers requests that wait at the same time together, in one batch."""

from asyncio import Future, Task, create_task, get_running_loop
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from anyio.to_thread import run_sync

from krona_tune.refusal import NotNow

Row = TypeVar("Row")
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class _Waiting(Generic[Row, Answer]):
    """The rows of one request, and what its answers will come in."""

    rows: Sequence[Row]
    answers: "Future[Sequence[Answer]]"


class SharedBatches(Generic[Row, Answer]):
    """Computes one batch at a time in a thread, while the requests that come in the meantime wait for the next one.

    Nobody waits for others to come: a request alone is computed at once.

    Args:
        compute: returns an answer for each of some rows, in their order.
        most_together: rows at which a batch is full; a request is in one batch, however many rows it has.
        most_waiting: rows that may wait.
    """

    def __init__(
        self, compute: Callable[[Sequence[Row]], Sequence[Answer]], *, most_together: int, most_waiting: int
    ) -> None:
        self._compute, self._most_together, self._most_waiting = compute, most_together, most_waiting
        self._queue: deque[_Waiting[Row, Answer]] = deque()
        self._work: Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Returns how many rows wait for a batch."""
        return sum(len(each.rows) for each in self._queue)

    async def answer(self, rows: Sequence[Row]) -> Sequence[Answer]:
        """Returns the answers of a request's rows. Raises what `compute` raises, or a NotNow if too many rows wait."""
        if self._queue and self.waiting + len(rows) > self._most_waiting:
            raise NotNow("the request", f"{self.waiting} others wait already", "send it again in some seconds")
        asked = _Waiting[Row, Answer](rows=rows, answers=get_running_loop().create_future())
        self._queue.append(asked)
        if self._work is None or self._work.done():
            self._work = create_task(self._answer_all())
        return await asked.answers

    async def _answer_all(self) -> None:
        while self._queue:
            together = self._next_batch()
            rows = [row for each in together for row in each.rows]
            try:
                answers = await run_sync(self._compute, rows, abandon_on_cancel=True)
            except Exception as error:
                for each in together:
                    if not each.answers.done():  # its request may have been given up
                        each.answers.set_exception(error)
                continue
            begin = 0
            for each in together:
                if not each.answers.done():
                    each.answers.set_result(answers[begin : begin + len(each.rows)])
                begin += len(each.rows)

    def _next_batch(self) -> list[_Waiting[Row, Answer]]:
        together = [self._queue.popleft()]
        size = len(together[0].rows)
        while self._queue and size + len(self._queue[0].rows) <= self._most_together:
            together.append(self._queue.popleft())
            size += len(together[-1].rows)
        return together
