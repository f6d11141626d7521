"""Tests that an unusable tracking store is found in seconds: refused if it can't be a store, otherwise reported."""

import sqlite3
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest

from krona_tune.record.mlflow_mirror import mlflow_sink, tracking_uri
from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowStore, sync
from krona_tune.record.mlflow_mirror.tracking_uri import (
    HOSTED,
    PORTS,
    explain_unreachable,
    find_trouble,
    refuse_no_store,
)
from krona_tune.refusal import Refusal
from tests.record.adapters import study_folder
from tests.record.events import manifest


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("nonsense", "'nonsense' is a folder, which MLflow no longer writes to; write http://host:port or sqlite:////"),
        ("./mlruns", "'./mlruns' is a folder"),
        ("file:///tmp/mlruns", "is a folder, which MLflow no longer writes to"),
        ("foo://x", "unknown scheme 'foo'"),
        ("htp://host:5000", "unknown scheme 'htp', did you mean 'http'?"),
        ("localhost:5000", "unknown scheme 'localhost'"),
        ("http://", "'http://' names no host; write http://host:port"),
        ("http://host:port", "is no URI"),
        ("http://host:99999", "is no URI"),
        ("http://[", "is no URI"),
        ("http://me:hunter2@[", "'http://me:***@[' is no URI"),
        ("sqlite://", "'sqlite://' names no file; write sqlite:////folder/mlflow.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:x.db", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_uri_that_no_store_can_have_is_refused(uri: str, problem: str) -> None:
    with pytest.raises(Refusal) as refused:
        refuse_no_store(uri)
    assert str(refused.value).startswith("--tracking-uri: ")
    assert problem in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "http://host:5000",
        "https://me:hunter2@host/mlflow/",
        "HTTP://host",
        "postgresql+psycopg2://me:hunter2@host/db",
        "postgresql+psycopg2:///db?host=/var/run/postgresql",
        "mysql+pymysql://host:3306/db",
        "mssql+pyodbc://host/db",
        "sqlite:///mlflow.db",
        "sqlite:////tmp/mlflow.db",
        "databricks",
        "databricks://profile",
        "uc:http://host:8080",
    ],
)
def test_a_uri_that_a_store_can_have_passes(uri: str | None) -> None:
    refuse_no_store(uri)


def test_a_database_without_a_host_is_not_asked() -> None:
    assert find_trouble("postgresql+psycopg2:///db?host=/var/run/postgresql", 1) is None


def test_a_folder_passes_where_mlflow_was_told_to_take_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    refuse_no_store("./mlruns")


def test_a_server_whose_certificate_only_mlflow_trusts_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(reason: Exception) -> object:
        def ask(*_: object, **__: object) -> None:
            raise URLError(reason)

        return type("Opener", (), {"open": ask})

    for reason, trouble in (
        (ssl.SSLCertVerificationError("self-signed certificate"), None),
        (ConnectionRefusedError("nobody listens"), "https://mlflow.example does not answer (nobody listens)"),
        (ssl.SSLError(1, "wrong version number"), "https://mlflow.example does not answer (wrong version number)"),
    ):
        monkeypatch.setattr(tracking_uri, "build_opener", lambda *_, reason=reason: refused(reason)())
        assert find_trouble("https://mlflow.example", 1) == trouble


def test_the_artifacts_of_a_database_are_beside_its_file_or_the_studies(tmp_path: Path) -> None:
    place, file = tracking_uri.artifact_location, f"sqlite:///{tmp_path / 'x.db'}"
    assert place(file, "/elsewhere") == (tmp_path / "mlartifacts").as_uri()
    studies = str(tmp_path / "my studies")
    assert place("postgresql+psycopg2://host/name", studies) == (tmp_path / "my studies" / "mlartifacts").as_uri()


