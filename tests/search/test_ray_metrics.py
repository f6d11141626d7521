"""Tests a study in Ray's metrics: the numbers, their names in Prometheus, and the dashboard that draws them."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files

import pytest

from krona_tune.search import ray_metrics
from krona_tune.search.ray_metrics import MEASURES, Measure, Reading, StudyMetrics, readings
from krona_tune.study.devices import Devices
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.study_state import RUNNING
from tests.record.events import ended, report, started
from tests.services.processes import free_port, get
from tests.waiting import until
from tests.whole_studies import Home

PANELS = json.loads((files("krona_tune") / "search" / "grafana.json").read_text(encoding="utf-8"))["panels"]


def exported_name(name: str, measure: Measure) -> str:
    """Returns the name under which Prometheus has a metric."""
    return f"ray_{name}{'_total' if measure.kind == 'count' else ''}"


def rows() -> list[TrialResult]:
    done, head, active = started(0), started(1, kind="baseline"), started(2)
    found = [
        ended(done, Status.COMPLETED, [report(done, 0, 0.25), report(done, 1, 0.75)]),
        ended(head, Status.FAILED, [report(head, 0, 0.125)]),
        ended(active, Status.INTERRUPTED, [report(active, 0, 0.5)]),
    ]
    return list(map(Devices(kind="cuda", count=3.0).filled_in, found))


def values() -> dict[tuple[str, ...], float]:
    read = readings(rows(), {"cola-0002"}, ("cola", "rte"))
    return {(each.name, *each.tags.values()): each.value for each in read}


def test_every_trial_is_counted_once_and_every_task_from_the_start() -> None:
    found = values()
    counts = {key[2]: value for key, value in found.items() if key[:2] == ("krona_trials", "cola")}
    assert {status: count for status, count in counts.items() if count} == {RUNNING: 1, "completed": 1, "failed": 1}
    assert set(counts) == {RUNNING, *map(str, Status)}
    assert {value for key, value in found.items() if key[:2] == ("krona_trials", "rte")} == {0}


def test_scores_speed_and_use_follow_from_the_rows() -> None:
    found = values()
    assert found["krona_best_score", "cola"] == 0.75
    assert found["krona_head_only_score", "cola"] == 0.125
    assert found["krona_examples", "cola"] == 1020 + 340 + 340
    assert found["krona_examples_per_second", "cola"] == pytest.approx(340 / 2.5)
    assert found["krona_device_hours", "cola"] == pytest.approx(4 * 2.75 * 3 / 3600)
    assert ("krona_best_score", "rte") not in found


def test_the_best_of_shared_configurations_is_the_best_on_average() -> None:
    scores = {(0, "cola"): 0.5, (0, "rte"): 0.5, (1, "cola"): 0.75, (1, "rte"): 0.125}
    trials = [(started(number, task), score) for (number, task), score in scores.items()]
    found = [ended(trial, Status.COMPLETED, [report(trial, 2, score)]) for trial, score in trials]
    read = {
        shared_by: [each.value for each in readings(found, (), ("cola", "rte"), shared_by) if "best" in each.name]
        for shared_by in ((), ("cola", "rte"))
    }
    assert read == {(): [0.75, 0.5], ("cola", "rte"): [0.5, 0.5]}


def test_every_reading_is_of_a_known_measure_with_its_tags() -> None:
    found = list(readings(rows(), (), ("cola",)))
    assert {reading.name for reading in found} == set(MEASURES)
    assert all({"study", *reading.tags} == set(MEASURES[reading.name].tags) for reading in found)


def test_the_dashboard_draws_every_measure_and_nothing_else() -> None:
    asked = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    drawn = set(re.findall(r"\bray_krona_\w+", asked))
    assert drawn == {exported_name(name, measure) for name, measure in MEASURES.items()}
    assert all(panel["title"] and panel["gridPos"]["w"] for panel in PANELS)
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_trials_that_wait_for_a_resume_have_not_ended() -> None:
    [ended] = (panel["targets"][0]["expr"] for panel in PANELS if panel["title"] == "Ended")
    [left_out] = re.findall(r'status!~"([^"]+)"', ended)
    assert set(left_out.split("|")) == {RUNNING, Status.INTERRUPTED}


@pytest.mark.slow
def test_prometheus_reads_the_study_from_rays_endpoint(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(home.root))
    port = free_port()
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _metrics_export_port=port,
        _system_config={"metrics_report_interval_ms": 500},
    )
    try:
        now = rows()[:1]
        read: list[int] = []

        def reading() -> Iterator[Reading]:
            read.append(len(now))
            return readings(now, (), ("cola",))

        metrics = StudyMetrics("first", reading)
        metrics.changed()
        now += rows()[1:]
        monkeypatch.setattr(ray_metrics, "READ_SECONDS", 600.0)
        metrics.changed()  # too soon after the first: nothing is read
        assert len(read) == 1
        metrics.changed(last=True)
        text = _scraped(port)
    finally:
        ray.shutdown()
    assert _sample(text, "ray_krona_examples_total", "cola") == 1700
    assert _sample(text, "ray_krona_best_score", "cola") == 0.75
    assert set(re.findall(r'ray_krona_trials\{.*?status="(\w+)"', text)) == {RUNNING, *map(str, Status)}


def _scraped(port: int) -> str:
    """Returns the endpoint's text when it has all our metrics with their final values."""
    exported = [exported_name(name, measure) for name, measure in MEASURES.items()]
    text = ""

    def all_came() -> bool:
        nonlocal text
        with suppress(OSError):
            text = get(f"http://127.0.0.1:{port}/metrics")
        return all(name in text for name in exported) and _sample(text, "ray_krona_examples_total", "cola") == 1700

    until(all_came, said=lambda: f"not all came: {[line for line in text.splitlines() if 'krona' in line]}")
    return text


def _sample(text: str, name: str, task: str) -> float | None:
    for line in text.splitlines():
        if line.startswith(f"{name}{{") and f'task="{task}"' in line and 'study="first"' in line:
            return float(line.rpartition(" ")[2])
    return None
