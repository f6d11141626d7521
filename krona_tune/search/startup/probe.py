"""Trains a recommended configuration on each task, in this process and only for the first third of its steps."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from krona_tune.processor import torch_threads
from krona_tune.refusal import told
from krona_tune.search.planning.expected_score import PROBED
from krona_tune.search.planning.plan import trial_seed
from krona_tune.search.planning.recommendation import Probe, Recommendation, with_probes
from krona_tune.search.startup.slots import Slots
from krona_tune.search.startup.task_data import PreparedData, prepare_data
from krona_tune.study.request.trial import TrialConfig, check_trial
from krona_tune.train.backbone import Backbone, load_backbone, quiet
from krona_tune.train.backbone_source import download
from krona_tune.train.device import has_broken_device, this_device
from krona_tune.train.hidden_states import HiddenStateStore
from krona_tune.train.loop import TaskWork, TrialRun


@torch.random.fork_rng(devices=[])
def probe_tasks(found: Recommendation, slots: Slots, say: Callable[[str], None]) -> Recommendation:
    """Returns a recommendation with what its own trainings showed; none of them looks at a test half.

    Each is the first part of the training that a study of `found.trains` would do. The states of the layers below the
    first adapted one are kept in the cache folder, where such a study reads them. An error that ends a training is what
    is known of its task.

    Args:
        slots: what a trial gets of this machine.
        say: is told what is odd in the data, and each task before it is trained.

    Raises:
        Refusal: the backbone can't be loaded, or data or tokenizer are not available.
    """
    spec, source = found.trains.spec, download(found.trains.source)
    prepared = prepare_data(replace(found.trains, source=source), source.location)
    for warning in prepared.warnings_of():
        say(f"warning: {warning}")
    device = this_device(found.trains.precision, gpu=slots.gpus > 0, quantize=spec.backbone.quantize)
    backbone = load_backbone(source.location, device, found.trains.geometry)
    store = HiddenStateStore.of_this_machine(int(spec.resources.stored_states_gb * 1e9))
    probes = {}
    with torch_threads(max(1, int(slots.cpus))):
        for task in spec.tasks:
            say(f"  {task}")
            trial = check_trial(task, trial_seed(spec, task), found.point)
            probes[task] = _probe(trial, prepared, backbone, store)
    return with_probes(found, probes)


def ending_early(work: TaskWork) -> TaskWork:
    """Returns a task whose trainings are judged after PROBED of their steps first; they are as long as before."""
    whole = work.schedule.total_examples
    rungs = (max(1, round(PROBED * whole)), whole) if whole > 1 else (whole,)
    return replace(work, schedule=replace(work.schedule, rungs=rungs, every_epoch=False))


def _probe(trial: TrialConfig, prepared: PreparedData, backbone: Backbone, store: HiddenStateStore | None) -> Probe:
    began, facts = time.perf_counter(), prepared.facts[trial.task]
    probe = Probe(constant=facts.constant_score, examples=facts.validation_examples, seconds=0.0)
    try:
        with quiet():
            score, share = _trained(trial, ending_early(prepared.works[trial.task]), backbone, store)
        probe = replace(probe, score=score, share=share)
    except Exception as failed:  # what the user's own functions raise, full memory, a loss that is no number
        if has_broken_device(failed):
            raise
        probe = replace(probe, error=f"its training failed: {told(failed)}")
    return replace(probe, seconds=time.perf_counter() - began)


def _trained(
    trial: TrialConfig, work: TaskWork, backbone: Backbone, store: HiddenStateStore | None
) -> tuple[float, float]:
    """Returns the score after the first part of a training, and the share of its steps which that was."""
    run = TrialRun(f"{trial.task}-probe", trial, work, backbone, store)
    try:
        return run.advance().score, run.share_done
    finally:
        run.close()
