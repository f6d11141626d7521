"""Resolves the fields of peft's configurations in a space, and refuses those that peft would refuse."""

import random
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from krona_tune.adapters.methods.method_table import is_peft
from krona_tune.refusal import Refusal, shown
from krona_tune.search.planning.space import Space
from krona_tune.study.spec.domain import Choice, Domain, Fixed, as_real
from krona_tune.study.spec.study_spec import StudySpec
from krona_tune.study.spec.trial import PEFT_FIELD

TRIES = 50
"""Draws of the other knobs before a field's value is believed to fit nowhere."""


def fields_of_peft(spec: StudySpec, method: str, place: str) -> dict[str, Domain]:
    """Returns the domains of a method's fields: those of its own section, and those of `adapter` that it has.

    Raises:
        Refusal: there is no such method, field or type of value; or the method needs data to start.
    """
    from krona_tune.adapters.methods.peft_class import check_field, field_types

    try:
        types = field_types(method)
    except Refusal as refusal:
        raise Refusal(f"{place}: {refusal.place}", refusal.problem, refusal.fix) from None
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


def refuse_unused_fields(spec: StudySpec, knobs: Mapping[str, Collection[str]], place: str) -> None:
    """Refuses a field in the section `adapter` that no method of the space has."""
    for name in spec.adapter:
        if name.startswith(PEFT_FIELD) and not any(name in domains for domains in knobs.values()):
            from krona_tune.adapters.methods.peft_class import check_field

            for method in filter(is_peft, knobs):
                check_field(method, name.removeprefix(PEFT_FIELD), spec.adapter[name].ends()[0], f"{place}: adapter")


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
