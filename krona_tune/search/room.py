"""Whether a study has room: on the disk for its checkpoints, in memory for its workers. Counted from integers."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from krona_tune.adapters.placement import count
from krona_tune.search.findings import Findings, problem
from krona_tune.search.first_batch import largest, longest
from krona_tune.search.start import Gathered
from krona_tune.study.folder import StudyFolder
from krona_tune.study.trial import SECTION_OF, AdapterConfig
from krona_tune.train.device import this_device

PROCESS_BYTES = 600 * 2**20
"""What a worker takes before it has a backbone: Python, torch, transformers."""
STATE_BYTES, TRAINING_BYTES = 12, 16
"""Of each trained parameter: float32 beside its two moments on disk; in memory its gradient too."""
ACTIVATIONS = 17
"""Values that a layer keeps for its backward pass, in widths a token: its maps' inputs and outputs, roughly."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """The largest adapter of the space, and roughly the bytes that a trial of it takes on disk and in a worker."""

    params: dict[str, Any]
    weights: int
    checkpoint: int
    worker: int


def needed_bytes(gathered: Gathered) -> Need:
    """What the largest adapter of the space needs, counted from integers."""
    plan, shape = gathered.plan, gathered.plan.geometry
    params = largest(plan.space)
    adapter = AdapterConfig(**{name: value for name, value in params.items() if SECTION_OF[name] == "adapter"})
    counted = count(shape, adapter, outputs=3)
    trained = counted.trainable
    itemsize = this_device(plan.spec.precision, gpu=False).dtype.itemsize if not gathered.slots.gpus else 2
    tokens = params["batch_size"] * max(map(longest, gathered.prepared.works.values()))
    activations = tokens * sum(shape.depths.values()) * shape.head_width * ACTIVATIONS * itemsize
    weights = shape.parameters * itemsize
    return Need(
        params=params,
        weights=weights,
        checkpoint=trained * STATE_BYTES,
        worker=PROCESS_BYTES + weights + trained * TRAINING_BYTES + activations,
    )


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there already."""
    return next(above for above in (path.resolve(), *path.resolve().parents) if above.is_dir())


def on_disk(gathered: Gathered, folder: StudyFolder, storage: Path, need: Need) -> Findings:
    """Whether the storage can be written, and has space for a checkpoint of every trial that is still to come."""
    try:
        with NamedTemporaryFile(dir=storage, prefix=".preflight-"):
            pass
    except OSError as error:
        return problem("--storage", f"{storage} can't be written: {error.strerror}", "name a writable folder")
    plan = gathered.plan
    finals = plan.spec.finalists.top * plan.spec.finalists.seeds
    trials = (plan.trials + finals) * len(plan.spec.tasks)
    kept = len(list(folder.root.glob("checkpoints/*")))
    wanted, free = max(0, trials - kept) * need.checkpoint, shutil.disk_usage(storage).free
    if wanted <= free:
        return Findings()
    what = f"{storage} has {size(free)} free, the checkpoints of {trials} trials may take {size(wanted)}"
    return problem("--storage", what, "free space, ask for fewer trials, or limit them with --max-params")


def in_memory(gathered: Gathered, need: Need) -> Findings:
    """Whether the workers that a node holds fit in its memory: surely not is a problem, roughly not a warning."""
    fit, found = gathered.slots, Findings()
    for node in set(gathered.cluster.nodes):
        workers = min(node.fits(fit.cpus, fit.gpus), fit.count)
        memory = f"{workers} workers on a node of {node.cpus:g} CPUs"
        if not fit.gpus and workers * need.weights > node.memory_bytes:
            what = f"{memory}: the backbone alone takes {size(workers * need.weights)}"
            mend = "ask for fewer with --max-concurrent, or for more CPUs a trial"
            found += problem("memory", f"{what}, Ray has {size(node.memory_bytes)}", mend)
        elif not fit.gpus and workers * need.worker > node.memory_bytes:
            rough = f"{memory} may take {size(workers * need.worker)}, Ray has {size(node.memory_bytes)}"
            found += Findings(warnings=(f"memory: {rough}; --max-concurrent asks for fewer",))
    return found


def size(number: float) -> str:
    """Bytes for people."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
