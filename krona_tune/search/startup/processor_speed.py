"""Measures how fast a core of this processor computes a layer, once, and keeps it for later plans."""

import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from json import dumps
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
from pydantic import PositiveFloat, TypeAdapter, ValidationError

from krona_tune.atomic_write import write_atomically
from krona_tune.child_process import ChildProcess
from krona_tune.machine import busy, cache_folder, installed_versions
from krona_tune.processor import this_processor

logger = logging.getLogger(__name__)
CALLS = 9.0
"""Multiplies the calls of a bare layer: a real one also has adapters with their optimizer, and weights that are read.
From timed steps of four models."""
MAPS, ATTENTION = 24, 4
"""A layer's operations for each token and squared feature, and for each pair of tokens and feature."""
SECONDS = 60.0
"""Limits how long measuring may take; it takes two or three, after torch is imported."""
LAYER_TIMES = Path(__file__).parents[2] / "train" / "layer_times.py"
"""The code that times layers: other code, other times."""
Times = tuple[tuple[int, int, int, bool, PositiveFloat], ...]
"""Holds what `layer_times.time_layers` returns."""


@dataclass(frozen=True, kw_only=True)
class CoreSpeed:
    """Operations a second of one core in a layer's maps and in its attention, forward or backward; and the seconds of a
    layer in a training step of any size."""

    maps: float
    attention: float
    layer_seconds: float


@dataclass(frozen=True, kw_only=True)
class KeptTimes:
    """The times of layers, as they are kept; `busy` says how busy the machine was that measured them."""

    times: Times
    busy: str


def core_speed(*, bfloat16: bool) -> CoreSpeed | None:
    """Returns the speed of a core of this processor in bfloat16 or float32; None if it can't be measured.

    The times that it follows from are kept in the cache folder, so that two plans of one study are alike, and measured
    again where the machine was busy and no longer is.
    """
    return _core_speed(_kept_at(bfloat16), bfloat16, busy())


def measure_layers(bfloat16: bool) -> list[tuple[int, int, int, bool, float]]:
    """Returns what `layer_times.time_layers` does; a plan's own process does not import torch."""
    return resolve_name("krona_tune.train.layer_times:time_layers")(bfloat16)  # type: ignore[no-any-return]


def _kept_at(bfloat16: bool) -> Path:
    """Returns the file of a processor's times, of each precision, version of torch and way to measure."""
    processor, code = this_processor(), sha256(LAYER_TIMES.read_bytes()).hexdigest()
    key = dumps([processor.name, processor.instructions, bfloat16, installed_versions(["torch"]), code])
    return cache_folder() / "processors" / f"{sha256(key.encode()).hexdigest()[:32]}.json"


@cache
def _core_speed(path: Path, bfloat16: bool, now: str) -> CoreSpeed | None:
    with suppress(OSError, ValidationError):
        kept = TypeAdapter(KeptTimes).validate_json(path.read_bytes())
        if now or not kept.busy:
            return speed_of_times(kept.times)
    try:
        with ChildProcess() as child:
            times = TypeAdapter(Times).validate_python(child.call(measure_layers, bfloat16, seconds=SECONDS))
        found = speed_of_times(times)
    except Exception:
        logger.info("how fast a core computes can't be measured", exc_info=True)
        return None
    with suppress(OSError):  # where nothing can be kept, each process measures
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, dumps(asdict(KeptTimes(times=times, busy=now))), lasting=False)
    return found


def speed_of_times(times: Times) -> CoreSpeed | None:
    """Returns the speed that best explains the times of layers, in relative errors; the first size is of calls alone.

    Attention is at most as fast as the maps: less time can't be told. None if both take no time.
    """
    smallest = times[0][0]
    calls = max(seconds for width, *_, seconds in times if width == smallest)
    rows = [row for row in times if row[0] != smallest]
    operations = np.array(
        [
            (MAPS * width**2 * n * length * (1 + back), ATTENTION * width * n * length**2 * (1 + 2 * back))
            for width, n, length, back, _ in rows
        ]
    )
    seconds = np.array([each for *_, each in rows])
    passes = np.array([(1 + back) / 2 for *_, back, _ in rows])
    shares, left = operations / seconds[:, None], 1 - calls * passes / seconds
    maps, attention = np.linalg.lstsq(shares, left, rcond=None)[0].tolist()
    if attention < maps:
        maps = attention = float(np.linalg.lstsq(shares.sum(axis=1, keepdims=True), left, rcond=None)[0][0])
    if maps <= 0 or attention <= 0:
        return None
    return CoreSpeed(maps=1 / maps, attention=1 / attention, layer_seconds=CALLS * calls)
