"""Tests how values are read from what people write: times, and settings by task."""

import pytest

from tests.study.request.written_specs import FULL, spec_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1m5s", 65)],
        *[
            ("20min", 1200),
            ("2d", 172_800),
            ("1800.5", 1_800.5),
            ("1d2h3min", 93_780),
            ("1h30", 5400),
            ("2m15", 135),
            ("1h5m7", 3907),
            ("1h30s", 3630),
        ],
    ],
)
def test_a_time_budget_is_read_in_seconds(text: str, seconds: int) -> None:
    assert spec_of(f"model: m\nsearch: {{time_budget: {text}}}").search.time_budget == seconds


def test_a_setting_by_task_falls_back_on_its_default() -> None:
    spec = spec_of(FULL)
    assert spec.schedule.of("sst2", 100).total_examples == 300
    assert spec.schedule.of("cola", 100).total_examples == 2000
    assert spec.schedule.of("cola", 100).rungs[0] == 50
