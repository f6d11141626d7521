"""Tests a study in a bucket on a real S3 server, also if its machine is lost in the middle."""

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from krona_tune import cli
from krona_tune.record.ownership import read_lease
from krona_tune.record.parquet_reader import read_trials
from krona_tune.record.remote_files import Store
from krona_tune.record.storage import Storage, storage_at
from krona_tune.refusal import Refusal
from krona_tune.study.result import Status
from tests.conftest import Run
from tests.faults.consistency import settled
from tests.faults.drivers import begun, seen, taken_up, well_ended
from tests.waiting import until
from tests.whole_studies import ONE_WORKER, Home

pytestmark = pytest.mark.slow
TASKS, TRIALS = ("rte",), 2


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Starts an S3 server with one bucket, and sets the environment so that it is used."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    serving = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    credentials = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**credentials, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        import boto3

        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket/studies"
    serving.stop()


@pytest.fixture(autouse=True)
def _the_homes_cache(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.root / "cache"))


def lose(place: Path) -> None:
    """Removes a folder, in which a killed driver's workers may still write for a moment."""

    def is_lost() -> bool:
        shutil.rmtree(place, ignore_errors=True)
        return not place.exists()

    until(is_lost)


def test_a_study_whose_machine_is_lost_is_completed_from_its_bucket(
    server: str,
    home: Home,
    bert: Path,
    tmp_path: Path,
    run: Run,
) -> None:
    storage = storage_at(server)
    folder, copy = storage.study("lost"), Store(f"{server}/lost")

    def pushed() -> bool:
        return (
            bool(copy.names("checkpoints"))  # before this nothing is worth bringing
            and "files.json" in copy.names()
            and any(row.status is not Status.INTERRUPTED for row in read_trials(elsewhere.brought("lost").results))
        )

    elsewhere = Storage(folder=tmp_path, uri=server)
    length = ("--set", "schedule.epochs=8", "--set", "examples.train=256")
    driver = begun(home, bert, "lost", ",".join(TASKS), TRIALS, *length, *ONE_WORKER, "--storage", server)
    seen(driver, pushed)
    os.kill(driver.pid, signal.SIGKILL)
    said, _ = driver.communicate()
    assert read_lease(copy), said
    before = {
        row.trial_id: row
        for row in read_trials(elsewhere.brought("lost").results)
        if row.status is not Status.INTERRUPTED
    }
    assert before
    assert copy.names("checkpoints")
    lose(storage.folder)

    said = well_ended(taken_up(home, "lost", *ONE_WORKER, "--storage", server))
    assert f"Results in {server}/lost" in said
    assert read_lease(copy) is None
    status, *told = run("sync", "lost", "--storage", server, program=cli.main)
    assert status == 0, told
    after = settled(folder, TASKS, TRIALS)
    assert {trial_id: after[trial_id] for trial_id in before} == before

    lose(storage.folder)
    assert storage.brought("lost").page.exists()
    assert all((folder.adapter(task) / "adapter.json").exists() for task in TASKS)


@pytest.mark.parametrize(
    ("place", "lacking", "message"),
    [
        ("s3://nowhere/studies", (), "--storage: s3://nowhere/studies/first: there is no such bucket"),
        (
            "s3://bucket/studies",
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            "--storage: .*NoCredentialsError: Unable to locate credentials; give credentials",
        ),
    ],
)
def test_a_bucket_that_can_not_be_had_is_refused(
    server: str, monkeypatch: pytest.MonkeyPatch, place: str, lacking: tuple[str, ...], message: str
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    s3fs.S3FileSystem.clear_instance_cache()
    for name in lacking:
        monkeypatch.delenv(name)
    try:
        with pytest.raises(Refusal, match=message):
            storage_at(place).brought("first")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
