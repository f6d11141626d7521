"""Tests that optuna-dashboard opens a study's journal and shows its history and importances."""

import json
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from krona_tune.study.folder import StudyFolder
from tests.services.processes import free_port, get, serving

pytestmark = pytest.mark.slow
SCORES = (0.25, 0.75, 0.5, 0.125, 0.625, 0.375)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Writes a journal as the search does: a study per task, named after both; a stopped trial is pruned."""
    folder = StudyFolder(tmp_path / "first")
    folder.root.mkdir()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name="first/cola",
        storage=JournalStorage(JournalFileBackend(str(folder.journal))),
        direction="maximize",
    )
    for number, score in enumerate(SCORES):
        trial = study.ask()
        trial.suggest_float("scale", 1, 9)
        trial.suggest_categorical("a_out", [2, 3, 4])
        trial.set_user_attr("trial_id", f"cola-{number:03d}")
        trial.report(score / 2, 340)
        study.tell(trial, score)
    return folder


@pytest.fixture
def api(folder: StudyFolder, tmp_path: Path) -> Any:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    program = Path(sys.executable).with_name("optuna-dashboard")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(program), str(folder.journal), "--host", "127.0.0.1", "--port", str(port)]
    with serving(command, f"{address}/api/studies", tmp_path / "log", {}):
        yield lambda path: json.loads(get(f"{address}/api/{path}"))


def test_the_history_and_the_importances_are_there(api: Any) -> None:
    [study] = api("studies")["study_summaries"]
    assert study["study_name"] == "first/cola"
    shown = api(f"studies/{study['study_id']}")
    assert [trial["values"] for trial in shown["trials"]] == [[score] for score in SCORES]
    assert [trial["intermediate_values"][0]["step"] for trial in shown["trials"]] == [340] * len(SCORES)
    assert shown["trials"][1]["user_attrs"][0]["value"] == "cola-001"
    [importances] = api(f"studies/{study['study_id']}/param_importances")["param_importances"]
    assert {each["name"] for each in importances} == {"scale", "a_out"}
    assert sum(each["importance"] for each in importances) == pytest.approx(1)
