"""Records the best points of the recorded curves in shorter trainings, at several learning rates.

python -m tests.benchmarks.curves.lengths GLUE TEXTS STORAGE
python -m tests.benchmarks.curves.lengths

GLUE, TEXTS and STORAGE are those of `tests.benchmarks.curves.record`, and so are tasks, examples and encoder; without
them, what was recorded is told. Each of the points that are best over all recorded tasks, which had nine epochs, is
trained for as many and for fewer with its own learning rate times each factor. From the tasks of the curves it was
chosen how many times greater a learning rate is taught to shorter trainings (`search/planning/nearest_point.py`). The
further tasks, which teach nothing, were trained after that; what counts there was written down before: the mean score
with that factor is above that with factor 1. A study that was interrupted is resumed.
"""

import sys
from math import log
from pathlib import Path
from typing import Any

import pandas as pd

import krona_tune
from krona_tune.search.planning.earlier_study import shipped_curves
from krona_tune.search.planning.teaching import by_mean_score
from tests.benchmarks.curves import held_out_tasks
from tests.benchmarks.curves.record import DESIGN, KNOBS, OTHERS, PACKAGED, learned_tasks

EPOCHS = {1: (4, range(-2, 6)), 3: (4, range(-2, 6)), 9: (2, range(-1, 3))}
"""By the number of epochs, how many points are trained, and the powers of the square root of 3 by which their learning
rates are multiplied."""
FURTHER = (3, 4, range(4))
"""The same for the further tasks: epochs, points, powers."""
ADAPTER, TRAINING = KNOBS[:8], KNOBS[8:]
PATH = OTHERS / PACKAGED / "lengths.parquet"


def record(
    name: str,
    tasks: dict[str, Any],
    place: int,
    epochs: int,
    powers: range,
    *,
    settings: dict[str, Any],
    glue: Path,
    storage: Path,
) -> pd.DataFrame:
    """Trains the point at a place in the order of the scores; returns a row for each task and learning rate."""
    point = by_mean_score(shipped_curves())[place]
    rates = [point["learning_rate"] * 3 ** (power / 2) for power in powers]
    knobs = {**{knob: point[knob] for knob in KNOBS}, "learning_rate": rates}
    fixed = {f"adapter.{knob}": knobs[knob] for knob in ADAPTER} | {
        f"training.{knob}": knobs[knob] for knob in TRAINING
    }
    searched = {"search.trials": len(rates), "search.baseline_learning_rates": []}
    study = krona_tune.Study(
        space=DESIGN, tasks=tasks, data=str(glue), name=f"{name}-{place}-{epochs}", storage=storage,
        settings={**fixed, **searched, **settings, "schedule.epochs": epochs},
    ).run(quiet=True)  # fmt: skip
    found = study.trials[["task", "status", "score", *KNOBS]].assign(place=place, epochs=epochs)
    found["layer_norms"] = found.layer_norms.map(lambda value: str(value).lower())
    found["power"] = [round(2 * log(rate / point["learning_rate"], 3)) for rate in found.learning_rate]
    return found.sort_values(["task", "power"])


def report(rows: pd.DataFrame) -> str:
    """Returns the mean scores by epochs and power of the root of 3, then those of each point and task; the further
    tasks count in the last alone, and a diverged training counts 0."""
    scores = rows.assign(score=rows.score.fillna(0.0))
    learned = scores[~scores.task.isin(held_out_tasks.NAMES)]
    tables = [(learned, ["epochs"]), (learned, ["epochs", "place"]), (scores, ["epochs", "task"])]
    return "\n\n".join(
        found.pivot_table(index=index, columns="power", values="score").round(3).to_string() for found, index in tables
    )


def main(*places: str) -> None:
    """Records all, the shortest first, and writes what is there; without places, tells what was recorded."""
    if not places:
        print(report(pd.read_parquet(PATH)))
        return
    glue, texts, storage = (Path(each).resolve() for each in places)
    parts: list[pd.DataFrame] = []
    where = {"glue": glue, "storage": storage}
    for epochs, (points, powers) in EPOCHS.items():
        for place in range(points):
            parts.append(record("lengths", learned_tasks(texts), place, epochs, powers, settings={}, **where))
            pd.concat(parts, ignore_index=True).to_parquet(PATH, compression="zstd")
    settings = {"examples.train": held_out_tasks.TRAIN}
    epochs, points, powers = FURTHER
    for place in range(points):
        tasks = held_out_tasks.tasks(texts)
        parts.append(record("further-lengths", tasks, place, epochs, powers, settings=settings, **where))
        pd.concat(parts, ignore_index=True).to_parquet(PATH, compression="zstd")


if __name__ == "__main__":
    main(*sys.argv[1:])
