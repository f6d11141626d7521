"""Tests that every field of the form has its row, and that a refusal is told at the field that it is about."""

import pytest

from krona_tune.refusal import Refusal
from krona_tune.service.new_study.study_form import FIELDS, NEEDED, NewStudy, Offer, at_its_field

ASKED = NewStudy(name="n", data="/d/a.csv", text="body", label="score", model="/m/bert")


def test_every_field_has_a_row_and_every_choice_an_offer() -> None:
    assert list(FIELDS) == list(NewStudy.model_fields)
    chosen = {name for name, row in FIELDS.items() if row.control in {"choice", "boxes"}}
    assert chosen == set(Offer.model_fields) - {"left_out"}
    assert NEEDED == ["name", "data", "text", "label", "model"]
    assert FIELDS["trials"].about == "Trials for each task."


@pytest.mark.parametrize(
    ("place", "field", "problem"),
    [
        ("--time-budget", "time_budget", "p"),
        ("search.trials", "trials", "p"),
        ("tasks: cola", "tasks", "tasks: cola: p"),
        ("name", "name", "p"),
        ("/d/a.csv", "data", "/d/a.csv: p"),
        ("/d/a.csv:7", "data", "/d/a.csv:7: p"),
        ("/d/a.csv: score", "label", "/d/a.csv: score: p"),
        ("/d/a.csv: score: row 3", "label", "/d/a.csv: score: row 3: p"),
        ("/d/a.csv: body", "text", "/d/a.csv: body: p"),
        ("/m/bert/config.json", "model", "/m/bert/config.json: p"),
        ("the request", "the request", "p"),
        ("", "", "p"),
    ],
)
def test_a_refusal_is_told_at_its_field(place: str, field: str, problem: str) -> None:
    told = at_its_field(Refusal(place, "p", "f"), ASKED)
    assert (told.place, told.problem, told.fix) == (field, problem, "f")
