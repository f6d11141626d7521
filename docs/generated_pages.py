"""Writes parts of pages as Markdown: the references, from the program itself, and the place of other pages."""

import html
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from enum import Enum
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
SHOWN = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false", "NoneType": "null"}


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


TEXTS = {"command-line": command_line, "keywords": study_keywords, "yaml": yaml_keys, "more-pages": more_pages}
"""What the directive `generated` shows, by its argument."""
