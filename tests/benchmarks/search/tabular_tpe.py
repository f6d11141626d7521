"""Lets Optuna's TPE propose the points of a tabular replay: the recorded point next to what it asks for is trained."""

import warnings
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from krona_tune.search.searchers.task_sampler import distribution_of
from krona_tune.study.randomness import stream
from tests.benchmarks.search.replay.recorded import features, recorded_tasks, space
from tests.benchmarks.search.tabular_study import Propose, Setting, Trial

STARTUP = 6
"""How many trials are drawn evenly first, as in a study."""


def by_tpe(setting: Setting) -> Propose:
    """Returns TPE's proposals; it is told of each trial that has ended, of the stopped ones as pruned."""
    points = next(iter(recorded_tasks().values())).points
    table = np.array([features(point) for point in points])
    width = np.maximum(np.ptp(table, axis=0), 1e-9)
    distributions = {label: distribution_of(domain) for label, domain in space().searched().items()}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        seed = stream(setting.seed, "TPE", setting.task) % 2**32
        sampler = TPESampler(n_startup_trials=STARTUP, constant_liar=True, group=True, seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    told: set[int] = set()

    def propose(trials: Sequence[Trial]) -> Trial | None:
        taken = {trial.point for trial in trials}
        if len(taken) == len(points):
            return None
        for trial in trials:
            if trial.ended and trial.point not in told:
                told.add(trial.point)
                drawn = space().drawn(points[trial.point])
                study.add_trial(
                    create_trial(
                        params=drawn,
                        distributions={label: distributions[label] for label in drawn},
                        state=TrialState.COMPLETE if trial.complete else TrialState.PRUNED,
                        value=trial.seen[-1] if trial.complete else None,
                        intermediate_values=dict(enumerate(trial.seen)),
                    )
                )
        asked = next(filter(space().feasible, (ask() for _ in range(100))), None) or points[0]
        apart = np.linalg.norm((table - features(asked)) / width, axis=1)
        return Trial(point=next(int(point) for point in np.argsort(apart, kind="stable") if point not in taken))

    def ask() -> dict[str, object]:
        asked = study.ask(distributions)
        study.tell(asked, state=TrialState.FAIL)
        return space().point(lambda label, domain: asked.params[label])

    return propose
