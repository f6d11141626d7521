"""Tests that code which never returns, or ends its process, ends only its own."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from krona_tune.child_process import ChildProcess, ProcessEnded, TooSlow, read_answer
from krona_tune.refusal import Refusal
from tests.waiting import has_ended, until


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    with ChildProcess() as child:
        yield child


def divide(number: float, by: float) -> float:
    return number / by


def refuse() -> None:
    raise Refusal("a place", "is wrong", "mend it")


class Unportable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("it needs two values")


def raise_unportable() -> None:
    raise Unportable(1, 2)


def loop() -> None:
    while True:
        pass


def test_a_call_returns_what_the_function_returns_from_one_process_that_stays(child: ChildProcess) -> None:
    assert child.call(divide, 3.0, 4.0) == 0.75
    process = child.call(os.getpid)
    assert process != os.getpid()
    assert child.call(os.getpid) == process


def test_a_call_raises_what_the_function_raises_and_the_process_stays(child: ChildProcess) -> None:
    process = child.call(os.getpid)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        child.call(divide, 3.0, 0.0)
    with pytest.raises(Refusal, match="a place: is wrong; mend it"):
        child.call(refuse)
    with pytest.raises(RuntimeError, match="Unportable, which can't be sent"):
        child.call(raise_unportable)
    assert child.call(os.getpid) == process


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [(sys.exit, [0], "SystemExit"), (os._exit, [3], "status 3"), (os.kill, [0, signal.SIGSEGV], "SIGSEGV")],
)
def test_a_function_that_ends_its_process_is_told_and_the_next_call_has_another(
    child: ChildProcess, function: object, arguments: list[int], said: str
) -> None:
    with pytest.raises(ProcessEnded, match=said):
        child.call(function, *arguments)  # type: ignore[arg-type]
    assert child.call(divide, 1.0, 2.0) == 0.5


def test_a_function_that_does_not_return_is_ended_also_where_it_lets_no_other_thread_run(child: ChildProcess) -> None:
    for function, arguments in ((loop, ()), (re.search, ("(a+)+$", "a" * 60 + "b")), (time.sleep, (600,))):
        with pytest.raises(TooSlow, match=r"it took more than 0\.2 s"):
            child.call(function, *arguments, seconds=0.2)  # type: ignore[arg-type]
    assert child.call(divide, 1.0, 4.0) == 0.25


def fork_and_return() -> int:
    return os.fork() * 0 + 7


def write_into_connection(message: bytes) -> None:
    for descriptor in range(3, 20):
        with suppress(OSError):
            os.write(descriptor, message)


def test_a_process_that_a_function_forked_gives_no_second_answer(child: ChildProcess) -> None:
    for number in (1.0, 2.0, 3.0):
        assert child.call(fork_and_return) == 7
        assert child.call(divide, number, 4.0) == number / 4


@pytest.mark.parametrize(
    "message",
    [b"\x00\x00\x00\x04junk", b"xxx", b"\x00\x00\x00\x03N\x85.", b"\x70\x00\x00\x00abc", b"\xff\xff\xff\xf9abc"],
    ids=["no answer", "a part of a length", "an answer of its own", "a huge length", "a negative length"],
)
def test_what_a_function_writes_into_its_connection_keeps_nobody_waiting(child: ChildProcess, message: bytes) -> None:
    with suppress(ProcessEnded, TooSlow):
        assert child.call(write_into_connection, message, seconds=0.5) is None
    assert child.call(divide, 1.0, 2.0) == 0.5


def test_what_a_function_prints_gets_nowhere(child: ChildProcess, capfd: pytest.CaptureFixture[str]) -> None:
    child.call(print, "a text of the data")
    child.call(os.write, 2, b"a text of the data")
    assert capfd.readouterr() == ("", "")


class Hostile:
    """Runs a function where it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("/nowhere/made by an answer",)


def test_an_answer_holds_values_alone_and_runs_nothing_where_it_is_read(child: ChildProcess) -> None:
    found = child.call(np.arange, 3.0)
    assert found.tolist() == [0.0, 1.0, 2.0]
    assert child.call(Refusal, "a place", "is wrong").problem == "is wrong"
    with pytest.raises(RuntimeError, match="can't be sent to another process"):
        child.call(Hostile)
    with pytest.raises(pickle.UnpicklingError, match=r"an answer holds posix\.mkdir, which is none"):
        read_answer(pickle.dumps(Hostile()))


ENDLESS = """
from krona_tune.child_process import ChildProcess
from tests.test_child_process import loop
import os
child = ChildProcess()
print(child.call(os.getpid), flush=True)
child.call(loop, seconds=1.0)
"""


def test_the_process_ends_soon_after_the_one_that_called_it_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout
        process = int(caller.stdout.readline())
        caller.kill()
    until(lambda: has_ended(process))
