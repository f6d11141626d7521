"""Finds the licence of a backbone: in the card beside its weights, or on the hub. No torch."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from krona_tune.adapters.files.forms import Licence
from krona_tune.adapters.files.model_card import HUB_NAME, README
from krona_tune.hub import refuse_unreadable, settle_offline
from krona_tune.refusal import Refusal
from krona_tune.train.backbone_source import find_backbone

KEYS = ("license", "license_name", "license_link")
"""What the header of a card says of a licence; the last two are of one that the hub has no word for."""


def find_licence(backbone: str, model: str | None = None) -> Licence:
    """Returns what the backbone's card says of its licence, by the keys of the hub.

    Args:
        backbone: the hub name or folder that the adapter's card names.
        model: where the same backbone is now, if not there.

    Raises:
        Refusal: no card can be found, or it names none.
    """
    for header in _headers([model, backbone] if model else [backbone]):
        if found := _licence_in(header):
            return found
    problem = f"the licence of {backbone} is unknown"
    raise Refusal("--license", problem, "name it as the hub does, for example --license apache-2.0")


def _licence_in(header: Mapping[str, Any]) -> Licence:
    found = {key: header[key] for key in KEYS if isinstance(header.get(key), str)}
    if not found.get("license"):
        return {}
    if not found.get("license_link", "https://").startswith("https://"):
        del found["license_link"]  # of a file that is beside the backbone only
    return found


def _headers(names: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yields the header of each card that can be read, the local ones first."""
    for name in names:
        with suppress(Refusal):
            if folder := find_backbone(name).folder:
                yield _local_header(Path(folder) / README)
    for name in names:
        if HUB_NAME.fullmatch(name):
            yield _header_on_hub(name)


def _local_header(path: Path) -> Mapping[str, Any]:
    settle_offline()
    from huggingface_hub import metadata_load

    refuse_unreadable(path)
    with suppress(Exception):  # whatever a file that others wrote makes YAML raise
        return metadata_load(path) or {}
    return {}


def _header_on_hub(name: str) -> Mapping[str, Any]:
    settle_offline()
    from huggingface_hub import HfApi

    with suppress(Exception):  # no network, no such model, no right to see it
        card = HfApi().model_info(name).card_data
        return card.to_dict() if card else {}
    return {}
