"""Tests that a name means one thing, and that its docstring says what it holds or does.

No two public classes share a name, and none hides one that is imported.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.syntax_trees import tree_of

PACKAGE = Path(__file__).resolve().parent.parent / "krona_tune"
TAKEN = {"Path", "Tensor", "Any", "Iterator", "Mapping", "Sequence"}
"""Names that modules import from elsewhere; a class of the package that bears one hides it."""


def public_classes(package: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the module of each class at the top of a module, but for private ones."""
    for path in sorted(package.rglob("*.py")):
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, path.relative_to(package).as_posix()


def shared_names(package: Path) -> dict[str, list[str]]:
    """Returns each name that several classes have, with their modules."""
    modules = defaultdict(list)
    for name, module in public_classes(package):
        modules[name].append(module)
    return {name: found for name, found in modules.items() if len(found) > 1 or name in TAKEN}


def test_no_two_public_classes_have_the_same_name() -> None:
    assert shared_names(PACKAGE) == {}


def test_a_second_class_of_a_name_is_found_and_so_is_one_that_hides_an_imported_name(tmp_path: Path) -> None:
    (tmp_path / "kron").mkdir()
    (tmp_path / "kron/one.py").write_text("class Entry: ...\nclass _Private: ...\n", encoding="utf-8")
    (tmp_path / "two.py").write_text(
        "class Path: ...\nclass _Private: ...\nclass Entry:\n    class Inner: ...\n", encoding="utf-8"
    )
    assert shared_names(tmp_path) == {"Entry": ["kron/one.py", "two.py"], "Path": ["two.py"]}


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
