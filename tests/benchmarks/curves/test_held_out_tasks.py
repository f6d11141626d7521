"""Tests that pairs of verses are made of two translations, and that both tasks can be read."""

import sqlite3
from pathlib import Path

from tests.benchmarks.curves.held_out_tasks import LONGEST, NAMES, pairs, tasks

OLDER = ["a old", "b old", "c same", "d old", "e " + "long " * LONGEST, "f old"]
NEWER = ["a new", "b new", "c same", "d new", "e new", "f new"]


def write_bible(path: Path, texts: list[str]) -> Path:
    with sqlite3.connect(path) as bible:
        bible.execute("CREATE TABLE verses (book_id, chapter_number, verse_number, text)")
        bible.executemany("INSERT INTO verses VALUES (1, 1, ?, ?)", enumerate(texts))
    return path


def test_in_turn_the_second_is_the_same_verse_and_the_next_one(tmp_path: Path) -> None:
    found = pairs(write_bible(tmp_path / "older", OLDER), write_bible(tmp_path / "newer", NEWER))
    assert found.to_dict("split")["data"] == [
        ["a old", "a new", "same"],
        ["b old", "c same", "other"],
        ["d old", "d new", "same"],
    ]


def test_every_task_is_one_of_the_written_files(tmp_path: Path) -> None:
    assert tuple(tasks(tmp_path)) == NAMES
