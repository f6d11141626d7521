"""Keeps what a first batch showed on this machine, so that a study like an earlier one begins without training it."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from krona_tune.adapters.peft_class import is_own_class
from krona_tune.atomic_write import write_atomically
from krona_tune.machine import busy, cache_folder, cores, installed_versions
from krona_tune.processor import this_processor
from krona_tune.search.startup.begin_study import Resources
from krona_tune.search.worker.first_batch import FEW_ROWS, FirstBatch, of_the_longest
from krona_tune.search.worker.trainable import Workplace

logger = logging.getLogger(__name__)
PACKAGES = ("krona_tune", "torch", "transformers", "peft")
"""The packages that train a batch."""
CODE = Path(__file__).parents[2]
"""The package's own files, which a developer changes without another version."""


@dataclass(frozen=True, kw_only=True)
class CachedFirstBatch:
    """The file that keeps the result of one first batch, for all studies whose first batch would be the same."""

    path: Path

    def read(self) -> FirstBatch | None:
        """Returns what is kept; None if nothing is, or it can't be read."""
        with suppress(OSError, ValidationError):
            return TypeAdapter(FirstBatch).validate_json(self.path.read_bytes())
        return None

    def keep(self, done: FirstBatch) -> None:
        """Keeps a first batch that trained, with its timed steps, if they were not timed on a busy machine."""
        if done.failures or done.unfit or done.probe is None or busy():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, TypeAdapter(FirstBatch).dump_json(done).decode(), lasting=False)
        except OSError as error:
            logger.warning("the first batch can't be kept for later studies: %s", error)


def cached_first_batch(
    resources: Resources, workplace: Workplace, points: Sequence[Mapping[str, Any]]
) -> CachedFirstBatch | None:
    """Returns where the first batch of a study is kept, by everything that it depends on.

    Args:
        points: those that it trains.

    Returns:
        None if it depends on code that is not of these packages: a class of one's own may change at any time.
    """
    if any(is_own_class(str(point["method"])) for point in points):
        return None
    tasks = {
        name: [
            resources.prepared.facts[name].model_dump(mode="json"),
            [asdict(work.task), work.candidates, work.pad_token_id],
            [_digest(work.train), _digest(work.validation)],
        ]
        for name, work in resources.prepared.works.items()
    }
    device, source = workplace.device, resources.source
    seen = {
        "versions": installed_versions(PACKAGES),
        "code": _newest(CODE),
        "processor": [this_processor().name, this_processor().instructions, cores(), workplace.threads],
        "computes": [device.kind, device.precision, workplace.quantize],
        "model": [source.fingerprint, source.config, dict(source.roles)],
        "points": points,
        "tasks": tasks,
    }
    key = sha256(json.dumps(seen, sort_keys=True, default=str).encode()).hexdigest()
    return CachedFirstBatch(path=cache_folder() / "first_batches" / f"{key[:32]}.json")


def _digest(table: pa.Table) -> str:
    """Returns a hash of the examples of a part that a first batch may train or judge."""
    return sha256(json.dumps(of_the_longest(table, FEW_ROWS).to_pylist(), default=str).encode()).hexdigest()


def _newest(folder: Path) -> int:
    """Returns when a file of a folder was last changed, in nanoseconds."""
    return max(path.stat().st_mtime_ns for path in folder.rglob("*.py"))
