"""Provides a storage with adapters, and the program `krona-tune`."""

from functools import partial
from pathlib import Path

import pytest

from krona_tune import cli
from tests.conftest import Run
from tests.train.exported_adapters import adapter_folder, backbone_folder


@pytest.fixture(scope="package")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes two studies: one with adapters of two tasks, one with a single adapter that can't be merged."""
    root = tmp_path_factory.mktemp("adapters")
    backbone = backbone_folder("bert", root / "backbone")
    for study, task, method in (("first", "cola", "krona"), ("first", "stsb", "lora"), ("second", "cola", "krona_b")):
        adapter_folder(backbone, root / "studies" / study / "adapters" / task, task, method)
        (root / "studies" / study / "study.yaml").touch()
    (root / "studies" / "empty").mkdir()
    (root / "studies" / "empty" / "study.yaml").touch()
    return root / "studies"


@pytest.fixture
def ask(run: Run) -> Run:
    """Runs `krona-tune`."""
    return partial(run, program=cli.main)
