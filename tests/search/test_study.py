"""Tests whole studies on a real Ray: start, interrupt, resume and extend, as a user does it."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import torch
import transformers
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

import krona_tune
from krona_tune.adapters.adapter_files import read_card
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.request.loader import load_spec
from krona_tune.study.result import Status, TrialResult
from tests.faults.drivers import begun, until_or_end
from tests.search.models import saved_t5
from tests.waiting import PATIENCE
from tests.whole_studies import ONE_WORKER, Done, Home, WarmProgram, rows_of

TOLD = {
    Status.COMPLETED: TrialState.COMPLETE,
    Status.STOPPED_EARLY: TrialState.PRUNED,
    Status.DIVERGED: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,
}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keeps the machine busy with other processes that want a core all the time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.fixture(scope="module")
def first(home: Home, bert: Path) -> StudyFolder:
    """Runs the study `first` of two tasks with three trials each."""
    well(home.run("--tasks", "cola,stsb", "--trials", "3", "--space", home.space(bert), "--name", "first"))
    return home.study("first")


@pytest.fixture
def copied(home: Home, first: StudyFolder, request: pytest.FixtureRequest) -> str:
    """Copies the first study to a storage folder of this test and returns its name."""
    name = f"storage-{request.node.name}"
    shutil.copytree(first.root.parent, home.root / name)
    return name


def well(done: Done) -> Done:
    """Asserts that a run ended well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def told(folder: StudyFolder, task: str) -> dict[str, FrozenTrial]:
    """Returns Optuna's trials that were proposed, by our id; each id once."""
    storage = JournalStorage(JournalFileBackend(str(folder.journal)))
    asked = [t for t in optuna.load_study(study_name=f"{folder.name}/{task}", storage=storage).trials if t.user_attrs]
    assert max(Counter(t.user_attrs["trial_id"] for t in asked).values()) == 1
    return {t.user_attrs["trial_id"]: t for t in asked}


def ids(task: str, trials: int) -> set[str]:
    return {f"{task}-head-0", *(f"{task}-{number:03d}" for number in range(trials))}


def test_every_trial_has_one_row_and_every_rung_one_report(first: StudyFolder) -> None:
    rows = rows_of(first)
    assert set(rows) == ids("cola", 3) | ids("stsb", 3)
    assert {row.status for row in rows.values()} <= {Status.COMPLETED, Status.STOPPED_EARLY}
    reports = read_reports(first.results)
    assert not list((first.results / "parts").iterdir())
    for row in rows.values():
        own = [report for report in reports if report.trial_id == row.trial_id]
        assert [report.rung for report in own] == list(range(len(own)))
        assert [report.examples for report in own] == [64, 128][: len(own)]
        assert len(own) == (2 if row.status is Status.COMPLETED else 1)
        assert [report.curve[-1].examples for report in own] == [64, 128][: len(own)]
        assert (row.score, row.rung, row.examples) == (own[-1].score, own[-1].rung, own[-1].examples)
        assert row.train_seconds == pytest.approx(sum(report.train_seconds for report in own))
        assert row.ended_at is not None
    assert all(rows[f"{task}-head-0"].status is Status.COMPLETED for task in ("cola", "stsb"))


def test_optuna_was_told_each_trials_end_and_its_rungs(first: StudyFolder) -> None:
    rows, reports = rows_of(first), read_reports(first.results)
    for task in ("cola", "stsb"):
        asked = told(first, task)
        assert set(asked) == ids(task, 3) - {f"{task}-head-0"}
        for trial_id, trial in asked.items():
            row = rows[trial_id]
            own = {report.examples: report.score for report in reports if report.trial_id == trial_id}
            assert trial.state is TOLD[row.status]
            assert trial.value == pytest.approx(row.score)
            assert trial.intermediate_values == pytest.approx(own)
            assert trial.params.items() <= row.params.items()


def test_the_folder_tells_what_was_asked_and_under_which_circumstances(first: StudyFolder, bert: Path) -> None:
    spec, manifest = load_spec(first.spec), read_manifest(first.manifest)
    assert (spec.model, spec.tasks, spec.search.trials, spec.name) == (str(bert), ("cola", "stsb"), 3, "first")
    assert spec.domains()["learning_rate"].ends() == (1e-3, 1e-1)
    assert manifest.synthetic
    assert {facts.rungs for facts in manifest.tasks.values()} == {(64, 128)}
    assert manifest.model.model_type == "bert"
    assert "--trials 3" in manifest.command
    page = first.page.read_text(encoding="utf-8")
    assert "<html" in page
    assert "CoLA" in page
    assert first.log.stat().st_size > 0


