"""Tests that a package imports only from lower floors, and that fast commands load neither torch nor Ray."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINT = """
import sys
sys.path.insert(0, ".")
from importlinter.cli import lint_imports
sys.exit(lint_imports(config_filename=sys.argv[1], no_cache=True))
"""
HEAVY = {"torch", "transformers", "ray", "optuna", "mlflow", "datasets", "sklearn", "scipy"}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs lint-imports in another process, because import-linter silences the existing loggers."""
    command = [sys.executable, "-c", LINT, str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_import_keeps_to_the_floors() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 kept" not in done.stdout


@pytest.mark.parametrize(
    ("place", "planted", "contract"),
    [
        ("kron/factors.py", "import krona_tune.study.request.study_spec", "a package imports only from lower floors"),
        ("train/loop.py", "import krona_tune.report.study_page", "a package imports only from lower floors"),
        ("record/model.py", "import ray", "only search imports ray"),
        ("search/worker/trainable.py", "import optuna", "only the searchers and the importance chart import optuna"),
        ("search/driver.py", "import mlflow", "only the MLflow mirror imports mlflow"),
        ("report/frame.py", "import torch", "study, the Parquet sink, the factors and the report need no torch"),
        ("search/planning/plan.py", "import transformers", "the plan and the terminal need no torch"),
    ],
)
def test_an_import_that_a_contract_forbids_breaks_it(tmp_path: Path, place: str, planted: str, contract: str) -> None:
    """The import is added inside a function of a copy of the package, like a late import."""
    shutil.copytree(ROOT / "krona_tune", tmp_path / "krona_tune", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "krona_tune" / place).open("a", encoding="utf-8") as file:
        file.write(f"\n\ndef planted() -> None:\n    {planted}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [line.partition(" BROKEN")[0] for line in done.stdout.splitlines() if " BROKEN" in line] == [contract]


def test_no_two_modules_have_the_same_name() -> None:
    names = Counter(path.stem for path in (ROOT / "krona_tune").rglob("*.py") if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_requests_records_and_factors_need_neither_torch_nor_ray() -> None:
    light = ("krona_tune.study.request.study_spec", "krona_tune.record.parquet_sink", "krona_tune.kron.factors")
    assert not loaded_by(*light) & HEAVY


def test_the_page_needs_neither_torch_nor_ray() -> None:
    assert not loaded_by("krona_tune.report.study_page") & {"torch", "transformers", "ray", "mlflow"}


def test_the_package_itself_is_light_and_its_load_is_found_when_asked_for() -> None:
    assert not loaded_by("krona_tune") & HEAVY
    import krona_tune
    from krona_tune.adapters.adapter_files import load

    assert krona_tune.load is load
    with pytest.raises(AttributeError, match="has no attribute 'lood'"):
        krona_tune.lood  # noqa: B018
