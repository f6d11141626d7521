"""Tests that a first batch is trained once on a machine, and again where anything that it depends on is another."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from krona_tune.search.layer_passes import usual_point
from krona_tune.search.planning.footprint import largest_points
from krona_tune.search.startup import first_batch_cache as module
from krona_tune.search.startup import preflight
from krona_tune.search.startup.begin_study import Resources
from krona_tune.search.startup.first_batch_cache import CachedFirstBatch, cached_first_batch
from krona_tune.search.worker.first_batch import FirstBatch
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from krona_tune.train.step_times import StepTime, StepTimes

DONE = FirstBatch(
    failures={},
    computes_in="fp32",
    probe=StepTimes(steps=(StepTime(rows=2, length=16, seconds=0.03),), forward_shares={"cola": 0.4}, head_share=0.1),
    lacks_bfloat16=True,
)


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "busy", lambda: "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def found(study: Resources, **place: Any) -> CachedFirstBatch | None:
    space = study.plan.space
    workplace = replace(study.workplace(StudyFolder(Path("x"))), **place)
    return cached_first_batch(study, workplace, [largest_points(space)[0], usual_point(space)])


def test_a_study_like_an_earlier_one_trains_no_first_batch(
    gathered: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = preflight.needed_bytes(gathered)
    first = preflight.in_the_first_batch(gathered, StudyFolder(tmp_path / "first"), need)
    monkeypatch.setattr(preflight, "train_first_batch", lambda *asked: pytest.fail("trained again"))
    again = preflight.in_the_first_batch(gathered, StudyFolder(tmp_path / "second"), need)
    assert first == again
    assert first.probe is not None


def test_what_is_kept_is_read_as_it_was(tmp_path: Path) -> None:
    kept = CachedFirstBatch(path=tmp_path / "new" / "one.json")
    assert kept.read() is None
    kept.keep(DONE)
    assert kept.read() == DONE
    kept.path.write_text('{"failures": {}, "computes_in": "fp8"}', encoding="utf-8")
    assert kept.read() is None


@pytest.mark.parametrize(
    "done",
    [replace(DONE, failures={"cola": (Status.FAILED, "KeyError: x")}), replace(DONE, probe=None)],
    ids=["failed", "not timed"],
)
def test_only_what_trained_and_was_timed_is_kept(tmp_path: Path, done: FirstBatch) -> None:
    kept = CachedFirstBatch(path=tmp_path / "one.json")
    kept.keep(done)
    assert kept.read() is None


def test_times_of_a_busy_machine_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "busy", lambda: "busy, 9 processes want its 2 cores")
    kept = CachedFirstBatch(path=tmp_path / "one.json")
    kept.keep(DONE)
    assert kept.read() is None


def test_a_cache_that_can_not_be_written_stops_no_study(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    CachedFirstBatch(path=tmp_path / "file" / "one.json").keep(DONE)
    assert "the first batch can't be kept for later studies" in caplog.text


def other_label(study: Resources) -> Resources:
    works = study.prepared.works
    train = works["cola"].train
    labels = train.set_column(train.column_names.index("label"), "label", pa.array([7] * len(train)))
    return with_works(study, {**works, "cola": replace(works["cola"], train=labels)})


def with_works(study: Resources, works: dict[str, Any]) -> Resources:
    return replace(study, prepared=replace(study.prepared, works=works))


def other_text(study: Resources) -> Resources:
    facts = study.prepared.facts
    changed = facts["cola"].model_copy(update={"contents": "0" * 64})
    return replace(study, prepared=replace(study.prepared, facts={**facts, "cola": changed}))


def other_task(study: Resources) -> Resources:
    works = study.prepared.works
    task = replace(works["cola"].task, class_weights=(1.0, 2.0))
    return with_works(study, {**works, "cola": replace(works["cola"], task=task)})


@pytest.mark.parametrize("change", [other_label, other_text, other_task])
def test_other_data_have_a_first_batch_of_their_own(
    gathered: Resources, change: Callable[[Resources], Resources]
) -> None:
    assert found(change(gathered)) != found(gathered) == found(gathered)


@pytest.mark.parametrize("place", [{"threads": 7}, {"precision": "bf16"}], ids=str)
def test_another_computation_has_a_first_batch_of_its_own(gathered: Resources, place: dict[str, Any]) -> None:
    assert found(gathered, **place) != found(gathered)


def test_another_release_or_a_changed_file_of_the_package_trains_it_again(
    gathered: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = found(gathered)
    monkeypatch.setattr(module, "installed_versions", lambda packages: dict.fromkeys(packages, "99"))
    released = found(gathered)
    (tmp_path / "changed.py").touch()
    monkeypatch.setattr(module, "CODE", tmp_path)
    assert len({before, released, found(gathered)}) == 3


def test_a_class_of_ones_own_is_tried_in_every_study(gathered: Resources) -> None:
    space = gathered.plan.space
    own = {**largest_points(space)[0], "method": "peft:mine.Config"}
    assert cached_first_batch(gathered, gathered.workplace(StudyFolder(Path("x"))), [own, usual_point(space)]) is None
