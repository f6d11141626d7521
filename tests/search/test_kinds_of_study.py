"""Tests other kinds of study on a real Ray: all methods, shared adapters, every size, budgets, two equal studies."""

import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import transformers

from krona_tune import load, open_study
from krona_tune.adapters.adapter_card import read_card
from krona_tune.adapters.method_table import METHODS
from krona_tune.record.parquet_reader import read_reports
from krona_tune.record.records import read_effects
from krona_tune.refusal import Refusal
from krona_tune.search.startup.task_data import validation_data
from krona_tune.study.finals import DEFAULT, HEAD
from krona_tune.study.request.loader import load_spec
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.standings import rank_trials
from krona_tune.train.predict import predict
from tests.backbones.families import saved_family
from tests.search.models import saved_t5
from tests.whole_studies import ONE_WORKER, Done, Home, WarmProgram

pytestmark = pytest.mark.slow


Run = Callable[..., Done]
Started = Callable[..., dict[str, TrialResult]]


@pytest.fixture(scope="module")
def run(home: Home, warm: WarmProgram) -> Run:
    """Runs the program at home; asserts that it ends well and tells of no error."""

    def ran(*words: str, program: str = "run_study") -> Done:
        done = warm.run(home, *words, program=program)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done

    return ran


@pytest.fixture(scope="module")
def started(home: Home, run: Run) -> Started:
    """Runs a study to its end; returns its rows by their ids."""

    def ended(model: Path, name: str, *words: str) -> dict[str, TrialResult]:
        run("--space", home.space(model), "--name", name, *ONE_WORKER, *words)
        return home.rows(name)

    return ended


METHODS_OF_T5 = [*(name for name in METHODS if name != "head_only"), "peft:HiRA", "peft:VeRA"]


@pytest.fixture(scope="module")
def of_t5(home: Home, started: Started) -> dict[str, TrialResult]:
    """Runs the study `methods` of each method on a T5; returns its rows by their ids."""
    sites = "roles: query+value+cross_value, layer_norms: true"
    adapter = f"{{method: [{', '.join(METHODS_OF_T5)}], a_out: 4, a_in: 4, bottleneck: 4, phm: 2, r: 2, {sites}}}"
    words = ["--tasks", "cola", "--trials", "1", "--set", f"adapter={adapter}", "--set", "search.per_method=true"]
    return started(saved_t5(home.root / "t5"), "methods", *words)


def test_every_method_has_its_own_trials(of_t5: dict[str, TrialResult]) -> None:
    searched = [row for row in of_t5.values() if row.kind == "search"]
    assert [row.params["method"] for row in sorted(searched, key=lambda row: row.number)] == METHODS_OF_T5
    assert {row.status for row in searched} == {Status.COMPLETED}, [row.error for row in searched]


def test_a_text_to_text_study_answers_with_its_label_words(home: Home, of_t5: dict[str, TrialResult]) -> None:
    adapter = home.study("methods").adapter("cola")
    assert {row.head_parameters for row in of_t5.values()} == {0}
    assert of_t5["cola-head-0"].trainable_parameters == 0
    assert read_card(adapter).labels == ("unacceptable", "acceptable")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(home.root / "t5").eval()
    inputs = {"input_ids": torch.arange(3, 12)[None], "decoder_input_ids": torch.zeros(1, 1, dtype=torch.long)}
    with torch.no_grad():
        bare = model(**inputs).logits
        load(model, adapter)
        assert not torch.allclose(model(**inputs).logits, bare, atol=1e-5)


