"""Tests the replay of finals on tables whose best configuration is known."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from krona_tune.study.finals import DEFAULT, HEAD
from krona_tune.study.kinds import TrialKind
from tests.benchmarks.finals import replay as replayed
from tests.benchmarks.finals.record import COLUMNS
from tests.benchmarks.finals.regret_bound import least_regret, options
from tests.benchmarks.finals.replay import BEST, COUNTED, DEFAULT_ITSELF, RULES, TOP, WINNER, read, replay, table

OTHERS, SEEDS, EXAMPLES, CONSTANT = range(1, 8), range(8), 400, 0.5


def recorded(folder: Path, levels: dict[int, float], fails: dict[int, set[int]]) -> Path:
    """Writes finals in which every seed of a configuration has its level, but those that fail, which are constant.

    The default configuration is a trial of the search, which has no finalist of its own.
    """
    frame = pd.DataFrame([*searched(levels), *finalists(levels, fails)])[COLUMNS]
    frame.attrs = {
        "title": "X", "metrics": ["accuracy"], "train_examples": 600, "validation_examples": EXAMPLES,
        "constant_score": CONSTANT,
    }  # fmt: skip
    frame.to_parquet(folder / "x.parquet")
    return folder / "x.parquet"


def searched(levels: dict[int, float]) -> list[dict[str, object]]:
    kept = {"kind": TrialKind.SEARCH.value, "method": "krona", "status": "completed"}
    return [
        {**dict.fromkeys(COLUMNS), **kept, "trial_id": f"x-{number:03d}", "number": number, "score": levels[number]}
        for number in (DEFAULT, *OTHERS)
    ]


def finalists(levels: dict[int, float], fails: dict[int, set[int]]) -> list[dict[str, object]]:
    return [
        finalist(number, seed, CONSTANT if seed in fails.get(number, ()) else level + seed_effect(number, seed))
        for number, level in levels.items()
        for seed in SEEDS
    ]


def seed_effect(number: int, seed: int) -> float:
    """Returns what a seed adds: something else for each configuration."""
    return random.Random(f"{number} {seed}").gauss(0.0, 0.002)


def finalist(number: int, seed: int, score: float) -> dict[str, object]:
    drawn = [round(score + around, 4) for around in (-0.02, 0.0, 0.02)]
    return {
        "trial_id": f"x-final-{number}-s{seed}", "task": "x", "kind": TrialKind.FINALIST.value, "number": number,
        "of": f"x-{number:03d}", "seed": seed, "status": "completed", "score": score, "test_score": score,
        "method": "head_only" if number == HEAD else "krona", "test_examples": EXAMPLES, "trainable_parameters": 700,
        "validation_resampled": drawn, "test_resampled": drawn,
    }  # fmt: skip


def test_what_is_far_better_than_the_default_is_chosen(tmp_path: Path) -> None:
    levels = {HEAD: 0.6, DEFAULT: 0.7, **dict.fromkeys(OTHERS, 0.9)}
    found = replay(read(recorded(tmp_path, levels, {})), 20)
    used = [each for name in RULES if name != DEFAULT_ITSELF for each in found[name]]
    assert all(each.regret < 0.01 and not each.harms for each in used)
    assert all(each.regret == pytest.approx(0.2, abs=0.01) for each in found[DEFAULT_ITSELF])


def test_a_default_that_is_the_best_wins_and_is_chosen(tmp_path: Path) -> None:
    levels = {HEAD: 0.6, DEFAULT: 0.8, **dict.fromkeys(OTHERS, 0.75)}
    found = replay(read(recorded(tmp_path, levels, {})), 20)
    others = [each for name in RULES if name != WINNER for each in found[name]]
    assert all(each.average_regret < 0.01 for each in found[WINNER]), "the default's trial is one of the best three"
    assert not any(each.harms or each.harms_on_average for each in others)


def test_a_winner_that_is_better_on_validation_alone_harms(tmp_path: Path) -> None:
    levels = {HEAD: 0.6, DEFAULT: 0.8, **dict.fromkeys(OTHERS, 0.83)}
    path = recorded(tmp_path, levels, {})
    frame = pd.read_parquet(path)
    frame["test_score"] = frame.test_score.where(frame.number <= HEAD, 0.75)
    frame.to_parquet(path)
    found = replay(read(path), 20)[WINNER]
    assert all(each.harms and each.harms_on_average for each in found)
    assert all(each.average_regret == pytest.approx(0.05, abs=0.01) for each in found)


def test_the_default_takes_a_finalists_place_only_where_it_counts(tmp_path: Path) -> None:
    levels = {HEAD: 0.6, DEFAULT: 0.99, **dict.fromkeys(OTHERS, 0.75)}
    found = replay(read(recorded(tmp_path, levels, {})), 20)
    least = (2 + TOP) * replayed.SEEDS
    beside = [name for name, rule in RULES.items() if name.startswith("chosen") and not rule.counted]
    assert all(each.trainings >= least for name in beside for each in found[name])
    assert all(each.trainings < least for each in found[COUNTED])
    assert all(each.trainings == least for each in found[WINNER])


def test_what_is_best_on_average_loses_nothing_on_average(tmp_path: Path) -> None:
    levels = {HEAD: 0.6, DEFAULT: 0.8, **{number: 0.8 + number / 1000 for number in OTHERS}}
    found = replay(read(recorded(tmp_path, levels, {})), 20)
    assert all(each.average_regret == 0 for each in found[BEST])
    assert any(each.regret > 0 for each in found[BEST]), "by three seeds another is better"


def test_a_configuration_that_fails_often_is_seen_to_fail(tmp_path: Path) -> None:
    levels = {HEAD: 0.6, DEFAULT: 0.8, **dict.fromkeys(OTHERS, 0.95)}
    found = replay(read(recorded(tmp_path, levels, {number: {0, 1, 2, 3} for number in OTHERS})), 40)
    assert any(each.fails for each in found[WINNER])
    assert not any(each.fails for each in found[DEFAULT_ITSELF])


def test_the_table_has_a_row_for_each_task_and_rule(tmp_path: Path) -> None:
    levels = {HEAD: 0.6, DEFAULT: 0.7, **dict.fromkeys(OTHERS, 0.9)}
    found = replay(read(recorded(tmp_path, levels, {})), 5)
    lines = table({"x": found, "y": found})
    assert len(lines) == 2 + 4 * len(RULES)
    assert lines[2].startswith(f"| x | {WINNER} | 0.000 |")


def test_the_least_regret_mixes_the_choices_that_harm_with_those_that_lose() -> None:
    certain = np.array([(0.0, 0.2), (1.0, 0.0)])
    assert least_regret({"x": [certain]}, 0.25) == pytest.approx(0.15)
    assert least_regret({"x": [certain], "y": [certain[:1]]}, 0.25) == pytest.approx(0.15)
    assert least_regret({"x": [certain]}, 1.0) == 0


def test_who_knows_every_seed_chooses_what_is_better_and_never_harms(tmp_path: Path) -> None:
    levels = {HEAD: 0.6, DEFAULT: 0.7, **dict.fromkeys(OTHERS, 0.9)}
    found = options(read(recorded(tmp_path, levels, {})), 5)
    assert least_regret({"x": found}) < 0.01
    assert all((0.0, pytest.approx(0.2, abs=0.01)) in [tuple(row) for row in rows] for rows in found), "the default"
    assert all(rows[:, 0].max() == 1 for rows in found), "the head alone harms"
