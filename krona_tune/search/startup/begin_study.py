"""Begins a study: gathers workers, a backbone and data, and writes its request and manifest into its folder.

A resumed study must have the same inputs.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, CalledProcessError, check_output
from typing import Self, TypeVar

import torch

from krona_tune.atomic_write import write_atomically
from krona_tune.record.orders import whoami
from krona_tune.record.records import read_trials_so_far
from krona_tune.refusal import Refusal, joined, told
from krona_tune.search.budget import Rates
from krona_tune.search.planning.plan import Plan
from krona_tune.search.startup.slots import Cluster, Slots, slots
from krona_tune.search.startup.task_data import PreparedData, prepare_data
from krona_tune.search.worker.trainable import Workplace
from krona_tune.study.devices import Price, price_of
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import PUT_BACK, Manifest, ModelFacts, read_manifest, refuse_other_inputs, study_inputs
from krona_tune.study.redact import redact
from krona_tune.study.request.loader import dump_spec, load_spec
from krona_tune.study.request.study_spec import Precision
from krona_tune.train.backbone_source import BackboneSource, download
from krona_tune.train.device import this_device

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Holds what a plan needs to run: workers, a backbone on disk, data. Nothing is written yet."""

    plan: Plan
    cluster: Cluster
    slots: Slots
    source: BackboneSource
    prepared: PreparedData

    @property
    def precision(self) -> Precision:
        """Returns what all workers compute in; auto: each one chooses."""
        return self.plan.precision

    def computing_in(self, precision: Precision | None) -> Self:
        """Returns the study with what `precision: auto` turned out to be; None if that is not known."""
        return replace(self, plan=replace(self.plan, computes_in=precision)) if precision else self

    def workplace(self, folder: StudyFolder) -> Workplace:
        """Returns what every worker of the study in this folder shares."""
        return Workplace(
            folder=self.source.location,
            name=self.source.name,
            precision=self.precision,
            gpu=self.slots.gpus > 0,
            threads=max(1, int(self.slots.cpus)),
            checkpoints=str(folder.checkpoints.resolve()),
            elsewhere=folder.remote_checkpoints,
            stored_bytes=int(self.plan.spec.resources.stored_states_gb * 1e9),
            geometry=self.plan.geometry,
            quantize=self.plan.spec.backbone.quantize,
            share=self.slots.gpus if 0 < self.slots.gpus < 1 else 1.0,
        )

    @property
    def room(self) -> int:
        """Returns how many trials fit on the nodes that were there at the start."""
        return self.cluster.room(self.slots.cpus, self.slots.gpus)

    def rates(self, allowed: int) -> Rates:
        """Returns the rates at which trials are trained now, with as many at once as are allowed and have room."""
        return Rates(devices=self.slots.devices.count, slots=max(1, min(allowed, max(self.slots.count, self.room))))


def gather_resources(plan: Plan, connecting: "Future[Cluster]") -> Resources:
    """Returns workers, backbone and data; reads the data while Ray starts.

    Raises:
        Refusal: some of them are not available; it names all of those.
    """
    problems: list[Refusal] = []
    read = _result_or_problem(lambda: _backbone_and_data(plan), problems)
    cluster = _result_or_problem(connecting.result, problems)
    fit = _result_or_problem(lambda: slots(cluster, plan.spec.resources), problems) if cluster else None
    if cluster is None or fit is None or read is None:
        raise joined(problems)
    return Resources(plan=plan, cluster=cluster, slots=fit, source=read[0], prepared=read[1])


def _backbone_and_data(plan: Plan) -> tuple[BackboneSource, PreparedData]:
    source = download(plan.source)
    return source, prepare_data(plan, source.location)


def _result_or_problem(get: Callable[[], Found], problems: list[Refusal]) -> Found | None:
    """Returns the result of `get`; on a Refusal adds it to `problems` and returns None."""
    try:
        return get()
    except Refusal as refusal:
        problems.append(refusal)
        return None


