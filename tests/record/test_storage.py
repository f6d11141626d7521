"""Tests where studies are kept: a folder, or a URI with a folder to work in."""

import sys
from pathlib import Path

import pytest

from krona_tune.record.remote_copy import Copy
from krona_tune.record.storage import Storage, storage_at
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder


def test_a_storage_is_a_folder_or_a_uri_with_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain = storage_at("studies")
    assert (plain.study("a"), str(plain)) == (StudyFolder(Path("studies/a")), "studies")
    one, other = storage_at("s3://bucket/studies/"), storage_at("s3://bucket/others")
    assert one.study("a").remote == "s3://bucket/studies/a"
    assert one.study("a").storage == "s3://bucket/studies"
    assert one.folder.parent == tmp_path / "krona_tune" / "storage"
    assert one.folder.name.startswith("s3-bucket-studies-")
    assert one.folder != other.folder
    secret = storage_at("sftp://me:hunter2@host/studies")
    assert "hunter2" not in f"{secret}{secret.folder}"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://", "'s3://' names no place; write protocol://place/folder"),
        ("Memory://studies", "'Memory://studies' is another place for each process, so no worker, page or order would "
         "find a study there; name a folder, or write s3://bucket/folder"),
    ],
)  # fmt: skip
def test_a_uri_that_no_other_process_finds_is_refused(place: str, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        storage_at(place)
    assert str(refused.value) == f"--storage: {said}"


def test_a_storage_below_a_folder_that_may_not_be_entered_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("krona_tune.record.storage.os.access", lambda path, how: path != tmp_path)
    with pytest.raises(Refusal, match=rf"^--storage: {tmp_path} may not be entered by you; name another folder"):
        storage_at(str(tmp_path / "mine" / "studies"))


def test_studies_are_listed_from_here_and_there(here: StudyFolder, uri: str, tmp_path: Path) -> None:
    Copy(here).push()
    storage = Storage(folder=tmp_path / "there", uri=uri)
    only_here = storage.study("second")
    only_here.root.mkdir(parents=True)
    only_here.spec.write_text("", encoding="utf-8")
    assert storage.names() == ["first", "second"]
    assert storage.studies() == [storage.study("first"), only_here]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s4://bucket/studies", r"--storage: unknown protocol 's4', did you mean 's3a?'"),
        ("foo://bucket/studies", r"--storage: unknown protocol 'foo'; known: abfs, az, file, ftp, gcs, gs, hdfs"),
        ("~nobody-here/studies", r"--storage: there is no home folder '~nobody-here'; give the folder's whole path"),
        ("gs://bucket/studies", r"needs a package that is not installed; pip install 'krona_tune\[gs\]'"),
    ],
)
def test_what_can_not_be_opened_is_refused(place: str, message: str) -> None:
    if place.startswith("gs:"):
        sys.modules["gcsfs"] = None  # type: ignore[assignment]
    try:
        with pytest.raises(Refusal, match=message):
            storage_at(place).brought("first")
    finally:
        sys.modules.pop("gcsfs", None)
