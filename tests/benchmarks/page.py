"""Measures how fast the page of a study of 1,000 trials opens: `python -m tests.benchmarks.page` (needs Chromium)."""

import tempfile
import time
from pathlib import Path

from krona_tune.report.study_page import render
from krona_tune.report.study_results import StudyResults
from tests.report.browser import chromium, opened_tab
from tests.report.many_trials import T5_STUDY, crowd

OPENS = 5


def main() -> None:
    """Prints the seconds to write the page, its size, and for each opening the seconds until its first chart."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        began = time.perf_counter()
        page.write_text(
            render(StudyResults(manifest=T5_STUDY, recorded=crowd(1000), spec="model: x\n")), encoding="utf-8"
        )
        print(f"written in {time.perf_counter() - began:.1f} s, {page.stat().st_size / 1e6:.1f} MB")
        with chromium() as browser, opened_tab(browser) as tab:
            for number in range(OPENS):
                tab.open(page)
                tab.wait_for_first_chart()
                print(f"open {number + 1}: first chart after {tab.page.evaluate('performance.now()') / 1000:.2f} s")


if __name__ == "__main__":
    main()
