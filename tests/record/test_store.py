"""Tests what a place below a URI promises its readers."""

from pathlib import Path
from threading import Thread

from krona_tune.record.store import Store


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
