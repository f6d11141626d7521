"""Finds the geometry that a config.json describes: one that is shipped or was found before, else by introspection.

Refuses a config that would break or stall whoever builds a model from it. No torch.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from krona_tune.atomic_write import write_atomically
from krona_tune.backbones.geometry import Geometry, Role, RoleRows, Site, Stack, UnadaptedMap
from krona_tune.machine import cache_folder
from krona_tune.refusal import Refusal

__all__ = ["geometry"]

_LAYERS = {"num_layers", "num_decoder_layers", "num_hidden_layers", "n_layers", "n_layer", "encoder_layers"}
_WIDTHS = (
    {"d_model", "d_ff", "d_kv", "num_heads", "hidden_size", "intermediate_size", "num_attention_heads", "head_dim"}
    | {"vocab_size", "embedding_size", "dim", "hidden_dim", "n_heads", "n_head", "n_embd", "conv_groups"}
    | {"relative_attention_num_buckets", "num_key_value_heads", "encoder_ffn_dim", "decoder_ffn_dim"}
)
_SIZES = (
    (_LAYERS | {"decoder_layers"}, 1, 1_000),
    (_WIDTHS, 1, 10_000_000),
    ({"max_position_embeddings", "n_positions"}, 1, 100_000_000),
    ({"type_vocab_size", "conv_kernel_size"}, 0, 10_000_000),
    ({"max_relative_positions", "position_buckets", "pad_token_id"}, -1, 10_000_000),
)
"""Keys of a config.json with their smallest and largest allowed values; a width may be a list, one for each layer."""


def check_config(config: Mapping[str, Any], place: str) -> None:
    """Checks the sizes.

    Raises:
        Refusal: a size is out of range, as a depth of billions would be built layer by layer.
    """
    for names, least, most in _SIZES:
        for name in sorted(config.keys() & names):
            value = config[name]
            each_layers = value if name in _WIDTHS and isinstance(value, list) and value else [value]
            if value is not None and not all(_is_from(size, least, most) for size in each_layers):
                raise Refusal(place, f"{name} is {value!r:.40}", f"it is a whole number from {least} to {most:,}")


def _is_from(size: object, least: int, most: int) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and least <= size <= most


GEOMETRY_FORMAT = 1
"""Raise it when a field's meaning changes: files of another format are not read."""
_SITE = [field.name for field in fields(Site)]


def to_json(geometry: Geometry) -> str:
    """Returns the geometry in one line; a site is a list of its fields' values."""
    values = asdict(geometry)
    sites = [[site[name] for name in _SITE] for site in values.pop("sites")]
    return json.dumps({"format": GEOMETRY_FORMAT, **values, "sites": sites}, separators=(",", ":"))