@pytest.mark.parametrize(
    ("storage", "package", "location"),
    [
        ("s3://bucket/studies", "boto3", "s3://bucket/studies/mlartifacts"),
        ("gs://bucket/studies", "google.cloud.storage", "gs://bucket/studies/mlartifacts"),
        ("s3://bucket/studies", "", None),
        ("s3://me:hunter2@bucket/studies", "boto3", None),
        ("abfs://box/studies", "boto3", None),
    ],
)
def test_artifacts_are_at_a_uri_only_where_mlflow_can_write(
    storage: str, package: str, location: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> object:
        if name != package:
            raise ModuleNotFoundError(name)
        return name

    monkeypatch.setattr(tracking_uri, "find_spec", find)
    assert tracking_uri.artifact_location("mysql://host/name", storage) == location


def test_mlflows_own_server_places_its_artifacts(tmp_path: Path) -> None:
    assert tracking_uri.artifact_location("http://host:5000", str(tmp_path)) is None


def test_the_schemes_are_those_that_mlflow_knows() -> None:
    # private: MLflow lists its schemes nowhere else
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    # private: MLflow lists its schemes nowhere else
    assert {"", "file", "sqlite", *PORTS, *HOSTED} == set(_tracking_store_registry._registry)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    """Provides sqlite files that MLflow can't use, under names that say why."""
    (tmp_path / "garbage.db").write_text("garbage\n" * 1000)
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "file").touch()
    locked = sqlite3.connect(tmp_path / "locked.db")
    locked.execute("CREATE TABLE t (a)")
    locked.commit()
    locked.execute("BEGIN EXCLUSIVE")
    yield tmp_path
    locked.close()


UNUSABLE = [
    ("garbage.db", "file is not a database"),
    ("folder.db", "unable to open database file"),
    ("locked.db", "database is locked"),
    ("file/mlflow.db", "/file: is no folder that can be written (NotADirectoryError"),
    ("/proc/mlflow.db", "/proc: is no folder that can be written (FileNotFoundError"),
    ("a?b/mlflow.db", "MLflow reads '?' and '%' in a file's name as something else"),
    ("a%41b/mlflow.db", "MLflow reads '?' and '%' in a file's name as something else"),
]


@pytest.mark.parametrize(("name", "problem"), UNUSABLE)
def test_a_file_that_can_not_be_used_is_told_of(
    files: Path, name: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_uri, "TIMEOUT_SECONDS", 0.1)
    uri = f"sqlite:///{files / name}"
    said = explain_unreachable(uri)
    assert said is not None
    assert said.startswith(f"{uri} can't be used (")
    assert problem in said
    assert said.endswith("); Parquet keeps everything, MLflow what reaches it")


@pytest.mark.parametrize("name", ["garbage.db", "folder.db", "/proc/mlflow.db"])
def test_mlflow_which_would_try_for_minutes_is_not_asked_to_open_such_a_file(
    files: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(mlflow_sink, "connected", asked.append)
    with pytest.raises(ConnectionError, match="can't be used"):
        MlflowStore(
            tracking_uri=f"sqlite:///{files / name}", study="first-study", manifest=manifest("cola"), spec=""
        ).open()
    assert asked == []


def test_a_sync_with_such_a_file_is_refused(tmp_path: Path) -> None:
    folder = study_folder(tmp_path / "studies")
    (folder.root.parent / "mlflow.db").write_text("garbage" * 100)
    with pytest.raises(Refusal, match=r"mlflow.db: could not be brought .* not a database\)\); move it away"):
        sync(folder)


def test_a_file_that_is_there_or_can_be_made_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    assert find_trouble(f"sqlite:///{path}", 1) is None
    assert find_trouble(f"sqlite:///{tmp_path / 'not' / 'there' / 'mlflow.db'}", 1) is None
    assert not list(tmp_path.iterdir())
    sqlite3.connect(path).execute("CREATE TABLE t (a)").connection.close()
    before = path.read_bytes()
    assert find_trouble(f"sqlite:///{path}", 1) is None
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["mlflow.db"]
