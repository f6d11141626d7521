"""Settings that earlier versions had: an old study.yaml opens where it asks for what is done now in any case."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from krona_tune.refusal import Refusal, shown


class Dropped(NamedTuple):
    """`default` is what the setting was where nobody set it, `reason` why it is no more."""

    default: Any
    reason: str


DROPPED = {
    "search.coupled": Dropped(False, "its lead over drawing learning rate and scale apart did not last"),
    "search.transfer": Dropped(False, "no gain was seen from one task's points on another within a study"),
}
"""By dotted path."""


def without_dropped(written: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The values of a request, by nested keys, without the settings that were dropped.

    Raises:
        Refusal: one of them asks for something else than its default.
    """
    kept = dict(written)
    for path, (default, reason) in DROPPED.items():
        section, _, key = path.rpartition(".")
        settings = kept.get(section)
        if not isinstance(settings, Mapping) or key not in settings:
            continue
        if settings[key] != default:
            problem = f"{shown(settings[key])} is refused: {reason}"
            raise Refusal(f"{place}: {path}", problem, f"leave it out, or write {shown(default)}")
        kept[section] = {name: value for name, value in settings.items() if name != key}
    return kept