def test_a_shared_adapter_is_the_same_on_every_task(home: Home, bert: Path, started: Started) -> None:
    words = ["--tasks", "cola,rte,mrpc", "--trials", "4", "--shared", "--set", "finalists={top: 1, seeds: 2}"]
    rows = started(bert, "shared", *words)
    by_number: dict[int, list[TrialResult]] = {}
    for row in rows.values():
        if row.kind == "search":
            by_number.setdefault(row.number, []).append(row)
    assert all(len({str(row.params) for row in shared}) == 1 for shared in by_number.values())
    assert sorted(by_number) == [0, 1, 2, 3]
    whole = [n for n, shared in by_number.items() if len(shared) == 3]
    assert whole
    finalists = [row for row in rows.values() if row.kind == "finalist" and row.params["method"] != "head_only"]
    assert {row.task for row in finalists} == {"cola", "rte", "mrpc"}
    assert len({str(row.params) for row in finalists}) == 1
    kept = {path.name for path in home.study("shared").checkpoints.iterdir()}
    assert kept == {row.trial_id for row in rows.values() if row.kind == "finalist"}
    averages = {n: round(sum(row.score or 0 for row in by_number[n]), 9) for n in whole}
    sizes = {n: max(row.trainable_parameters for row in by_number[n]) for n in whole}
    best = min(whole, key=lambda n: (-averages[n], sizes[n], n))
    assert {row.of for row in finalists} == {f"{task}-{best:03d}" for task in ("cola", "rte", "mrpc")}
    assert f": finished, {len(rows)} trials have ended" in repr(open_study(home.study("shared").root))


@pytest.mark.long
def test_two_studies_with_one_worker_and_one_seed_are_alike(home: Home, bert: Path, started: Started) -> None:
    words = ["--tasks", "cola,rte", "--trials", "4", "--seed", "7"]
    first, second = (started(bert, name, *words) for name in ("alike-1", "alike-2"))
    assert first.keys() == second.keys()
    for trial_id, row in first.items():
        other = second[trial_id]
        assert (row.params, row.status, row.score) == (other.params, other.status, other.score), trial_id
    scores = [
        [(report.trial_id, report.rung, report.score, report.train_loss) for report in read_reports(folder.results)]
        for folder in (home.study("alike-1"), home.study("alike-2"))
    ]
    assert sorted(scores[0]) == sorted(scores[1])


def test_a_model_of_all_tasks_proposes_the_same_after_a_resume(
    home: Home, bert: Path, run: Run, started: Started
) -> None:
    rates = "training={learning_rate: {low: 1e-4, high: 1e-2, log: true}}"
    words = ["--tasks", "cola,rte", "--set", "search.sampler=study_model", "--set", rates]
    whole = started(bert, "modelled", *words, "--trials", "4")
    assert "a task by one model of all tasks" in run("--resume", "modelled", "--dry-run").stdout
    knobs = ("a_out", "a_in", "scale", "roles", "learning_rate")
    effects = {(each.task, each.knob) for each in read_effects(home.study("modelled").results)}
    assert effects == {(task, knob) for task in ("cola", "rte") for knob in knobs}
    assert "as the study's model sees it" in unescape(home.study("modelled").page.read_text())
    started(bert, "modelled-twice", *words, "--trials", "3")
    run("--resume", "modelled-twice", "--trials", "+1")
    again = home.rows("modelled-twice")
    assert {trial_id: row.params for trial_id, row in again.items()} == {
        trial_id: row.params for trial_id, row in whole.items()
    }
    origins = [row.proposed_by for row in whole.values() if row.kind == "search" and row.task == "rte"]
    assert origins == ["even draw"] * 3 + ["study model"]
    assert all((row.expected_score is not None) == (row.proposed_by == "study model") for row in again.values())
    assert "could not be fitted" not in home.study("modelled").log.read_text()


