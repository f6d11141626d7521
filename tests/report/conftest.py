"""Gives tests a small study with known numbers, and its charts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from krona_tune.record.records import read_records
from krona_tune.report.chart import Chart
from krona_tune.report.study_results import summaries
from krona_tune.report.task_charts import draw_charts
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from tests.record.events import manifest
from tests.report.small_study import write_small_study


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    (tmp_path / "first-study").mkdir()
    return StudyFolder(tmp_path / "first-study")


@pytest.fixture
def study(folder: StudyFolder) -> StudyFolder:
    return write_small_study(folder)


Empty = Callable[..., StudyFolder]


@pytest.fixture
def empty(folder: StudyFolder) -> Empty:
    """Returns a function that writes a study with a manifest and no records."""

    def write(*tasks: str, synthetic: bool = False) -> StudyFolder:
        manifest(*tasks, synthetic=synthetic).write(folder.manifest)
        return folder

    return write


@pytest.fixture
def drawn(study: StudyFolder) -> dict[str, Chart]:
    recorded = read_records(study.results)
    [cola, *_] = summaries(recorded, read_manifest(study.manifest))
    return {chart.name: chart for chart in draw_charts(cola, recorded.of("cola"), None)}