def from_json(text: str) -> Geometry:
    """Returns the geometry that `to_json` wrote.

    Raises:
        ValueError: the text is no geometry of this format.
    """
    try:
        values = json.loads(text)
        if values.pop("format") != GEOMETRY_FORMAT:
            raise ValueError("another format")
        if not all(isinstance(values[name], int) for name in ("norms", "norm_biases", "parameters", "width", "uses")):
            raise ValueError("a count is no whole number")
        return Geometry(
            **values
            | {
                "sites": tuple(_site(dict(zip(_SITE, each, strict=True))) for each in values["sites"]),
                "depths": {Stack(stack): depth for stack, depth in values["depths"].items()},
                "norms_of_layer": {Stack(stack): tuple(each) for stack, each in values["norms_of_layer"].items()},
                "head": tuple(values["head"]),
                "layer_names": {Stack(stack): tuple(each) for stack, each in values.get("layer_names", {}).items()},
                "left_out": tuple(UnadaptedMap(**each) for each in values["left_out"]),
                "weights": {name: tuple(sizes) for name, sizes in values["weights"].items()},
                "spared": tuple(values["spared"]),
            }
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no geometry: {error}") from error


def _site(values: dict[str, Any]) -> Site:
    rows = RoleRows(**values["rows"]) if values["rows"] else None
    return Site(**values | {"role": Role(values["role"]), "stack": Stack(values["stack"]), "rows": rows})


SHIPPED = Path(__file__).with_name("shipped")
"""Geometries of the backbones of the shipped search spaces and of the recorded curves, so that these need no torch."""
WITHOUT_MEANING = {
    "_commit_hash", "_name_or_path", "architectures", "auto_map", "bos_token_id", "classifier_dropout", "dtype",
    "eos_token_id", "finetuning_task", "gradient_checkpointing", "id2label", "label2id", "num_labels", "output_past",
    "problem_type", "task_specific_params", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip
"""Keys of a config.json that change no size and no name in the model."""

MULTIPLIES = ("multiplier", "factor", "ratio")
"""The ends of the names of fractions that decide about a size."""


SEES_ALL = frozenset({"bert-generation"})
"""Decoders that read what stands behind, too, unless their config says that they are decoders."""


def geometry(
    config: Mapping[str, Any], place: str = "config.json", corrections: Mapping[Role, str] | None = None
) -> Geometry:
    """Returns the geometry that a transformers config describes.

    What introspection finds is kept in the user's cache folder, and found there without torch.

    Args:
        config: the values of a config.json, as `model.config.to_dict()` returns them.
        place: what a refusal calls the config.
        corrections: patterns of the names of maps in a layer, such as `*.q_proj`, by the roles that a person
            gives them.

    Raises:
        Refusal: it describes no model that transformers knows, or none that adapters can be put into.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("model_type"), str):
        raise Refusal(place, "states no model_type", "give the config.json of a transformers model")
    check_config(config, place)
    if config["model_type"] in SEES_ALL and not config.get("is_decoder"):
        problem = f"a {config['model_type']} that is no decoder sees the tokens that it learns to write"
        raise Refusal(f"{place}: is_decoder", problem, 'write "is_decoder": true into it')
    meaning = meaning_of(config, corrections)
    return _known(meaning) or _introspected(meaning, config, place, corrections)


def meaning_of(config: Mapping[str, Any], corrections: Mapping[Role, str] | None = None) -> str:
    """Returns the values that decide about the geometry. No fraction does but one that a size is multiplied by, nor
    does an encoder-decoder's usual tying of embeddings."""
    deciding = _without_fractions(config)
    if deciding.get("tie_word_embeddings") is True and deciding.get("is_encoder_decoder"):
        del deciding["tie_word_embeddings"]
    in_order = [[role, pattern] for role, pattern in (corrections or {}).items()]
    return json.dumps({**deciding, "corrections": in_order}, sort_keys=True, default=str)


def _without_fractions(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_fractions(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in WITHOUT_MEANING and (key.endswith(MULTIPLIES) or not isinstance(value, float))
    }


FOUND: dict[str, Geometry] = {}
"""What this process has read or found."""


def _known(meaning: str) -> Geometry | None:
    """Returns the geometry from the shipped files or the user's cache, None if neither has it."""
    if meaning in FOUND:
        return FOUND[meaning]
    for file_of in (shipped_file, _cached_file):
        try:
            return FOUND.setdefault(meaning, from_json(file_of(meaning).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # damaged or of another version: made again
            continue
    return None


def _introspected(
    meaning: str, config: Mapping[str, Any], place: str, corrections: Mapping[Role, str] | None
) -> Geometry:
    from krona_tune.backbones.introspect import introspect  # imports torch

    found = FOUND[meaning] = introspect(config, place, corrections)
    path = _cached_file(meaning)
    with suppress(OSError):  # it is found again the next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(found), lasting=False)
    return found


def shipped_file(meaning: str) -> Path:
    return SHIPPED / f"{_hash(meaning)}.json"


def _cached_file(meaning: str) -> Path:
    return cache_folder() / "geometry" / f"{_hash(f'{_means()} {meaning}')}.json"


@cache
def _means() -> str:
    """Returns a hash of what finds a geometry: the versions of the libraries and the introspection's own source."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    own = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return f"{version('transformers')} {version('torch')} {own}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