def test_a_design_trains_the_same_points_to_their_end_and_some_again(home: Home, bert: Path, started: Started) -> None:
    search = "search={sampler: sobol, early_stopping: false, repeats: {points: 1, seeds: 2}}"
    schedule = "schedule={epochs: 3, grace_epochs: 1, reduction: 3, report_every: epoch}"
    words = ["--tasks", "cola,rte", "--set", search, "--set", schedule, "--set", "finalists.top=0", "--trials", "3"]
    rows = started(bert, "design", *words)
    searched = {(row.task, row.number): row for row in rows.values() if row.kind == "search"}
    assert {row.status for row in rows.values()} == {Status.COMPLETED}
    assert all(searched["cola", number].params == searched["rte", number].params for number in range(3))
    assert {row.trial_id for row in rows.values() if row.kind == "repeat"} == {
        f"{task}-000-s{index}" for task in ("cola", "rte") for index in (1, 2)
    }
    reports = read_reports(home.study("design").results)
    assert [each.epochs for each in reports if each.trial_id == "cola-002"] == [1, 2, 3]
    losses = {each.trial_id: each.train_loss for each in reports if each.rung == 0}
    assert len({losses[trial] for trial in ("cola-000", "cola-000-s1", "cola-000-s2")}) == 3


def test_the_search_leaves_of_its_budget_what_the_finals_need(home: Home, bert: Path, run: Run) -> None:
    """A full trial takes 128 examples; the finals train three configurations, the head too, with two seeds each."""
    words = ["--tasks", "rte", "--trials", "40", "--set", "search.examples_budget=1600"]
    done = run(
        "--space", home.space(bert), "--name", "budget", *ONE_WORKER, *words, "--set", "finalists={top: 1, seeds: 2}"
    )
    assert "The budget of examples ended the search with" in done.stdout
    rows = home.rows("budget").values()
    finalists = [row for row in rows if row.kind == "finalist"]
    assert [row.status for row in finalists] == [Status.COMPLETED] * len(finalists)
    assert {row.number for row in finalists} == {HEAD, DEFAULT, 1}
    assert len(finalists) >= 6
    assert 1000 < sum(row.examples for row in rows) <= 1600 + 3 * 128


@pytest.mark.long
def test_an_earlier_studys_best_points_are_tried_first(home: Home, bert: Path, started: Started) -> None:
    earlier = started(bert, "earlier", "--tasks", "rte", "--trials", "3", "--seed", "3")
    best, *_ = rank_trials(row for row in earlier.values() if row.kind == "search" and row.finished)
    rows = started(bert, "later", "--tasks", "rte,cola", "--trials", "1", "--warm-start", "earlier")
    for task in ("rte", "cola"):
        assert rows[f"{task}-000"].params == pytest.approx(best.params)


@pytest.mark.long
def test_every_size_is_looked_for(home: Home, bert: Path, started: Started) -> None:
    rows = started(bert, "sizes", "--tasks", "rte", "--trials", "6", "--objective", "pareto")
    searched = [row for row in rows.values() if row.kind == "search"]
    smallest = min(searched, key=lambda row: row.adapter_parameters)
    assert len({row.adapter_parameters for row in searched}) > 2
    assert smallest.status is Status.COMPLETED


MARKER = "Xylophonist"
OWN_TASKS = """tasks:
  tickets:
    data: tickets.csv
    text: [subject, body]
    label: queue
    metric: [macro_f1, costs.py:missed]
    class_weights: balanced
    split: {group: customer}
  stars: {data: tickets.csv, text: body, label: stars, metric: spearman}
"""


def own_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "tasks.yaml").write_text(OWN_TASKS)
    (folder / "costs.py").write_text("def missed(labels, answers):\n    return float((labels == answers).mean())\n")
    queues = ["printer", "invoice", "password"]
    rows = [f"{queues[n % 3]},the {MARKER} {queues[n % 3]} {n},q{n % 3},{n % 5},c{n // 4}" for n in range(120)]
    (folder / "tickets.csv").write_text("\n".join(["subject,body,queue,stars,customer", *rows]) + "\n")


@pytest.fixture(scope="module")
def own(home: Home, bert: Path, started: Started) -> dict[str, TrialResult]:
    """Runs the study `own` of two own tasks and one of GLUE; returns its rows by their ids."""
    own_files(home.root / "own")
    finals = "finalists={top: 1, seeds: 1}"
    words = ["--tasks", f"{home.root}/own/tasks.yaml,cola", "--trials", "2", "--set", finals]
    return started(bert, "own", *words)


