"""Gives what a study recorded, as values and as pandas frames for a notebook."""

from collections.abc import Iterable

import pandas as pd

from krona_tune.record.records import read_records
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import Report, TrialResult

_NESTED = {"params", "metrics", "test_metrics"}


def trials_frame(folder: StudyFolder) -> pd.DataFrame:
    """Returns one row per trial, whatever its status.

    Columns: those of `TrialResult` (`trial_id`, `task`, `kind` search, baseline, finalist or repeat, `number`, `seed`,
    `fingerprint`, `status`, `score` on validation, `rung`, `epochs`, `examples`, `copied_examples`,
    `adapter_parameters`, `norm_parameters`, `head_parameters`, `trainable_parameters`, `trainable_percent`,
    `train_seconds`, `evaluation_seconds`, `device`, `devices`, `device_seconds`, `peak_memory_bytes`, `started_at`,
    `paused_seconds`, `ended_at`, `error`, `checkpoint`), every knob under its own name (`method`, `scale`, `a_out`,
    `a_in`, `learning_rate`, ...), `metric_...` for each metric, and `factor_shape` such as `24x16`. A searched trial's
    row has `proposed_by` and, if a model of the study proposed it, `expected_score` and `expected_deviation`.
    A repeat's and a finalist's row has `of`, the searched trial that is trained again. A finalist's has from the test
    half `test_score`, `test_examples`, `test_metric_...` and `test_resampled`, its scores on examples drawn again
    (NaN for a draw that has none; `test_note` says how many have none, or why there are no such scores).
    """
    trials = read_records(folder.results).trials
    frame = _frame((trial.row() for trial in trials), TrialResult)
    return frame.assign(factor_shape=[factor_shape(trial) for trial in trials])


def reports_frame(folder: StudyFolder) -> pd.DataFrame:
    """Returns one row per trial and report: at each rung, or also after each epoch.

    Columns: those of `Report` (`trial_id`, `task`, `rung`, `examples`, `epochs`, `step`, `score` on validation,
    `train_loss`, `train_seconds`, `evaluation_seconds`, `peak_memory_bytes`) and `metric_...` for each metric.
    """
    return _frame((report.row() for report in read_records(folder.results).reports), Report)


def factor_shape(trial: TrialResult) -> str:
    """Returns the sizes of A as one word, such as `24x16`; empty for a baseline, which has no adapter."""
    if trial.kind == TrialKind.BASELINE or not {"a_out", "a_in"} <= trial.params.keys():
        return ""
    return f"{trial.params['a_out']}x{trial.params['a_in']}"


def _frame(rows: Iterable[dict[str, object]], kind: type[TrialResult] | type[Report]) -> pd.DataFrame:
    """Returns rows as a frame that has its fixed columns even if there is no row."""
    frame = pd.DataFrame(list(rows))
    missing = [name for name in kind.__dataclass_fields__ if name not in {*_NESTED, *frame.columns}]
    return frame.assign(**{name: pd.Series(dtype="object") for name in missing})
