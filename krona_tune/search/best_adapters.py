"""Writes each task's best adapter as files."""

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from krona_tune.adapters.files.adapter_card import SELECTED, SELECTED_IN_FINALS, AdapterCard
from krona_tune.adapters.files.adapter_files import save_adapter
from krona_tune.record.remote.remote_checkpoints import RemoteCheckpoints
from krona_tune.search.planning.plan import Plan
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest
from krona_tune.study.result import TrialResult
from krona_tune.study.spec.trial import check_trial
from krona_tune.study.standings import Standings
from krona_tune.train import checkpoint
from krona_tune.train.task_heads import in_units_of_labels


def save_best_adapters(folder: StudyFolder, manifest: Manifest, plan: Plan, standings: Standings) -> list[Path]:
    """Each task's best adapter, with its card, from the state that the winning trial kept."""
    left, shape = [], plan.geometry
    for task in plan.spec.tasks:
        best = standings.winner(task)
        kept = _state(folder, best)
        if best is None or kept is None:
            continue
        final = standings.finals(task).winner
        trial = check_trial(task, best.seed, best.params, best.kind)
        card = AdapterCard(
            krona_tune_version=manifest.versions["krona_tune"],
            task=task,
            labels=plan.tasks[task].candidates if shape.text_to_text else plan.tasks[task].labels,
            text_to_text=shape.text_to_text,
            max_length=plan.spec.examples.max_length,
            precision=manifest.precision,
            adapter=trial.adapter,
            backbone=manifest.model.name,
            model_type=shape.model_type,
            backbone_width=shape.head_width,
            backbone_layers=sum(shape.depths.values()),
            backbone_fingerprint=checkpoint.backbone_fingerprint(kept),
            backbone_sha256=manifest.model.fingerprint,
            score=best.score or 0.0,
            metrics=best.metrics,
            test_score=best.test_score,
            test_metrics=best.test_metrics,
            selected_by=SELECTED_IN_FINALS if final else SELECTED,
            synthetic=manifest.tasks[task].synthetic,
            trial_id=best.trial_id,
            study=folder.name,
            seed=best.seed,
            seeds=tuple(row.seed for row in final.rows) if final else (best.seed,),
            command=manifest.command,
            params=best.params,
            own_task=replace(plan.tasks[task], centre=0.0, spread=1.0) if task in plan.own else None,
        )
        tensors = in_units_of_labels(load_file(kept / checkpoint.TENSORS), plan.tasks[task])
        save_adapter(folder.adapter(task), tensors, card)
        left.append(folder.adapter(task))
    return left


def _state(folder: StudyFolder, row: TrialResult | None) -> Path | None:
    """Returns a trial's last state, where it was written or in the study's folder; downloads it if neither exists."""
    if row is None or not row.checkpoint:
        return None
    recorded = Path(row.checkpoint)
    here = folder.checkpoints / row.trial_id / recorded.name
    if not recorded.exists() and not here.exists():
        RemoteCheckpoints(folder.remote_checkpoints).bring(here.parent)
    return next((path for path in (recorded, here) if path.exists()), None)
