"""Tests that Ray's own schema accepts the files for clusters, and that krona_tune accepts their commands."""

import json
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import typer
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from ray.autoscaler._private.util import prepare_config, validate_config  # private: what `ray up` checks

from krona_tune.cli import app

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster.yaml"
RAY_JOB = Path(str(files("krona_tune"))) / "search" / "deploy" / "rayjob.yaml"
IMAGE = re.compile(r"rayproject/ray:(\d+\.\d+\.\d+)-py(\d)(\d+)-\w+")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return yaml.safe_load(RAY_JOB.read_text(encoding="utf-8"))["spec"]


def commands_of_ours() -> Iterator[str]:
    """Yields every `krona-tune …` command in the two files."""
    for path in (CLUSTER, RAY_JOB):
        text = re.sub(r"\n\s+--name", " --name", path.read_text(encoding="utf-8"))
        yield from re.findall(r"krona-tune run [^\n`]+", text)


def test_rays_own_schema_takes_the_cluster(cluster: dict[str, Any]) -> None:
    schema = Path(ray.autoscaler.__file__).parent / "ray-schema.json"
    jsonschema.validate(cluster, json.loads(schema.read_text()))
    validate_config(prepare_config(cluster))


def test_the_head_takes_no_trials_and_the_workers_are_spot_gpus_from_none(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    head, worker = types.pop(cluster["head_node_type"]), *types.values()
    assert head["resources"]["CPU"] == 0
    assert worker["min_workers"] == 0 < worker["max_workers"] == cluster["max_workers"]
    assert worker["resources"]["GPU"] == 1
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_what_the_cluster_copies_from_the_checkout_is_there(cluster: dict[str, Any]) -> None:
    inside = [source for source in cluster["file_mounts"].values() if not source.startswith("~")]
    assert inside
    assert all((ROOT / source).exists() for source in inside)
    assert any("pip install" in command and "~/krona_tune" in command for command in cluster["setup_commands"])
    assert (ROOT / "pyproject.toml").exists()


def test_every_server_of_the_cluster_listens_on_its_own_machine(cluster: dict[str, Any]) -> None:
    started = [command for command in cluster["head_start_ray_commands"] if "server" in command or "--head" in command]
    assert len(started) == 2
    for command in started:
        assert re.findall(r"--(?:dashboard-)?host[= ](\S+)", command) == ["127.0.0.1"]
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]


def test_mlflow_begins_on_the_head_unless_its_port_is_taken(cluster: dict[str, Any]) -> None:
    (started,) = [command for command in cluster["head_start_ray_commands"] if "mlflow server" in command]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asks = started.partition(" || ")[0].replace("5000", str(listening.getsockname()[1]))
        assert subprocess.run(["bash", "-c", asks], check=False).returncode == 0
    assert subprocess.run(["bash", "-c", asks], check=False).returncode != 0


def test_no_password_stands_in_either_file() -> None:
    for path in (CLUSTER, RAY_JOB):
        assert not re.search(r"://[^\s/:]+:[^\s/]+@|password=", path.read_text(encoding="utf-8"))


def test_both_files_name_one_ray_that_our_requirements_allow(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    named = {found for path in (CLUSTER, RAY_JOB) for found in IMAGE.findall(path.read_text(encoding="utf-8"))}
    ((number, *python),) = named
    assert job["rayClusterSpec"]["rayVersion"] == number
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = Requirement(re.findall(r'"(ray\[[^"]+)"', text)[0])
    assert required.specifier.contains(Version(number))
    assert Version(".".join(python)) >= Version(re.findall(r'requires-python = ">=([\d.]+)"', text)[0])


@pytest.mark.parametrize("command", list(commands_of_ours()))
def test_a_command_in_the_files_is_one_that_the_program_takes(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "krona-tune"
    group = typer.main.get_command(app)
    name, verb, rest = group.resolve_command(typer.Context(group), words)  # type: ignore[attr-defined]
    assert (name, rest) == ("run", words[1:])
    asked = verb.make_context("run", rest).params
    assert asked["address"] == "auto"
    assert asked["storage"] == "/shared/studies"
    assert asked["max_concurrent"] > 1


def test_a_retried_ray_job_goes_on_with_its_study(job: dict[str, Any]) -> None:
    words = shlex.split(job["entrypoint"])
    assert job["backoffLimit"] > 0
    assert "--or-resume" in words
    assert words[words.index("--name") + 1]


def test_every_pod_of_the_ray_job_mounts_the_storage(job: dict[str, Any]) -> None:
    spec = job["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == {"shared": "/shared"}
            assert {"shared"} <= volumes
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["workerGroupSpecs"][0]["minReplicas"] == 0
