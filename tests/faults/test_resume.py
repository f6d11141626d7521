"""Tests that an interrupted and resumed study gives the same trials, adapters and scores as an uninterrupted one."""

import signal
from pathlib import Path
from typing import Any

import optuna
import pytest

from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.faults.drivers import begun, rungs, seen
from tests.search.rungs import CONTINUE, STOP, added, at, judges, report
from tests.search.samplers import opened, told
from tests.waiting import PATIENCE
from tests.whole_studies import ONE_WORKER, Home, WarmProgram

ALONE = (*ONE_WORKER, "--set", "schedule.epochs=4", "--set", "training.dropout=0.1")
TRIALS = 5


def what_happened(folder: StudyFolder) -> dict[str, Any]:
    """Returns every result of a study, without times."""
    trials = {
        row.trial_id: (row.params, row.seed, row.status, row.rung, row.score, row.metrics, row.trainable_parameters)
        for row in read_trials(folder.results)
    }
    reports = {(r.trial_id, r.rung): (r.step, r.score, r.train_loss) for r in read_reports(folder.results)}
    adapters = {path.name: path.read_bytes() for path in folder.adapter("stsb").glob("*.safetensors")}
    return {"trials": trials, "reports": reports, "adapters": adapters}


@pytest.fixture(scope="module")
def uninterrupted(home: Home, bert: Path, warm: WarmProgram) -> dict[str, Any]:
    words = ["--space", home.space(bert), "--name", "whole", "--tasks", "stsb", "--trials", str(TRIALS), *ALONE]
    done = warm.run(home, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = what_happened(home.study("whole"))
    assert {Status.COMPLETED, Status.STOPPED_EARLY} == {status for _, _, status, *_ in found["trials"].values()}
    assert len({score for _, score, _ in found["reports"].values()}) > TRIALS
    assert found["adapters"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment"), [(signal.SIGKILL, 8), pytest.param(signal.SIGINT, 4, marks=pytest.mark.long)]
)
def test_a_resumed_study_finds_what_an_uninterrupted_one_finds(
    home: Home,
    bert: Path,
    warm: WarmProgram,
    uninterrupted: dict[str, Any],
    number: signal.Signals,
    moment: int,
) -> None:
    name = number.name.lower()
    folder = home.study(name)
    driver = begun(home, bert, name, "stsb", TRIALS, *ALONE)
    seen(driver, lambda: rungs(folder) >= moment)
    driver.send_signal(number)
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == (130 if number is signal.SIGINT else -number), said
    assert len(what_happened(folder)["trials"]) < len(uninterrupted["trials"])
    done = warm.run(home, "--resume", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert what_happened(folder) == uninterrupted


KRONA = {"method": "krona"}


def test_a_rung_that_a_worker_had_left_before_its_driver_went_away_still_judges_others() -> None:
    """The trial's state is ahead of the records: it reports at its second rung and never again at its first."""
    resumed = judges()
    resumed.expect([(report("cola-000", 0, 0.6), KRONA)])
    assert at(resumed, added(resumed, 0), 1, 0.7) == CONTINUE
    assert at(resumed, added(resumed, 1), 0, 0.5) == STOP


def test_a_trial_that_repeats_its_last_report_is_judged_by_it() -> None:
    resumed = judges()
    resumed.replay([(report("cola-000", 0, 0.6), KRONA)])
    resumed.expect([(report("cola-001", 0, 0.5), KRONA)])
    assert at(resumed, added(resumed, 1), 0, 0.5) == STOP


def test_a_trial_that_falls_back_behind_a_damaged_state_counts_once_at_a_rung() -> None:
    resumed = judges()
    resumed.replay([(report("cola-000", 0, 0.2), KRONA), (report("cola-001", 0, 0.8), KRONA)])
    resumed.expect([(report("cola-000", 1, 0.3), KRONA)])
    fallen = added(resumed, 0)
    assert at(resumed, fallen, 0, 0.2) == CONTINUE
    assert at(resumed, fallen, 1, 0.3) == CONTINUE
    assert at(resumed, added(resumed, 2), 0, 0.4) == STOP


def gone(*words: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("of", "moment"), [(optuna.Study, "ask"), (optuna.Trial, "set_user_attr")])
def test_a_point_that_was_drawn_for_a_driver_that_is_gone_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: type, moment: str
) -> None:
    undisturbed = opened(tmp_path / "undisturbed")
    expected = [told(undisturbed, number) for number in range(6)]
    points = []
    for number in range(6):
        with monkeypatch.context() as patch:
            patch.setattr(of, moment, gone)
            sampler = opened(tmp_path / "journal")
            with pytest.raises(KeyboardInterrupt):
                sampler.ask(f"cola-{number:03d}", number)
        points.append(told(opened(tmp_path / "journal"), number))
    assert points == expected
