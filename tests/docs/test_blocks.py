"""Tests that the code in the README and in docs/ runs, but for what needs a thing that a test does not have."""

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.block_runner import Runner
from tests.docs.blocks import PAGES, ROOT, Block, blocks

RUN = ("bash", "python", "yaml")
NOT_RUN = {"time": 3, "data": 4, "hub": 2, "gpu": 1, "cluster": 4, "server": 7, "running": 3, "registry": 1}
"""How many blocks are not run, by what they need. A new one is a reason to think of another way first."""


def shown(page: Path) -> list[tuple[Block, str]]:
    """Returns a page's blocks that are run, each with the text of the block that follows."""
    found = [*blocks(page), None]
    pairs = ((block, after.text if after else "") for block, after in pairwise(found) if block)
    return [(block, after) for block, after in pairs if block.language in RUN and not block.needs]


def quick(page: Path) -> list[tuple[Block, str]]:
    return [(block, after) for block, after in shown(page) if not block.of_study]


def of_study() -> list[tuple[Block, str]]:
    """Returns the blocks about the study `first`, the one that runs it before all others."""
    pages = sorted(PAGES, key=lambda page: page.name != "first_study.md")
    return [(block, after) for page in pages for block, after in shown(page) if block.of_study]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Runs blocks in a folder that looks like a checkout."""
    (tmp_path / "search_spaces").symlink_to(ROOT / "search_spaces")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # with a GPU another space is chosen, which needs the hub
    return Runner(monkeypatch, capsys)


@pytest.mark.parametrize("page", [page for page in PAGES if quick(page)], ids=lambda page: page.stem)
def test_what_a_page_shows_runs(page: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # nothing here starts Ray
    for block, after in quick(page):
        runner.run(block, after)


@pytest.mark.slow
@pytest.mark.usefixtures("one_cpu")
def test_what_the_pages_show_of_a_study_runs(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
    found = of_study()
    assert "--name first" in found[0][0].text
    for block, after in found:
        runner.run(block, after)
    assert os.path.exists("studies/first/report.html")


def test_no_more_blocks_are_left_out_than_are_counted_here() -> None:
    assert Counter(block.needs for page in PAGES for block in blocks(page) if block.needs) == NOT_RUN


def test_every_block_has_a_language_and_known_words() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language, f"{block.place} says no language"
            assert block.language in {*RUN, "text", "output"}, (
                f"{block.place}: no test knows what to do with {block.language}"
            )
            assert {word for word in block.words if not word.startswith("needs=")} <= {"study", "refused"}, block.place
