"""Tests that what was recorded of shorter trainings is told by epochs and factor, a diverged one as zero."""

import pandas as pd

from tests.benchmarks.curves.training_length import report


def test_a_report_has_a_row_for_each_number_of_epochs_and_task_and_a_diverged_training_counts_zero() -> None:
    rows = pd.DataFrame(
        {
            "task": ["sst2", "sst2", "stsb", "tweets"],
            "place": 0,
            "epochs": [1, 1, 3, 1],
            "power": [0, 0, 1, 0],
            "score": [0.5, None, 0.75, 0.85],
        }
    )
    lines = [line.split() for line in report(rows).splitlines()]
    assert ["1", "0.25", "NaN"] in lines, "a further task is in no mean over tasks"
    assert ["3", "stsb", "NaN", "0.75"] in lines
    assert ["tweets", "0.85", "NaN"] in lines