def test_each_tasks_best_adapter_acts_on_a_fresh_model(first: StudyFolder, bert: Path) -> None:
    rows = rows_of(first)
    for task, outputs in (("cola", 2), ("stsb", 1)):
        card = read_card(first.adapter(task))
        scores = [row.score for row in rows.values() if row.task == task and row.kind == "search"]
        assert card.score == rows[card.trial_id].score == max(score for score in scores if score is not None)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            bert, num_labels=outputs, ignore_mismatched_sizes=True
        ).eval()
        inputs = {"input_ids": torch.arange(5, 16)[None]}
        with torch.no_grad():
            bare = model.base_model(**inputs).last_hidden_state
            adapters = krona_tune.load(model, first.adapter(task))
            adapted = model.base_model(**inputs).last_hidden_state
            assert model(**inputs).logits.shape == (1, outputs)
            adapters.detach()
            assert not torch.allclose(bare, adapted, atol=1e-4)
            assert torch.equal(model.base_model(**inputs).last_hidden_state, bare)


def test_mlflow_holds_a_run_a_task_and_below_it_one_a_trial(first: StudyFolder) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=first.tracking_uri)
    (experiment,) = [found for found in client.search_experiments() if found.name != "Default"]
    runs = client.search_runs([experiment.experiment_id])
    parents = {run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags}
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 2
    assert sorted(run.info.run_name for run in children) == sorted(rows_of(first))
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == parents
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}


def test_a_second_study_of_the_same_name_is_refused(home: Home, first: StudyFolder, bert: Path) -> None:
    before = first.spec.stat().st_mtime_ns
    refused = home.run("--tasks", "cola", "--space", home.space(bert), "--name", "first")
    assert refused.returncode == 2
    assert refused.stderr == "--name: studies/first holds a study; use --resume first, or choose another name\n"
    assert first.spec.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.long
def test_a_finished_study_can_be_given_more_trials(
    home: Home, first: StudyFolder, copied: str, warm: WarmProgram
) -> None:
    well(warm.run(home, "--resume", "first", "--trials", "4", "--storage", copied))
    more, before = rows_of(home.study("first", copied)), rows_of(first)
    assert set(more) - set(before) == {"cola-003", "stsb-003"}
    assert all(more[trial_id] == row for trial_id, row in before.items())
    assert {more[new].status for new in ("cola-003", "stsb-003")} <= {Status.COMPLETED, Status.STOPPED_EARLY}
    assert load_spec(home.study("first", copied).spec).search.trials == 4


@pytest.mark.slow
@pytest.mark.long
def test_an_interrupted_study_is_completed_with_every_trial_once(home: Home, bert: Path) -> None:
    longer = ["--set", "schedule.epochs=32", "--set", "examples.train=256"]
    cut = home.study("cut")
    driver = begun(home, bert, "cut", "cola", 6, "--max-concurrent", "2", *longer)
    until_or_end(driver, lambda: len(list(cut.results.glob("parts/reports-*"))) >= 8)
    driver.send_signal(signal.SIGINT)
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, said
    assert "resume cut" in said
    before = rows_of(cut)
    assert Status.INTERRUPTED in {row.status for row in before.values()}
    assert set(before) <= ids("cola", 6)

    well(home.run("--resume", "cut"))
    after, reports = rows_of(cut), read_reports(cut.results)
    assert set(after) == ids("cola", 6)
    assert {row.status for row in after.values()} <= {Status.COMPLETED, Status.STOPPED_EARLY}
    for trial_id, row in after.items():
        own = [report.rung for report in reports if report.trial_id == trial_id]
        assert own == list(range(len(own)))
        assert row.rung == own[-1]
    for trial_id, row in before.items():
        assert after[trial_id].params == row.params
        assert after[trial_id].train_seconds >= row.train_seconds
        if row.status is not Status.INTERRUPTED:
            assert after[trial_id] == row
    asked = told(cut, "cola")
    assert {trial_id: trial.state for trial_id, trial in asked.items()} == {
        trial_id: TOLD[row.status] for trial_id, row in after.items() if row.kind == "search"
    }
    assert read_manifest(cut.manifest).resumed_by


@pytest.mark.slow
@pytest.mark.long
def test_a_study_on_a_machine_with_six_busy_processes_ends_well(home: Home) -> None:
    words = [*ONE_WORKER, "--tasks", "cola", "--trials", "2", "--set", "adapter.a_out=[2, 4]"]
    with busy(6):
        done = well(home.run(*words, "--space", home.space(saved_t5(home.root / "t5")), "--name", "busy"))
    assert "Traceback" not in done.stdout + done.stderr


FINALS = ["--set", "finalists={top: 2, seeds: 2, budget: 8}"]  # the head and the default, too; no seed more


def finalists(rows: dict[str, TrialResult]) -> dict[str, TrialResult]:
    return {trial_id: row for trial_id, row in rows.items() if row.kind == "finalist"}


