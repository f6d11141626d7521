"""Keeps what the study's model expects of each knob, as `results/effects.parquet`; the page draws it."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_path

logger = logging.getLogger(__name__)
FILE = "effects.parquet"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The score expected of a knob's value: the mean over the other knobs at the full budget, with one deviation down
    and up. `number` is the value if it is a number."""

    task: str
    knob: str
    value: str
    number: float | None
    expected: float
    low: float
    high: float


_TYPES = {"task": pa.string(), "knob": pa.string(), "value": pa.string()}
SCHEMA = pa.schema([(field.name, _TYPES.get(field.name, pa.float64())) for field in fields(Effect)])


def write_effects(results: Path, effects: Sequence[Effect]) -> None:
    """Writes the effects in place of earlier ones."""
    with atomic_path(results / FILE) as temporary:
        pq.write_table(pa.Table.from_pylist([asdict(effect) for effect in effects], SCHEMA), temporary)


def read_effects(results: Path) -> list[Effect]:
    """Returns the effects, none if they were not written or can't be read: they can be computed again."""
    try:
        return [Effect(**row) for row in pq.read_table(results / FILE, schema=SCHEMA).to_pylist()]
    except FileNotFoundError:
        return []
    except (OSError, pa.ArrowException) as error:
        logger.warning("%s can't be read: %s", results / FILE, error)
        return []
