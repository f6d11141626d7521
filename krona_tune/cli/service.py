"""The command that serves studies to browsers and programs, and runs their queue: serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krona_tune.api.printing import OF_THE_SERVICE, console, errors
from krona_tune.cli import options
from krona_tune.record.storage import Storage, storage_at
from krona_tune.refusal import Refusal

if TYPE_CHECKING:
    from krona_tune.service.queue.study_queue import StudyQueue

MOST_SLOTS = 100_000
Host = Annotated[str, typer.Option(help="The host to listen on; one that other machines reach needs a token.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 for any free one.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Run the queue's studies on the Ray cluster with this dashboard, such as http://127.0.0.1:8265; "
        "without it on this machine.",
    ),
]
Cpus = Annotated[float | None, typer.Option(min=0, help="Share this many CPUs out, not all that are there.")]
Gpus = Annotated[float | None, typer.Option(min=0, help="Share this many GPUs out, not all that are there.")]
Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="NAME=N", help="Let a person's studies have at most N slots. May be repeated."),
]


def serve(
    storage: options.Storage = options.STUDIES,
    host: Host = "127.0.0.1",
    port: Port = 8300,
    token_file: options.TokenFile = None,
    address: Cluster = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    limit: Limits = None,
) -> None:
    """Serve a live page of each study, a REST interface, orders, and a queue of studies, until Ctrl-C."""
    try:
        from krona_tune.service import web_server
        from krona_tune.service.queue.capacity import refuse_odd_dashboard
        from krona_tune.service.tokens import read_token
    except ModuleNotFoundError as error:
        if error.name not in OF_THE_SERVICE:
            raise
        fix = "pip install 'krona_tune[service]'"
        raise Refusal("serve", f"needs the package {error.name}, which is not installed", fix) from None
    if address:
        refuse_odd_dashboard(address)
    place, limits = storage_at(storage), dict(map(_limit, limit or ()))
    queue: StudyQueue | None = None

    def make_queue() -> "StudyQueue | None":
        nonlocal queue
        queue = _queue(place, address or "", cpus, gpus, limits)
        return queue

    def ready(address: str, token: Path | None) -> None:
        console.print(f"Serving {place} at {address} until Ctrl-C", highlight=False, markup=False, soft_wrap=True)
        if token:
            said = f"The page asks for the token in {token}; your own commands read it there"
            console.print(said, highlight=False, markup=False, soft_wrap=True)

    web_server.serve(place, host, port, read_token(token_file), ready, make_queue)
    if queue and (left := sum(entry.live for entry in queue.view().entries)):
        said = f"The queue keeps {left} {'study' if left == 1 else 'studies'}; those that run go on. Serve again to "
        console.print(f"{said}start the others.", highlight=False, soft_wrap=True)


def _queue(
    place: Storage, address: str, cpus: float | None, gpus: float | None, limits: dict[str, int]
) -> "StudyQueue | None":
    """Returns the storage's queue; None if another service has it, or nothing can be written there."""
    from krona_tune.service.queue.capacity import CapacitySource
    from krona_tune.service.queue.drivers import JobDrivers, LocalDrivers
    from krona_tune.service.queue.study_queue import NoQueueError, StudyQueue, place_of_queue

    source = CapacitySource(address, cpus, gpus)
    source.cluster()  # one that does not answer is refused at once
    drivers = JobDrivers(address) if address else LocalDrivers(place_of_queue(place) / "queue")
    try:
        return StudyQueue(place, drivers, source, limits)
    except NoQueueError as refusal:
        errors.print(f"No queue here: {refusal.problem}", highlight=False, markup=False, soft_wrap=True)
        return None


def _limit(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal() or not 0 < int(number[:9]) <= MOST_SLOTS:
        raise Refusal("--limit", f"{text!r} gives nobody a number of slots", "write --limit ann=4")
    return name, int(number)
