"""One Tune run over trials that are still to be done."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.schedulers import TrialScheduler

from krona_tune.search.callback import Recorder
from krona_tune.search.ledger import Ledger
from krona_tune.search.searcher import StudySearcher
from krona_tune.search.start import Started
from krona_tune.search.stopping import Stopping
from krona_tune.search.trainable import KronaTrial, Workplace
from krona_tune.train.loop import TaskWork

RETRIES = 2
"""How often a trial whose worker was lost is taken up again, from its last rung."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What one Tune run takes: who proposes, who stops, how many trials it runs, and what the workers get.

    `new` counts the trials of each task that have no row yet.
    """

    searcher: StudySearcher
    scheduler: TrialScheduler
    trials: int
    new: Mapping[str, int]
    works: dict[str, TaskWork]


def tune_trials(
    started: Started, ledger: Ledger, phase: Phase, stopping: Stopping, changed: Callable[[], None]
) -> None:
    """Runs the phase to its end or until it is stopped; a phase without trials is over at once.

    Where the disk has no room for what Tune writes, the study halts.
    """
    if not phase.trials or stopping.stop_all():
        return
    folder, slots = started.folder, started.slots
    getattr(class_cache, "DEFAULT_ENV_VARS", {}).clear()  # with them no worker that waits already would be taken
    logging.getLogger("ray.tune.execution.experiment_state").disabled = True  # Tune's state is never read again
    trainable = tune.with_resources(
        tune.with_parameters(KronaTrial, works=phase.works, workplace=_workplace(started)),
        {"cpu": slots.cpus, "gpu": slots.gpus},
    )
    trainable.__name__ = trainable.__qualname__ = KronaTrial.__name__  # what the dashboard calls its class
    try:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=phase.searcher,
                scheduler=phase.scheduler,
                num_samples=phase.trials,
                max_concurrent_trials=slots.count,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["trial_id"],
                trial_dirname_creator=lambda trial: trial.config["trial_id"],
            ),
            run_config=tune.RunConfig(
                name=f"run-{len(list(folder.ray.glob('run-*'))) + 1}",
                storage_path=str(folder.ray.resolve()),
                callbacks=[Recorder(ledger, stopping.verdict, changed)],
                stop=stopping,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                verbose=0,
            ),
        ).fit()
    except OSError as error:
        stopping.halt(f"Tune's state could not be kept: {error}")


def _workplace(started: Started) -> Workplace:
    return Workplace(
        folder=started.source.location,
        name=started.source.name,
        precision=started.plan.spec.precision,
        gpu=started.slots.gpus > 0,
        threads=max(1, int(started.slots.cpus)),
        checkpoints=str(started.folder.checkpoints.resolve()),
        elsewhere=started.folder.remote_checkpoints,
    )
