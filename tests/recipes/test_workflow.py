"""Tests that the workflow of GitHub Actions has the right form and runs what exists, on every supported Python."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yaml"


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]


def commands(jobs: dict[str, Any]) -> list[str]:
    return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]


def test_the_schema_of_workflows_takes_it() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_target_and_path_that_it_runs_exists(jobs: dict[str, Any]) -> None:
    said = "\n".join(commands(jobs))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {word for words in re.findall(r"^make ([\w ./-]+)$", said, re.MULTILINE) for word in words.split()}
    targets |= set(re.findall(r"'(test[\w-]*)'", said))
    assert targets >= {"lint", "test", "test-all"}
    assert all(re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE) for target in targets)
    paths = re.findall(r"\btests/[\w./]+", said)
    assert paths
    assert all((ROOT / path).exists() for path in paths)


def test_it_tests_every_version_from_the_oldest_that_is_supported(jobs: dict[str, Any]) -> None:
    tested = jobs["tests"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={tested[0]}"
    assert tested == [f"3.{minor}" for minor in range(11, 11 + len(tested))]
    assert "lint" in jobs
    assert "docs" in jobs
