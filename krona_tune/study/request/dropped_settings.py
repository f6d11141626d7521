"""Lists the settings that were removed, and what a request may still say of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from krona_tune.refusal import Refusal, shown


class DroppedSetting(NamedTuple):
    """A former setting: `default` is the value that it had if nobody set it, `reason` says why it was removed."""

    default: Any
    reason: str


DROPPED = {
    "search.coupled": DroppedSetting(
        False, "its advantage over drawing learning rate and scale separately did not last"
    ),
    "search.transfer": DroppedSetting(False, "no gain was seen from one task's points on another within a study"),
}
"""By dotted path."""


def without_dropped(written: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Returns the values of a request, by nested keys, without the settings that were dropped.

    Raises:
        Refusal: one of them has another value than its default.
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
