"""Tests what is printed after a study."""

from pathlib import Path

import pytest

from krona_tune.api.printing import print_paths
from krona_tune.study.folder import StudyFolder


@pytest.mark.parametrize(
    ("root", "uri", "command"),
    [
        ("studies/first", None, "krona-tune sync first"),
        ("my studies/first", None, "krona-tune sync first --storage 'my studies'"),
        (
            "studies/first",
            "http://me:hunter2@host",
            "krona-tune sync first --tracking-uri 'http://me:***@host'",
        ),
    ],
)
def test_what_mlflow_lacks_is_said_with_the_command_that_adds_it(
    capsys: pytest.CaptureFixture[str], root: str, uri: str | None, command: str
) -> None:
    print_paths(StudyFolder(Path(root)), "1 min", uri, "MLflow lacks 3 of 3 events ([Errno 2] no)")
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"MLflow lacks 3 of 3 events ([Errno 2] no): {command}"
    print_paths(StudyFolder(Path(root)), "1 min", uri)
    said = capsys.readouterr().out
    assert "krona-tune sync" not in said
    assert "Compare trials: " in said
