"""Defines the commands of the service and of its queue: serve, submit, queue."""

from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated, Unpack

import typer
from rich.markup import escape
from rich.table import Table

from krona_tune.api.asked_request import AskedRequest
from krona_tune.api.folders import new_name, refuse_odd
from krona_tune.api.printing import console, errors, print_lines, say
from krona_tune.cli import options
from krona_tune.record.orders import whoami
from krona_tune.record.storage import Storage, storage_at
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.search.start_options import SENT, StartOptions
from krona_tune.study.formatting import format_many
from krona_tune.study.request.given_values import giver
from krona_tune.study.settings import Keywords

if TYPE_CHECKING:
    from krona_tune.service.client import Client
    from krona_tune.service.queue.entry import Entry, QueueView
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

DataRoot = Annotated[
    list[Path] | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Let studies be begun on the page, of data files and models below this folder. May be repeated.",
    ),
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
    data_root: DataRoot = None,
) -> None:
    """Serve a live page of each study, a REST interface, orders, and a queue of studies, until Ctrl-C."""
    with options.needing_the_service("serve"):
        from krona_tune.service import web_server
        from krona_tune.service.access_token import read_token
        from krona_tune.service.new_study.data_roots import DataRoots
        from krona_tune.service.queue.capacity import refuse_odd_dashboard
    if address:
        refuse_odd_dashboard(address)
    place, limits = storage_at(storage), dict(map(_limit, limit or ()))
    roots = DataRoots.at(data_root) if data_root else None
    queue: StudyQueue | None = None

    def make_queue() -> "StudyQueue | None":
        nonlocal queue
        queue = _queue(place, address or "", cpus, gpus, limits)
        return queue

    def ready(address: str, token: Path | None) -> None:
        say(f"Serving {place} at {address} until Ctrl-C")
        if token:
            say(f"The page asks for the token in {token}; your own commands read it there")

    web_server.serve(place, host, port, read_token(token_file), ready, make_queue, roots)
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
        say(f"No queue here: {refusal.problem}", to=errors)
        return None


def _limit(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal() or not 0 < int(number[:9]) <= MOST_SLOTS:
        raise Refusal("--limit", f"{text!r} gives nobody a number of slots", "write --limit ann=4")
    return name, int(number)


To = Annotated[
    str,
    typer.Option("--to", metavar="URL", envvar="KRONA_TUNE_SERVICE", help="The service that runs the queue."),
]
By = Annotated[str, typer.Option("--by", help="Who asks; without it your name.")]
SubmitPriority = Annotated[
    int, typer.Option("--priority", help="1 to 10: one of priority 2 gets twice the slots of one of priority 1.")
]
NewPriority = Annotated[int | None, typer.Option("--priority", help="The new priority, 1 to 10, for move.")]
HERE = "http://127.0.0.1:8300"
ACTIONS: dict[str, "Callable[[Client, int, int | None], Entry]"] = {
    "move": lambda client, entry, priority: client.move(entry, _given(priority)),
    "remove": lambda client, entry, _: client.remove(entry),
    "again": lambda client, entry, _: client.put_back(entry),
}
"""What can be done with an entry of the queue."""
SAID = {
    "move": "has priority {entry.priority} now",
    "remove": "is removed",
    "again": "has a place again, and its study is resumed",
}


@options.with_settings
@options.with_start(*SENT)
def submit(
    space: options.SentSpace = None,
    tasks: options.Tasks = None,
    settings: options.Settings = None,
    model: options.Model = None,
    *,
    name: options.Name = None,
    start: StartOptions,
    priority: SubmitPriority = 1,
    to: To = HERE,
    token_file: options.TokenFile = None,
    by: By = "",
    dry_run: options.DryRun = False,
    **keywords: Unpack[Keywords],
) -> None:
    """Send a study to the queue of a service, which runs it when it has slots for it."""
    from krona_tune.service.queue.sent_study import submission_of

    refuse_odd(name)
    _given(priority)
    asked = AskedRequest.of(space=space, place="SPACE", tasks=tasks, model=model, settings=settings, keywords=keywords)
    study = name or f"{new_name(asked.space)}-{token_hex(2)}"  # others may send one in the same second
    request = submission_of(
        study,
        asked.space,
        asked.given,
        priority=priority,
        **{option: getattr(start, option) for option in SENT},
        only_plan=dry_run,
    )
    try:
        answer = _client(to, token_file, by).submit(request)
    except Refusal as refusal:  # the service knows keys alone
        given = giver(refusal.place, asked.given)
        raise refusal.at(given.by if given else refusal.place) from None
    print_lines(answer.plan)
    if answer.entry:
        said = f"{study} is number {answer.entry.id} of the queue at {to}, with priority {priority}."
        say(f"{said} Look with: krona-tune queue --to {to}")


def queue(
    action: Annotated[str | None, typer.Argument(metavar="[ACTION]", help=f"One of {', '.join(ACTIONS)}.")] = None,
    entry: Annotated[int | None, typer.Argument(metavar="[NUMBER]", help="The entry's number.")] = None,
    priority: NewPriority = None,
    to: To = HERE,
    token_file: options.TokenFile = None,
    by: By = "",
) -> None:
    """List the queue of a service, or move, remove or put back (again) one of its studies."""
    client = _client(to, token_file, by)
    if action is not None:
        refuse_unknown("ACTION", "action", ACTIONS, action)
    if priority is not None and action != "move":
        raise Refusal("--priority", f"{action or 'a list of the queue'} takes none", "leave it out, or write move 3")
    if action is None:
        _print_queue(client.queue())
        return
    if entry is None:
        raise Refusal(action, "needs the number of an entry", f"write krona-tune queue {action} 3")
    changed = ACTIONS[action](client, entry, priority)
    said = SAID[action].format(entry=changed)
    if action == "remove" and changed.live:
        said = "is asked to end; its trials are kept"
    say(f"{changed.name} {said}")


def _client(to: str, token_file: Path | None, by: str) -> "Client":
    from krona_tune.service.access_token import read_token
    from krona_tune.service.client import Client

    try:
        return Client(to, read_token(token_file) or None, by or whoami().partition("@")[0])
    except Refusal as refusal:
        raise refusal.at("--to" if refusal.place == "url" else refusal.place) from None


def _given(priority: int | None) -> int:
    from krona_tune.service.queue.entry import LEAST_PRIORITY, MOST_PRIORITY

    if priority is None or not LEAST_PRIORITY <= priority <= MOST_PRIORITY:
        fix = f"write --priority and a number from {LEAST_PRIORITY} to {MOST_PRIORITY}"
        raise Refusal("--priority", "is missing" if priority is None else f"{priority} is none", fix)
    return priority


def _print_queue(view: "QueueView") -> None:
    shared = view.capacity or "unknown"
    limits = "".join(f"; {name}: at most {format_many(most, 'slot')}" for name, most in view.limits.items())
    say(f"shared out: {shared}{limits}")
    if view.problem:
        say(view.problem, to=errors)
    if not view.entries:
        console.print("The queue is empty.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("number", "study", "by", "priority", "state", "slots", "reason"):
        numeric = heading in {"number", "priority", "slots"}
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for each in view.entries:
        row = (each.id, each.name, each.person, each.priority, each.text, each.slots or "", each.reason)
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)
