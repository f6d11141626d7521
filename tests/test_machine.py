"""Tests that what a container may use counts, and that free disk is that of the nearest folder that is there."""

import math
import os
import resource
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
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 700\nactive_file 9\n", encoding="utf-8")
    assert machine.memory() == (3000, 2700)  # files that were read give their room up
    for name in ("cpu.max", "memory.max"):
        (tmp_path / name).write_text("max 100000", encoding="utf-8")
    assert machine.core_limit() is None
    assert machine.memory()[0] > 3000


def test_the_limit_of_an_older_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "GROUP", tmp_path)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n", encoding="utf-8")
    for quota, limit in (("250000", 2.5), ("-1", None)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n", encoding="utf-8")
        assert machine.core_limit() == limit


@pytest.mark.parametrize(("limit", "cores"), [("max", 6), ("200000", 2), ("950000", 6), ("50000", 1)])
def test_the_cores_are_those_that_the_process_is_bound_to_within_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, cores: int
) -> None:
    monkeypatch.setattr(machine, "GROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    (tmp_path / "cpu.max").write_text(f"{limit} 100000", encoding="utf-8")
    assert machine.cores() == cores


def test_the_disk_of_a_folder_that_will_be_made_is_that_of_the_folder_above_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path] = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or usage)
    assert machine.free_bytes(tmp_path / "studies" / "first") == usage.free
    assert asked == [tmp_path]


def test_a_limit_of_files_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in ((resource.RLIM_INFINITY, math.inf), (7000, 7000)):
        monkeypatch.setattr(resource, "getrlimit", lambda of, limit=limit: (limit, resource.RLIM_INFINITY))
        assert machine.largest_file() == most


def test_of_a_limit_of_open_files_counts_how_far_it_may_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in ((resource.RLIM_INFINITY, math.inf), (700, 700)):
        monkeypatch.setattr(resource, "getrlimit", lambda of, limit=limit: (64, limit))
        assert machine.most_open_files() == most
