"""Tests that the table of orders is whole, and that nothing else spells the name of an order."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import krona_tune
from krona_tune.cli.steering import WORDS
from krona_tune.search.order_table import OF_A_FULL_TRAINING, ORDER_ACTIONS
from krona_tune.study.order import FOR_PEOPLE, OF_A_DRIVER, OrderKind, OrderRequest
from krona_tune.study.settings import ORDERED
from tests.syntax_trees import tree_of

PACKAGE = Path(krona_tune.__file__).parent
OF_OTHER_THINGS = {"trials", "max_concurrent", "time_budget", "stop", "share"}
"""The words that mean other things too: three settings, a file, and a flag and a format."""


def test_a_driver_answers_each_kind_of_order() -> None:
    assert list(ORDER_ACTIONS) == list(OrderKind)
    assert OF_A_DRIVER == ("cancel", "share")
    assert OF_A_FULL_TRAINING == ("pause", "continue", "cancel", "share")


@pytest.mark.parametrize("kind", OrderKind)
def test_each_row_agrees_with_itself(kind: OrderKind) -> None:
    answer, takes = ORDER_ACTIONS[kind], kind.facts.takes
    assert kind not in ORDERED or takes == ("value",)
    assert not answer.needs_searcher or (answer.settled and answer.of_the_search)
    assert bool(kind.facts.example) == bool(takes)
    names = [name for name in takes if name != "settings"]
    named = dict(zip(names, kind.facts.example.split(" ", len(names) - 1), strict=False))
    assert OrderRequest(what=kind, **named).text == " ".join(filter(None, [kind.word, kind.facts.example]))


@pytest.mark.parametrize("kind", [kind for kind in OrderKind if kind.facts.control])
def test_the_page_offers_an_order_as_it_is_given(kind: OrderKind) -> None:
    control = kind.facts.control
    assert control is not None
    assert bool(control.label) == ("value" in kind.facts.takes)
    assert re.fullmatch(control.pattern, control.placeholder)
    assert control.placeholder.startswith(control.prefix)
    assert not kind.facts.by_queue


def test_each_order_for_people_has_words_of_its_own() -> None:
    assert len({(kind.word, bool(kind.facts.takes)) for kind in FOR_PEOPLE}) == len(FOR_PEOPLE)
    assert set(WORDS) == {kind.word for kind in FOR_PEOPLE}
    assert {"stop", "clone", "max-concurrent"} <= set(WORDS)
    assert "share" not in WORDS


def test_no_other_module_spells_an_order() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if _spells(path)}
    assert found == {"study/order.py"}
    pages = (PACKAGE / "report" / "templates").iterdir()
    orders = re.compile(rf'(data-order=|what [!=]== )"({"|".join(OrderKind)})"')
    assert [path.name for path in pages if orders.search(path.read_text(encoding="utf-8"))] == []


def _spells(path: Path) -> bool:
    """Returns whether a module has the name of an order, or compares or gives what an order asks as a text."""
    tree = tree_of(path)
    alone = set(OrderKind) - OF_OTHER_THINGS
    return any(
        (isinstance(node, ast.Constant) and node.value in alone)
        or (isinstance(node, ast.Call) and _is_order(node.func) and _has_text([each.value for each in node.keywords]))
        or (isinstance(node, ast.Compare) and _asks(node.left) and _has_text(node.comparators))
        or (isinstance(node, ast.Match) and _asks(node.subject) and _has_text([case.pattern for case in node.cases]))
        for node in ast.walk(tree)
    )


def _asks(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "what"


def _is_order(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"OrderRequest", "order_request"}


def _has_text(nodes: Sequence[ast.AST]) -> bool:
    return any(isinstance(each, ast.Constant) for node in nodes for each in ast.walk(node))
