"""Tests the notebook of the documentation, and that interrupting a cell stops its study and not the kernel."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from tests.search.models import saved_bert
from tests.waiting import PATIENCE, until
from tests.whole_studies import ONE_CPU, SOON

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


SHORTER = {"    trials=6,\n": "    trials=2,\n", '"seeds": 2': '"seeds": 1'}
"""What of the notebook takes most of its time, and what is run instead."""


def shown(cell: Any) -> str:
    """Returns what a cell shows as text and as HTML; a kernel may send one line in several pieces."""
    return "".join(
        str(output.get("text", "")) + "".join(map(str, output.get("data", {}).values())) for output in cell.outputs
    )


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookClient]:
    """Starts a kernel in an empty folder for the notebook of the documentation, which is searched with few trials."""
    notebook = nbformat.read(ROOT / "docs" / "study.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "its outputs are made by who runs it"
    for many, few in SHORTER.items():
        [asked] = [cell for cell in notebook.cells if many in cell.source]
        asked.source = asked.source.replace(many, few)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = SOON + first.source
    folder = str(tmp_path_factory.mktemp("empty"))
    client = NotebookClient(
        notebook, timeout=int(PATIENCE), kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        for name, value in {"OMP_NUM_THREADS": "1", **ONE_CPU}.items():
            patch.setenv(name, value)
        with client.setup_kernel():
            yield client


def test_the_notebook_of_the_documentation_runs_in_an_empty_folder(kernel: NotebookClient) -> None:
    notebook = kernel.nb
    for number, cell in enumerate(notebook.cells):
        kernel.execute_cell(cell, number)
    cells = {cell.source.strip().splitlines()[-1]: shown(cell) for cell in notebook.cells if cell.cell_type == "code"}
    assert "learning_rate" in cells["study.plan()"]
    assert "plotly" in str([cell.outputs for cell in notebook.cells if "curves" in cell.source])
    answers = next(said for line, said in cells.items() if line.startswith("study.predict"))
    assert answers == "['good', 'bad']"
    runs = [shown(cell) for cell in notebook.cells if cell.source == "study.run()"]
    assert "Validation scores" in runs[0]
    assert "\x1b[2K" not in runs[0], "the table is renewed in its place"
    assert "is finished" in runs[1]
    assert "ipywidgets" not in "".join(map(shown, (cell for cell in notebook.cells if cell.cell_type == "code")))


def test_an_interrupted_cell_stops_its_study_and_the_kernel_lives_on(kernel: NotebookClient) -> None:
    folder = Path(kernel.resources["metadata"]["path"])
    saved_bert(folder / "bert")
    begin = (
        "import krona_tune\n"
        "space = {'adapter': {'a_out': 4, 'a_in': 4}, 'schedule': {'epochs': 500}, 'examples': {'max_length': 32}}\n"
        "study = krona_tune.Study(model='bert', data='mini', tasks='cola', name='long', trials=2, space=space)\n"
        "study.run()"
    )
    begun, after = new_code_cell(begin), new_code_cell("print(study.running, repr(study), 6 * 7)")
    kernel.nb.cells += [begun, after]
    results = folder / "studies" / "long" / "results"

    def interrupt() -> None:
        try:
            until(lambda: list(results.rglob("reports*")))
        finally:
            os.kill(kernel.km.provisioner.pid, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(CellExecutionError, match="the study was stopped"):
        kernel.execute_cell(begun, kernel.nb.cells.index(begun))
    kernel.execute_cell(after, kernel.nb.cells.index(after))
    said = shown(after)
    assert said.startswith("False <Study studies/long: stopped")
    assert said.strip().endswith("42")
