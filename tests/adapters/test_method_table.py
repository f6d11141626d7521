"""Tests that a row says all of a method, and that no other module spells a method's name."""

import ast
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

from krona_tune.adapters.method_table import METHODS, AttachPoint, Method, method_named
from krona_tune.study.request.trial import HEAD_ONLY, SET_BY_METHOD, AdapterConfig
from tests.syntax_trees import tree_of

PACKAGE = Path(__file__).parents[2] / "krona_tune"
OTHER_WORDS = {"adapter", "full"}
"""Names of methods that are also the name of a section, and of what a budget trains."""
SPELLED = {
    "adapters/method_table.py": "the table",
    "adapters/export_forms.py": "a form of an export",
    "adapters/gguf_form.py": "the type of an adapter in llama.cpp's format",
    "adapters/peft_class.py": "peft's own names for its methods",
    "api/contribution.py": "the columns of recorded curves are those of KronA",
    "api/comparison_tables.py": "a column of a table",
    "kron/factors.py": "which factors start at zero is named after the papers",
    "kron/product.py": "which factors start at zero is named after the papers",
    "peft_method.py": "which factors start at zero is named after the papers",
    "peft_search.py": "the methods that are offered, with peft's own configurations",
    "search/planning/earlier_study.py": "the curves that come with the package were recorded with KronA",
    "search/planning/model_domains.py": "a space that is made has this method",
    "study/request/deploy_target.py": "a form of an export",
    "study/request/trial.py": "the default, the baseline, and what a configuration fixes before a table is known",
}
"""The modules that may spell a method's name, and why."""


def spelled(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and node.value in METHODS.keys() - OTHER_WORDS:
            yield node.value


def test_no_other_module_spells_a_methods_name() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if list(spelled(path))}
    assert found == SPELLED.keys()


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_a_row_is_complete(method: Method) -> None:
    assert METHODS[method.name] is method_named(method.name) is method
    assert method.reads <= set(AdapterConfig.model_fields)
    assert not method.reads & SET_BY_METHOD.get(method.name, {}).keys()
    assert bool(method.module) + bool(method.modules) == (method.attach_point is not AttachPoint.NOWHERE)
    assert bool(method.modules) or not method.counted
    for named in filter(None, (method.module, method.modules, method.counted)):
        assert callable(resolve_name(named))


def test_each_form_of_peft_is_found() -> None:
    pytest.importorskip("peft", reason="the extra `peft` is not installed")
    for method in (*METHODS.values(), method_named("peft:HiRA")):
        for named in filter(None, (method.peft_form, method.modules, method.counted)):
            assert callable(resolve_name(named))
        assert not method.peft_form or method.merges_into == "weight"


def test_the_baseline_alone_trains_nothing_but_the_head() -> None:
    assert [method.name for method in METHODS.values() if method.trains_head_alone] == [HEAD_ONLY]
