"""Tests that output that can't be encoded or written never ends a program, and that the exit status reports it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from krona_tune import cli
from krona_tune.api.exit_status import ExitStatus
from krona_tune.api.printing import drop_odd_width
from krona_tune.cli import app
from krona_tune.cli.ending import Output
from krona_tune.refusal import Refusal

SAID = "a_out 8…16 × 2 ≈ 3 ± 1 漢 −0.012 → “seen”"
SAY = f"""
import sys
from krona_tune import cli
from krona_tune.api.exit_status import ExitStatus
from krona_tune.api.printing import console, errors
from krona_tune.refusal import Refusal
def program():
    console.print({SAID!r})
    for number in range({{lines}}):
        console.print(number)
    {{end}}
    print("the end was reached", file=sys.stderr)
cli.app = program
cli.main()
"""


def ended(
    *, lines: int = 1, end: str = "", stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    code = SAY.format(lines=lines, end=end)
    known = {**os.environ, "PYTHONUTF8": "0", **environment}
    return subprocess.run([sys.executable, "-c", code], stdout=stdout, stderr=stderr, env=known, check=False)


@pytest.mark.slow
def test_what_an_encoding_lacks_is_replaced() -> None:
    for encoding, said in (
        ("ascii", b'a_out 8...16 x 2 ~ 3 +- 1 ? -0.012 -> "seen"'),
        ("iso-8859-1", b'a_out 8...16 \xd7 2 ~ 3 \xb1 1 ? -0.012 -> "seen"'),
        ("utf-8", SAID.encode()),
    ):
        done = ended(PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, b"the end was reached\n")
        assert done.stdout == said + b"\n0\n"


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@pytest.mark.slow
@FULL
def test_a_full_disk_under_the_output_lets_the_program_end_and_is_told_by_the_status() -> None:
    with Path("/dev/full").open("w") as full:
        done = ended(stdout=full.fileno(), lines=5000)
        assert done.returncode == ExitStatus.UNWRITTEN
        assert done.stderr == b"the end was reached\nthe output could not be written: No space left on device\n"
        refused = ended(stdout=full.fileno(), stderr=full.fileno(), end="raise Refusal('a', 'b')")
        assert refused.returncode == ExitStatus.REFUSED
        assert ended(stdout=full.fileno(), end="sys.exit(130)").returncode == 130


def test_a_reader_that_has_gone_lets_the_program_end_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = ended(stdout=writing, lines=5000)
    os.close(writing)
    assert (done.returncode, done.stderr) == (ExitStatus.UNWRITTEN, b"the end was reached\n")


@pytest.mark.slow
def test_answers_end_with_their_reader_and_are_no_other_signs() -> None:
    answer = "print_answer('漢\\n')"
    end = f"from krona_tune.cli.ending import print_answer\n    for number in range(5000): {answer}"
    reading, writing = os.pipe()
    os.close(reading)
    done = ended(stdout=writing, lines=0, end=end, PYTHONIOENCODING="utf-8")
    os.close(writing)
    assert (done.returncode, done.stderr) == (ExitStatus.UNWRITTEN, b"")
    whole = ended(lines=0, end=end, PYTHONIOENCODING="utf-8")
    assert (whole.returncode, whole.stdout.count("漢".encode())) == (0, 5001)
    refused = ended(lines=0, end=end, PYTHONIOENCODING="ascii")
    assert refused.returncode == ExitStatus.REFUSED
    assert b"its encoding, ascii, lacks" in refused.stderr


@pytest.mark.parametrize(
    ("columns", "kept"),
    [("0", False), ("1", False), ("19", False), ("99999999999999", False), ("20", True), ("200", True), ("x", True)],
)
def test_a_width_that_can_not_be_meant_is_forgotten(monkeypatch: pytest.MonkeyPatch, columns: str, kept: bool) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    drop_odd_width()
    assert os.environ.get("COLUMNS") == (columns if kept else None)


def test_a_line_is_printed_where_the_width_is_said_to_be_none() -> None:
    assert ended(COLUMNS="0", PYTHONIOENCODING="utf-8").stdout == f"{SAID}\n0\n".encode()


def test_the_streams_are_given_back_and_those_without_a_descriptor_are_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sys.stdout, sys.stderr
    output = Output()
    print(SAID)
    assert output.lost() is None
    output.give_back()
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == f"{SAID}\n"


def _refuse() -> None:
    raise Refusal("--x", "no")


def _crash() -> None:
    raise KeyError("no")


@pytest.mark.parametrize(
    ("program", "status"),
    [(_refuse, ExitStatus.REFUSED), (_crash, ExitStatus.CRASHED), (lambda: None, 0), (lambda: sys.exit(130), 130)],
)
def test_every_end_has_its_status(monkeypatch: pytest.MonkeyPatch, program: Callable[[], None], status: int) -> None:
    monkeypatch.setattr(cli, "app", program)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == status


def test_a_process_ends_after_its_exit_handlers_whatever_its_threads_do() -> None:
    code = (
        "import atexit, sys, threading, time\nfrom krona_tune.cli import end_process_after\n"
        "atexit.register(print, 'the handler ran')\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
        "end_process_after(lambda: sys.exit(3))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"the handler ran\n", b"")


@pytest.mark.parametrize("words", [["--help"], ["predict", "--help"], ["run", "--help"]])
def test_help_shows_no_value_behind_a_flag_that_is_on_or_off(words: list[str]) -> None:
    text = CliRunner(env={"COLUMNS": "200"}).invoke(app, words).output
    flags = [line for line in text.splitlines() if re.search(r"--(help|scores|dry-run|version) ", line)]
    assert flags
    assert not [line for line in flags if "<" in line]


def test_tasks_that_are_named_in_two_flags_are_refused_and_not_left_out() -> None:
    with pytest.raises(Refusal, match=r"--tasks: it is given 2 times; give it once, with commas between the tasks"):
        app(["run", "--tasks", "rte", "--trials", "2", "--tasks", "cola", "--trials", "3"], standalone_mode=False)
