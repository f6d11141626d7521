"""Says where the numbers of a regression lie too far from 0 for a model's head."""

from collections.abc import Iterator
from math import floor, log10

import numpy as np

from krona_tune.backbones.geometry import Geometry
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal

FINEST = 0.02
"""Says how fine a head's answers must be, as a share of the labels' deviation."""
FAR = 3.0
"""Says how many deviations from 0 labels may lie where a head has no bias."""


def refuse_alike_labels(task: Task, geometry: Geometry) -> None:
    """Raises a Refusal if the labels lie so far from 0 that float32, in which a saved head answers, can't tell them
    apart."""
    if _has_head(task, geometry) and np.spacing(np.float32(abs(task.centre))) > FINEST * task.spread:
        problem = f"a head's answers are numbers of 32 bits, which can't tell its labels apart: {_labels(task)}"
        raise Refusal(f"tasks.{task.name}.label", problem, _fix(task))


def doubt_far_labels(task: Task, geometry: Geometry) -> Iterator[str]:
    """Yields a warning if the labels lie so far from 0 that a head without a bias learns them poorly."""
    if _has_head(task, geometry) and not geometry.head_has_bias and abs(task.centre) > FAR * task.spread:
        poorly = "the model's head, without a bias, learns them poorly"
        yield f"the labels of {task.title} are {_labels(task)}; {poorly}: {_fix(task)}"


def _has_head(task: Task, geometry: Geometry) -> bool:
    return task.is_regression and not geometry.text_to_text


def _labels(task: Task) -> str:
    return f"{task.centre:,.12g} ± {task.spread:.2g}"


def _fix(task: Task) -> str:
    """Says which number, with no more digits than matter, leaves the labels near 0."""
    near = round(task.centre, -floor(log10(task.spread)))
    return f"subtract {near:,.12g} from the column"