def final_ids(task: str, *numbers: int | str) -> set[str]:
    return {f"{task}-final-{number}-s{seed}" for number in numbers for seed in (1, 2)}


@pytest.fixture(scope="module")
def decided(home: Home, bert: Path, warm: WarmProgram) -> StudyFolder:
    """Runs a study with finalists, interrupts it in the finals and resumes it; keeps the rows at the interruption."""
    long = ["--set", "schedule.epochs=12", "--set", "examples.train=256", "--set", "schedule.grace_epochs=6"]
    folder = home.study("decided")
    driver = begun(home, bert, "decided", "cola", 3, *FINALS, *long, *ONE_WORKER)
    until_or_end(driver, lambda: list(folder.checkpoints.glob("cola-final-*/rung-1")))
    driver.send_signal(signal.SIGINT)
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, said
    assert "Its best are trained again with 2 seeds" in said
    assert "finalists to go" in said
    assert "resume decided" in said
    shutil.copytree(folder.results, folder.root / "results at the interruption")
    done = well(warm.run(home, "--resume", "decided"))
    assert "Finalists of each task (synthetic data)" in done.stdout
    return folder


@pytest.mark.slow
def test_finals_that_were_interrupted_end_with_the_same_finalists(decided: StudyFolder) -> None:
    before = {row.trial_id: row for row in read_trials(decided.root / "results at the interruption")}
    after = rows_of(decided)
    assert finalists(before).keys() <= finalists(after).keys()
    assert all(after[trial_id] == row for trial_id, row in before.items() if row.status is not Status.INTERRUPTED)
    regular = {Status.COMPLETED, Status.STOPPED_EARLY}
    judged = [r for r in after.values() if r.kind == "search" and r.status in regular]
    judged.sort(key=lambda row: (-(row.score or 0.0), row.trainable_parameters, row.number))
    default = after["cola-final-default-s1"].of
    best = [row.trial_id for row in judged[:2] if row.trial_id != default]
    assert set(finalists(after)) >= final_ids("cola", "head", "default", *range(1, len(best) + 1))
    for trial_id, row in finalists(after).items():
        assert row.status is Status.COMPLETED
        assert row.examples == max(read_manifest(decided.manifest).tasks["cola"].rungs)
        assert row.params == after[row.of].params
        if trial_id in before:
            assert (row.seed, row.of, row.params) == (
                before[trial_id].seed,
                before[trial_id].of,
                before[trial_id].params,
            )
    assert {row.of for row in finalists(after).values()} == {"cola-head-0", default, *best}
    by_index = [{row.seed for name, row in finalists(after).items() if name.endswith(f"-s{n}")} for n in (1, 2)]
    assert [len(seeds) for seeds in by_index] == [1, 1], "one seed for all of a round"
    assert by_index[0] != by_index[1]


@pytest.mark.slow
def test_finalists_alone_were_looked_at_on_the_test_half_and_told_optuna_nothing(decided: StudyFolder) -> None:
    rows = rows_of(decided)
    for row in rows.values():
        assert (row.test_score is not None) == (row.kind == "finalist")
        assert row.test_examples == (32 if row.kind == "finalist" else 0)
    reports = read_reports(decided.results)
    for trial_id, row in finalists(rows).items():
        own = [report for report in reports if report.trial_id == trial_id]
        assert [report.rung for report in own] == list(range(len(own)))
        assert row.score == own[-1].score
    assert set(told(decided, "cola")) == {trial_id for trial_id, row in rows.items() if row.kind == "search"}


@pytest.mark.slow
def test_the_page_leads_with_the_winners_test_score(decided: StudyFolder) -> None:
    page = decided.page.read_text(encoding="utf-8")
    assert "the winner is krona" in page
    assert "test score <strong>" in page


@pytest.mark.slow
def test_a_finished_study_has_nothing_to_resume(home: Home, decided: StudyFolder, warm: WarmProgram) -> None:
    rows, reports, asked = rows_of(decided), read_reports(decided.results), told(decided, "cola")
    spec = load_spec(decided.spec)
    well(warm.run(home, "--resume", "decided"))
    assert rows_of(decided) == rows
    assert read_reports(decided.results) == reports
    assert told(decided, "cola") == asked
    assert load_spec(decided.spec) == spec


@pytest.mark.slow
def test_a_study_that_is_given_more_trials_chooses_again_and_keeps_its_finalists(
    home: Home, decided: StudyFolder, warm: WarmProgram
) -> None:
    before = finalists(rows_of(decided))
    well(warm.run(home, "--resume", "decided", "--trials", "5"))
    after = finalists(rows_of(decided))
    assert all(after[trial_id] == row for trial_id, row in before.items())
    assert {row.status for row in after.values()} == {Status.COMPLETED}
