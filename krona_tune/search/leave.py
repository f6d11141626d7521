"""What a study leaves to be used: each task's best adapter as files."""

from pathlib import Path

from safetensors.torch import load_file

from krona_tune.adapters.export import AdapterCard, save_adapter
from krona_tune.glue.tasks import TASKS
from krona_tune.search.door import plain_trial, trial_of
from krona_tune.search.ledger import Ledger
from krona_tune.search.start import Started
from krona_tune.train import checkpoint


def leave_adapters(started: Started, ledger: Ledger) -> list[Path]:
    """Each task's best adapter, with its card, from the state that the winning trial kept."""
    left = []
    for task in started.plan.spec.tasks:
        best = ledger.best(task)
        if best is None or not best.checkpoint or not Path(best.checkpoint).exists():
            continue
        trial = trial_of(plain_trial(best.trial_id, task, best.number, best.kind, best.seed, best.params))
        card = AdapterCard(
            task=task,
            labels=TASKS[task].candidates,
            adapter=trial.adapter,
            backbone=started.source.name,
            model_type=started.plan.geometry.model_type,
            backbone_fingerprint=started.manifest.model.fingerprint,
            score=best.score or 0.0,
            metrics=best.metrics,
            synthetic=started.manifest.tasks[task].synthetic,
            trial_id=best.trial_id,
            study=started.folder.name,
            params=best.params,
        )
        save_adapter(started.folder.adapter(task), load_file(Path(best.checkpoint) / checkpoint.TENSORS), card)
        left.append(started.folder.adapter(task))
    return left
