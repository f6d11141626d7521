"""Measures how fast the service answers for twenty studies of 1,000 trials: `python -m tests.benchmarks.service`.

With Chromium it also times the first chart of a page against that of a page with nothing but an empty chart.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq
from plotly.offline import get_plotlyjs
from starlette.testclient import TestClient

from krona_tune.record.parquet_reader import REPORT_KIND, TRIAL_KIND
from krona_tune.record.parquet_schema import table_of
from krona_tune.record.storage import storage_at
from krona_tune.service.access_token import token_for
from krona_tune.service.web_server import make_app
from krona_tune.study.request.loader import build_spec, dump_spec
from tests.record.events import manifest
from tests.report.browser import CHROMIUM, Tab, chromium, opened_tab
from tests.report.many_trials import crowd

STUDIES, TRIALS, TIMES, OPENS = 20, 1000, 3, 5
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


@contextmanager
def serving(storage: str) -> Iterator[str]:
    """Runs the service in a process of its own; gives its address."""
    code = "from krona_tune.cli import program; program()"
    words = ["serve", "--storage", storage, "--port", "0"]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().split(" at ")[1].split()[0]
        finally:
            process.terminate()


def first_chart(tab: Tab, address: str) -> float:
    """Returns the seconds from the navigation to the first chart."""
    tab.page.set_extra_http_headers({"Authorization": f"Bearer {token_for(address)}"})
    tab.page.goto(address)
    tab.wait_for_first_chart()
    return float(tab.page.evaluate("performance.now()")) / 1000


def time_charts(storage: str) -> None:
    """Prints the median seconds to the first chart of a study's page and of an empty page with the same plotly.js."""
    with serving(storage) as address, chromium() as browser, opened_tab(browser) as tab:
        empty = Path(storage) / "empty.html"
        (Path(storage) / "plotly.js").write_text(get_plotlyjs(), encoding="utf-8")
        draw = "<div class=chart></div><script>Plotly.newPlot(document.querySelector('.chart'), [])</script>"
        empty.write_text(f"<!DOCTYPE html><title>empty</title><script src=plotly.js></script>{draw}", encoding="utf-8")
        found = {
            name: [first_chart(tab, place) for _ in range(OPENS)]
            for name, place in (("study", f"{address}/studies/study-01"), ("empty", empty.resolve().as_uri()))
        }
    study, bare = (median(found[name]) for name in ("study", "empty"))
    print(f"first chart: {study:.2f} s, of an empty page {bare:.2f} s: {study / bare:.1f} times")


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
        if CHROMIUM:
            time_charts(folder)


if __name__ == "__main__":
    main()
