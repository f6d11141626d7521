"""Tests what samplers are opened with: a Sobol design that is the same everywhere, a journal that forgets nothing."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from krona_tune.refusal import Refusal
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.planning.space import Space
from krona_tune.search.searchers.open_samplers import open_journal, open_samplers
from krona_tune.search.searchers.proposal import sobol_points
from krona_tune.study.request.loader import build_spec
from krona_tune.study.result import Status
from tests.search.conftest import never, space, spec

SPACE = space(
    "bert",
    {
        "a_out": [2, 4, 8],
        "a_in": "divisors",
        "scale": {"low": 0.25, "high": 16, "log": True},
        "roles": ["query", "query+value"],
        "terms": {"low": 1, "high": 2},
    },
)
SMALL = space("bert", {"a_out": [2, 4], "a_in": 4, "roles": ["query", "value"]})


def design(tmp_path: Path, of: Space, *tasks: str, trials: int, seed: int = 3, first: int = 0) -> dict[str, list[Any]]:
    asked = spec(sampler="sobol", first_point=first).model_copy(update={"seed": seed, "tasks": tasks})
    samplers: Any = open_samplers(asked, of, tmp_path, never)
    found: dict[str, list[Any]] = {task: [] for task in tasks}
    for number in range(trials):
        for task in tasks:
            trial = f"{task}-{number:03d}"
            found[task].append(samplers[task].ask(trial, number))
            samplers[task].tell(trial, Status.COMPLETED, float(number))
    return found


def test_a_point_is_the_same_on_every_task_and_differs_from_every_other(tmp_path: Path) -> None:
    found = design(tmp_path / "j", SPACE, "cola", "rte", trials=40)
    assert found["cola"] == found["rte"]
    assert len({SPACE.meaning(point) for point in found["cola"]}) == 40
    assert all(map(SPACE.feasible, found["cola"]))


def test_a_resumed_study_takes_the_next_point(tmp_path: Path) -> None:
    whole = design(tmp_path / "whole", SPACE, "cola", trials=9)["cola"]
    design(tmp_path / "cut", SPACE, "cola", trials=4)
    assert design(tmp_path / "cut", SPACE, "cola", trials=9)["cola"] == whole


def test_a_second_study_takes_the_points_behind_the_first(tmp_path: Path) -> None:
    whole = design(tmp_path / "whole", SPACE, "cola", trials=9)["cola"]
    assert design(tmp_path / "rest", SPACE, "cola", trials=5, first=4)["cola"] == whole[4:]


def test_another_seed_has_other_points(tmp_path: Path) -> None:
    one, other = (design(tmp_path / str(seed), SPACE, "cola", trials=3, seed=seed)["cola"] for seed in (1, 2))
    assert one != other


def test_64_points_cover_each_knob_more_evenly_than_chance() -> None:
    suggest = sobol_points(SPACE, 5)
    points = [next(iter(suggest(number, list))).point for number in range(64)]
    assert max(Counter(point["roles"] for point in points).values()) <= 36
    quarters = np.floor(np.array([np.log2(point["scale"] / 0.25) / 6 * 4 for point in points])).clip(0, 3)
    assert max(Counter(quarters).values()) <= 20


def test_a_small_space_ends_when_every_point_was_tried(tmp_path: Path) -> None:
    found = design(tmp_path / "j", SMALL, "cola", trials=6)["cola"]
    assert len({str(point) for point in found[:4]}) == 4
    assert found[4:] == [None, None]
    assert design(tmp_path / "rest", SMALL, "cola", trials=2, first=4)["cola"] == [None, None]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"sampler": "sobol", "objective": "pareto"}, "search.sampler: sobol takes its own points"),
        ({"sampler": "sobol", "warm_start": "x"}, "search.warm_start says it too; leave one out"),
        ({"first_point": 3}, "search.first_point: tpe has no point number 3"),
        ({"sampler": "study_model", "taught": True}, "search.taught: .*, and sampler study_model says it too"),
        ({"front": "model"}, "search.front: it says how .*; write search.objective: pareto, or search.front: null"),
        (
            {"objective": "pareto", "front": "model", "per_method": True},
            "search.front: .* search.per_method says it too",
        ),
        ({"objective": "pareto", "front": "model", "sampler": "random"}, "search.front: .* sampler random says it too"),
        ({"per_method": True, "taught": True}, "search.taught: .*, and search.per_method says it too"),
        ({"shared": True, "early_stopping": False}, "--shared: search.early_stopping is false"),
    ],
)
def test_what_contradicts_a_design_is_refused(search: dict[str, Any], message: str) -> None:
    asked = build_spec({"model": "m", "tasks": ["cola"], "data": "mini", "search": search}, "x.yaml")
    with pytest.raises(Refusal, match=message):
        make_plan(asked, "x.yaml")


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(
        Refusal, match=r"search\.sampler: 'gp' is refused; write 'tpe', 'study_model', 'random' or 'sobol'"
    ):
        build_spec({"model": "m", "search": {"sampler": "gp"}}, "x.yaml")


def study(storage: JournalStorage) -> optuna.Study:
    return optuna.create_study(storage=storage, study_name="s", load_if_exists=True)


def filled(path: Path, trials: int = 2) -> Path:
    """Writes a journal in which some trials have ended."""
    asked = study(open_journal(path, never))
    for number in range(trials):
        trial = asked.ask()
        trial.suggest_float("x", 0, 1)
        asked.tell(trial, number + 0.5)
    return path


def values(path: Path) -> list[float | None]:
    """Returns the values that another program reads."""
    read = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    return [trial.value for trial in read.trials]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Returns a switch for a full disk, which cuts off the end of what is written."""
    flushed = os.fsync
    state = {"full": False}

    def fsync(descriptor: int) -> None:
        if state["full"]:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - 20)
            raise OSError(28, "No space left on device")
        flushed(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return lambda full: state.update(full=full)


def test_what_finds_no_room_is_kept_and_written_with_what_comes_next(
    tmp_path: Path, full_disk: Callable[[bool], None]
) -> None:
    path, reasons = filled(tmp_path / "journal"), list[str]()
    asked = study(open_journal(path, reasons.append))
    full_disk(True)
    late = [asked.ask() for _ in range(3)]
    asked.tell(late[0], 7.0)
    assert [trial.value for trial in asked.trials] == [0.5, 1.5, 7.0, None, None]
    assert values(path) == [0.5, 1.5]
    assert "No space left" in reasons[0]
    full_disk(False)
    asked.tell(late[2], 9.0)
    assert values(path) == [0.5, 1.5, 7.0, None, 9.0]
    late[1].set_user_attr("still", "open")
    asked.tell(late[1], 8.0)
    assert values(path) == [trial.value for trial in asked.trials] == [0.5, 1.5, 7.0, 8.0, 9.0]


def test_a_line_that_a_kill_left_unfinished_is_cut_off(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal")
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:9])
    study(open_journal(path, never)).enqueue_trial({"x": 0.5})
    assert values(path) == [0.5, 1.5, None]
    assert list(tmp_path.glob("*.damaged")) == []


@pytest.mark.parametrize(
    "damage", [b"\0" * 30, b"{}", b'{"op_code": 99, "worker_id": "w"}', b'{"op_code": 4, "wor', b"17", b"\xff\xfe"]
)
def test_a_damaged_journal_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: bytes) -> None:
    path = filled(tmp_path / "journal")
    lines: list[Any] = path.read_bytes().splitlines()
    lines[len(lines) // 2] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    study(open_journal(path, never)).enqueue_trial({"x": 0.5})
    assert values(path) == [None]
    kept = (tmp_path / "journal.damaged").read_bytes().splitlines()
    assert json.loads(kept[0])
    assert damage in kept
