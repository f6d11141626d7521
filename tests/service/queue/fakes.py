"""Stands in for a machine and for drivers, so that a queue can be tried without either."""

from collections.abc import Mapping, Sequence

from krona_tune.record.driver_state import write_driver_state
from krona_tune.record.orders import remove_order, waiting_orders
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.search.startup.slots import Cluster, Node
from krona_tune.service.queue.capacity import CapacitySource
from krona_tune.service.queue.database import Database
from krona_tune.service.queue.dispatcher import Dispatcher
from krona_tune.service.queue.drivers import NotStartedError
from krona_tune.service.queue.entry import Entry, Submission
from krona_tune.study.request.loader import build_spec, dump_spec
from krona_tune.study.study_state import DriverState, End


class Machine(CapacitySource):
    """A machine of so many CPUs, and GPUs if a test says so."""

    def __init__(self, cpus: float) -> None:
        self.cpus, self.gpus, self.answers = cpus, 0.0, True

    def cluster(self) -> Cluster:
        if not self.answers:
            raise Refusal("--address", "the cluster gives no answer", "start it")
        return Cluster(nodes=(Node(self.cpus, self.gpus),), dashboard="")


class FakeDrivers:
    """Drivers that do what a test says. They write into the studies' folders what a real one writes."""

    address: str | None = "auto"

    def __init__(self, storage: Storage) -> None:
        self.storage, self.running, self.started = storage, dict[str, str](), list[tuple[str, ...]]()
        self.environments: list[dict[str, str]] = []
        self.turns: list[tuple[float, dict[str, float]]] = []
        self.fails = self.plans = False
        self.moment = 1000.0
        self.most: int | None = None

    def handle(self, name: str) -> str:
        return f"driver-{len(self.started)}" if self.plans else ""

    def start(self, name: str, handle: str, words: Sequence[str], space: str, environment: Mapping[str, str]) -> str:
        if self.fails:
            raise NotStartedError("no memory")
        assert name not in self.running.values(), "a study got two drivers"
        handle = f"driver-{len(self.started)}"
        folder = self.storage.study(name)
        folder.root.mkdir(parents=True, exist_ok=True)
        folder.spec.write_text(space, encoding="utf-8")
        self.writes(name, share=int(words[words.index("--share") + 1]))
        self.environments.append(dict(environment))
        self.running[handle] = name
        self.started.append(tuple(words))  # last, because tests wait for it
        return handle

    def turn(self, wanted: float, held: Mapping[str, float]) -> Mapping[str, str]:
        if not wanted:
            return {}
        self.turns.append((wanted, dict(held)))
        return {"TURN": str(len(self.turns) - 1)}

    def runs(self, handle: str) -> bool:
        return handle in self.running

    def last_lines(self, handle: str) -> str:
        return "a line\nthe last line with postgresql://ann:hunter2@host/db"

    def writes(
        self,
        name: str,
        share: int | None,
        *,
        paused: bool = False,
        ended: int = 0,
        end: End = "",
        training: bool = False,
    ) -> None:
        self.moment += 1
        state = DriverState(
            stage="end" if end else "search",
            trials=10,
            ended=ended,
            slots=share or 0,
            share=share,
            most=self.most,
            paused=paused,
            at=self.moment,
            end=end,
            training=training,
            reason="the disk is full" if end == "halted" else "",
        )
        write_driver_state(self.storage.study(name), state)

    def ends(self, name: str, end: End = "") -> None:
        """Ends a study's driver; without an `end` it is killed."""
        handle = next(key for key, running in self.running.items() if running == name)
        if end:
            self.writes(name, 1, end=end, training=self.started[-1][0] == "train")
        del self.running[handle]

    def obeys(self, name: str) -> list[str]:
        """Lets a driver take its orders; returns them in words."""
        folder = self.storage.study(name)
        found = waiting_orders(folder)
        for order in found:
            if order.what == "share":
                self.writes(name, int(order.value))
            remove_order(folder, order)
        return [order.text for order in found]


class Queue:
    """A queue whose rounds a test runs."""

    def __init__(self, storage: Storage, cpus: float = 2, limits: Mapping[str, int] | None = None) -> None:
        self.storage, self.machine, self.drivers = storage, Machine(cpus), FakeDrivers(storage)
        self.limits = limits
        self.begin()

    def begin(self, pace: float = 0) -> None:
        """Begins anew, as a service that was killed."""
        self.database = Database(self.storage.folder / "queue.db")
        self.dispatcher = Dispatcher(self.database, self.storage, self.drivers, self.machine, self.limits, pace=pace)

    def submit(self, name: str, priority: int = 1, person: str = "ann", **resources: float) -> int:
        return self.database.add(submission(name, priority, **resources), person).id

    def round(self) -> dict[str, tuple[str, int]]:
        """Runs a round and returns each study's state and slots."""
        self.dispatcher.round()
        return {entry.name: (entry.state, entry.slots) for entry in self.entries()}

    def entries(self) -> list[Entry]:
        return [*self.database.live(), *self.database.ended()]

    def entry(self, name: str) -> Entry:
        return next(entry for entry in self.entries() if entry.name == name)


def submission(name: str, priority: int = 1, **resources: float) -> Submission:
    spec = build_spec({"model": "m", "name": name, "tasks": ["cola"], "resources": resources}, "x.yaml")
    notify = ("json://a", "json://b/?c=d e")
    return Submission(name=name, space=dump_spec(spec), priority=priority, notify=notify, tracking_uri="http://m")
