"""Tests that a page is one file that loads nothing, shows foreign text as text, and can be read aloud."""

import base64
import gzip
import re
from collections import Counter

import pytest
from plotly.offline import get_plotlyjs

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import Refusal
from krona_tune.report.html import TEMPLATES
from krona_tune.report.study_page import write_report
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.events import ended, manifest, report, started
from tests.report.pages import read


def test_nothing_is_loaded_from_outside(study: StudyFolder) -> None:
    page = read(write_report(study))
    assert [load for load in page.loads if not load.startswith(("#", "data:"))] == []
    assert page.loads
    style = re.findall(r"<style>.*?</style>", study.page.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert "url(" not in style
    assert "@import" not in style


def test_plotly_is_there_once_and_each_chart_has_its_figure(study: StudyFolder) -> None:
    page = read(write_report(study))
    [packed] = re.findall(r'id="plotly">(.*?)</script>', study.page.read_text(encoding="utf-8"), re.DOTALL)
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
    figures = {tag["data-figure"] for _, tag in page.attributes if "data-figure" in tag}
    own = {f"task-cola-{name}" for name in ("parameters", "steps", "curves", "scale", "shapes")}
    assert figures == own | {"all-overview", "all-cost"}
    assert figures <= set(page.ids)


def test_what_a_trial_said_is_text_and_not_markup(study: StudyFolder) -> None:
    page = read(write_report(study))
    assert '<script>alert("x")' not in study.page.read_text(encoding="utf-8")
    assert 'ValueError: <script>alert("x")</script> & </pre>' in page.text
    assert page.tags["script"] == 4 + page.tags["figure"]


def test_names_from_files_are_escaped_too(study: StudyFolder) -> None:
    changed = manifest("cola").model_copy(update={"command": "run --name '<b>x</b>'", "name": "<i>n</i>"})
    changed.write(study.manifest)
    study.spec.write_text("model: </code><script>1</script>\n", encoding="utf-8")
    page = read(write_report(study))
    assert "run --name '<b>x</b>'" in page.text
    assert "model: </code><script>1</script>" in page.text
    assert page.tags["i"] == 0


def test_a_figure_can_not_end_its_script(study: StudyFolder) -> None:
    sink = ParquetSink(study.results)
    trial = started(6, roles="query")
    hostile = {**trial.params, "method": "</script><b>"}
    trial = trial.__class__(**{**trial.__dict__, "params": hostile, "trial_id": "</script><b>"})
    sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.9)]))
    page = read(write_report(study))
    assert page.tags["script"] == 4 + page.tags["figure"]


def test_tables_can_be_read_aloud_and_reached_by_keyboard(study: StudyFolder) -> None:
    page = read(write_report(study))
    assert page.tags["table"] == page.tags["caption"] == page.tags["thead"] == 5
    assert all(tag.get("scope") in {"col", "row"} for name, tag in page.attributes if name == "th")
    regions = [tag for _, tag in page.attributes if tag.get("class") == "scroll"]
    assert all(tag.get("tabindex") == "0" and tag.get("aria-labelledby") in page.ids for tag in regions)
    assert max(Counter(page.ids).values()) == 1


def test_a_page_that_can_not_be_written_is_refused(study: StudyFolder) -> None:
    study.page.mkdir()
    with pytest.raises(Refusal, match=r"report.html: the page can.t be written \(IsADirectoryError.*; make room"):
        write_report(study)


def test_one_script_asks_the_service_for_all_others() -> None:
    scripts = {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.js")}
    assert [name for name, text in scripts.items() if "fetch(" in text] == ["ask.js"]
