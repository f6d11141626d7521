"""Trains one configuration without Ray, and adds rows to a file of results."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from krona_tune.search.planning.space import Params
from krona_tune.study.request.trial import check_trial
from krona_tune.train.backbone import Backbone
from krona_tune.train.hidden_states import HiddenStateStore
from krona_tune.train.loop import TaskWork, TrialRun


def reports(
    name: str, point: Params, seed: int, work: TaskWork, backbone: Backbone, store: HiddenStateStore | None
) -> Iterator[tuple[float, float]]:
    """Yields the epochs and the score of each report of a training. Raises Diverged where it diverges."""
    run = TrialRun(name, check_trial(work.task.name, seed, point), work, backbone, store)
    try:
        while not run.finished:
            report = run.advance()
            yield report.epochs, report.score
    finally:
        run.close()


def add_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Adds rows to a Parquet file, which is made if it is not there."""
    before = [pd.read_parquet(path)] if path.exists() else []
    pd.concat([*before, pd.DataFrame(rows)], ignore_index=True).to_parquet(path, compression="zstd")
