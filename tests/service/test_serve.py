"""Tests the command serve: what it refuses before it starts, and that Ctrl-C ends it at once."""

import builtins
import json
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from krona_tune import cli
from krona_tune.service import Client
from krona_tune.study.folder import StudyFolder
from tests.conftest import Run


def test_a_host_that_others_reach_needs_a_token(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KRONA_TUNE_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "example.org"):
        status, _, said = run("serve", "--host", host, "--port", 0, program=cli.main)
        assert status == 2
        assert f"--host: {host} can be reached by other machines, and there is no token; give a token" in said
    monkeypatch.setenv("KRONA_TUNE_TOKEN", "short")
    status, _, said = run("serve", "--host", "0.0.0.0", "--port", 0, program=cli.main)
    assert (status, "KRONA_TUNE_TOKEN: the token has 5 characters" in said) == (2, True)


def test_a_token_file_that_can_not_be_read_is_refused(run: Run, tmp_path: Path) -> None:
    status, _, said = run("serve", "--token-file", tmp_path / "none", program=cli.main)
    assert (status, "none: is no file; name a text file" in said) == (2, True)


def test_a_port_that_is_taken_is_refused(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, said = run("serve", "--port", port, program=cli.main)
    assert (status, f"--port: 127.0.0.1 port {port} can't be used (Address already in use)" in said) == (2, True)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a b", "x" * 70 + ".org", "999.1.1.1"])
def test_an_odd_host_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("KRONA_TUNE_TOKEN", "x" * 16)
    status, _, said = run("serve", "--host", host, "--port", 0, program=cli.main)
    assert (status, "--host: " in said) == (2, True)


def test_a_storage_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, said = run("serve", "--storage", tmp_path / "file", program=cli.main)
    assert (status, "is no folder" in said) == (2, True)


def test_without_the_extra_the_command_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def lacking(name: str, *words: Any) -> Any:
        if name.partition(".")[0] in {"uvicorn", "krona_tune"} and "web_server" in (words[2] or ()):
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return original(name, *words)

    monkeypatch.setattr(builtins, "__import__", lacking)
    status, _, said = run("serve", program=cli.main)
    assert (status, "pip install 'krona_tune[service]'" in said) == (2, True)


def test_ctrl_c_ends_it_at_once_with_open_pages_and_its_queue_wants_the_token(study: StudyFolder) -> None:
    code = "from krona_tune.cli import program; program()"
    words = ["serve", "--storage", str(study.root.parent), "--port", "0"]
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        address = process.stdout.readline().split(" at ")[1].split()[0]
        file = Path(process.stdout.readline().partition("the token in ")[2].partition(";")[0])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert requests.get(f"{address}/api/queue", timeout=20).status_code == 401
        assert Client(address).queue().entries == []
        headers = {"Authorization": f"Bearer {json.loads(file.read_text())['token']}"}
        events = f"{address}/studies/first/events"
        with requests.get(events, headers=headers, stream=True, timeout=20) as answer:
            assert next(answer.iter_lines(chunk_size=1))
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            status = process.wait(10)
        assert time.monotonic() - began < 5
        assert status in {0, 130}
        assert process.stderr.read() == ""
