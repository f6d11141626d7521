"""Finds the fields of peft's configurations that a request searches, and refuses what peft can't take."""

import random
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from krona_tune.adapters.method_table import is_peft
from krona_tune.refusal import Refusal, shown
from krona_tune.search.planning.space import Space
from krona_tune.study.request.domain import Choice, Domain, Fixed, as_real
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import PEFT_FIELD

TRIES = 50
"""Draws of the other knobs before a field's value is believed to fit nowhere."""


def fields_of_peft(spec: StudySpec, method: str, place: str) -> dict[str, Domain]:
    """Returns the domains of a method's fields: those of its own section, and those of `adapter` that it has.

    Raises:
        Refusal: there is no such method, field or type of value; or the method needs data to start.
    """
    from krona_tune.adapters.peft_class import check_field, field_types

    try:
        types = field_types(method)
    except Refusal as refusal:
        raise refusal.at(f"{place}: {refusal.place}") from None
    own = spec.methods.get(method, {})
    found = {}
    for name, domain in spec.domains(method).items():
        field = name.removeprefix(PEFT_FIELD)
        if not name.startswith(PEFT_FIELD) or (name not in own and field not in types):
            continue
        section = f"{place}: " + (f"methods.{method}" if name in own else "adapter")
        found[name] = as_real(domain) if types.get(field) is float else domain
        for value in found[name].ends():
            check_field(method, field, value, section)
    return found


def refuse_odd_methods(spec: StudySpec, place: str) -> None:
    """Refuses two spellings of one method of peft, and unknown methods or fields in the section `methods`, searched or
    not."""
    from krona_tune.adapters.peft_class import plain_name

    spelt: dict[str, str] = {}
    for method in filter(is_peft, [*map(str, spec.domains()["method"].ends()), *spec.methods]):
        if spelt.setdefault(plain_name(method), method) != method:
            both = f"{spelt[plain_name(method)]} and {method} are one method"
            raise Refusal(f"{place}: methods.{method}", both, "write it the same way everywhere")
        fields_of_peft(spec, method, place)


def refuse_unused_fields(spec: StudySpec, knobs: Mapping[str, Collection[str]], place: str) -> None:
    """Refuses, in the section `adapter`, a field that no searched method has, and a knob of ours that none reads and
    that a searched method of peft has as a field."""
    searched = list(filter(is_peft, knobs))
    for name, domain in spec.adapter.items():
        if any(name in domains for domains in knobs.values()):
            continue
        field, where = name.removeprefix(PEFT_FIELD), f"{place}: adapter"
        if name.startswith(PEFT_FIELD):
            _refuse_unknown(searched, field, domain, where)
        elif owner := next((method for method in searched if _has(method, field)), None):
            problem = f"no searched method reads this knob of ours, and {owner} has a field of that name"
            raise Refusal(f"{where}.{name}", problem, f"write it under methods: {{'{owner}': …}}")


def _refuse_unknown(searched: list[str], field: str, domain: Domain, place: str) -> None:
    if not searched:
        raise Refusal(f"{place}.{PEFT_FIELD}{field}", "no searched method is one of peft's", "leave it out")
    from krona_tune.adapters.peft_class import check_field

    check_field(searched[0], field, domain.ends()[0], place)
    raise AssertionError(f"{searched[0]} has the field {field}")


def _has(method: str, field: str) -> bool:
    from krona_tune.adapters.peft_class import field_types

    return field in field_types(method)


def refuse_unusable_values(space: Space, place: str) -> None:
    """Refuses a listed value of a field with which no point fits the backbone, with what peft says of it."""
    [method] = space.methods
    if not is_peft(method):
        return
    for name, domain in space.knobs[method].items():
        if name.startswith(PEFT_FIELD) and isinstance(domain, Fixed | Choice):
            for value in domain.ends():
                if misfit := _misfit(space, method, name, value):
                    where = f"{place}: {method}: {name.removeprefix(PEFT_FIELD)}"
                    raise Refusal(where, f"{shown(value)} fits no adapted map: {misfit.problem}", misfit.fix)


def _misfit(space: Space, method: str, name: str, value: Any) -> Refusal | None:
    """Returns why no draw with this value fits; None if one does."""
    narrowed = replace(space, knobs={method: {**space.knobs[method], name: Fixed(value)}})
    rng, misfit = random.Random(0), None
    for _ in range(TRIES):
        try:
            narrowed.parameters(narrowed.draw(rng))
        except Refusal as refusal:
            misfit = refusal
        else:
            return None
    return misfit
