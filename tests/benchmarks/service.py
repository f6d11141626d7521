"""Measures how fast the service answers for twenty studies of 1,000 trials: `python -m tests.benchmarks.service`."""

import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from starlette.testclient import TestClient

from krona_tune.record.parquet_reader import REPORT_KIND, TRIAL_KIND
from krona_tune.record.parquet_schema import table_of
from krona_tune.record.remote.storage import storage_at
from krona_tune.service.app import make_app
from krona_tune.study.spec.loader import build_spec, dump_spec
from tests.record.events import manifest
from tests.report.many_trials import crowd

STUDIES, TRIALS, TIMES = 20, 1000, 3
PATHS = (
    "/",
    "/studies/study-00",
    "/studies/study-00/main",
    "/studies/study-01",
    "/api/studies/study-00/trials",
    "/main",
)


def make_studies(root: Path) -> None:
    recorded = crowd(TRIALS)
    tables = {
        kind: table_of([each.row() for each in rows], kind.schema)
        for kind, rows in ((TRIAL_KIND, recorded.trials), (REPORT_KIND, recorded.reports))
    }
    for number in range(STUDIES):
        folder = root / f"study-{number:02d}"
        (folder / "results").mkdir(parents=True)
        facts = manifest("cola").model_copy(update={"name": folder.name})
        facts.write(folder / "manifest.json")
        wanted = {"model": "m", "name": folder.name, "tasks": ["cola"], "search": {"trials": TRIALS}}
        (folder / "study.yaml").write_text(dump_spec(build_spec(wanted, "x.yaml")), encoding="utf-8")
        for kind, table in tables.items():
            pq.write_table(table, kind.compacted(folder / "results"))


def main() -> None:
    """Prints the seconds and the size of each answer, several times in a row; nothing was prepared before."""
    with tempfile.TemporaryDirectory() as folder:
        make_studies(Path(folder))
        client = TestClient(make_app(storage_at(folder)), base_url="http://127.0.0.1:8300")
        for path in PATHS:
            said = []
            for _ in range(TIMES):
                began = time.perf_counter()
                answer = client.get(path)
                answer.raise_for_status()
                said.append(f"{time.perf_counter() - began:.3f} s")
            print(f"{path:32} {len(answer.content) / 1e6:6.2f} MB  {', '.join(said)}")


if __name__ == "__main__":
    main()
