"""Tests the notebook of the documentation, and that interrupting a cell stops its study and not the kernel."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from tests.search.models import saved_bert
from tests.waiting import until

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _this_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def client(notebook: Any, folder: Path) -> NotebookClient:
    return NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(folder)}})


def shown(cell: Any) -> str:
    """Returns what a cell shows as text and as HTML."""
    return "\n".join(
        str(output.get("text", "")) + "".join(map(str, output.get("data", {}).values())) for output in cell.outputs
    )


def test_the_notebook_of_the_documentation_runs_in_an_empty_folder(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "study.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "its outputs are made by who runs it"
    client(notebook, tmp_path).execute()
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


def test_an_interrupted_cell_stops_its_study_and_the_kernel_lives_on(tmp_path: Path) -> None:
    saved_bert(tmp_path / "bert")
    begin = (
        "import krona_tune\n"
        "space = {'adapter': {'a_out': 4, 'a_in': 4}, 'schedule': {'epochs': 500}, 'examples': {'max_length': 32}}\n"
        "study = krona_tune.Study(model='bert', data='mini', tasks='cola', name='long', trials=2, space=space)\n"
        "study.run()"
    )
    notebook = new_notebook(cells=[new_code_cell(begin), new_code_cell("print(study.running, repr(study), 6 * 7)")])
    running = client(notebook, tmp_path)
    results = tmp_path / "studies" / "long" / "results"

    def interrupt() -> None:
        try:
            until(lambda: list(results.rglob("reports*")))
        finally:
            os.kill(running.km.provisioner.pid, signal.SIGINT)

    with running.setup_kernel():
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(CellExecutionError, match="the study was stopped"):
            running.execute_cell(notebook.cells[0], 0)
        running.execute_cell(notebook.cells[1], 1)
    said = shown(notebook.cells[1])
    assert said.startswith("False <Study studies/long: stopped")
    assert said.strip().endswith("42")
