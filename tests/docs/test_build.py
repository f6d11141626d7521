"""Tests that the build of docs/ is strict: it warns of nothing, and a link that leads nowhere ends it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

pytest.importorskip("furo", reason="the extra `docs` is not installed")


def built(source: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """Runs what `make docs` runs, on another folder."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (words,) = [line.split()[1:] for line in makefile.splitlines() if "-m sphinx" in line]
    command = [sys.executable, *words[:-2], str(source), str(to)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_pages_build_without_a_warning_and_a_broken_link_is_one(tmp_path: Path) -> None:
    """One build tells both: beside a copy of docs/ with one broken link, exactly this link is complained about."""
    for path in ROOT.iterdir():  # what the pages include, show or link to
        if path.name not in {"docs", ".venv", ".git"}:
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("_build", "__pycache__"))
    (tmp_path / "docs" / "speed.md").write_text("# Speed\n\n[nowhere](no_such_page.md)\n", encoding="utf-8")
    ended = built(tmp_path / "docs", tmp_path / "html")
    assert ended.returncode != 0
    complaints = [line for line in ended.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
    assert len(complaints) == 1, ended.stderr
    assert "speed.md:3" in complaints[0]
    assert "no_such_page.md" in complaints[0]
    assert (tmp_path / "html" / "reference" / "command_line.html").exists()
