"""Tests that a defect of the machine is reported in one line before Ray or torch start."""

import os
from pathlib import Path

import pytest

import krona_tune
from krona_tune import cli
from krona_tune.api.diagnosis import diagnose, refuse_gone_folder
from krona_tune.refusal import Refusal
from krona_tune.search.startup.cluster import (
    LONGEST_SOCKET,
    SOCKET,
    connecting,
    refuse_home,
    refuse_temporary_folder,
    refuse_windows,
)
from tests.conftest import Run

TOKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Removes this machine's own variables, and makes a file that tests use as a folder."""
    for name in ("RAY_TMPDIR", "TMPDIR", "XDG_CACHE_HOME", *TOKEN):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").touch()


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("{here}/file", "{here}/file can't be made, {here}/file is no folder; set RAY_TMPDIR to a folder"),
        ("{here}/file/below", "{here}/file/below can't be made, {here}/file is no folder"),
        ("relative", "'relative' is not an absolute path; set RAY_TMPDIR to a folder with a short path, such as /tmp"),
        ("", "'' is not an absolute path"),
        ("/tmp/" + "x" * 90, "is too long for Ray's sockets, which leave it "),
    ],
)
def test_a_temporary_folder_in_which_ray_can_not_start_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, folder: str, problem: str
) -> None:
    monkeypatch.setenv(name, folder.format(here=tmp_path))
    with pytest.raises(Refusal) as refused:
        connecting(None)
    assert str(refused.value).startswith(f"{name}: ")
    assert problem.format(here=tmp_path) in str(refused.value)


def test_a_dry_run_and_a_plan_refuse_the_folders_that_a_study_would_refuse(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("TMPDIR", "HOME"):
        with monkeypatch.context() as there:
            there.setenv(name, str(tmp_path / "file"))
            status, _, said = run("--dry-run")
            assert (status, said.partition(":")[0]) == (2, name)
            with pytest.raises(Refusal, match=f"^{name}: "):
                krona_tune.Study(tasks="cola", data="mini", name="one").plan()


def test_a_mac_s_own_temporary_folder_is_not_read_as_ray_does_not_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("TMPDIR", "/tmp/" + "x" * 90)
    refuse_temporary_folder()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "x" * 90)
    with pytest.raises(Refusal, match="RAY_TMPDIR: "):
        refuse_temporary_folder()


def test_the_longest_temporary_folder_is_the_longest_that_ray_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.utils import validate_socket_filepath  # private: what Ray itself checks

    rest = len("/" + SOCKET.format(pid=os.getpid()))
    for size, taken in ((LONGEST_SOCKET - rest, True), (LONGEST_SOCKET - rest + 1, False)):
        folder = "/tmp/" + "x" * (size - 5)
        monkeypatch.setenv("TMPDIR", folder)
        for refuse in (refuse_temporary_folder, lambda path=folder: validate_socket_filepath("x" * (len(path) + rest))):
            if taken:
                refuse()
            else:
                with pytest.raises((Refusal, OSError)):
                    refuse()


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME"])
def test_a_cache_folder_that_can_not_be_made_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "file"))
    with pytest.raises(Refusal) as refused:
        connecting(None)
    assert str(refused.value).startswith(f"the cache folder: {tmp_path}/file/")
    assert f"{tmp_path}/file is no folder; set HOME or XDG_CACHE_HOME to a folder" in str(refused.value)


@pytest.mark.parametrize(
    ("home", "problem"),
    [
        ("file", "{here}/file/.ray can't be made, {here}/file is no folder"),
        ("owned", "{here}/owned/.ray can't be made, {here}/owned/.ray is no folder"),
    ],
)
def test_a_home_in_which_ray_can_make_no_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str, problem: str
) -> None:
    (tmp_path / "owned").mkdir()
    (tmp_path / "owned" / ".ray").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / home))
    said = f"HOME: {problem.format(here=tmp_path)}; set HOME to a folder that can be written, or RAY_AUTH_MODE=disabled"
    with pytest.raises(Refusal) as refused:
        connecting(None)
    assert str(refused.value) == said
    assert said in map(str, diagnose().problems)


@pytest.mark.parametrize("given", [("RAY_AUTH_MODE", "disabled"), *((name, "x") for name in TOKEN[1:])])
def test_a_ray_that_makes_no_token_needs_no_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: tuple[str, str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setenv(*given)
    refuse_home()


def test_a_token_that_is_there_needs_no_home_that_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda *asked: False)
    refuse_home()
    token.unlink()
    with pytest.raises(Refusal, match=r"^HOME: .*\.ray can't be written; set HOME"):
        refuse_home()


def test_windows_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setattr("sys.platform", "win32")
        with pytest.raises(Refusal, match=r"^Windows: .* run on Linux and macOS; use WSL2$"):
            connecting("127.0.0.1:1")
        assert "Windows" in {problem.place for problem in diagnose().problems}
    refuse_windows()


def test_a_working_directory_that_is_gone_is_refused_by_every_verb(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    said = "the working directory: it can't be used: No such file or directory; change to another\n"
    for words in (["--dry-run"], ["--resume", "first"]):
        assert run(*words)[::2] == (2, said)
    for words in (["show", "first"], ["predict", "first"], ["list"]):
        assert run(*words, program=cli.main)[::2] == (2, said)
    monkeypatch.chdir(tmp_path)
    refuse_gone_folder()
