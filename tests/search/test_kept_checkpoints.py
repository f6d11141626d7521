"""Tests that the checkpoints which go are those that nothing needs: not the winners', not interrupted trials'."""

from dataclasses import replace
from pathlib import Path

from krona_tune import cli
from krona_tune.adapters.adapter_card import CARD
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.search.kept_checkpoints import unneeded
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import FinalistsSpec, Keep
from krona_tune.study.result import Status, TrialResult
from tests.adapters.cards import made
from tests.conftest import Run
from tests.record.events import manifest
from tests.record.stored_states import SEARCHED, states
from tests.study.final_rows import repeats, row

SPEC = build_spec({"model": "m", "name": "s", "tasks": ["rte", "cola"]}, "x.yaml")
FINALISTS = [*repeats("rte-001", (0.7, 0.9), (0.7, 0.8)), *repeats("rte-000", (0.6, 0.6), (0.5, 0.5))]


def kept(rows: list[TrialResult], keep: Keep) -> set[str]:
    every = {each.trial_id for each in rows}
    return every - set(unneeded(StudyFolder(Path("nowhere")), SPEC, None, rows, {}, keep))


def test_without_finals_each_tasks_best_and_what_was_interrupted_stay() -> None:
    for keep in ("winners", "finalists"):
        assert kept(SEARCHED, keep) == {"rte-001", "rte-003", "cola-000"}
    assert kept(SEARCHED, "all") == {each.trial_id for each in SEARCHED}


def test_what_an_order_may_retry_stays_too() -> None:
    ends = (Status.FAILED, Status.OUT_OF_MEMORY, Status.DIVERGED)
    ended = [replace(row(f"00{n}", "search", None, number=n), status=each) for n, each in enumerate(ends, 4)]
    assert kept([*SEARCHED, *ended], "winners") == {"rte-001", "rte-003", "cola-000", "rte-004", "rte-005"}


def test_with_finals_the_winning_seed_stays_or_all_finalists() -> None:
    rows = [*SEARCHED, *FINALISTS]
    assert kept(rows, "winners") == {"rte-final-rte-001-s2", "rte-003", "cola-000"}
    assert kept(rows, "finalists") == {*(each.trial_id for each in FINALISTS), "rte-003", "cola-000"}


def test_while_finals_are_left_all_finalists_stay_though_only_the_winners_are_to() -> None:
    spec, folder = SPEC.model_copy(update={"finalists": FinalistsSpec(top=2, seeds=3)}), StudyFolder(Path("nowhere"))
    gone = unneeded(folder, spec, PlanFacts(), [*SEARCHED, *FINALISTS], {}, "winners")
    assert gone == ["cola-001", "rte-000", "rte-001", "rte-002", "rte-head-0"]


def test_a_full_training_keeps_its_state_until_its_adapter_is_written(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    full = [row(f"001-full-{name}-s1", TrialKind(f"full_{name}"), 0.8) for name in ("train", "data")]
    failed = row("001-full-train-s2", TrialKind.FULL_TRAIN, None, status=Status.FAILED)
    for name, holds in ((full[0].trial_id, full[0].trial_id), (full[1].trial_id, "rte-000")):
        folder.adapter(name).mkdir(parents=True)
        (folder.adapter(name) / CARD).write_text(made(trial_id=holds).model_dump_json(), encoding="utf-8")
    assert unneeded(folder, SPEC, None, [*full, failed], {}, "winners") == sorted([full[0].trial_id, failed.trial_id])
    assert unneeded(folder, SPEC, None, [*full, failed], {}, "finalists") == []


def test_what_an_unfinished_study_still_needs_stays(run: Run) -> None:
    """One configuration of a shared search has completed on one task only, where it is not the best."""
    folder = StudyFolder(Path("studies/s"))
    sink = ParquetSink(folder.results)
    folder.spec.write_text("{model: m, name: s, tasks: [rte, cola], search: {shared: true, trials: 2}}")
    shared = manifest("rte", "cola")
    shared.write(folder.manifest)
    rows = [SEARCHED[0], SEARCHED[1], replace(SEARCHED[5], number=1, trial_id="cola-001")]
    for each in rows:
        sink.trial_ended(each)
    sink.study_ended([])
    states(folder, rows)
    code, out, _ = run("clean", "s", "--yes", program=cli.main)
    assert (code, out) == (0, "nothing to remove: no trial has a checkpoint that it needs no more\n")
    code, out, _ = run("clean", "s", "--keep", "winners", "--yes", program=cli.main)
    assert (code, out) == (0, "1.0 kB freed: the checkpoints of 1 trial\n")
