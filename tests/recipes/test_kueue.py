"""Tests that the patched RayJob keeps Kueue's rules for one, and is else the RayJob of the package."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

PATCH = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "kueue.yaml"
RAY_JOB = Path(str(files("krona_tune"))) / "search" / "deploy" / "rayjob.yaml"
MOST_GROUPS = 7
"""The most groups of workers of a RayJob in a queue of Kueue."""


def patched(written: Any, patch: list[dict[str, Any]]) -> Any:
    """Applies a JSON patch of RFC 6902 with `add`, `replace` and `remove`; the last two need what they change."""
    for step in patch:
        *parents, last = step["path"].strip("/").split("/")
        place = written
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        assert (last in place) == (step["op"] != "add"), step
        if step["op"] == "remove":
            del place[last]
        else:
            place[last] = step["value"]
    return written


@pytest.fixture
def job() -> dict[str, Any]:
    written = yaml.safe_load(RAY_JOB.read_text(encoding="utf-8"))
    return patched(written, yaml.safe_load(PATCH.read_text(encoding="utf-8")))


def test_the_job_waits_suspended_in_a_queue(job: dict[str, Any]) -> None:
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["name"] == "krona-tune"


def test_the_job_keeps_the_rules_of_kueue(job: dict[str, Any]) -> None:
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert "clusterSelector" not in spec
    cluster = spec["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is False
    assert "autoscalerOptions" not in cluster
    assert len(cluster["workerGroupSpecs"]) <= MOST_GROUPS
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(each["resources"]["requests"] for each in group["template"]["spec"]["containers"])


def test_the_cluster_has_as_many_workers_as_trials_at_once_and_resumes(job: dict[str, Any]) -> None:
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    (asked,) = re.findall(r"--max-concurrent (\d+)", job["spec"]["entrypoint"])
    assert int(asked) == group["replicas"]
    assert "--or-resume" in job["spec"]["entrypoint"]


def test_the_package_s_own_job_needs_no_queue() -> None:
    job = yaml.safe_load(RAY_JOB.read_text(encoding="utf-8"))
    assert "labels" not in job["metadata"]
    assert "suspend" not in job["spec"]
