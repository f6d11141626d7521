"""Tests that public names can be told from private ones, and that each is described: its arguments, fields, errors."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from krona_tune.api.study import Study
from krona_tune.api.study_arguments import StudyArguments, StudyKeywords
from tests.docs.blocks import PAGES, ROOT

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
pytest.importorskip("peft", reason="the extra `peft` is not installed")
sys.path.insert(0, str(ROOT / "docs"))
pages = importlib.import_module("generated_pages")
sys.path.remove(str(ROOT / "docs"))

TYPED = """
from krona_tune import Refusal, Study, compare, curves, load, open_study, optuna_space, predict
from krona_tune.kron.factors import FactorShape, factor_shapes

study = Study(tasks=["cola"], trials=8, shared=True)
same: Study = Study.from_yaml("minilm", name="first", trials="+8", notify=["json://localhost"])
answers: list[str] = predict("folder", ["a text"])
shapes: list[FactorShape] = factor_shapes(384, 384, terms=2)
best: float | None = open_study("first").best("cola").score
both: list[str] = compare(["first", "second"])["study"].tolist()
refused: type[ValueError] = Refusal
"""
UNTYPED = "Study.from_yaml('minilm', trils=8)\nStudy(seed='one')\nfactor_shapes('384', 384)\n"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def public() -> Iterator[tuple[str, Any]]:
    """Yields every public function, class and method with its name."""
    for module in pages.PUBLIC:
        for name in importlib.import_module(module).__all__:
            found = getattr(importlib.import_module(module), name)
            yield f"{module}.{name}", found
            if isinstance(found, type):
                members = pages.public_members(found)
                yield from ((f"{module}.{name}.{each}", inspect.getattr_static(found, each, None)) for each in members)


def callable_of(found: Any) -> Callable[..., Any] | None:
    """Returns what has the docstring; None of a field."""
    match found:
        case property():
            return found.fget
        case cached_property():
            return found.func
        case classmethod() | staticmethod():
            return found.__func__
        case _:
            return found if callable(found) else None


CALLED = {name: what for name, found in public() if (what := callable_of(found))}
CLASSES = {name: kind for name, kind in CALLED.items() if isinstance(kind, type)}
EACH = pytest.mark.parametrize("name", CALLED)
EACH_CLASS = pytest.mark.parametrize("name", CLASSES)


def described_of(found: Callable[..., Any]) -> set[str]:
    """Returns the arguments that a docstring names under `Args:`; a class has them there or at its constructor."""
    docstrings = [inspect.getdoc(found) or ""]
    if isinstance(found, type):
        docstrings.append(inspect.getdoc(found.__init__) or "")
    sections = [words for text in docstrings for words in re.findall(r"^Args:\n((?:    .*\n?|\n)+)", text, re.M)]
    return {name for words in sections for name in re.findall(r"^    (\w+):", words, re.M)}


def fields_of(kind: type) -> set[str]:
    """Returns the names of a dataclass's or a model's own fields, which are described below each."""
    is_values = issubclass(kind, BaseModel) or hasattr(kind, "__dataclass_fields__")
    return set(inspect.get_annotations(kind)) if is_values else set()


def arguments_of(found: Callable[..., Any]) -> set[str]:
    """Returns the arguments of a signature; typed keywords count as one, `keywords`, which has a table of its own."""
    if isinstance(found, type) and fields_of(found):
        return set()
    taken = set(inspect.signature(found).parameters) - {"self", "cls"}
    keywords = set((StudyArguments if "from_yaml" in found.__qualname__ else StudyKeywords).__annotations__)
    return taken - keywords | {"keywords"} if keywords <= taken else taken


def of_module(module: str) -> ModuleType:
    return importlib.import_module(module)


def test_the_reference_lists_the_modules_that_have_an_all_and_no_other() -> None:
    written = {
        module_name(path)
        for path in (ROOT / "krona_tune").rglob("*.py")
        if re.search(r"^__all__\b", path.read_text(encoding="utf-8"), re.M)
    }
    assert written == set(pages.PUBLIC)


def test_the_reference_shows_each_public_name_once() -> None:
    shown = re.findall(r"^### `(.*)`$", pages.python_interface(), re.M)
    assert shown == [f"{module}.{name}" for module in pages.PUBLIC for name in of_module(module).__all__]


@pytest.mark.parametrize("module", pages.PUBLIC)
def test_each_name_of_an_all_exists(module: str) -> None:
    assert not [name for name in of_module(module).__all__ if not hasattr(of_module(module), name)]


def test_what_the_pages_import_is_public() -> None:
    imported = [
        (page.name, module, name.strip())
        for page in PAGES
        for module, names in re.findall(r"^from (krona_tune[\w.]*) import ([\w, ]+)", page.read_text("utf-8"), re.M)
        for name in names.split(",")
    ]
    assert len(imported) > 3
    assert not [each for each in imported if each[2] not in getattr(of_module(each[1]), "__all__", ())]


@EACH
def test_a_docstring_begins_with_a_verb(name: str) -> None:
    first = (inspect.getdoc(CALLED[name]) or "").split(" ")[0]
    assert re.fullmatch(r"[A-Z][a-z]+s,?", first), first


@EACH
def test_each_argument_is_described(name: str) -> None:
    assert arguments_of(CALLED[name]) == described_of(CALLED[name])


@EACH_CLASS
def test_each_field_is_described_below_it(name: str) -> None:
    kind = CLASSES[name]
    about = pages.ModuleAnalyzer.for_module(kind.__module__).find_attr_docs()
    described = {field for owner, field in about if owner == kind.__name__}
    assert {field for field in fields_of(kind) if field[0] != "_" and field != "model_config"} <= described


def written_in(found: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Returns the functions that a call of this runs first and that have source code: of a class, what makes it."""
    if not isinstance(found, type):
        return [inspect.unwrap(found)]
    made = [inspect.unwrap(vars(found)[name]) for name in ("__init__", "__post_init__") if name in vars(found)]
    return [each for each in made if each.__code__.co_filename != "<string>"]


