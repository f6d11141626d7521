"""Tests that drivers start with their request, are found again, and say what they wrote."""

import os
import sys
import time
from pathlib import Path

import pytest

from krona_tune.service.queue import drivers as queue_drivers
from krona_tune.service.queue.drivers import SPACE, LocalDrivers, NotStartedError, packed, unpack


def ended(drivers: LocalDrivers, handle: str) -> bool:
    end = time.monotonic() + 60
    while drivers.runs(handle) and time.monotonic() < end:
        time.sleep(0.05)
    return not drivers.runs(handle)


def test_a_process_starts_beside_its_request_and_is_found_by_another_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os, sys; print(sys.argv[1:], open('space.yaml').read(), os.environ['WHO']); input()"
    monkeypatch.setattr(
        "krona_tune.api.study_process.CODE", f"{code.removesuffix('; input()')}; import time; time.sleep(60)"
    )
    first = LocalDrivers(tmp_path)
    handle = first.start("mine", "", ["run", "--quiet"], "model: m", {"WHO": "ann"})
    again = LocalDrivers(tmp_path)
    assert (first.runs(handle), again.runs(handle)) == (True, True)
    until = time.monotonic() + 30
    while "ann" not in again.said(handle) and time.monotonic() < until:
        time.sleep(0.05)
    assert again.said(handle) == "['run', '--quiet'] model: m ann"
    process = int(handle.split()[1])
    os.kill(process, 9)
    assert ended(first, handle)
    assert not again.runs(handle)
    _, number, _, name = handle.split(" ", 3)
    assert not again.runs(f"process {os.getpid()} 1.00 {name}"), "another process with its number is none of ours"
    assert (again.runs(f"process {number} 1.00 {name}"), again.said("process 1 1 none")) == (False, "")
    assert (again.runs("krona-mine-ab12"), again.said("krona-mine-ab12")) == (False, "")


def test_what_can_not_be_started_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotStartedError, match="file"):
        LocalDrivers(tmp_path / "file").start("mine", "", ["run"], "model: m", {})


def test_a_request_travels_as_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = "model: m\n# “quoted” $HOME 'x'\n" * 500
    word = packed(space)
    assert word.isascii()
    assert not set(word) & set(" '\"$\\\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queue_drivers.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["-c", word, "run", "--space", SPACE])
    unpack()
    assert (sys.argv, Path(SPACE).read_text(encoding="utf-8")) == (["-c", "run", "--space", SPACE], space)