PACKAGES = ("krona_tune", "ray", "torch", "transformers", "datasets", "optuna", "mlflow", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class DriverContext(Resources):
    """Holds what a driver needs: the resources of a study with its request and manifest in its folder."""

    folder: StudyFolder
    manifest: Manifest

    @property
    def precision(self) -> Precision:
        return self.manifest.computes_in or self.plan.precision

    @property
    def price(self) -> Price | None:
        """Returns the price of a device hour, if the request names it."""
        return price_of(self.plan.spec.resources)


def begin_study(
    resources: Resources, folder: StudyFolder, command: str, *, full_training: bool = False
) -> DriverContext:
    """Writes the request and the manifest into the folder.

    Args:
        full_training: only a configuration is trained on all examples, so the study keeps the request that it has.

    Raises:
        Refusal: a resumed study's inputs changed, or the folder's disk is full; of a new study nothing is left.
    """
    plan, fit, source = resources.plan, resources.slots, resources.source
    manifest = Manifest(
        name=folder.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        begun_by=whoami(),
        command=command,
        seed=plan.spec.seed,
        precision=_precision(plan.precision, fit),
        device=fit.devices.kind,
        workers=fit.count,
        versions={package: version(package) for package in PACKAGES},
        git_commit=_git_commit(),
        request=plan.spec.kept(),
        planned=plan.planned,
        model=ModelFacts(
            name=source.name,
            source=source.how,
            model_type=plan.geometry.model_type,
            parameters=plan.geometry.parameters,
            fingerprint=source.fingerprint,
            vocabulary=resources.prepared.vocabulary,
            splitting=resources.prepared.splitting,
            config=source.computing,
            width=plan.geometry.width,
            depths=plan.geometry.depths,
            writes=plan.geometry.writes_alone,
        ),
        tasks=resources.prepared.facts,
        computed_once=plan.computed_once(),
        reasons=plan.spec.reasons,
    )
    before = folder.spec.read_text(encoding="utf-8") if folder.spec.exists() else None
    if not folder.manifest.exists() and before is not None and read_trials_so_far(folder.results):
        raise Refusal(str(folder.manifest), "is missing", PUT_BACK)  # by which inputs are known to be the same
    if folder.manifest.exists():
        earlier = read_manifest(folder.manifest)
        refuse_changed(earlier, manifest, "train" if full_training else "--resume")
        kept = {name: getattr(earlier, name) for name in ("created_at", "begun_by", "command")}
        kept["resumed_by"] = (*earlier.resumed_by, redact(command))  # a copy is not validated
        if full_training:
            kept["request"] = earlier.request  # study.yaml stays as it is, too
        kept["earlier_devices"] = earlier.unrecorded_devices(load_spec(folder.spec).resources)
        manifest = manifest.model_copy(update=kept)
    try:
        if not full_training:
            write_atomically(folder.spec, dump_spec(plan.spec))
        manifest.write(folder.manifest)
    except OSError as error:
        with suppress(OSError):  # what was asked for was not begun
            folder.spec.unlink(missing_ok=True) if before is None else write_atomically(folder.spec, before)
        fix = f"free space there, then {'begin' if before is None else 'resume'} the study again"
        raise Refusal(str(folder.root), f"the study's request can't be written ({told(error)})", fix) from None
    return DriverContext(**vars(resources), folder=folder, manifest=manifest)


def refuse_changed(earlier: Manifest, now: Manifest, place: str = "--resume") -> None:
    """Raises a Refusal if a resumed study's weights, data or precision differ from those that it was begun with."""
    inputs = list(study_inputs(earlier, now.model, now.tasks))
    if earlier.computes_in and earlier.computes_in != now.computes_in:
        inputs.append(("precision", earlier.precision, now.precision))
    refuse_other_inputs(inputs, place)


def _precision(asked: Precision, fit: Slots) -> str:
    """Returns the workers' dtype; auto if they may have other GPUs than this machine, which has none to ask."""
    if asked == "auto" and fit.gpus and not torch.cuda.is_available():
        return asked
    return str(this_device(asked, gpu=fit.gpus > 0).dtype).removeprefix("torch.")


def _git_commit() -> str | None:
    """Returns the commit of the checkout that this code runs from, if it is one."""
    with suppress(OSError, CalledProcessError):
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return check_output(command, stderr=DEVNULL, text=True).strip()
    return None
