"""From YAML and `--set` to a StudySpec; every error names the place, the value and the mend."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from krona_tune.refusal import Refusal, unknown
from krona_tune.study.domain import Divisors, Domain
from krona_tune.study.spec import StudySpec
from krona_tune.study.trial import SECTION_OF, SECTIONS, SIZES


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number (YAML 1.1 wants 1.0e-4) and nothing stands for something else.

    A few lines of aliases to aliases mean gigabytes.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"*{event.anchor} stands for something else; write it out", event.start_mark
            )
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Its counterpart, which puts the word '1e-4' in quotes and writes everything out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _half in (_Loader, _Dumper):
    _half.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


_UNREADABLE = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)
"""What YAML's own constructors raise on a value of the right form and no meaning, such as 2001-99-99."""


def read_yaml(text: str, place: str) -> Any:
    """YAML as plain values. Raises a Refusal naming line and column where it is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except _UNREADABLE as error:
        raise Refusal(place, f"holds a value that can't be read: {error}", "put words and dates in quotes") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}, line {mark.line + 1}, column {mark.column + 1}" if mark else place
        raise Refusal(where, f"not YAML: {getattr(error, 'problem', None) or error}") from None


def load_spec(path: Path, settings: Sequence[str] = (), overrides: Mapping[str, Any] | None = None) -> StudySpec:
    """The study that a file asks for, changed by `--set PATH=VALUE` and then by the command line's own flags.

    Args:
        path: a YAML file.
        settings: texts `adapter.scale=2`, the value in YAML.
        overrides: dotted paths and values; None values are passed over.

    Raises:
        Refusal: whatever can't be read, is unknown or is out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(str(path), f"can't be read: {error}", "give a YAML file with --space") from None
    written = read_yaml(text, str(path))
    if not isinstance(written, dict):
        raise Refusal(str(path), f"holds {type(written).__name__}, not keys and values", "see search_spaces/")
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise Refusal("--set", f"{setting!r} has no '='", "write --set adapter.scale=2")
        _put(written, key.strip(), read_yaml(value, f"--set {key}"), f"--set {setting}")
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(written, key, value, key)
    return build_spec(written, str(path))


def build_spec(written: Mapping[str, Any], place: str) -> StudySpec:
    """The spec that plain values mean. Raises a Refusal at the first wrong one, naming `place`."""
    try:
        spec = StudySpec.model_validate(written)
    except ValidationError as error:
        raise next(_refusals(error, StudySpec, place)) from None
    except UnicodeEncodeError as error:
        raise Refusal(place, f"{error.object!r} is no text", "write it in UTF-8") from None
    for section, model in SECTIONS.items():
        _check_domains(getattr(spec, section), section, model.model_fields, place)
    for method, domains in spec.methods.items():
        _check_domains(domains, f"methods.{method}", SECTION_OF.keys() - {"method"}, place)
    return spec


def _check_domains(domains: Mapping[str, Domain], section: str, known: Collection[str], place: str) -> None:
    """Each value that a domain can take at its ends must be one that the trial would accept."""
    for name, domain in domains.items():
        if name not in known:
            raise unknown(f"{place}: {section}", "key", name, known)
        model = SECTIONS[SECTION_OF[name]]
        if isinstance(domain, Divisors) and name not in SIZES:
            raise Refusal(
                f"{place}: {section}.{name}",
                "divisors are the sizes of a factor",
                f"write them at {' or '.join(SIZES)}",
            )
        for value in domain.ends():
            try:
                model.model_validate({name: value}, strict=True)
            except ValidationError as error:
                raise next(_refusals(error, model, f"{place}: {section}")) from None


def _refusals(error: ValidationError, model: type[BaseModel], place: str) -> Iterator[Refusal]:
    """The deepest error first: of a setting that may be a number or a mapping, it is the one that was meant."""
    for detail in sorted(error.errors(), key=lambda detail: -len(detail["loc"])):
        *parents, last = map(str, detail["loc"] or ("",))
        path = [*(part for part in parents if _is_key(part)), last]
        if detail["type"] == "extra_forbidden":
            owner = _model_at(model, path[:-1])
            where = ": ".join(part for part in (place, ".".join(path[:-1])) if part)
            yield unknown(where, "key", last, owner.model_fields)
        elif detail["type"] == "missing":
            yield Refusal(place, f"the key {'.'.join(path)!r} is missing", "add it")
        elif isinstance(cause := detail.get("ctx", {}).get("error"), Refusal):
            where = ": ".join(part for part in (place, cause.place or ".".join(path)) if part)
            yield Refusal(where, cause.problem, cause.mend)
        else:
            message = detail["msg"].removeprefix("Value error, ")
            where = ": ".join(part for part in (place, ".".join(filter(_is_key, path))) if part)
            yield Refusal(where, f"{detail['input']!r} is refused", message[0].lower() + message[1:])


def _is_key(part: str) -> bool:
    """Whether a part of an error's location is a key, not an index or the name of a type."""
    return re.fullmatch(r"[A-Za-z_]\w*", part) is not None


def _model_at(model: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    for part in path:
        inner = model.model_fields[part].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return model


def _put(written: dict[str, Any], key: str, value: Any, place: str) -> None:
    """Sets a dotted path in nested mappings."""
    *parents, last = key.split(".")
    for parent in parents:
        inner = written.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise Refusal(place, f"{parent!r} holds {inner!r}, not keys", "name an existing path")
        written = inner
    written[last] = value


def dump_spec(spec: StudySpec) -> str:
    """The spec as YAML text that `load_spec` reads back to an equal one."""
    return yaml.dump(spec.plain(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
