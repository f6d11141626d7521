"""Tests that a call from Python is checked against the annotations, and refused at the caller's line in its words."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from os import PathLike
from typing import Any, Literal, TypedDict, Unpack

import pytest

from krona_tune.refusal import NotNow, Refusal
from krona_tune.refused_calls import in_fields, naming_fields, refuse_misfit, refuse_odd_text, refusing_at_the_caller


class Keywords(TypedDict, total=False):
    rounds: int


@refusing_at_the_caller
def called(name: str, tasks: Sequence[str] = (), *, examples: str = "", **keywords: Unpack[Keywords]) -> Any:
    if name == "taken":
        raise Refusal("--name: taken", "is taken; see --space FILE and --unheard", "choose another with --set")
    return name, tasks, examples, keywords


def refusal_of(*given: Any, **named: Any) -> str:
    with pytest.raises(Refusal) as refused:
        called(*given, **named)
    assert traceback.extract_tb(refused.tb)[-1].name == "call", "no line of what is inside follows"
    return str(refused.value)


def test_what_fits_arrives_and_what_could_be_read_once_arrives_as_a_list() -> None:
    def names() -> Iterator[str]:
        yield from ("rte", "cola")

    assert called("first", names(), rounds=3) == ("first", ["rte", "cola"], "", {"rounds": 3})
    assert called("first", examples=" ") == ("first", (), " ", {})


def test_a_flag_becomes_the_keyword_of_that_name() -> None:
    assert refusal_of("taken") == "name: taken: is taken; see space=FILE and --unheard; choose another with settings="


FIELDS = {"--task": "task", "--max-params": "search.max_params"}


def test_a_request_s_fields_take_the_place_of_flags_and_other_flags_stay() -> None:
    refusal = Refusal("--max-params: 3", "--max-params 3 needs --task NAME", "raise --max-params, or leave --head out")
    said = "search.max_params: 3: search.max_params 3 needs task NAME; raise search.max_params, or leave --head out"
    assert str(in_fields(refusal, FIELDS, "{}")) == said
    with pytest.raises(NotNow, match="task: is busy"), naming_fields(FIELDS):
        raise NotNow("--task", "is busy")


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        ((3,), {}, "name: 3 is of the type int; give a text"),
        (("a", "rte"), {}, "tasks: 'rte' is of the type str; give a list"),
        (("a", ["rte", 3]), {}, "tasks[1]: 3 is of the type int; give a text"),
        ((" ",), {}, "name: its value is empty; give one, or leave it out"),
        (("a\x07",), {}, r"name: 'a\x07' holds the control character '\x07'; leave that out"),
        (("ä" * 200,), {}, f"name: '{'ä' * 40}…' has 400 bytes in one name; use at most 255"),
    ],
    ids=["type", "text for a list", "inner", "empty", "control", "long"],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    given: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    assert refusal_of(*given, **named) == message


def test_help_and_editors_see_every_typed_keyword_by_itself() -> None:
    assert list(signature(called).parameters) == ["name", "tasks", "examples", "rounds"]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (True, int, "x: True is of the type bool; give a whole number"),
        (None, str | PathLike, "x: None is of the type NoneType; give a text or a path"),
        ("autp", Literal["auto", "fp32"], "x: unknown word 'autp', did you mean 'auto'?"),
        (3, Literal["auto", "fp32"], "x: 3 is of the type int; give one of auto, fp32"),
        ({"a": [1, "b"]}, Mapping[str, Sequence[int]], "x: a[1]: 'b' is of the type str; give a whole number"),
        ({3: 1}, Mapping[str, int], "x: key: 3 is of the type int; give a text"),
        ("http://me:hunter2@host", int, "x: is of the type str; give a whole number"),
    ],
    ids=["switch", "none", "word", "no word", "inner", "key", "password"],
)
def test_a_misfit_is_told_by_its_innermost_part(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        refuse_misfit(value, kind, "x")
    assert str(refused.value) == message


def test_a_text_of_any_kind_needs_no_name_that_a_file_can_have() -> None:
    refuse_odd_text("a\nb" * 4_000, "examples", is_name=False)
    refuse_odd_text("s3://bucket/" + "x" * 300, "storage", is_name=True)
    with pytest.raises(Refusal, match="is no text in UTF-8"):
        refuse_odd_text("\ud800", "examples", is_name=False)
