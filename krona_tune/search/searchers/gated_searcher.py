"""Gives Tune no more trials than may run now, and keeps a search open while a trial is left that may bring more."""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ray.tune.search import Searcher

from krona_tune.search.trial_message import TrialMessage

OPEN = 1_000_000
"""A number of trials that no machine runs at once."""


class Gate:
    """What a running study lets its searcher and its scheduler do.

    `slots` returns how many trials may run now, 0 while the study is paused; `over` whether nothing new may begin;
    `release` ends idle workers; `look` reads new orders; `stopped` returns whether somebody ordered to stop a trial,
    given by Tune's id.
    """

    def __init__(self, most: int = OPEN) -> None:
        self.most = most
        self.release: Callable[[], None] = lambda: None

    def slots(self) -> int:
        return self.most

    def over(self) -> bool:
        return False

    def look(self) -> None:
        """Does nothing: nobody orders anything."""

    def stopped(self, tune_id: str) -> bool:
        return False


class GatedSearcher(Searcher):  # type: ignore[misc]
    """A searcher whose trials pass a gate; `waiting` are run before any is proposed. `closed`: it takes no others."""

    def __init__(self, waiting: Iterable[TrialMessage]) -> None:
        super().__init__(metric="score", mode="max")
        self.gate, self.closed = Gate(), False
        self._waiting = deque(waiting)
        self._asked: dict[str, TrialMessage] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Tune pickles its driver's objects, but a resumed study is rebuilt from its records."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Returns the next trial; None if it must wait, or Searcher.FINISHED if none will come."""
        finished: dict[str, Any] = Searcher.FINISHED  # a string, returned instead of a trial
        if self.gate.over():
            return finished
        self.gate.look()
        if len(self._asked) >= self.gate.slots():
            if not self.gate.slots():
                self.gate.release()
            return None
        message = self._waiting.popleft() if self._waiting else self.propose()
        if message is None:
            self.closed = not self._asked
            return finished if self.closed else None
        self._asked[trial_id] = message
        return message.to_dict()

    @abstractmethod
    def propose(self) -> TrialMessage | None:
        """Returns a new trial; None if there is none now."""

    @property
    @abstractmethod
    def exhausted(self) -> bool:
        """Returns whether no trial waits and none would be proposed."""

    def add(self, message: TrialMessage) -> None:
        """Runs one more trial, before any is proposed."""
        self._waiting.append(message)

    def withdraw(self, trial_id: str) -> bool:
        """Takes back a trial that waits; returns whether it did."""
        message = next((each for each in self._waiting if each.trial_id == trial_id), None)
        if message is None:
            return False
        self._waiting.remove(message)
        self.forget(message)
        return True

    @abstractmethod
    def forget(self, message: TrialMessage) -> None:
        """Tells the sampler that somebody stopped a searched trial before it ran on."""

    def tune_id(self, trial_id: str) -> str | None:
        """Returns Tune's id of a trial that runs or is paused; None for any other."""
        return next((tune for tune, message in self._asked.items() if message.trial_id == trial_id), None)

    def knows(self, trial_id: str) -> bool:
        """Returns whether a trial waits or runs."""
        return any(message.trial_id == trial_id for message in (*self._waiting, *self._asked.values()))

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: a resumed study is rebuilt from its records."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: a resumed study is rebuilt from its records."""
