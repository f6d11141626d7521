"""Tests that a submission's own code runs in a process that ends with its check."""

import os
import sys
from pathlib import Path

import pytest

from krona_tune.record import remote_copy
from krona_tune.record.remote_files import UnreachableStore
from krona_tune.record.storage import Storage, storage_at
from krona_tune.refusal import Refusal
from krona_tune.search.startup.slots import Cluster, Node, this_machine
from krona_tune.service.queue import submission_check
from krona_tune.service.queue.entry import RequestValue, Submission
from krona_tune.service.queue.submission_check import check, check_apart
from krona_tune.study.request.loader import parse_spec
from tests.service.queue.conftest import SPACE

GPUS = "a" if this_machine().gpus else "no"
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


def test_a_plan_names_the_whole_path_of_the_folder_which_whoever_asks_does_not_stand_in(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(storage.folder)
    checked = submission_check.check(Storage(folder=Path()), submission(tmp_path), prints=True)
    assert checked.lines["folder"] == str(storage.folder / "mine")
    assert f" {storage.folder / 'mine'}\n" in checked.printed
    assert "\nWithout any search:\n" in checked.printed, "no command, which a page has not"


def test_a_bad_name_is_refused_with_what_a_name_is_made_of(storage: Storage) -> None:
    with pytest.raises(Refusal, match=r"^name: '../x' is no name of a study; use letters"):
        submission_check.check(storage, Submission(name="../x"))


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


def own_reviews(folder: Path) -> RequestValue:
    """Returns a task of one's own as `--tasks FILE` gives it: 400 short texts."""
    lines = [f"a {'good' if n % 2 else 'bad'} book of {n} pages,{n % 2}" for n in range(400)]
    (folder / "reviews.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    task = {"data": f"{folder}/reviews.csv", "text": "text", "label": "label"}
    return RequestValue(key="tasks", value={"reviews": task}, by="--tasks")


def test_own_data_without_a_space_get_one_that_is_made_on_this_machine(storage: Storage, tmp_path: Path) -> None:
    trials = RequestValue(key="search.trials", value=3, by="--trials")
    checked = submission_check.check(storage, Submission(name="mine", given=(own_reviews(tmp_path), trials)))
    assert checked.lines["space"] == f"auto (made for model, data and machine; this machine has {GPUS} GPU)"
    made = parse_spec(checked.space, "made", tmp_path)
    assert (list(made.tasks), made.name, made.search.trials) == (["reviews"], "mine", 3)
    assert "examples.max_length" in made.reasons
    assert "search.trials" not in made.reasons, "a person gave it"


def test_a_space_is_chosen_for_what_the_queue_has(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(nodes=(Node(4, 1),), dashboard="")
    asked: list[Cluster | None] = []

    def choose(given: object, on: Cluster | None) -> None:
        asked.append(on)
        raise Refusal("--space", "none is chosen here")

    monkeypatch.setattr(submission_check, "choose_space", choose)
    tasks = RequestValue(key="tasks", value=["cola"], by="--tasks")
    with pytest.raises(Refusal, match="none is chosen here"):
        submission_check.check(storage, Submission(name="mine", given=(tasks,)), cluster)
    assert asked == [cluster]


def test_a_wrong_value_without_a_space_is_refused_with_what_gave_it(storage: Storage, tmp_path: Path) -> None:
    wrong = RequestValue(key="adapter.scael", value=2, by="--set adapter.scael")
    with pytest.raises(Refusal, match=r"^--set adapter.scael: unknown key 'scael', did you mean 'scale'\?"):
        submission_check.check(storage, Submission(name="mine", given=(own_reviews(tmp_path), wrong)))


def test_a_storage_that_fails_is_no_fault_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def refuse(*_: object) -> None:
        raise ConnectionError("no route to it")

    monkeypatch.setattr(remote_copy.Copy, "pull", refuse)
    with pytest.raises(UnreachableStore, match=r"^--storage: .*no route to it; give credentials"):
        check(storage_at(f"file://{tmp_path}/copy"), submission(tmp_path))


def test_a_request_that_is_longer_than_the_queue_keeps_is_refused(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settled it may be longer than what was sent."""
    monkeypatch.setattr(submission_check, "LONGEST_SPACE", 500)
    with pytest.raises(Refusal, match=r"^space: whole it has [\d,]+ characters; write one of at most 500"):
        check(storage, submission(tmp_path))
