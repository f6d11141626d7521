"""Makes tests compute on one thread, because their models are small, and runs a program in this process."""

import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from krona_tune import cli
from tests.backbone_folders import MINILM, folder_of
from tests.whole_studies import ONE_CPU, Home, WarmProgram

settings.register_profile("steady", deadline=None)
settings.register_profile("thousand", deadline=None, max_examples=1000)
settings.load_profile("steady")
assert "huggingface_hub" not in sys.modules, "it reads HF_HUB_OFFLINE only when it is imported"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)
LONGEST = (
    "tests/faults/test_queue.py",
    "tests/docs/test_blocks.py",
    "tests/faults/test_faults.py",
    "tests/search/test_study.py",
    "tests/search/test_kinds_of_study.py",
)
"""Files of tests that take long: they begin first, so that no process waits in the end for another's."""
SLOW_SECONDS = 2400
"""The limit of a slow test; that of the others is in pyproject.toml."""
Said = tuple[int, str, str]
Run = Callable[..., Said]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--first-case", action="store_true", help="of each test with several cases, run only the first")


@pytest.hookimpl(trylast=True)  # after the marks have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the longest files first if several processes share them; keeps of each test the first case if asked to.

    A slow test has a limit of its own: of its steps each may take as long as its patience.
    """
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
    if hasattr(config, "workerinput"):  # one process of several
        tests = Counter(item.path for item in items)
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(
            key=lambda item: (not item.nodeid.startswith(LONGEST), item.path not in slow, -tests[item.path]),
        )
    if not config.getoption("--first-case"):
        return
    first = {item.nodeid.partition("[")[0]: item for item in reversed(items)}
    kept = set(first.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


@pytest.fixture(scope="session", autouse=True)
def own_data(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Lets services leave their tokens in a folder of the tests, where every process that a test starts reads them."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(folder_of(MINILM, tmp_path / "minilm"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a program in an empty folder; returns its exit status, stdout and stderr. It can start no Ray."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")

    def started(*words: object, program: Callable[[], None] = cli.run_study, typed: str = "") -> Said:
        monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        with pytest.raises(SystemExit) as ended:
            program()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return started


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """Makes a place for the whole studies of a module."""
    with Home.near_the_root() as found:
        found.make_storage()
        yield found


@pytest.fixture(scope="module")
def bert(home: Home) -> Path:
    """Saves a tiny encoder at home."""
    from tests.search.models import saved_bert

    return saved_bert(home.root / "bert")


@pytest.fixture
def one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes each Ray that starts during the test begin one worker, without a second that would only wait."""
    for name, value in ONE_CPU.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmProgram]:
    """Starts a process that runs whole studies one after another on one Ray, for tests of neither's start or loss."""
    with Home.near_the_root() as place:
        program = WarmProgram(place)
        yield program
        program.end()
