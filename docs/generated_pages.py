"""Writes parts of pages as Markdown: the references and the glossary, and the place of other pages."""

import html
import importlib
import inspect
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from enum import Enum, EnumMeta
from functools import cached_property
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.pycode import ModuleAnalyzer

from krona_tune.api.study_arguments import StudyKeywords
from krona_tune.search.start_options import START_OPTIONS, StartKeywords
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
    "krona_tune.api.recommendation_view": "What `Study.recommend` returns.",
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
    return "\n\n".join([f"## `{name}`", words, *(_entry(f"{name}.{each}", value) for each, value in found.items())])


def _entry(name: str, value: Any) -> str:
    """Returns what is said of a public function or class, with the members of a class as a list."""
    parts = [f"### `{name}`", _signature(name.rpartition(".")[2], value), _prose(inspect.getdoc(value) or "")]
    if not isinstance(value, type):
        return "\n\n".join(filter(None, parts))
    if "__init__" in vars(value) and not hasattr(value, "__dataclass_fields__"):
        parts.append(_prose(inspect.cleandoc(value.__init__.__doc__ or "")))
    about = {name: text for base in reversed(value.__mro__) for name, text in _fields(base).items()}
    for member in public_members(value):
        found = inspect.getattr_static(value, member, None)
        called = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        read = getattr(found, "fget", None) or getattr(found, "func", None) or called
        taken = _parameters(called) if inspect.isfunction(called) else ""
        text = about.get(member) or (inspect.getdoc(read) or "" if callable(read) else "")
        parts.append(f"#### `.{member}{taken}`\n\n{_prose(text)}")
    return "\n\n".join(filter(None, parts))


def _fields(base: type) -> dict[str, str]:
    """Returns the words below each field of a class of krona_tune."""
    if not base.__module__.startswith("krona_tune."):
        return {}
    about = ModuleAnalyzer.for_module(base.__module__).find_attr_docs()
    return {name: "\n".join(lines) for (owner, name), lines in about.items() if owner == base.__name__}


def _signature(name: str, value: Any) -> str:
    return f"```text\n{name}{_parameters(value)}\n```" if not isinstance(value, EnumMeta) else ""


def _parameters(value: Any) -> str:
    """Returns the arguments of a call with their defaults; the keywords of `Study` have a table of their own."""
    try:
        taken = [each.replace(annotation=Parameter.empty) for each in inspect.signature(value).parameters.values()]
    except ValueError:
        return ""
    own = [each for each in taken if each.name not in {"self", "cls"}]
    typed = StudyKeywords.__annotations__.keys() <= {each.name for each in own}
    own = [each for each in own if not (typed and each.name in StudyKeywords.__annotations__)]
    more = ["**keywords"] if typed else []
    written = str(inspect.Signature(own))[1:-1]
    return f"({', '.join(filter(None, [written, *more]))})"


def _prose(docstring: str) -> str:
    """Returns a docstring as Markdown: its sections as lists, its examples indented."""
    lines, section = [], False
    for line in docstring.splitlines():
        if re.fullmatch(r"(Args|Returns|Raises|Attributes):", line):
            section = True
            lines += ["", f"**{line}**", ""]
        elif section and (found := re.fullmatch(r"    (\S[^:]*): (.*)", line)):
            lines.append(f"- `{found[1]}`: {found[2]}")
        elif section and line.startswith("    "):
            lines.append(f"  {line.strip()}" if lines[-1].strip() else line.strip())
        else:
            section = section and not line.strip()
            lines.append(re.sub(r"::$", ":", line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


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
    return re.sub(r"\*\*Options\*\*:\s+\Z", "", others).replace("```console\n$ ", "```text\n")


def study_keywords() -> str:
    """Returns a table of the keywords of `Study`: settings, with the keys that they set, and options of a start."""
    rows = [f"| `{name}` | `{SETTINGS[name].key}` | {SETTINGS[name].help} |" for name in Keywords.__annotations__]
    rows += [f"| `{name}` | | {START_OPTIONS[name].help} |" for name in StartKeywords.__annotations__]
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


def glossary() -> str:
    """Returns the table of words that CONTRIBUTING has."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.split("One word for one thing.")[1].split("Not: rank, alpha")[0].strip()


TEXTS = {
    "command-line": command_line,
    "glossary": glossary,
    "keywords": study_keywords,
    "python": python_interface,
    "yaml": yaml_keys,
}
"""What `python -m tests.docs.written_pages` writes into pages, by the name in their comments."""
