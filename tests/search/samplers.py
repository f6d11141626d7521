"""Opens the sampler of a task, and tells it of trials."""

from pathlib import Path
from typing import Any

from krona_tune.search.planning.space import Space
from krona_tune.search.searchers.open_samplers import open_samplers
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.study.result import Status
from tests.search.conftest import never, space, spec

SPACE = space(
    "bert",
    {
        "method": ["krona", "krona_b"],
        "a_out": "divisors",
        "a_in": {"divisors": {"low": 2}},
        "scale": {"low": 0.25, "high": 16, "log": True},
        "roles": ["query", "query+value", "output"],
        "layers": "last 2",
    },
)


def opened(journal: Path, of: Space = SPACE, seed: int = 3, task: str = "cola", startup: int = 2) -> Any:
    asked = spec(startup_trials=startup).model_copy(update={"seed": seed, "tasks": (task,)})
    return open_samplers(asked, of, journal, never)[task]


def told(sampler: TaskSampler, number: int, status: Status = Status.COMPLETED) -> dict[str, Any]:
    """Asks for a point, reports two rungs with a score that follows the scale, and tells its end."""
    point = sampler.ask(f"cola-{number:03d}", number)
    for examples in (64, 128):
        sampler.report(f"cola-{number:03d}", examples, point["scale"] / examples)
    sampler.tell(f"cola-{number:03d}", status, point["scale"] / 128)
    return point
