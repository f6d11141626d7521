"""Tests that a name means one thing, and that its docstring says what it holds or does.

No two public classes share a name, and none hides one that is imported; no two public functions share one, but for
a few that do the same to things of their own.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.syntax_trees import tree_of

PACKAGE = Path(__file__).resolve().parent.parent / "krona_tune"
TAKEN = {"Path", "Tensor", "Any", "Iterator", "Mapping", "Sequence"}
"""Names that modules import from elsewhere; a class of the package that bears one hides it."""
SHARED = {
    "adapter_folder": "of a study: by a storage and names, and by its folder",
    "check": "that a request's data are there: of all kinds, of GLUE, of a submission",
    "difference": "of two configurations' scores, and of two models' outputs",
    "divide": "examples among parts, of GLUE and of one's own; slots among studies",
    "load": "an adapter, a task's data, a run's state",
    "predict": "from a row of the surrogate, a table of examples, texts",
    "read": "of GLUE, of one's own files, of records",
}
"""Functions that several modules have: the name says what is done or found, the module to what or of what."""
CLASS, FUNCTION = (ast.ClassDef,), (ast.FunctionDef, ast.AsyncFunctionDef)


def public_names(package: Path, kinds: tuple[type[ast.stmt], ...]) -> Iterator[tuple[str, str]]:
    """Yields the name and the module of each class or function at the top of a module, but for private ones.

    A function of `cli` is a command, whose name is a word of the command line.
    """
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        for node in tree_of(path).body:
            command = place.parts[0] == "cli" and isinstance(node, FUNCTION)
            if isinstance(node, kinds) and not node.name.startswith("_") and not command:  # type: ignore[attr-defined]
                yield node.name, place.as_posix()  # type: ignore[attr-defined]


def shared_names(package: Path, kinds: tuple[type[ast.stmt], ...]) -> dict[str, list[str]]:
    """Returns each name that several classes or functions have, or that hides an imported one, with their modules."""
    modules = defaultdict(list)
    for name, module in public_names(package, kinds):
        modules[name].append(module)
    return {name: found for name, found in modules.items() if len(found) > 1 or name in TAKEN}


def test_no_two_public_classes_have_the_same_name() -> None:
    assert shared_names(PACKAGE, CLASS) == {}


def test_no_two_public_functions_have_the_same_name_but_a_few() -> None:
    assert shared_names(PACKAGE, FUNCTION).keys() == SHARED.keys()


def test_a_second_class_of_a_name_is_found_and_so_is_one_that_hides_an_imported_name(tmp_path: Path) -> None:
    (tmp_path / "kron").mkdir()
    (tmp_path / "kron/one.py").write_text("class Entry: ...\nclass _Private: ...\n", encoding="utf-8")
    (tmp_path / "two.py").write_text(
        "class Path: ...\nclass _Private: ...\nclass Entry:\n    class Inner: ...\n", encoding="utf-8"
    )
    assert shared_names(tmp_path, CLASS) == {"Entry": ["kron/one.py", "two.py"], "Path": ["two.py"]}


def test_a_second_function_of_a_name_is_found_if_it_is_no_command_and_not_private(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli/show.py").write_text("def show(): ...\n", encoding="utf-8")
    (tmp_path / "one.py").write_text("def show(): ...\ndef _f(): ...\nasync def open(): ...\n", encoding="utf-8")
    (tmp_path / "two.py").write_text("def _f(): ...\ndef open(): ...\nclass Open:\n    def show(self): ...\n")
    assert shared_names(tmp_path, FUNCTION) == {"open": ["one.py", "two.py"]}


def questions(package: Path) -> list[str]:
    """Returns the classes and functions whose docstring begins with a question word: it leaves open what they do."""
    return [
        f"{path.relative_to(package).as_posix()}: {node.name}"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (ast.get_docstring(node) or "").startswith(("What ", "How ", "Where ", "Whether ", "Which "))
    ]


def test_a_docstring_says_what_its_name_holds_or_does() -> None:
    assert questions(PACKAGE) == []


def test_a_docstring_that_begins_with_a_question_word_is_found(tmp_path: Path) -> None:
    text = 'class Kept:\n    """What is kept."""\n    def take(self):\n        """Takes what is kept."""\n'
    (tmp_path / "kept.py").write_text(text, encoding="utf-8")
    assert questions(tmp_path) == ["kept.py: Kept"]
