"""Tests that every shipped search space says how to run it, loads, and holds only points that fit its backbone."""

import random
import shlex
from inspect import signature
from pathlib import Path

import pytest

from krona_tune.adapters.placement import count
from krona_tune.api.asked_tasks import asked_tasks
from krona_tune.backbones.find_geometry import geometry
from krona_tune.cli.studies import run
from krona_tune.data.tasks import GLUE
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.request.loader import build_spec, dump_spec, load_spec, read_yaml
from tests.backbone_folders import BY_NAME, MINILM, T5_BASE
from tests.study.request.written_specs import load_changed

ROOT = Path(__file__).resolve().parent.parent
SPACES = sorted((ROOT / "search_spaces").rglob("*.yaml"))
EVERY_SPACE = pytest.mark.parametrize("path", SPACES, ids=[path.stem for path in SPACES])


def test_there_are_spaces_and_nothing_else_beside_them() -> None:
    assert {path.stem for path in SPACES} >= {"mini", "t5_base"}
    assert {path for path in (ROOT / "search_spaces").rglob("*") if path.is_file()} == set(SPACES)


def test_the_backbones_are_the_real_ones() -> None:
    assert geometry(MINILM).parameters == 22_713_216
    assert geometry(T5_BASE).parameters == 222_903_552


@EVERY_SPACE
def test_a_space_opens_with_the_command_that_runs_it(path: Path) -> None:
    first, empty, *_ = path.read_text(encoding="utf-8").splitlines()
    assert empty == "#"
    mark, *command = shlex.split(first)
    assert (mark, command[:2]) == ("#", ["krona-tune", "run"])
    given = dict(zip(command[2::2], command[3::2], strict=True))
    assert given["--space"] == path.stem
    assert asked_tasks(given["--tasks"], read_yaml(path.read_text(encoding="utf-8"), "space").get("tasks") or {})
    assert {flag.removeprefix("--") for flag in given} <= signature(run).parameters.keys()


@EVERY_SPACE
def test_a_space_loads_and_is_written_back_equal(path: Path) -> None:
    spec = load_spec(path)
    assert build_spec(read_yaml(dump_spec(spec), "again"), "again") == spec


@pytest.mark.parametrize(
    "setting",
    [
        "search.objective=pareto", "search.shared=true", "search.per_method=true",
        "finalists.top=3", "finalists.seeds=1",
        "finalists.seeds=7",
    ],
)  # fmt: skip
def test_the_default_space_takes_every_kind_of_search_and_number_of_finals(setting: str) -> None:
    """A value that the space need not name would be refused beside what a person gives."""
    more = ("finalists.top=1",) if setting == "search.shared=true" else ()
    spec = load_changed(ROOT / "search_spaces" / "mini.yaml", (setting, *more), {"tasks": ("cola", "rte")})
    assert make_plan(spec.settled(), "mini.yaml").space.searched()


@EVERY_SPACE
def test_two_hundred_drawn_points_fit_the_backbone(path: Path) -> None:
    spec = load_spec(path)
    space = resolve(spec, geometry(BY_NAME[spec.model]), str(path))
    rng = random.Random(7)
    points = [space.draw(rng) for _ in range(200)]
    for number, point in enumerate(points):
        trial = TrialMessage("rte", "rte", number, "search", 1, point).checked()
        assert count(space.geometry, trial.adapter, outputs=2).adapter > 0
    assert space.searched()
    assert sum(map(space.feasible, points)) > 20


@EVERY_SPACE
def test_every_searched_knob_really_varies(path: Path) -> None:
    spec = load_spec(path)
    space = resolve(spec, geometry(BY_NAME[spec.model]), str(path))
    rng = random.Random(7)
    points = [space.draw(rng) for _ in range(400)]
    for label in space.searched():
        drawn = {
            p[name]
            for p in points
            for name in p
            if label == (name if name == "method" else space.label(p["method"], name))
        }
        assert len(drawn) > 1, label


@EVERY_SPACE
def test_a_spaces_trials_are_judged_before_their_end(path: Path) -> None:
    spec = load_spec(path)
    for task in spec.tasks or GLUE:
        rungs = spec.schedule.of(task, 1000).rungs
        assert len(rungs) > 1, task
    assert spec.search.startup_trials < spec.search.trials
