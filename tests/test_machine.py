"""Tests that what a container may use counts, and that free disk is that of the nearest folder that is there."""

import shutil
from pathlib import Path

import pytest

from krona_tune import machine


def test_a_containers_limits_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "GROUP", tmp_path)
    assert machine.core_limit() is None
    for name, text in (("cpu.max", "150000 100000"), ("memory.max", "3000"), ("memory.current", "1000")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert machine.core_limit() == 1.5
    assert machine.memory() == (3000, 2000)
    for name in ("cpu.max", "memory.max"):
        (tmp_path / name).write_text("max 100000", encoding="utf-8")
    assert machine.core_limit() is None
    assert machine.memory()[0] > 3000


def test_the_disk_of_a_folder_that_will_be_made_is_that_of_the_folder_above_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path] = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or usage)
    assert machine.free_bytes(tmp_path / "studies" / "first") == usage.free
    assert asked == [tmp_path]
