"""Tests that a package imports only from lower floors, and that fast commands load neither torch nor Ray."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from krona_tune.backbones.find_geometry import geometry
from tests.old_studies.stored import FORMATS, put_back
from tests.whole_studies import Home

ROOT = Path(__file__).resolve().parent.parent
LINT = """
import sys
sys.path.insert(0, ".")
from importlinter.cli import lint_imports
sys.exit(lint_imports(config_filename=sys.argv[1], no_cache=True))
"""
HEAVY = {"torch", "transformers", "ray", "optuna", "mlflow", "datasets", "sklearn", "scipy", "pandas", "plotly"}
REFUSED = (
    "run --taks cola",
    "run --space nowhere.yaml",
    "run --tasks cola --name finished",
    "queue",
    "order finished stop cola-000",
    "predict finished --task nowhere",
    "export finished --task cola --to elsewhere --public",
)
"""Commands that are refused before anything heavy is loaded."""
LIGHT: dict[str, set[str]] = {
    "--version": set(),
    "run --help": set(),
    "spaces": set(),
    "space kronecker": set(),
    "check mini": set(),
    "recommend --space mini --tasks cola": set(),
    "list": set(),
    "doctor": set(),
    "watch finished": set(),
    "show finished": {"scipy"},
    "clean finished --yes": {"scipy"},
    "train finished --task cola --dry-run": {"scipy"},
    "report finished": {"scipy", "pandas", "plotly"},
}
"""Commands that need no torch, with the heavy packages that they load: scipy for the intervals of finalists."""
COMMANDS = """
import json, sys
from krona_tune.cli import app
heavy = set(json.loads(sys.argv[1]))
for command in sys.argv[2:]:
    try: refused = bool(app(command.split(), standalone_mode=False))
    except Exception: refused = True
    loaded = {name.partition(".")[0] for name in sys.modules} & heavy
    print("\\nloaded", json.dumps([refused, sorted(loaded)]))
"""
PLANTED = [
    ("kron/factors.py", "krona_tune.study.request.study_spec", "a package imports only from lower floors"),
    ("train/loop.py", "krona_tune.report.study_page", "a package imports only from lower floors"),
    ("peft_search.py", "krona_tune.search.ledger", "a package imports only from lower floors"),
    ("record/model.py", "ray", "only search imports ray"),
    ("search/worker/trainable.py", "optuna", "only the searchers and the importance chart import optuna"),
    ("search/driver.py", "mlflow", "only the MLflow mirror imports mlflow"),
    ("report/record_frames.py", "torch", "study, the Parquet sink, the factors and the report need no torch"),
    ("search/planning/plan.py", "transformers", "the plan and the terminal need no torch"),
]
"""A file, what it may not import, and the contract that forbids it."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs lint-imports in another process, because import-linter silences the existing loggers."""
    command = [sys.executable, "-c", LINT, str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_import_keeps_to_the_floors() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 kept" not in done.stdout


def test_every_module_and_package_stands_on_one_floor_and_in_the_table_of_floors() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    floors = [re.findall(r"krona_tune\.(\w+)", layer) for layer in reversed(contracts[0]["layers"])]
    paths = (ROOT / "krona_tune").iterdir()
    there = {path.stem for path in paths if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert sorted(name for floor in floors for name in floor) == sorted(there - {"__init__"})
    table = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)
    told = {int(number): sorted(re.findall(r"`(\w+)`", names)) for number, names in table}
    assert told == dict(enumerate(map(sorted, floors)))


def test_an_import_that_a_contract_forbids_breaks_it_and_no_other(tmp_path: Path) -> None:
    """The imports are added inside functions of a copy of the package, like late imports."""
    shutil.copytree(ROOT / "krona_tune", tmp_path / "krona_tune", ignore=shutil.ignore_patterns("__pycache__"))
    for place, planted, _ in PLANTED:
        with (tmp_path / "krona_tune" / place).open("a", encoding="utf-8") as file:
            file.write(f"\n\ndef planted() -> None:\n    import {planted}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert sorted(broken(done.stdout)) == sorted(PLANTED)


def broken(said: str) -> Iterator[tuple[str, str, str]]:
    """Yields for each import that breaks a contract the file that it stands in, what it imports, and the contract."""
    contract = ""
    for title, module, imported in re.findall(r"^(?:(\S.*)\n-+|- +(\S+) -> (\S+) \(l\.\d+\))$", said, re.M):
        contract = title or contract
        if module:
            yield f"{module.partition('.')[2].replace('.', '/')}.py", imported, contract


def test_no_two_modules_have_the_same_name() -> None:
    names = Counter(path.stem for path in (ROOT / "krona_tune").rglob("*.py") if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


def loaded_by(*modules: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_after(*modules)}


def modules_after(*modules: str) -> set[str]:
    """Returns all modules that a process has loaded which imported these."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_requests_records_and_factors_need_neither_torch_nor_ray() -> None:
    light = ("krona_tune.study.request.study_spec", "krona_tune.record.parquet_sink", "krona_tune.kron.factors")
    assert not loaded_by(*light) & HEAVY


def test_the_page_and_an_opened_study_need_neither_torch_nor_ray() -> None:
    loaded = loaded_by("krona_tune.api.study", "krona_tune.report.study_page")
    assert not loaded & {"torch", "transformers", "ray", "mlflow", "optuna"}


@pytest.mark.slow
def test_only_workers_load_the_models_of_transformers() -> None:
    """A driver whose first batch is known trains nothing; they take a second to load."""
    models = "transformers.modeling_utils"
    assert models not in modules_after("krona_tune.search.driver", "krona_tune.search.startup.preflight")
    assert models in modules_after("krona_tune.search.worker.early_imports")


@pytest.mark.slow
def test_a_command_that_needs_no_torch_loads_only_what_it_uses(home: Home) -> None:
    """They run one after the other in one process, those that load least first. What is known of a model of one's own
    was found with torch before."""
    put_back(FORMATS[-1], home.root)
    [config] = home.root.glob("*/config.json")
    geometry(json.loads(config.read_text(encoding="utf-8")))
    command = [sys.executable, "-c", COMMANDS, json.dumps(sorted(HEAVY)), *REFUSED, *LIGHT]
    done = subprocess.run(command, cwd=home.root, capture_output=True, text=True, check=True)
    found = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("loaded ")]
    loaded = [(refused, set(packages)) for refused, packages in found]
    assert loaded == [(True, set())] * len(REFUSED) + [(False, packages) for packages in LIGHT.values()]


@pytest.mark.slow
def test_loading_an_adapter_needs_torch_and_transformers_alone() -> None:
    loaded = loaded_by("krona_tune.train.predict", "krona_tune.train.export")
    assert loaded & HEAVY == {"torch", "transformers"}


def test_the_package_itself_is_light_and_its_load_is_found_when_asked_for() -> None:
    assert not loaded_by("krona_tune") & HEAVY
    import krona_tune
    from krona_tune.adapters.adapter_files import load

    assert krona_tune.load is load
    with pytest.raises(AttributeError, match="has no attribute 'lood'"):
        krona_tune.lood  # noqa: B018
