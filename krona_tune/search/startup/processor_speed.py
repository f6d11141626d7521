"""Measures how fast a core of this processor computes a layer, once, and keeps it for later plans."""

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
from pydantic import PositiveFloat, TypeAdapter, ValidationError

from krona_tune.atomic_write import write_atomically
from krona_tune.child_process import ChildProcess
from krona_tune.machine import busy, cache_folder
from krona_tune.processor import this_processor

logger = logging.getLogger(__name__)
CALLS = 9.0
"""How many times the calls of a bare layer a real one's cost, with its adapters and their optimizer, and the reading of
its weights, as timed steps of four models show."""
MAPS, ATTENTION = 24, 4
"""A layer's operations for each token and squared feature, and for each pair of tokens and feature."""
LEAST_SECONDS = 1e-15
"""Of an operation."""
SECONDS = 60.0
"""How long measuring may take; it takes about two."""


@dataclass(frozen=True, kw_only=True)
class CoreSpeed:
    """Operations a second of one core in a layer's maps and in its attention, forward or backward; and the seconds of a
    layer in a training step of any size. `busy`: how busy the machine was that measured them."""

    maps: PositiveFloat
    attention: PositiveFloat
    layer_seconds: PositiveFloat
    busy: str = ""


def core_speed(*, bfloat16: bool) -> CoreSpeed | None:
    """Returns the speed of a core of this processor in bfloat16 or float32; None if it can't be measured.

    It is kept in the cache folder, so that two plans of one study are equal, and measured again where the machine was
    busy and no longer is.
    """
    path, now = _kept_at(bfloat16), busy()
    with suppress(OSError, ValidationError):
        kept = TypeAdapter(CoreSpeed).validate_json(path.read_bytes())
        if now or not kept.busy:
            return kept
    try:
        with ChildProcess() as child:
            measured = _speed_of(child.call(measure_layers, bfloat16, seconds=SECONDS), now)
    except Exception:
        logger.info("how fast a core computes can't be measured", exc_info=True)
        return None
    with suppress(OSError):  # where nothing can be kept, each plan measures
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(measured)), lasting=False)
    return measured


def _kept_at(bfloat16: bool) -> Path:
    """Returns the file of a speed: one for each processor, precision and version of torch."""
    processor = this_processor()
    key = json.dumps([processor.name, processor.instructions, bfloat16, version("torch")])
    return cache_folder() / "processors" / f"{sha256(key.encode()).hexdigest()[:32]}.json"


def measure_layers(bfloat16: bool) -> list[tuple[int, int, int, bool, float]]:
    """Returns what `layer_times.time_layers` does; a plan's own process does not import torch."""
    return resolve_name("krona_tune.train.layer_times:time_layers")(bfloat16)  # type: ignore[no-any-return]


def _speed_of(times: list[tuple[int, int, int, bool, float]], now: str) -> CoreSpeed:
    """Returns the speed that best explains the times of layers, in relative errors; the first one is of calls alone."""
    from scipy.optimize import nnls

    calls = max(seconds for width, *_, seconds in times if width == times[0][0])
    rows = [row for row in times if row[0] != times[0][0]]
    operations = np.array(
        [
            (MAPS * width**2 * n * length * (1 + back), ATTENTION * width * n * length**2 * (1 + 2 * back))
            for width, n, length, back, _ in rows
        ]
    )
    seconds = np.array([each for *_, each in rows])
    passes = np.array([(1 + back) / 2 for *_, back, _ in rows])
    each = nnls(operations / seconds[:, None], 1 - calls * passes / seconds)[0]
    maps, attention = np.maximum(each, LEAST_SECONDS).tolist()
    return CoreSpeed(maps=1 / maps, attention=1 / attention, layer_seconds=CALLS * calls, busy=now)
