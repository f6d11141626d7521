"""Records the best points of the recorded curves in shorter trainings, at several learning rates.

python -m tests.benchmarks.curves.training_length GLUE TEXTS STORAGE
python -m tests.benchmarks.curves.training_length

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
from typing import NamedTuple

import pandas as pd

import krona_tune
from krona_tune.search.planning.earlier_study import shipped_curves
from krona_tune.search.planning.teaching import by_mean_score
from krona_tune.study.request.trial import section_of
from tests.benchmarks.curves import held_out_tasks
from tests.benchmarks.curves.record import DESIGN, FURTHER, KNOBS, OTHERS, PACKAGED, SIZES, tasks_of


class Trainings(NamedTuple):
    """Holds what is trained on tasks whose blocks of curves have this prefix: for how many epochs, how many of the best
    points, and the powers of the square root of 3 by which their learning rates are multiplied."""

    prefix: str
    epochs: int
    points: int
    powers: range


TRAININGS = (
    Trainings("", 1, 4, range(-2, 6)),
    Trainings("", 3, 4, range(-2, 6)),
    Trainings("", 9, 2, range(-1, 3)),
    Trainings(FURTHER, 3, 4, range(4)),
)
PATH = OTHERS / PACKAGED / "lengths.parquet"


def record(asked: Trainings, place: int, glue: Path, texts: Path, storage: Path) -> pd.DataFrame:
    """Trains the point at a place in the order of the scores; returns a row for each task and learning rate."""
    point = by_mean_score(shipped_curves())[place]
    rates = [point["learning_rate"] * 3 ** (power / 2) for power in asked.powers]
    settings = {f"{section_of(knob)}.{knob}": rates if knob == "learning_rate" else point[knob] for knob in KNOBS}
    settings |= {"search.trials": len(rates), "search.baseline_learning_rates": [], "schedule.epochs": asked.epochs}
    if asked.prefix:
        settings["examples.train"] = SIZES[asked.prefix]
    study = krona_tune.Study(
        space=DESIGN,
        tasks=tasks_of(asked.prefix, texts),
        data=str(glue),
        name=f"{asked.prefix}lengths-{place}-{asked.epochs}",
        storage=storage,
        settings=settings,
    ).run(quiet=True)
    found = study.trials[["task", "status", "score", *KNOBS]].assign(place=place, epochs=asked.epochs)
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
    for asked in TRAININGS:
        for place in range(asked.points):
            parts.append(record(asked, place, glue, texts, storage))
            pd.concat(parts, ignore_index=True).to_parquet(PATH, compression="zstd")


if __name__ == "__main__":
    main(*sys.argv[1:])
