"""Tests what `krona-tune doctor` says: the facts, what is wrong with its remedy, and that no secret is shown."""

import ast
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from krona_tune import cli
from krona_tune.api import diagnosis
from krona_tune.api.diagnosis import MASK, READ_VARIABLES, SECRET, Gpu, diagnose, extras, unmet, variables
from krona_tune.record.mlflow_mirror.tracking_uri import TRACKING
from tests.conftest import Run
from tests.syntax_trees import tree_of

ROOT = Path(__file__).resolve().parents[2]
REQUIRES = [
    "torch>=2.6",
    "absent>=1",
    "mlflow<2",
    "torch[odd]>=2.6",
    'peft>=0.21; extra == "peft"',
    'absent-too; extra == "peft"',
    'pytest>=8; extra == "test"',
    'torch>=99; extra == "gpu"',
    'mlflow[db]>=3; extra == "store"',
    'never>=1; python_version < "3"',
]
OF_OTHERS = ["torch>=2", 'sql>=1; extra == "db"', 'torch>=2; extra == "db"', 'odd-parts; extra == "odd"']
VERSIONS = {"torch": "2.7.1+cpu", "mlflow": "3.0", "pytest": "8", "peft": "0.22", "krona_tune": "9.9"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation of a few packages, of which some are missing or too old."""

    def version(name: str) -> str:
        if name not in VERSIONS:
            raise PackageNotFoundError(name)
        return VERSIONS[name]

    class Metadata:
        def get_all(self, name: str) -> list[str]:
            return {"Provides-Extra": ["peft", "gpu", "store", "test"]}[name]

    monkeypatch.setattr(diagnosis, "version", version)
    monkeypatch.setattr(diagnosis, "requires", lambda name: REQUIRES if name == "krona_tune" else OF_OTHERS)
    monkeypatch.setattr(diagnosis, "metadata", lambda name: Metadata())


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with enough of all, without GPUs, whatever this one is."""
    monkeypatch.setattr(diagnosis, "memory", lambda: (32 * 10**9, 30 * 10**9))
    monkeypatch.setattr(diagnosis, "shared_memory", lambda: 16 * 10**9)
    monkeypatch.setattr(diagnosis, "free_bytes", lambda folder: 10**12)
    monkeypatch.setattr(diagnosis, "gpus", list)
    monkeypatch.setattr(diagnosis.socket, "getaddrinfo", lambda host, port: [host])
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.mark.usefixtures("small")
def test_what_is_missing_or_too_old_is_told_with_its_remedy() -> None:
    assert [str(each) for each in unmet()] == [
        "absent: is not installed, krona_tune needs >=1; pip install 'absent>=1'",
        "mlflow: is version 3.0, krona_tune needs <2; pip install 'mlflow<2'",
        "torch: lacks odd-parts; pip install 'torch[odd]>=2.6'",
    ]
    assert [(each.name, each.lacks, each.command) for each in extras()] == [
        ("peft", ("absent-too",), "pip install 'krona_tune[peft]'"),
        ("gpu", ("torch",), "pip install 'krona_tune[gpu]'"),
        ("store", ("mlflow[db]",), "pip install 'krona_tune[store]'"),
    ]
    versions = diagnosis.versions("9.8")
    assert versions["torch"] == "2.7.1+cpu"
    assert versions["ray"] == "not installed"
    assert versions["krona_tune"] == "9.8, installed as 9.9"
    assert diagnosis.versions("9.9")["krona_tune"] == "9.9"


@pytest.mark.usefixtures("healthy")
def test_a_healthy_machine_has_neither_problems_nor_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "installed", lambda name: "1")
    monkeypatch.setattr(diagnosis, "unmet", lambda: iter(()))
    found = diagnose()
    assert (found.problems, found.warnings) == ((), ())
    assert found.sections["machine"]["memory"] == "32.0 GB, 30.0 GB free"
    assert found.sections["machine"]["GPUs"] == "none"
    assert found.sections["hub"]["reached"] == "yes, the name huggingface.co is found"


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    ("what", "answer", "told"),
    [
        (
            "shared_memory",
            64 * 2**20,
            "/dev/shm: has 67.1 MB, so Ray keeps its objects on the disk, which is slow; in a",
        ),
        ("memory", (8 * 10**9, 10**9), "memory: 1.0 GB are free, a trial takes about 1 GB; end other programs"),
        ("free_bytes", 10**8, "100.0 MB are free; free space, or name another folder with --storage"),
        ("gpus", [Gpu("a GPU", True)], "torch: 2.7.1+cpu can't use the GPU; install a build of torch for your GPU"),
    ],
)
def test_what_may_fail_later_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, what: str, answer: object, told: str
) -> None:
    monkeypatch.setattr(diagnosis, "installed", lambda name: "2.7.1+cpu")
    monkeypatch.setattr(diagnosis, what, lambda *of: answer)
    (warning,) = diagnose().warnings
    assert told in str(warning)


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    ("uri", "problem", "warning"),
    [
        ("", "", ""),
        ("ftp://tracking", "unknown scheme 'ftp'", ""),
        ("http://me:hunter2@127.0.0.1:9", "", "127.0.0.1:9 does not answer"),
    ],
)
def test_a_tracking_store_of_the_environment_is_checked_as_a_study_checks_it(
    monkeypatch: pytest.MonkeyPatch, uri: str, problem: str, warning: str
) -> None:
    monkeypatch.setattr(diagnosis, "installed", lambda name: "1")
    monkeypatch.setattr(diagnosis, "unmet", lambda: iter(()))
    monkeypatch.setenv(TRACKING, uri)
    found = diagnose()
    for told, expected in ((found.problems, problem), (found.warnings, warning)):
        assert [each.place for each in told] == [TRACKING] * bool(expected)
        assert all(expected in str(each) and "hunter2" not in str(each) for each in told)


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    ("variable", "value", "reached"),
    [
        ("HF_HUB_OFFLINE", "1", "no, HF_HUB_OFFLINE is 1"),
        ("HF_HUB_OFFLINE", "0", "yes, the name huggingface.co is found"),
        ("HF_ENDPOINT", "nowhere", "no, 'nowhere' is no address of a hub"),
        ("HF_ENDPOINT", "https://mirror.example", "yes, the name mirror.example is found"),
        ("HTTPS_PROXY", "http://me:hunter2@proxy:1", "yes, through a proxy"),
    ],
)
def test_whether_the_hub_is_reached_is_told_as_a_study_would_find_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reached: str
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    found = diagnose()
    assert found.sections["hub"]["reached"] == reached
    assert ("HF_ENDPOINT" in str(found.problems)) == (value == "nowhere")


