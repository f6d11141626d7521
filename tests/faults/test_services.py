"""Tests that if the tracking store fails and returns during a study, it warns and each run is present once."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from krona_tune.study.folder import StudyFolder
from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import LONG, TO_THE_END, begun, rungs, seen, synced, well_ended
from tests.services.processes import Postgres, free_port, mlflow_server, postgres
from tests.whole_studies import Home

pytestmark = pytest.mark.slow
TASK, TRIALS = "cola", 6


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="krona-pg-") as home, postgres(Path(home)) as made:
        yield made


def uri(database: Postgres) -> str:
    return database.address.replace("postgresql://", "postgresql+psycopg2://")


def has_runs(database: Postgres) -> bool:
    """Returns whether the store was opened and got a first run: until then, MLflow itself tries to connect for long."""
    import psycopg2

    with suppress(psycopg2.Error), closing(psycopg2.connect(database.address)) as link, link.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM runs")
        return bool(cursor.fetchone()[0])
    return False


def warned(folder: StudyFolder) -> bool:
    return "the study continues" in folder.log.read_text(encoding="utf-8")


def test_a_database_that_is_restarted_costs_a_warning(home: Home, bert: Path, database: Postgres, cost: Cost) -> None:
    """Every connection is cut, and the database does not answer for three rungs."""
    folder = home.study("database")
    driver = begun(home, bert, "database", TASK, TRIALS, *LONG, *TO_THE_END, "--tracking-uri", uri(database))
    seen(driver, lambda: rungs(folder) >= 3 and has_runs(database))
    database.stop("immediate")
    before = rungs(folder)
    seen(driver, lambda: rungs(folder) >= before + 3 and warned(folder))
    database.start()
    assert driver.poll() is None
    well_ended(driver)
    seconds = synced(home, "database", uri(database))
    settled(folder, (TASK,), TRIALS, uri(database))
    cost("PostgreSQL crashed and started again", seconds)


def test_a_server_that_is_gone_and_back_costs_a_warning(
    home: Home, bert: Path, database: Postgres, tmp_path: Path, cost: Cost
) -> None:
    folder, port = home.study("server"), free_port()
    with mlflow_server(tmp_path, uri(database), port) as address:
        driver = begun(home, bert, "server", TASK, TRIALS, *LONG, *TO_THE_END, "--tracking-uri", address)
        seen(driver, lambda: rungs(folder) >= 3)
    before = rungs(folder)
    seen(driver, lambda: rungs(folder) >= before + 3 and warned(folder))
    with mlflow_server(tmp_path, uri(database), port) as address:
        assert driver.poll() is None
        well_ended(driver)
        seconds = synced(home, "server", address)
        settled(folder, (TASK,), TRIALS, address)
    cost("MLflow server gone and back", seconds)
