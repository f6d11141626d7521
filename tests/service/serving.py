"""Runs a service in a thread of the tests."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import uvicorn

from krona_tune.record.storage import Storage
from krona_tune.service.access_token import own_token
from krona_tune.service.new_study.data_roots import DataRoots
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.web_server import make_app


@contextmanager
def served(storage: Storage, queue: StudyQueue | None = None, roots: DataRoots | None = None) -> Iterator[str]:
    """Runs a service in a thread, with a queue behind this account's own token; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as opened, ExitStack() as ending:
        port = opened.getsockname()[1]
        token = ending.enter_context(own_token("127.0.0.1", port, keep=False))[0] if queue else ""
        app = make_app(storage, token, pace=0, queue=queue, of_account=True, roots=roots)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()
