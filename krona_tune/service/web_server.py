"""Runs the service until Ctrl-C."""

import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

import uvicorn

from krona_tune.record.remote.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.service.access import SHORTEST_TOKEN, VARIABLE, is_loopback
from krona_tune.service.app import make_app
from krona_tune.service.own_token import own_token
from krona_tune.service.queue.study_queue import StudyQueue

GRACE_SECONDS = 1
"""How long open event streams may delay the end."""


class Server(uvicorn.Server):
    """A server that ends its event streams when it is told to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.streams.end()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def serve(
    storage: Storage,
    host: str,
    port: int,
    token: str,
    ready: Callable[[str, Path | None], None],
    make_queue: Callable[[], StudyQueue | None] = lambda: None,
) -> None:
    """Serves a storage's studies until Ctrl-C; calls `ready` once the port is this process's.

    Args:
        token: what requests must know; empty: with a queue one is made for this account, without one none is needed.
        ready: gets the address, and the file with the token if one was made.
        make_queue: returns the storage's queue, if this service is to run it; called once the port is this process's.

    Raises:
        Refusal: other machines could reach it and there is no token, or the host or port can't be used.
    """
    if not token and not is_loopback(host):
        fix = f"give a token of at least {SHORTEST_TOKEN} characters with --token-file or {VARIABLE}"
        raise Refusal("--host", f"{host} can be reached by other machines, and there is no token", fix)
    with _listening(host, port) as opened, ExitStack() as ending:
        queue, file = make_queue(), None
        if queue and not token:
            token, file = ending.enter_context(own_token(*opened.getsockname()[:2], keep=port > 0))
        config = uvicorn.Config(
            make_app(storage, token, warm=True, queue=queue, of_account=file is not None),
            log_level="critical",  # the guard logs what fails
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = Server(config)
        bound, port = opened.getsockname()[:2]
        ready(_address(bound if file else host, port), file)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[opened])


def _listening(host: str, port: int) -> socket.socket:
    fix = "name a host of this machine, and a free port"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise Refusal("--host", f"{host} can't be found ({_said(error)})", fix) from None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen()
    except OSError as error:
        opened.close()
        raise Refusal("--port", f"{host} port {port} can't be used ({_said(error)})", fix) from None
    return opened


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
