"""Tests that the wheel and the sdist hold what a study needs and nothing else, and that the wheel works alone."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import krona_tune

ROOT = Path(__file__).resolve().parent.parent
AT_THE_TOP = ("*.py", "*.toml", "*.md", "*.in", "*.cff", "*.yaml", "LICENSE")
"""The files of the top level that a build may read."""
FOLDERS = ("krona_tune", "search_spaces", "tests")
SPACES = {f"krona_tune/search_spaces/{path.name}" for path in (ROOT / "search_spaces").iterdir()}
pytestmark = pytest.mark.slow


def built(source: Path, to: Path, *kind: str) -> list[Path]:
    """Builds with the installed setuptools, so that nothing is fetched; returns the files by their names.

    Without a kind they are the sdist and the wheel that is built from it.
    """
    command = [sys.executable, "-m", "build", "--no-isolation", *kind, "--outdir", str(to), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is absent from the `packages` configuration" not in done.stdout + done.stderr
    return sorted(to.iterdir())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, because a build writes into it."""
    copy = tmp_path_factory.mktemp("checkout")
    for pattern in AT_THE_TOP:
        for path in ROOT.glob(pattern):
            shutil.copy(path, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("old_studies"))
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (found,) = built(checkout, tmp_path_factory.mktemp("wheel"), "--wheel")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel alone: its dependencies are those of this environment."""
    target = tmp_path_factory.mktemp("target")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True)
    return target


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist() if not name.endswith("/")}


def said(found_in: Path, folder: Path, *command: str) -> str:
    """Runs Python in a folder, with the package from elsewhere than the checkout; returns what it prints."""
    environment = os.environ | {"PYTHONPATH": str(found_in), "COLUMNS": "200"}
    command = (sys.executable, *command)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_the_spaces_and_no_tests(wheel: Path) -> None:
    there = {f"krona_tune/{path.relative_to(ROOT / 'krona_tune')}" for path in (ROOT / "krona_tune").rglob("*.*")}
    sources = {name for name in there if "__pycache__" not in name and (ROOT / name).is_file()}
    found = set(contents(wheel))
    inside = {name for name in found if not name.startswith(f"krona_tune-{krona_tune.__version__}.dist-info/")}
    assert inside == sources | SPACES
    for part in ("templates/", "backbones/shipped/", "search/deploy/", "record/curves/"):
        assert any(part in name for name in inside), part
    assert "krona_tune/py.typed" in inside
    assert f"krona_tune-{krona_tune.__version__}.dist-info/licenses/LICENSE" in found


def test_the_sdist_holds_no_tests_and_builds_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    again, sdist = built(checkout, tmp_path)
    with tarfile.open(sdist) as file:
        names = {name.split("/")[1] for name in file.getnames() if "/" in name}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "run_study.py", "search_spaces"} <= names
    assert "tests" not in names
    assert contents(again) == contents(wheel)


def test_the_installed_wheel_lists_its_spaces_and_plans_the_main_job(installed: Path, tmp_path: Path) -> None:
    program = str(installed / "bin" / "krona-tune")
    assert said(installed, tmp_path, "-c", "import krona_tune; print(krona_tune.__file__)").startswith(str(installed))
    listed = said(installed, tmp_path, program, "spaces")
    assert {f"krona_tune/search_spaces/{line.split()[0]}.yaml" for line in listed.splitlines()} == SPACES
    mini = (ROOT / "search_spaces" / "mini.yaml").read_text(encoding="utf-8")
    assert said(installed, tmp_path, program, "space", "mini") == mini
    plan = said(installed, tmp_path, program, "run", "--tasks", "glue", "--dry-run", "--space", "mini")
    assert f"space   {installed}/krona_tune/search_spaces/mini.yaml" in plan
    assert "sha256 verified" in plan
    assert not list(tmp_path.iterdir())


def test_the_spaces_are_read_from_the_wheel_itself(wheel: Path, tmp_path: Path) -> None:
    program = "import sys; from krona_tune.cli import main; sys.argv = ['krona-tune', 'space', 'scale']; main()"
    scale = (ROOT / "search_spaces" / "scale.yaml").read_text(encoding="utf-8")
    assert said(wheel, tmp_path, "-c", program) == scale
