"""Writes parts of pages as Markdown: the references, from the program itself, and the place of other pages."""

import html
import importlib
import inspect
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.pycode import ModuleAnalyzer

from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.task_spec import PartSpec, TaskSpec
from krona_tune.study.request.trial import AdapterConfig, TrainingConfig
from krona_tune.study.settings import SETTINGS, Keywords

HIDDEN = {("StudySpec", "own_tasks"), ("AdapterConfig", "peft")}
"""Fields that YAML writes elsewhere."""
KNOBS: dict[str, type[BaseModel]] = {"adapter": AdapterConfig, "training": TrainingConfig}
"""The sections whose keys are knobs: each is a domain of what its field takes."""
PUBLIC = {
    "krona_tune": "What most people need. `import krona_tune` imports no torch: each name is imported when it is used.",
    "krona_tune.api.plan_view": "What `Study.plan` returns.",
    "krona_tune.adapters.inject": "What `load` returns, and what a training program of one's own attaches.",
    "krona_tune.adapters.merge": "Adapters in the weights, and out of them again.",
    "krona_tune.backbones.find_geometry": "Where a model has linear maps.",
    "krona_tune.study.request.trial": "One adapter's configuration.",
    "krona_tune.peft_method": "KronA as a method of PEFT, known to it as soon as this module is imported.",
    "krona_tune.kron.factors": "The shapes of the factors, in integers; imports no torch.",
    "krona_tune.kron.product": "The operator.",
    "krona_tune.service": "A client of the service, which needs no package of the service's.",
}
"""The modules that people import, each with `__all__`, and what it is for; every other module is private."""
SHOWN = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false", "NoneType": "null"}


def python_interface() -> str:
    """Returns a section for each public module, with what its `__all__` names."""
    return "\n\n".join(_module(name, words) for name, words in PUBLIC.items())


def _module(name: str, words: str) -> str:
    found = {each: getattr(importlib.import_module(name), each) for each in importlib.import_module(name).__all__}
    shown = [_directive(f"{name}.{each}", value) for each, value in found.items()]
    return "\n".join([f"## `{name}`", "", words, "", "```{eval-rst}", *shown, "```"])


def _directive(name: str, value: Any) -> str:
    if not isinstance(value, type):
        return f".. autofunction:: {name}\n"
    kind = "autoexception" if issubclass(value, Exception) else "autoclass"
    members = ", ".join(public_members(value))
    return f".. {kind}:: {name}\n" + (f"   :members: {members}\n" if members else "")


def public_members(kind: type) -> list[str]:
    """Returns the public fields, methods and properties of a class, its own first, as far as they are krona_tune's."""
    own = [base for base in kind.__mro__ if base.__module__.startswith("krona_tune.")]
    return [name for name in dict.fromkeys(each for base in own for each in _members(base)) if name[0] != "_"]


def _members(base: type) -> Iterator[str]:
    yield from inspect.get_annotations(base)
    members = (types.FunctionType, property, cached_property, classmethod, staticmethod)
    yield from (name for name, value in vars(base).items() if isinstance(value, members))


def command_line() -> str:
    """Returns typer's own description of every command, one section each."""
    asked = [sys.executable, "-m", "typer", "krona_tune.cli", "utils", "docs", "--name", "krona-tune"]
    said = html.unescape(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    commands = re.split(r"(?m)^(?=## )", said)[1:]
    return "\n".join(_without_help(command) for command in sorted(commands))


def _without_help(command: str) -> str:
    """Returns a command's description without the flag that every command has, and without an empty list of flags."""
    others = re.sub(r"(?m)^\* `--help`: .*\n", "", command)
    return re.sub(r"\*\*Options\*\*:\s+\Z", "", others)


def study_keywords() -> str:
    """Returns a table of the settings that are keywords of `Study`, and of the keys that they set."""
    rows = [f"| `{name}` | `{SETTINGS[name].key}` | {SETTINGS[name].help} |" for name in Keywords.__annotations__]
    return "\n".join(["| keyword | key | |", "|---|---|---|", *rows])


def yaml_keys() -> str:
    """Returns a table of keys for each section of a study's YAML, and for the descriptions of tasks."""
    return "\n\n".join(_section(path, model) for path, model in sections())


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yields each section's path in the YAML and its model; the study itself first, tasks last."""
    yield "", StudySpec
    yield from KNOBS.items()
    yield from _inner("", StudySpec)
    yield "tasks.NAME", TaskSpec
    yield from _inner("tasks.NAME", TaskSpec)
    yield "tasks.NAME.split.validation", PartSpec


def _inner(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner = f"{path}.{name}" if path else name
            yield inner, field.annotation
            yield from _inner(inner, field.annotation)


def _section(path: str, model: type[BaseModel]) -> str:
    about = ModuleAnalyzer.for_module(model.__module__).find_attr_docs()
    rows = [
        f"| `{name}` | {_type(field)} | {_default(field)} | {described(model, name, about)} |"
        for name, field in model.model_fields.items()
        if (model.__name__, name) not in HIDDEN
    ]
    title = f"## `{path}`" if path else "## The study"
    words = " ".join((model.__doc__ or "").split())
    return "\n".join([title, "", words, "", "| key | value | default | |", "|---|---|---|---|", *rows])


def described(model: type[BaseModel], name: str, about: dict[tuple[str, str], list[str]] | None = None) -> str:
    """Returns the words below a field of a model; empty if there are none."""
    found = about or ModuleAnalyzer.for_module(model.__module__).find_attr_docs()
    return " ".join(" ".join(found.get((model.__name__, name), [])).split()).replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value in ({}, ()):
        return ""
    value = list(value) if isinstance(value, tuple) else value
    if value == "":
        return "empty"
    return f"`{str(value).lower() if value is None or isinstance(value, bool) else value}`".replace("none", "null")


def _type(field: FieldInfo) -> str:
    return ", ".join(dict.fromkeys(_words(field.annotation))).replace("|", "\\|")


def _words(kind: Any) -> Iterator[str]:
    """Yields the forms that a type's values are written in."""
    match get_origin(kind):
        case typing_union if typing_union in (Union, types.UnionType):
            for inner in get_args(kind):
                yield from _words(inner)
        case found if found is Annotated:
            yield from _words(get_args(kind)[0])
        case found if found is Literal:
            yield from (f"`{value}`" for value in get_args(kind))
        case found if found is tuple:
            yield "list"
        case found if found is dict:
            yield "mapping"
        case _:
            yield from _plain(kind)


def _plain(kind: Any) -> Iterator[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield "mapping"
    elif isinstance(kind, type) and issubclass(kind, Enum):
        yield from (f"`{member}`" for member in kind)
    else:
        yield SHOWN.get(getattr(kind, "__name__", ""), "text")


def more_pages() -> str:
    """Returns the place of dependencies.md and of the recipes in the navigation, as far as they are there."""
    here = Path(__file__).parent
    found = [path for path in (here / "dependencies.md", *sorted((here / "recipes").rglob("*.md"))) if path.exists()]
    names = [str(path.relative_to(here).with_suffix("")) for path in found]
    return "\n".join(
        ["```{toctree}", ":caption: Recipes and dependencies", ":hidden:", "", *names, "```"] if names else []
    )


TEXTS = {
    "command-line": command_line,
    "keywords": study_keywords,
    "more-pages": more_pages,
    "python": python_interface,
    "yaml": yaml_keys,
}
"""What the directive `generated` shows, by its argument."""