def test_own_tasks_beside_one_of_glue_leave_no_text_behind(
    home: Home, warm: WarmProgram, run: Run, own: dict[str, TrialResult]
) -> None:
    assert {(row.task, row.status) for row in own.values()} >= {
        (task, Status.COMPLETED) for task in ("tickets", "stars", "cola")
    }
    finals = [row for row in own.values() if row.kind == "finalist" and row.task == "tickets"]
    assert all(set(row.test_metrics) == {"macro_f1", "missed"} and row.test_examples for row in finals)
    study = home.study("own")
    answers = predict(study.adapter("tickets"), [("printer", "the printer is broken"), ("invoice", "pay")])
    assert set(answers) <= {"q0", "q1", "q2"}
    assert 0 <= float(predict(study.adapter("stars"), ["the printer"])[0]) <= 4
    done = run("train", "own", "--all-data", "--task", "tickets", "--seeds", "2", program="main")
    assert "again on all examples of train, validation and test together: 120." in done.stdout
    rows = home.rows("own")
    full = [row for row in rows.values() if row.kind == "full_data"]
    assert [(row.status, row.score, row.epochs) for row in full] == [(Status.COMPLETED, None, 2)] * 2
    assert len({row.seed for row in full}) == 2
    assert {row.of for row in full} <= {row.of for row in finals}
    for row in full:
        assert read_card(study.adapter(row.trial_id)).trained_on
        assert set(predict(study.adapter(row.trial_id), [("printer", "broken")])) <= {"q0", "q1", "q2"}
    kept = [path for path in (home.root / "studies").rglob("*") if path.is_file()]
    logs = [path for path in warm.logs() if path.is_file()]
    assert logs
    assert {"report.html", "study.log", "mlflow.db"} <= {path.name for path in kept}
    assert [path for path in (*kept, *logs) if MARKER.lower().encode() in path.read_bytes().lower()] == []
    tables = [pq.read_table(path).to_pylist() for path in kept if path.suffix == ".parquet"]
    assert tables
    assert MARKER.lower() not in str(tables).lower()


@pytest.mark.usefixtures("own")
def test_the_data_of_a_study_are_read_for_a_backbone_that_was_moved(home: Home) -> None:
    study = home.study("own")
    moved = shutil.copytree(load_spec(study.spec).model, home.root / "moved")
    assert validation_data(study, "tickets", str(moved)).train.equals(validation_data(study, "tickets").train)
    with pytest.raises(Refusal, match="nowhere"):
        validation_data(study, "tickets", "./nowhere")


@pytest.mark.usefixtures("own")
def test_a_study_of_own_tasks_is_not_resumed_on_other_data(home: Home, warm: WarmProgram) -> None:
    path = home.root / "own" / "tickets.csv"
    right = path.read_text()
    path.write_text(right.replace("printer 0,", "printer zero,"))
    again = warm.run(home, "--resume", "own", "--trials", "+1")
    planned = warm.run(home, "train", "own", "--task", "tickets", "--dry-run", program="main")
    with pytest.raises(Refusal, match="own: the data of tickets was "):
        validation_data(home.study("own"), "tickets")
    path.write_text(right)
    assert (planned.returncode, "train: the data of tickets was " in planned.stderr) == (2, True)
    assert again.returncode == 2
    assert "put back what the study was begun with, or begin a new one" in again.stderr


def test_a_decoder_without_a_head_is_searched_with_label_words(home: Home, started: Started) -> None:
    rows = started(saved_family("granite", home.root / "granite"), "words", "--tasks", "cola", "--trials", "2")
    assert {row.status for row in rows.values()} <= {Status.COMPLETED, Status.STOPPED_EARLY}
    assert [row.kind for row in rows.values()].count("search") == 2
    folder = home.study("words").adapter("cola")
    card = read_card(folder)
    assert (card.model_type, card.text_to_text, card.pipeline) == ("granite", True, "text-generation")
    assert card.labels == ("unacceptable", "acceptable")
    assert {*predict(folder, ["the cat sleeps", "cat the sleeps"])} <= {*card.labels}
