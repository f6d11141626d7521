"""Tests that a service's own token is read by its account alone, and sent nowhere but to that service."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from krona_tune.refusal import Refusal
from krona_tune.service.access_token import is_loopback, own_token, read_token, token_for
from tests.service.conftest import TOKEN

HERE, PORT = "127.0.0.1", 8300
URL = f"http://{HERE}:{PORT}"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    before = os.umask(0)  # nothing but the code itself keeps others out
    yield tmp_path / "krona_tune" / "tokens"
    os.umask(before)


def test_the_first_start_makes_a_token_that_later_starts_have_too(place: Path) -> None:
    with own_token(HERE, PORT) as (first, path):
        assert len(first) > 40
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert json.loads(path.read_text()) == {"address": HERE, "port": PORT, "token": first}
    with own_token(HERE, PORT) as (again, _):
        assert again == first
    with own_token(HERE, 8301, keep=False) as (other, path):
        assert other != first
    assert not path.exists()


def test_only_the_running_service_at_exactly_that_address_gets_it(place: Path) -> None:
    with own_token(HERE, PORT) as (token, _):
        assert token_for(URL) == token_for(f"{URL}/api/queue") == token
        for url in (
            f"http://{HERE}:8301",
            f"http://localhost:{PORT}",
            f"http://[::1]:{PORT}",
            f"https://{HERE}:{PORT}",
        ):
            assert token_for(url) == "", url
        for url in (f"http://127.0.0.2:{PORT}", f"http://{HERE}", "nowhere", "http://[bad", f"http://{HERE}:x"):
            assert token_for(url) == "", url
    assert token_for(URL) == "", "another account's program may listen there now"


@pytest.mark.parametrize("how", ["others read it", "a link", "another port's", "cut", "empty", "a folder's"])
def test_an_odd_file_is_not_believed(place: Path, tmp_path: Path, how: str) -> None:
    with own_token(HERE, PORT) as (first, path):
        pass
    match how:
        case "others read it":
            path.chmod(0o640)
        case "a link":
            path.replace(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case "another port's":
            path.write_text(path.read_text().replace(str(PORT), "8301"))
        case _:
            path.write_text({"cut": path.read_text()[:20], "empty": "", "a folder's": "[1]"}[how])
    with own_token(HERE, PORT) as (token, path):
        assert token not in {"", first}
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        path.chmod(0o644)
        assert token_for(URL) == ""


def test_two_services_do_not_share_a_file(place: Path) -> None:
    with (
        own_token(HERE, PORT),
        pytest.raises(Refusal, match="another service has this file; give a token with"),
        own_token(HERE, PORT),
    ):
        pass


def test_a_place_that_can_not_be_written_is_refused(place: Path) -> None:
    place.parent.mkdir()
    place.write_text("")
    said = r"can't be written: .*; give a token with --token-file or KRONA_TUNE_TOKEN"
    with pytest.raises(Refusal, match=said), own_token(HERE, PORT):
        pass


def test_the_token_is_read_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_token(None) == ""
    monkeypatch.setenv("KRONA_TUNE_TOKEN", f" {TOKEN}\n")
    assert read_token(None) == TOKEN
    (tmp_path / "token").write_text("another-token-of-sixteen\n")
    assert read_token(tmp_path / "token") == "another-token-of-sixteen"
    for content in (b"short", b"", b"x" * 5000, b"\xff" * 20, "é".encode() * 20, b"two words and more of them"):
        (tmp_path / "token").write_bytes(content)
        with pytest.raises(Refusal, match="token"):
            read_token(tmp_path / "token")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(Refusal, match="is no file"):
            read_token(path)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)]
)
def test_only_loopback_hosts_need_no_token(host: str, local: bool) -> None:
    assert is_loopback(host) is local
