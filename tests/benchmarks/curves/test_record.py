"""Tests what the study of a recorded block asks for, and where its rows are kept."""

from pathlib import Path

import pandas as pd
import pytest

from krona_tune.record.recorded_curves import FOLDER, curves
from tests.benchmarks.curves.record import DESIGN, OTHERS, Block, in_design
from tests.study.request.written_specs import load_changed


@pytest.mark.parametrize(
    ("block", "first", "tasks"),
    [
        ("32-47", 32, '"sst2": "glue", "stsb": "glue", "reuters": {"data": "somewhere/reuters.csv"'),
        ("e5/32-47", 32, '"sst2": "glue", "stsb": "glue"'),
        ("controls-16-31", 16, '{"cola": "glue", "mrpc": "glue", "rte": "glue", "wnli": "glue"}'),
        ("further-16-31", 16, '{"tweets": {"data": "somewhere/tweets.csv"'),
    ],
)
def test_a_block_asks_for_its_points_on_its_tasks(block: str, first: int, tasks: str) -> None:
    asked = Block.named(block).settings(Path("somewhere"))
    assert {"search.trials=16", f"search.first_point={first}"} <= set(asked)
    [found] = [each for each in asked if each.startswith("tasks=")]
    assert tasks in found


@pytest.mark.parametrize(("block", "tasks"), [("0-31", 4), ("controls-0-15", 4), ("further-0-15", 2)])
def test_a_block_has_sizes_of_its_own_tasks_only(block: str, tasks: int, tmp_path: Path) -> None:
    asked = load_changed(DESIGN, Block.named(block).settings(tmp_path))
    sizes = asked.examples.train
    assert len(asked.tasks) == tasks
    assert not isinstance(sizes, dict) or sizes.keys() <= {*asked.tasks, "default"}


@pytest.mark.parametrize("block", ["repeats", "e5/repeats"])
def test_repeats_are_of_the_first_points_of_every_task(block: str) -> None:
    asked = Block.named(block).settings(Path("somewhere"))
    assert {"search.trials=12", "search.repeats={points: 12, seeds: 3}"} <= set(asked)


@pytest.mark.parametrize(
    ("block", "path"),
    [
        ("32-63", FOLDER / "points-32-63.parquet"),
        ("repeats", FOLDER / "repeats.parquet"),
        ("controls-0-7", FOLDER / "controls-0-7.parquet"),
        ("further-0-7", OTHERS / "minilm" / "further-0-7.parquet"),
        ("e5/further-0-7", OTHERS / "e5" / "further-0-7.parquet"),
        ("e5/0-31", OTHERS / "e5" / "points-0-31.parquet"),
        ("e5/repeats", OTHERS / "e5" / "repeats.parquet"),
    ],
)
def test_another_backbone_has_a_folder_of_its_own(block: str, path: Path) -> None:
    assert Block.named(block).path == path


@pytest.mark.parametrize(
    ("block", "study"), [("0-31", "curves-0-31"), ("e5/0-31", "curves-e5-0-31"), ("repeats", "curves-repeats")]
)
def test_a_block_is_resumed_by_the_name_of_its_study(block: str, study: str) -> None:
    assert Block.named(block).study == study


def test_points_after_one_that_a_backbone_passes_over_keep_the_designs_numbers() -> None:
    points = curves().query("kind == 'search'").drop_duplicates("number").set_index("number")
    rates = [points.learning_rate[number] for number in (36, 37, 39, 40)]
    trials = pd.DataFrame({"number": [36, 37, 38, 39, 40, 38], "learning_rate": [*rates, 0.123, 0.01]})
    trials["kind"] = ["search"] * 5 + ["baseline"]
    assert list(in_design(trials).number) == [36, 37, 39, 40, 40, 38]


@pytest.mark.parametrize(
    "path", sorted(OTHERS.glob("*/points-*.parquet")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_what_is_recorded_of_another_backbone_has_the_designs_numbers(path: Path) -> None:
    found = pd.read_parquet(path)
    assert (in_design(found).number == found.number).all()
    assert len(found[found.kind == "search"].drop_duplicates(["task", "number"])) % 4 == 0
