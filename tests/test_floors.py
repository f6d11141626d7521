"""A room imports only from lower floors, and what answers at once loads neither torch nor Ray."""

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "transformers", "ray", "optuna", "mlflow", "datasets", "sklearn", "scipy"}


def test_every_import_keeps_to_the_floors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out
    assert "0 kept" not in capsys.readouterr().out


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_requests_records_and_factors_need_neither_torch_nor_ray() -> None:
    light = ("krona_tune.study.spec", "krona_tune.record.parquet_sink", "krona_tune.kron.factors")
    assert not loaded_by(*light) & HEAVY


def test_the_page_needs_neither_torch_nor_ray() -> None:
    assert not loaded_by("krona_tune.report.page") & {"torch", "transformers", "ray", "mlflow"}


def test_the_package_itself_is_light_and_its_load_is_found_when_asked_for() -> None:
    assert not loaded_by("krona_tune") & HEAVY
    import krona_tune
    from krona_tune.adapters.export import load

    assert krona_tune.load is load
    with pytest.raises(AttributeError, match="has no attribute 'lood'"):
        krona_tune.lood  # noqa: B018
