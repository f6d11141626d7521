"""Finds the geometry that a config.json describes: one that is shipped or was found before, else by introspection."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs

from krona_tune.atomic_write import write_atomically
from krona_tune.backbones.config_check import check_config
from krona_tune.backbones.geometry import Geometry, Role
from krona_tune.backbones.geometry_file import from_json, to_json
from krona_tune.refusal import Refusal

SHIPPED = Path(__file__).with_name("shipped")
"""Geometries of the backbones of the shipped search spaces, so that these need no torch."""
WITHOUT_MEANING = {
    "_commit_hash", "_name_or_path", "architectures", "auto_map", "bos_token_id", "classifier_dropout", "dtype",
    "eos_token_id", "finetuning_task", "gradient_checkpointing", "id2label", "label2id", "num_labels", "output_past",
    "problem_type", "task_specific_params", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip
"""Keys of a config.json that change no size and no name in the model."""


def geometry(
    config: Mapping[str, Any], place: str = "config.json", corrections: Mapping[Role, str] | None = None
) -> Geometry:
    """Returns the geometry that a transformers config describes.

    What introspection finds is kept in the user's cache folder, and found there without torch.

    Args:
        corrections: patterns of the names of maps in a layer, such as `*.q_proj`, by the roles that a person
            gives them.

    Raises:
        Refusal: it describes no model that transformers knows, or none that adapters can be put into.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("model_type"), str):
        raise Refusal(place, "states no model_type", "give the config.json of a transformers model")
    check_config(config, place)
    meaning = meaning_of(config, corrections)
    return _known(meaning) or _introspected(meaning, config, place, corrections)


def meaning_of(config: Mapping[str, Any], corrections: Mapping[Role, str] | None = None) -> str:
    """Returns the values that decide about the geometry. No fraction does, nor does the usual tying of embeddings."""
    deciding = _without_fractions(config)
    if deciding.get("tie_word_embeddings") is True:
        del deciding["tie_word_embeddings"]
    in_order = [[role, pattern] for role, pattern in (corrections or {}).items()]
    return json.dumps({**deciding, "corrections": in_order}, sort_keys=True, default=str)


def _without_fractions(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_fractions(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in WITHOUT_MEANING and not isinstance(value, float)
    }


_FOUND: dict[str, Geometry] = {}
"""What this process has read or found."""


def _known(meaning: str) -> Geometry | None:
    """Returns the geometry from the shipped files or the user's cache, None if neither has it."""
    if meaning in _FOUND:
        return _FOUND[meaning]
    for file_of in (shipped_file, _cached_file):
        try:
            return _FOUND.setdefault(meaning, from_json(file_of(meaning).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # damaged or of another version: made again
            continue
    return None


def _introspected(
    meaning: str, config: Mapping[str, Any], place: str, corrections: Mapping[Role, str] | None
) -> Geometry:
    from krona_tune.backbones.introspection.introspect import introspect  # imports torch

    found = _FOUND[meaning] = introspect(config, place, corrections)
    path = _cached_file(meaning)
    with suppress(OSError):  # it is found again the next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(found), lasting=False)
    return found


def shipped_file(meaning: str) -> Path:
    return SHIPPED / f"{_hash(meaning)}.json"


def _cached_file(meaning: str) -> Path:
    return platformdirs.user_cache_path("krona_tune") / "geometry" / f"{_hash(f'{_means()} {meaning}')}.json"


@cache
def _means() -> str:
    """Returns a hash of what finds a geometry: the versions of the libraries and the introspection's own source."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    own = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return f"{version('transformers')} {version('torch')} {own}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