@pytest.mark.usefixtures("healthy")
def test_a_name_that_is_not_found_in_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "NAME_SECONDS", 0.01)
    monkeypatch.setattr(diagnosis.socket, "getaddrinfo", lambda *of: iter(int, 1))
    monkeypatch.setattr(
        diagnosis, "Thread", lambda **of: type("Silent", (), {"start": str, "join": lambda *of: None})()
    )
    assert diagnose().sections["hub"]["reached"] == "no, the name huggingface.co is not found within 0.01 s"


@pytest.mark.parametrize(
    ("listed", "precision", "said"),
    [
        ("NVIDIA A100-SXM4-40GB, 40960 MiB, 8.0, 550.54\n", "auto is bf16", "A100-SXM4-40GB, 40960 MiB, compute"),
        (
            "Tesla T4, 15360 MiB, 7.5, 550.54\n",
            "auto is fp32",
            "Tesla T4, 15360 MiB, compute capability 7.5, driver 550",
        ),
        ("Odd\n", "auto is known when torch sees the GPU", "Odd"),
    ],
)
def test_gpus_are_listed_with_the_precision_that_they_get(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: str, precision: str, said: str
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{listed}'\n", encoding="utf-8")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine = diagnose().sections["machine"]
    assert machine["precision"] == precision
    assert said in machine["GPUs"]


def test_a_driver_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(diagnosis, "ASK", ("/nowhere/nvidia-smi",))
    monkeypatch.setattr(diagnosis, "DRIVERS", {str(tmp_path): "AMD", str(tmp_path / "none"): "NVIDIA"})
    assert diagnosis.gpus() == [Gpu("a driver of AMD, which did not list its GPUs", None)]


def test_no_secret_is_shown() -> None:
    there = dict.fromkeys(SECRET, "hunter2") | {
        "HTTPS_PROXY": "http://me:hunter2@proxy:1",
        "RAY_ADDRESS": "auto",
        "X": "1",
    }
    shown = variables(there)
    assert "hunter2" not in str(shown)
    assert shown == dict.fromkeys(SECRET, MASK) | {"HTTPS_PROXY": "http://me:***@proxy:1", "RAY_ADDRESS": "auto"}


def constants(trees: Iterable[ast.Module]) -> dict[str, str]:
    """Returns the texts that modules name in capitals."""
    return {
        target.id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def read_by(tree: ast.AST, named: dict[str, str]) -> Iterator[str]:
    """Yields the words that stand where a file reads the environment; `named` are the texts of constants."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"), args=[ast.Name(id=name), *_]
            ) if name in named:
                yield named[name]
            case ast.keyword(arg="envvar" | "variable", value=ast.Name(id=name)) if name in named:
                yield named[name]
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name
            case ast.Compare(left=ast.Constant(value=str(name)), comparators=[ast.Attribute(attr="environ")]):
                yield name
            case ast.keyword(arg="envvar", value=ast.Constant(value=str(name))):
                yield name  # fmt: skip


def test_every_variable_that_the_package_reads_is_listed() -> None:
    trees = [tree_of(path) for path in (ROOT / "krona_tune").rglob("*.py")]
    named = constants(trees)
    found = {name for tree in trees for name in read_by(tree, named)}
    assert {"RAY_ADDRESS", "COLUMNS", "KRONA_TUNE_NOTIFY", "KRONA_TUNE_PERSON", "KRONA_TUNE_TOKEN"} <= found
    assert found <= {*READ_VARIABLES, *SECRET}


@pytest.mark.usefixtures("healthy")
def test_the_command_prints_a_report_and_says_whether_a_study_can_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KRONA_TUNE_TOKEN", "hunter2hunter2hunter2")
    monkeypatch.setattr(diagnosis, "unmet", lambda: iter(()))
    code, out, err = run("doctor", program=cli.main)
    assert (code, err) == (0, "")
    assert out.startswith("versions\n  Python ")
    assert out.endswith("A study can run here.\n")
    assert "  KRONA_TUNE_TOKEN  ***\n" in out
    assert "hunter2" not in out
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    code, out, _ = run("doctor", program=cli.main)
    assert code == 1
    assert f"problem: the cache folder: {tmp_path}/file/krona_tune can't be made, " in out
    assert "set HOME or XDG_CACHE_HOME to a folder that can be written\nA study can't run here.\n" in out
