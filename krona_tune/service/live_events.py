"""Tells open pages what has changed, with server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import StreamingResponse

from krona_tune.refusal import Refusal
from krona_tune.service.stamped_cache import SlowError

LOOK_SECONDS, SLICE = 1.0, 0.1
"""The time between two looks, and the longest that a stream goes on after its service is ended."""
KEEP_ALIVE = 15
"""After so many looks without news a comment is sent, so that nobody between takes the connection for dead."""
MOST_STREAMS = 200
"""The most event streams of one service at once."""
MOST_LOOKS = 10
"""The most streams that look for news at once; the others wait, and hold up no page."""


@dataclass(frozen=True, kw_only=True)
class News:
    """Holds what a page's events are made from: `stamp` names what the page would show now, None while it is not time
    to draw it again; `now` is the HTML of the part about the present, empty if the page has none."""

    stamp: str | None
    now: str = ""


class Streams:
    """The open event streams of a service; they end when it does."""

    def __init__(self) -> None:
        self._open, self._over, self._looks = 0, False, CapacityLimiter(MOST_LOOKS)

    def end(self) -> None:
        """Ends every stream soon. May be called from a signal's handler."""
        self._over = True

    def answer(self, request: Request, news: Callable[[], News], since: str) -> StreamingResponse:
        """Returns a stream of events that begins with what has changed since the stamp `since`.

        Raises:
            Refusal: there are too many streams already.
        """
        if self._open >= MOST_STREAMS:
            raise Refusal("events", f"{MOST_STREAMS} pages are open", "close some")
        known = request.headers.get("last-event-id") or since
        stream = self._counted(events(news, known, lambda: self._over, looks=self._looks))
        return StreamingResponse(stream, media_type="text/event-stream")

    async def _counted(self, stream: AsyncIterator[str]) -> AsyncIterator[str]:
        self._open += 1
        try:
            async for each in stream:
                yield each
        finally:
            self._open -= 1


async def events(
    news: Callable[[], News],
    since: str,
    over: Callable[[], bool],
    seconds: float = LOOK_SECONDS,
    looks: CapacityLimiter | None = None,
) -> AsyncIterator[str]:
    """Yields an event `changed` when the stamp differs from the last one, and `now` when that part does, until it is
    over; `looks` limits how many threads look for news."""
    stamp, now, quiet = since, "", 0
    yield "retry: 3000\n\n"
    while not over():
        try:
            found = await run_sync(news, limiter=looks)
        except SlowError:
            found = News(stamp=None)
        except Refusal:
            found = News(stamp=f"unreadable-{stamp.removeprefix('unreadable-')}")
        quiet += 1
        if found.now and found.now != now:
            now, quiet = found.now, 0
            yield _event("now", now)
        if found.stamp is not None and found.stamp != stamp:
            stamp, quiet = found.stamp, 0
            yield _event("changed", stamp, f"id: {stamp}\n")
        if quiet >= KEEP_ALIVE:
            quiet = 0
            yield ": still here\n\n"
        until = time.monotonic() + seconds
        while time.monotonic() < until and not over():
            await asyncio.sleep(SLICE)


def _event(name: str, text: str, head: str = "") -> str:
    data = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\n{head}{data}\n"
