"""Tests the Dockerfile without building it: a linter's word, and what each image is made of."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"
STAGES = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE.read_text(), re.MULTILINE | re.DOTALL))
"""The stages by name, with their instructions."""


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_has_one_layer_of_requirements_and_no_root(target: str) -> None:
    instructions = STAGES[target]
    with_requirements, wheel = re.findall(r"^RUN .*pip install .*$", instructions, re.MULTILINE)
    assert "/requirements[" in with_requirements
    assert "--no-deps" in wheel
    assert instructions.rstrip().endswith("USER 1000")
    extras = re.findall(r"/requirements\[([\w,]+)\]", with_requirements)[0].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras) <= set(project["optional-dependencies"])


def test_an_image_says_whether_it_is_healthy() -> None:
    assert 'CMD ["krona-tune", "doctor"]' in STAGES["start"]
    assert "HEALTHCHECK" in STAGES["start"]


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = {
        name for line in re.findall(r"^COPY (.*)$", DOCKERFILE.read_text(), re.MULTILINE) for name in line.split()[:-1]
    }
    assert "pyproject.toml" in copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name.split('/')[0]}" in ignored
    assert ignored[0] == "*"
