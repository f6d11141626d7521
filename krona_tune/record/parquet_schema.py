"""Defines the columns of the three Parquet tables, and turns values into rows and back."""

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from krona_tune.study.kinds import TrialKind, facts_of
from krona_tune.study.order import Order
from krona_tune.study.request.trial import ADDED, KNOBS, PEFT_FIELD, SECTION_OF
from krona_tune.study.result import (
    CURVE,
    METRIC,
    NESTED,
    TEST_METRIC,
    CurvePoint,
    Report,
    Status,
    TrialResult,
    curve_of,
)

NO_NUMBER = "Diverged: the score of its last rung is no finite number"
"""The error of a row of an earlier version that calls such a trial trained."""

_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    Status: pa.string(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    tuple[float, ...]: pa.list_(pa.float64()),
    tuple[str, ...]: pa.list_(pa.string()),
}
_KNOB = {_ARROW[kind] for kind in (str, bool, int, float)} | {pa.null()}
"""The types that the column of an unknown knob may have."""


def _plain(annotation: Any) -> tuple[Any, bool]:
    """Returns the bare type behind `Annotated[...]` and `... | None`, and whether None is allowed."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return type(get_args(annotation)[0]), False
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        return _plain(inner[0])[0], len(inner) < len(get_args(annotation))
    return annotation, False


def _fields(annotations: Mapping[str, Any]) -> list[pa.Field]:
    return [
        pa.field(name, _ARROW[_plain(hint)[0]], nullable=True)
        for name, hint in annotations.items()
        if name not in NESTED
    ]


_KNOBS: dict[str, Any] = {name: field.annotation for knobs in KNOBS.values() for name, field in knobs.items()}
_SWITCHES = {name for name, hint in _KNOBS.items() if bool in get_args(hint) and _plain(hint)[0] is str}
"""Knobs that are true, false or a word, and are stored as words."""
_MAY_BE_NONE = {name for name, annotation in _KNOBS.items() if _plain(annotation)[1]}
_TRIAL_FIELDS = _fields(get_type_hints(TrialResult))
_TRIAL_NAMES = {field.name for field in _TRIAL_FIELDS}
_TUPLES = [field.name for field in _TRIAL_FIELDS if pa.types.is_list(field.type)]
_REPORT_FIELDS = _fields(get_type_hints(Report))
_CURVE_FIELDS = [
    pa.field(CURVE + name, pa.list_(_ARROW[hint]), nullable=True) for name, hint in get_type_hints(CurvePoint).items()
]

TRIALS = pa.schema([*_TRIAL_FIELDS, *_CURVE_FIELDS, *_fields(_KNOBS)])
"""One row per trial: the result's own fields, its curve, every knob. Metrics follow as `metric_…` and `test_metric_…`.

What an earlier version wrote has no curve."""

REPORTS = pa.schema([*_REPORT_FIELDS, *_CURVE_FIELDS])
"""One row per report: its own fields, then its curve. Metrics follow as `metric_…`."""

ORDERS = pa.schema(_fields({name: field.annotation for name, field in Order.model_fields.items()}))
"""One row per order."""


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Returns rows as a table that has at least the schema's columns; an unknown column has the type of its values."""
    known = set(schema.names)
    more = dict.fromkeys(name for row in rows for name in row if name not in known)
    rows = _unmixed(rows, [name for name in more if name.startswith(PEFT_FIELD)])
    columns = {name: pa.array([row.get(name) for row in rows]) for name in more}
    fields = [
        pa.field(name, pa.float64() if _is_metric(name) else column.type)
        for name, column in columns.items()
        if column.null_count < len(rows)
    ]
    return pa.Table.from_pylist(list(map(_with_words, rows)), schema=pa.schema([*schema, *fields]))


def _unmixed(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> Sequence[Mapping[str, Any]]:
    """Returns the rows with the values of a column as words if it has words beside numbers, or switches beside both.

    One field of peft's configurations may be a switch for one method and a word for another.
    """
    for name in names:
        values = [row[name] for row in rows if row.get(name) is not None]
        if len({bool if isinstance(v, bool) else str if isinstance(v, str) else float for v in values}) > 1:
            rows = [
                {**row, name: json.dumps(row[name])} if isinstance(row.get(name), bool | int | float) else row
                for row in rows
            ]
    return rows


def _scalar(value: Any) -> Any:
    """Returns what a word stands for, if `_unmixed` made it of a number or a switch."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, bool | int | float) else value


def _with_words(row: Mapping[str, Any]) -> dict[str, Any]:
    words = {name: str(row[name]).lower() for name in _SWITCHES if isinstance(row.get(name), bool)}
    return {**row, **words}


def typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns a table that was read, with its columns in the types that they are written in.

    Raises:
        ValueError: a column appears twice, is not UTF-8, or holds what its type can't.
    """
    table.validate(full=True)
    names = table.column_names
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"the column {min(twice)} appears twice")
    known = {field.name: field.type for field in schema}
    fields = [
        field.with_type(pa.float64() if _is_metric(field.name) else known.get(field.name, field.type))
        for field in table.schema
    ]
    if odd := [field.name for field in fields if field.name not in known and field.type not in _KNOB]:
        raise ValueError(f"the column {odd[0]} holds values that no knob can have")
    return table.cast(pa.schema(fields))


