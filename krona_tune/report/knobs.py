"""Writes trials' knobs for people, and says which of them differ between trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from krona_tune.report.record_frames import shape_word
from krona_tune.study.formatting import NOTHING, format_knob
from krona_tune.study.result import TrialResult

SHAPE = "A"
"""The common heading of `a_out` and `a_in`."""


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Some trials' knobs: those that differ between them, and those that are the same in all of them."""

    differing: tuple[str, ...]
    fixed: Mapping[str, str]


def knobs_of(trial: TrialResult) -> dict[str, str]:
    """Returns a trial's knobs as the page writes them, with the two sizes of A in one place."""
    written = {name: format_knob(value) for name, value in trial.params.items() if name not in {"a_out", "a_in"}}
    return written | ({SHAPE: shape.replace("x", "×")} if (shape := shape_word(trial)) else {})


def knobs_among(trials: Sequence[TrialResult]) -> Knobs:
    """Returns which knobs differ between trials, the method and the shape first, and the others' values."""
    written = [knobs_of(trial) for trial in trials]
    names = list(dict.fromkeys(name for knobs in written for name in knobs))
    values = {name: {knobs.get(name, NOTHING) for knobs in written} for name in names}
    order = sorted(names, key=lambda name: (name not in {"method", SHAPE}, name != "method"))
    return Knobs(
        differing=tuple(name for name in order if len(values[name]) > 1),
        fixed={name: written[0][name] for name in order if len(values[name]) == 1},
    )
