"""Writes a geometry as JSON and reads it back."""

import json
from dataclasses import asdict, fields
from typing import Any

from krona_tune.backbones.geometry import Geometry, LeftOut, Role, Rows, Site, Stack

FORMAT = 1
"""Raise it when a field's meaning changes: files of another format are not read."""
_SITE = [field.name for field in fields(Site)]


def to_json(geometry: Geometry) -> str:
    """Returns the geometry in one line; a site is a list of its fields' values."""
    values = asdict(geometry)
    sites = [[site[name] for name in _SITE] for site in values.pop("sites")]
    return json.dumps({"format": FORMAT, **values, "sites": sites}, separators=(",", ":"))


def from_json(text: str) -> Geometry:
    """Returns the geometry that `to_json` wrote.

    Raises:
        ValueError: the text is no geometry of this format.
    """
    try:
        values = json.loads(text)
        if values.pop("format") != FORMAT:
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
                "left_out": tuple(LeftOut(**each) for each in values["left_out"]),
            }
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no geometry: {error}") from error


def _site(values: dict[str, Any]) -> Site:
    rows = Rows(**values["rows"]) if values["rows"] else None
    return Site(**values | {"role": Role(values["role"]), "stack": Stack(values["stack"]), "rows": rows})
