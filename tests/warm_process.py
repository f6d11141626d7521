"""Runs the program for a test again and again in this process, which starts one Ray and keeps it."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from krona_tune import cli
from krona_tune.search.startup import cluster


def serve() -> None:
    """Runs what each line of stdin asks for, and answers with the exit status; leaves Ray at the end."""
    leave, cluster.leave_ray = cluster.leave_ray, _keep_ray
    cluster.connect(None)  # here, because workers begin in the folder in which Ray was started
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        for line in sys.stdin:
            status = _run(**json.loads(line))
            answers.write(f"{status}\n")
            answers.flush()
    with suppress(Exception):
        leave(lost=False)
    os._exit(0)


def _keep_ray(*, lost: bool) -> None:
    assert not lost, "the Ray of many tests is lost"


def _run(words: list[str], folder: str, said: str) -> int:
    for descriptor, end in ((1, ".out"), (2, ".err")):
        with Path(said).with_suffix(end).open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), descriptor)
    os.chdir(folder)
    sys.argv = words
    try:
        getattr(cli, words[0])()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return 0
