"""Tests that a study is found again by what its folder says of itself, and that all its files are inside it."""

from dataclasses import replace
from pathlib import Path

import pytest

from krona_tune.study.folder import StudyFolder, own_input

PARTS = (
    "spec", "manifest", "inputs", "driver", "orders", "clock", "state", "results", "journal", "checkpoints", "ray",
    "page", "log",
)  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "storage", "flag"),
    [
        (StudyFolder(Path("studies/first")), "studies", ""),
        (StudyFolder(Path("/data/my studies/first")), "/data/my studies", " --storage '/data/my studies'"),
        (StudyFolder(Path("/tmp/x/first"), "s3://bucket/all/first"), "s3://bucket/all", " --storage s3://bucket/all"),
        (
            StudyFolder(Path("/tmp/x/first"), "http://me:hunter2@host/all/first"),
            "http://me:hunter2@host/all",
            " --storage 'http://me:***@host/all'",
        ),
    ],
    ids=["usual", "elsewhere", "remote", "password"],
)
def test_a_command_finds_it_by_its_name_and_its_storage(folder: StudyFolder, storage: str, flag: str) -> None:
    assert (folder.name, folder.storage, folder.storage_flag) == ("first", storage, flag)


def test_each_part_has_a_place_of_its_own_inside_it() -> None:
    folder = StudyFolder(Path("studies/first"))
    places = [getattr(folder, part) for part in PARTS]
    assert len(set(places)) == len(PARTS)
    assert {place.parent for place in places} == {folder.root}
    assert folder.adapter("rte") == folder.root / "adapters" / "rte"


def test_what_a_study_keeps_is_found_in_its_folder_whatever_that_was_called(tmp_path: Path) -> None:
    study = tmp_path / "renamed"
    for kept in ("inputs/data/reviews", "inputs/model", "inputs/other"):
        (study / kept).mkdir(parents=True)
    assert own_input("/gone/first/inputs/data/reviews", study) == str(study / "inputs" / "data" / "reviews")
    assert own_input("/gone/first/inputs/model", study) == str(study / "inputs" / "model")
    for others in ("/gone/first/inputs/data/others", "/gone/first/inputs/other", "/gone/model", "org/model", "mini"):
        assert own_input(others, study) == others


def test_workers_elsewhere_find_checkpoints_at_the_copy_if_there_is_one() -> None:
    folder = StudyFolder(Path("studies/first"))
    assert folder.remote_checkpoints is None
    assert replace(folder, remote="s3://bucket/first").remote_checkpoints == "s3://bucket/first/checkpoints"


def test_the_studies_of_one_storage_share_a_tracking_store(tmp_path: Path) -> None:
    first, second = (StudyFolder(tmp_path / name) for name in ("first", "second"))
    assert first.tracking_uri == second.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
