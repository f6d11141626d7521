"""Tests that a submission's own code runs in a process that ends with its check."""

import os
import sys
from pathlib import Path

import pytest

from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.service.queue import submission_check
from krona_tune.service.queue.entry import Submission
from krona_tune.service.queue.submission_check import check_apart
from tests.service.queue.conftest import SPACE

METRIC = """
import os, sys
from pathlib import Path

Path(__file__).with_suffix(".pid").write_text(str(os.getpid()))
{more}

def hits(labels, answers):
    return float((labels == answers).mean())
"""


def submission(folder: Path, more: str = "") -> Submission:
    """Returns a request with a task whose metric is a file's function."""
    (folder / "own_metric.py").write_text(METRIC.format(more=more))
    (folder / "reviews.csv").write_text("text,label\n" + "".join(f"a book {n},{n % 2}\n" for n in range(40)))
    task = f"{{data: {folder}/reviews.csv, text: text, label: label, metric: {folder}/own_metric.py:hits}}"
    return Submission(name="mine", space=f"{SPACE.read_text(encoding='utf-8')}\ntasks: {{reviews: {task}}}\n")


def test_a_metric_s_file_is_imported_by_another_process(storage: Storage, tmp_path: Path) -> None:
    checked = check_apart(storage, submission(tmp_path))
    assert "scored by hits" in checked.lines["reviews"]
    assert "name: mine" in checked.space
    assert int((tmp_path / "own_metric.pid").read_text()) != os.getpid()
    assert not [name for name in sys.modules if "own_metric" in name]


@pytest.mark.parametrize("more", ["while True: pass", "os._exit(3)"])
def test_code_that_never_ends_or_ends_its_process_is_refused(
    storage: Storage, tmp_path: Path, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_check, "CHECK_SECONDS", 1.0)
    with pytest.raises(Refusal) as refused:
        check_apart(storage, submission(tmp_path, more))
    assert str(refused.value)


def test_a_large_file_of_code_is_refused_before_it_is_read(storage: Storage, tmp_path: Path) -> None:
    asked = submission(tmp_path)
    with (tmp_path / "own_metric.py").open("r+b") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(Refusal, match=r"^tasks.reviews.metric: .*own_metric.py has more than 1,000,000 bytes"):
        submission_check.check(storage, asked)
    assert not (tmp_path / "own_metric.pid").exists()
