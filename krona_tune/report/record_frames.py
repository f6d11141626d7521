"""Gives what a study recorded, as values and as pandas frames for a notebook."""

from collections.abc import Iterable
from typing import get_type_hints

import pandas as pd

from krona_tune.record.records import read_records
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import NESTED, Report, TrialResult, curve_columns

DTYPES: dict[object, str] = {int: "int64", float: "float64", float | None: "float64", int | None: "Int64"}
"""The types of columns, by those of fields; where a whole number may be missing, the others stay whole."""


def trials_frame(folder: StudyFolder) -> pd.DataFrame:
    """Returns one row per trial, whatever its status; `Study.trials` describes the columns."""
    trials = read_records(folder.results).trials
    frame = _frame((trial.row() for trial in trials), TrialResult)
    return frame.assign(factor_shape=[shape_word(trial) for trial in trials])


def reports_frame(folder: StudyFolder) -> pd.DataFrame:
    """Returns one row per trial and report; `Study.reports` describes the columns."""
    return _frame((report.row() for report in read_records(folder.results).reports), Report)


def shape_word(trial: TrialResult) -> str:
    """Returns the sizes of A as one word, such as `24x16`; empty for a baseline, which has no adapter."""
    if trial.kind == TrialKind.BASELINE or not {"a_out", "a_in"} <= trial.params.keys():
        return ""
    return f"{trial.params['a_out']}x{trial.params['a_in']}"


def _frame(rows: Iterable[dict[str, object]], kind: type[TrialResult] | type[Report]) -> pd.DataFrame:
    """Returns rows as a frame that has its fixed columns, and numbers in them, even if no row has a value."""
    frame = pd.DataFrame(list(rows))
    fixed = (*kind.__dataclass_fields__, *curve_columns(()))
    missing = [name for name in fixed if name not in {*NESTED, *frame.columns}]
    whole = frame.assign(**{name: pd.Series(dtype="object") for name in missing})
    return whole.astype({name: DTYPES[of] for name, of in get_type_hints(kind).items() if of in DTYPES})
