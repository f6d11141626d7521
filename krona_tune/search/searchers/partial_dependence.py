"""Says what the study's model expects of each knob: the mean score over the space at each of the knob's values."""

import random
from collections.abc import Iterator

from krona_tune.record.records import Effect
from krona_tune.search.planning.space import Params, Space
from krona_tune.search.searchers.study_model import StudyModel
from krona_tune.study.randomness import stream
from krona_tune.study.request.domain import Domain, Range, Value

POINTS, STEPS, BELOW_ONE = 30, 6, 1 - 1e-9
"""The points over which the mean is taken, the values of a range, and the greatest share of a domain."""


def effects(model: StudyModel, space: Space, task: str, seed: int) -> list[Effect]:
    """Returns the effect of each value of each searched knob on a task; none if the model knows no score of it."""
    rng = random.Random(stream(seed, "effects"))
    points = [point for point in (space.draw(rng) for _ in range(4 * POINTS)) if space.feasible(point)][:POINTS]
    found = []
    for label, domain in space.searched().items():
        for value in _values(domain):
            group = [changed for point in points if (changed := _with(space, point, label, value))]
            average = model.average(task, group) if group else None
            if average:
                low, expected, high = average
                number = None if isinstance(value, bool | str) else float(value)
                found.append(
                    Effect(
                        task=task, knob=label, value=str(value), number=number, expected=expected, low=low, high=high
                    )
                )
    return found


def _values(domain: Domain) -> Iterator[Value]:
    if isinstance(domain, Range):
        return (domain.at(min(step / (STEPS - 1), BELOW_ONE)) for step in range(STEPS))
    return iter(domain.ends())


def _with(space: Space, point: Params, label: str, value: Value) -> Params | None:
    """Returns the point with this value; None if it has no such knob or does not fit then."""
    drawn = space.drawn(point)
    if label not in drawn or (label == "method" and value != point["method"]):
        return None
    drawn[label] = value
    changed = space.point(lambda each, _: drawn[each])
    return changed if space.feasible(changed) else None
