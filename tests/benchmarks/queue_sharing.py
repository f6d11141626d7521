"""Measures how studies share a Ray cluster of two CPUs through the queue: `python -m tests.benchmarks.queue_sharing`.

Two studies of the miniature (synthetic data) run one after the other, then both at once, then both with an urgent one
that comes while they run; then twenty small ones are submitted at once. Prints one line for each.
"""

import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from ray.cluster_utils import Cluster

from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.record.storage import storage_at
from krona_tune.service.queue.capacity import CapacitySource
from krona_tune.service.queue.drivers import JobDrivers
from krona_tune.service.queue.entry import Entry, Submission
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import dump_spec
from tests.study.request.written_specs import load_changed
from tests.waiting import until

SPACE = Path(__file__).resolve().parents[2] / "search_spaces" / "mini.yaml"
CPUS, TRIALS, MANY, URGENT = 2, 8, 20, 5
SMALL = {"search.trials": 1, "schedule.epochs": 1, "schedule.grace_epochs": 1, "examples.train": 64}
LIMIT_SECONDS = 3600.0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="krona-") as place, _cluster() as address:
        queue = Bench(Path(place), address)
        for name in ("alone-1", "alone-2"):
            queue.submit(name)
            queue.wait()
        first, second = queue.seconds("alone-1"), queue.seconds("alone-2")
        starts = median(queue.until_first_trial(name) for name in ("alone-1", "alone-2"))
        print(
            f"one after the other: {first:.0f} + {second:.0f} s; the first trial begins after {starts:.0f} s",
            flush=True,
        )
        began = time.time()
        for name in ("both-1", "both-2"):
            queue.submit(name)
        queue.wait()
        took = time.time() - began
        each = [queue.seconds(name) for name in ("both-1", "both-2")]
        halves = [queue.done_by(name, began + took / 2) for name in ("both-1", "both-2")]
        print(
            f"at once: {took:.0f} s, {took / (first + second):.2f} of that; each {each[0]:.0f} and {each[1]:.0f} s",
            flush=True,
        )
        print(f"after half of it they had ended {halves[0]} and {halves[1]} of {TRIALS + 1} trials", flush=True)
        for name in ("behind-1", "behind-2"):
            queue.submit(name)
        queue.until(lambda: all(queue.reports(name) > 2 for name in ("behind-1", "behind-2")))
        queue.submit("urgent", URGENT)
        queue.until(lambda: queue.rows("urgent"))
        queue.wait()
        begins, rung = queue.until_first_trial("urgent"), queue.rung_seconds(("behind-1", "behind-2"))
        print(f"an urgent study begins its first trial after {begins:.0f} s; a rung takes {rung:.1f} s", flush=True)
        for name, slots in queue.slots():
            print(f"  {name}: {slots}", flush=True)
        began = time.time()
        names = [f"small-{number:02d}" for number in range(MANY)]
        for name in names:
            queue.submit(name, settings=SMALL)
        queue.wait()
        order = sorted(names, key=lambda name: queue.entry(name).began_at or 0.0)
        finished = sum(queue.entry(name).state == "finished" for name in names)
        said = "in order" if order == names else f"in the order {order}"
        print(f"{MANY} at once: {finished} finished, begun {said}, {time.time() - began:.0f} s", flush=True)
        queue.end()


class Bench:
    """A queue on a cluster, in this process."""

    def __init__(self, place: Path, address: str) -> None:
        self._storage = storage_at(str(place / "studies"))
        self._queue = StudyQueue(self._storage, JobDrivers(address), CapacitySource(address))
        self._queue.begin()

    def end(self) -> None:
        self._queue.end()

    def submit(self, name: str, priority: int = 1, settings: Mapping[str, object] | None = None) -> None:
        asked = {"tasks": ["cola"], "search.trials": TRIALS, "finalists": {"top": 0}, "name": name, **(settings or {})}
        space = dump_spec(load_changed(SPACE, (), asked))
        self._queue.submit(Submission(name=name, space=space, priority=priority), "bench")

    def entry(self, name: str) -> Entry:
        return next(entry for entry in self._queue.view().entries if entry.name == name)

    def until(self, happened: Callable[[], object]) -> None:
        until(happened, LIMIT_SECONDS)

    def wait(self) -> None:
        """Waits until nothing runs or waits."""
        self.until(lambda: not any(entry.live for entry in self._queue.view().entries))

    def seconds(self, name: str) -> float:
        entry = self.entry(name)
        return (entry.ended_at or 0.0) - entry.submitted_at

    def folder(self, name: str) -> StudyFolder:
        return self._storage.study(name)

    def rows(self, name: str) -> int:
        return len(read_trials(self.folder(name).results)) if self.folder(name).results.exists() else 0

    def reports(self, name: str) -> int:
        return len(read_reports(self.folder(name).results)) if self.folder(name).results.exists() else 0

    def until_first_trial(self, name: str) -> float:
        return min(row.started_at for row in read_trials(self.folder(name).results)) - self.entry(name).submitted_at

    def done_by(self, name: str, moment: float) -> int:
        return sum((row.ended_at or moment) < moment for row in read_trials(self.folder(name).results))

    def rung_seconds(self, names: tuple[str, ...]) -> float:
        """Returns the median time that a trial trains for one rung."""
        found = []
        for name in names:
            before: dict[str, float] = {}
            for report in sorted(read_reports(self.folder(name).results), key=lambda each: each.rung):
                found.append(report.train_seconds - before.get(report.trial_id, 0.0))
                before[report.trial_id] = report.train_seconds
        return median(found)

    def slots(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """Returns each study's slots over time, as seconds since the first change and the number."""
        changes = [each for each in self._queue.view().changes if each.name in {"behind-1", "behind-2", "urgent"}]
        names = dict.fromkeys(each.name for each in changes)
        begin = changes[0].at
        return [(name, [(int(each.at - begin), each.slots) for each in changes if each.name == name]) for name in names]


@contextmanager
def _cluster() -> Iterator[str]:
    """Starts a cluster of one node with two CPUs, and gives its dashboard's address."""
    head = {
        "num_cpus": CPUS,
        "include_dashboard": True,
        "dashboard_port": _free(),
        "dashboard_agent_listen_port": _free(),
    }
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield f"http://{made.head_node.webui_url}"
    finally:
        made.shutdown()


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return int(opened.getsockname()[1])


if __name__ == "__main__":
    main()
