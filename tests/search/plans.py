"""Makes the plan of a small study of two tasks."""

from typing import Any

from krona_tune.data.tasks import TASKS
from krona_tune.search.planning.plan import Plan
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.study.request.loader import build_spec
from krona_tune.train.backbone_source import BackboneSource
from tests.models import build

SHAPE = build("bert")[0]


def plan(**search: Any) -> Plan:
    written = {
        "model": "m",
        "name": "s",
        "tasks": ["cola", "rte"],
        "adapter": {"method": ["krona", "lora"], "a_out": "divisors", "a_in": [2, 4, 6], "rank": [1, 2, 3]},
        "training": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        "search": {"trials": 4, "startup_trials": 2, **search},
    }
    made = build_spec(written, "x.yaml")
    source = BackboneSource(name="m", folder=None, how="", config={})
    tasks = {name: TASKS[name] for name in made.tasks}
    of = resolve(made, SHAPE, "x.yaml")
    return Plan(spec=made, place="x.yaml", tasks=tasks, source=source, geometry=SHAPE, space=of)