def _is_metric(name: str) -> bool:
    return name.startswith((METRIC, TEST_METRIC))


@dataclass(frozen=True)
class _Columns:
    """A table's columns by what they hold: a trial's own fields, its knobs, and the metrics by their names."""

    own: tuple[str, ...]
    knobs: tuple[str, ...]
    metrics: Mapping[str, str]
    test_metrics: Mapping[str, str]


@lru_cache(maxsize=100)
def _columns(names: tuple[str, ...]) -> _Columns:
    """Returns the columns of a table, sorted once for all its rows."""
    own = tuple(name for name in names if name in _TRIAL_NAMES)
    return _Columns(
        own=own,
        knobs=tuple(name for name in names if not (name in _TRIAL_NAMES or _is_metric(name) or name.startswith(CURVE))),
        metrics={name: name.removeprefix(METRIC) for name in names if name.startswith(METRIC)},
        test_metrics={name: name.removeprefix(TEST_METRIC) for name in names if name.startswith(TEST_METRIC)},
    )


def _metrics(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, float]:
    return {metric: row[name] for name, metric in columns.items() if row[name] is not None}


def trial_of(row: Mapping[str, Any]) -> TrialResult:
    """Returns the result that `TrialResult.row` wrote; a null is a knob's value only if the knob may be None."""
    columns = _columns(tuple(row))
    own = {name: row[name] for name in columns.own if row[name] is not None}
    params = {name: row[name] for name in columns.knobs if row[name] is not None or name in _MAY_BE_NONE}
    if "method" not in params:
        raise ValueError("a trial lacks its method")
    if own.get("kind") not in set(TrialKind):
        raise ValueError(f"{own.get('kind')!r} is no kind of a trial")
    params |= {name: params[name] == "true" for name in _SWITCHES if params.get(name) in {"true", "false"}}
    params |= {name: _scalar(value) for name, value in params.items() if name.startswith(PEFT_FIELD)}
    older = "a_out" in params and "terms" not in params  # a Kronecker adapter of a version that had fewer knobs
    for name, default in ADDED.items():
        if older or SECTION_OF[name] == "training":
            params.setdefault(name, default)
    read = {
        "status": Status(row["status"]),
        "params": params,
        "metrics": _metrics(row, columns.metrics),
        "test_metrics": _metrics(row, columns.test_metrics),
        **{name: tuple(row.get(name) or ()) for name in _TUPLES},
        "curve": curve_of(row),
    }
    return _mark_diverged(TrialResult(**own | read))


def _mark_diverged(row: TrialResult) -> TrialResult:
    """Returns a trial that was recorded as trained, but whose last score is no number, as one that diverged.

    Earlier versions wrote such rows. A trial on all examples has no score, because nothing was held out.
    """
    if row.scored or (row.score is None and row.rung is None) or not facts_of(row.kind).holds_out:
        return row
    if row.status is Status.COMPLETED or row.status.stopped:
        return replace(row, score=None, status=Status.DIVERGED, error=NO_NUMBER)
    return replace(row, score=None)


_OF_REPORT = {field.name: field.default is MISSING for field in fields(Report) if field.name not in NESTED}
"""The names of a report's plain values, and whether every version has written each."""


def report_of(row: Mapping[str, Any]) -> Report:
    """Returns the report that `Report.row` wrote; what its version did not know has its default.

    Raises:
        ValueError: another value is missing.
    """
    own = {name: row[name] for name in _OF_REPORT if row.get(name) is not None}
    for name in _OF_REPORT.keys() - own.keys():
        if _OF_REPORT[name]:
            raise ValueError(f"a report lacks {name}")
    return Report(**own, metrics=_metrics(row, _columns(tuple(row)).metrics), curve=curve_of(row))


def order_of(row: Mapping[str, Any]) -> Order:
    """Returns the order that `Order.row` wrote."""
    return Order(**{name: value for name, value in row.items() if name in Order.model_fields and value is not None})