def errors_of(code: Callable[..., Any]) -> Iterator[str]:
    """Yields the class of each error that a function raises itself; `unknown` makes a Refusal."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(code)))):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(id="unknown"))):
                yield "Refusal"
            case ast.Raise(exc=ast.Call(func=ast.Name(id=error))) if error[0].isupper():
                yield error


@EACH
def test_each_error_that_is_raised_is_named(name: str) -> None:
    """Those of a class may stand at the class, if every method can raise them."""
    found = CALLED[name]
    of_class = CLASSES.get(name.rpartition(".")[0])
    said = f"{inspect.getdoc(found)}\n{inspect.getdoc(of_class) if of_class else ''}"
    raised = {error for code in written_in(found) for error in errors_of(code)}
    assert not [error for error in raised if f"{error}:" not in said]


def test_a_study_from_yaml_takes_what_a_study_takes() -> None:
    taken = inspect.signature(Study).parameters.keys() - {"space"}
    assert set(StudyArguments.__annotations__) == taken


@pytest.mark.slow
def test_a_program_that_imports_krona_tune_is_checked_by_its_types(tmp_path: Path) -> None:
    assert (ROOT / "krona_tune" / "py.typed").exists()
    for name, text in (("typed.py", TYPED), ("untyped.py", TYPED + UNTYPED)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--no-pretty"]
    files = [str(tmp_path / "typed.py"), str(tmp_path / "untyped.py")]
    ended = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in ended.stdout.splitlines() if " error: " in line]
    assert len(errors) == 3, ended.stdout + ended.stderr
    first = len(TYPED.splitlines()) + 1
    assert [f"untyped.py:{first + number}:" in line for number, line in enumerate(errors)] == [True] * 3
