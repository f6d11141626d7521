"""Tests what a place below a URI promises its readers."""

from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from krona_tune.record.remote_files import Store


def test_a_reader_of_a_folder_finds_a_whole_file_at_any_time(tmp_path: Path) -> None:
    store, contents = Store(f"file://{tmp_path}/there"), [b"A" * 9, b"B" * 3_000_000]
    store.write("index", contents[0])
    writers = [Thread(target=lambda: [store.write("index", contents[turn % 2]) for turn in range(60)]) for _ in "ab"]
    for writer in writers:
        writer.start()
    read = {store.read("index") for _ in iter(lambda: any(writer.is_alive() for writer in writers), False)}
    for writer in writers:
        writer.join()
    assert read <= set(contents)
    assert store.names() == ["index"]


class Server(LocalFileSystem):  # type: ignore[misc]
    """Takes the place of a server that is reached by sftp, with folders of this machine."""

    protocol = "sftp"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("sftp://server")))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        super().pipe_file(path, value[: value.find(b"!")] if b"!" in value else value, mode, **more)
        if b"!" in value:
            raise ConnectionError("it went away")


def test_a_connection_that_breaks_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsspec.core.get_filesystem_class", lambda protocol: Server)
    monkeypatch.setattr("fsspec.core.filesystem", lambda protocol, **options: Server())
    store = Store(f"sftp://server{tmp_path}/there")
    store.write("results/trials", b"whole")
    with pytest.raises(ConnectionError):
        store.write("results/trials", b"half! of it")
    assert store.read("results/trials") == b"whole"
    store.write("results/trials", b"newer")
    assert (tmp_path / "there" / "results" / "trials").read_bytes() == b"newer"


class Client:
    """A connection to a server, which may be lost."""

    lost = False

    def get_transport(self) -> "Client":
        return self

    def is_active(self) -> bool:
        return not self.lost


class Connected(Server):
    """A server to which one connection is kept for further use."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.client = Client()


def test_a_lost_connection_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda uri, **_: (used.append(Connected()) or used[-1], str(tmp_path)))
    first, second = Store("sftp://server/x"), Store("sftp://server/x")
    assert used[0] is used[1], "it is kept"
    used[0].client.lost = True
    third = Store("sftp://server/x")
    third.write("a", b"1")
    assert used[-1] is not used[0]
    assert third.names() == first.names() == second.names() == ["a"]
