"""Tests that no record or message keeps a password, no name leaves its folder, and no call in the code is unsafe."""

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import krona_tune
from krona_tune.api.folders import existing, refuse_taken
from krona_tune.record.mlflow_mirror.tracking_uri import explain_unreachable
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from tests.record.events import manifest
from tests.security.hostile import HOSTILE, ODD_TEXTS

SOURCES = {
    path.relative_to(Path(krona_tune.__file__).parent).as_posix(): path.read_text(encoding="utf-8")
    for path in Path(krona_tune.__file__).parent.rglob("*.py")
}


FORBIDDEN = {
    r"\bpickle\.load|cloudpickle\.load|joblib|dill\b": "unpickles",
    r"(?<![.\w])(?:eval|exec)\(": "runs text",
    r"shell=True|os\.system|os\.popen": "runs a shell",
    r"trust_remote_code=True": "runs a model's code",
    r"yaml\.(?:unsafe_load|full_load|Loader)\b": "makes objects from YAML",
    r"torch\.load\((?!.*weights_only=True)": "unpickles tensors",
    r"0\.0\.0\.0": "listens for everyone",
    r"dict\(os\.environ\)|os\.environ\.(?:copy|items)\(|json\.dumps?\(os\.environ": "writes the environment down",
}


def test_a_manifest_keeps_no_password(tmp_path: Path) -> None:
    words = ["run_study.py", "--tracking-uri", "https://me:hunter2@mlflow.example"]
    made = type(manifest())(
        **{**manifest().model_dump(), "command": shlex.join(words), "resumed_by": [shlex.join(words)]}
    )
    made.write(tmp_path / "manifest.json")
    assert "hunter2" not in (tmp_path / "manifest.json").read_text()
    assert read_manifest(tmp_path / "manifest.json") == made


def test_a_tracking_server_that_is_not_there_is_told_of_without_its_password() -> None:
    for uri in ("http://me:hunter2@127.0.0.1:1/mlflow", "postgresql+psycopg2://me:hunter2@127.0.0.1:1/mlflow"):
        said = explain_unreachable(uri)
        assert said is not None
        assert "does not answer" in said
        assert "hunter2" not in said
    assert explain_unreachable(None) is None
    assert explain_unreachable("sqlite:///mlflow.db") is None


@HOSTILE
@given(ODD_TEXTS | st.text(max_size=20) | st.from_regex(r"(\.\./|/|\\|~|\w){1,6}", fullmatch=True))
def test_no_name_of_a_study_leads_out_of_the_storage(name: str) -> None:
    storage = Path("/nowhere/studies")
    kept_at = Storage(folder=storage)
    for ask in (lambda: existing(kept_at, name), lambda: refuse_taken(StudyFolder(storage / name), name)):
        try:
            ask()
        except Refusal:
            continue
        assert (storage / name).resolve().parent == storage


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_the_code_has_no_door_for_strangers(pattern: str) -> None:
    found = {name: match[0] for name, text in SOURCES.items() if (match := re.search(pattern, text))}
    assert not found, FORBIDDEN[pattern]


def test_every_model_is_loaded_without_its_own_code() -> None:
    lines = [
        (name, match[0])
        for name, text in SOURCES.items()
        if name == "train/backbone.py"
        for match in re.finditer(r"from_pretrained\((?:[^()]|\([^()]*\))*\)", text)
        if "{" not in match[0]  # said in a message
    ]
    assert len(lines) == 4
    assert all("trust_remote_code=False" in line for _, line in lines), lines
