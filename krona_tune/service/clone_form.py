"""Lists what a clone of a trial may change: each knob with its value, and what the request has for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from krona_tune.search.clone import refuse_uncloneable
from krona_tune.study.formatting import format_knob, format_name
from krona_tune.study.request.domain import Choice, Divisors, Domain, Fixed, Range
from krona_tune.study.request.plain_yaml import dump_yaml
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import KNOBS, section_of
from krona_tune.study.result import TrialResult


@dataclass(frozen=True, kw_only=True)
class CloneField:
    """One knob of the form: its key in an order, its words, the trial's value as YAML, what is legal, and choices."""

    key: str
    words: str
    value: str
    legal: str
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


def clone_fields(spec: StudySpec, row: TrialResult) -> list[CloneField]:
    """Returns the fields of a clone's form, first those that the study searches.

    Raises:
        Refusal: the trial is none of the search.
    """
    refuse_uncloneable(row, "trial")
    searched = {**spec.adapter, **spec.training, **spec.methods.get(str(row.params.get("method")), {})}
    fields = [_field(name, value, searched.get(name)) for name, value in row.params.items()]
    return sorted(fields, key=lambda each: isinstance(searched.get(each.name), Fixed | None))


def _field(name: str, value: Any, domain: Domain | None) -> CloneField:
    section = section_of(name)
    types = tuple(_words_of(KNOBS[section][name].annotation)) if name in KNOBS[section] else ()
    choices = tuple(map(written, domain.values)) if isinstance(domain, Choice) else types
    return CloneField(
        key=f"{section}.{name}",
        words=format_name(name),
        value=written(value),
        legal=_legal(domain, choices),
        choices=choices,
    )


def written(value: Any) -> str:
    """Returns a value as an order writes it."""
    return dump_yaml(value).removesuffix("...\n").strip()


def _legal(domain: Domain | None, choices: tuple[str, ...]) -> str:
    match domain:
        case Range():
            step = f" in steps of {format_knob(domain.step)}" if domain.step is not None else ""
            return f"{format_knob(domain.low)} to {format_knob(domain.high)}{step}"
        case Divisors():
            return f"a divisor of all adapted weights, {domain.low} to {domain.high or 'the smallest of them'}"
        case Fixed():
            return "not searched"
        case _:
            return f"one of {', '.join(choices)}" if choices else ""


def _words_of(kind: Any) -> Iterator[str]:
    """Yields the words that a field's type allows; nothing for numbers and free text."""
    if kind is bool:
        yield from ("true", "false")
    elif get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    else:
        for inner in get_args(kind):
            yield from _words_of(inner)
