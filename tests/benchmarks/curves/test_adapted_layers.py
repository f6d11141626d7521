"""Tests that the first taught point is trained at each share of its learning rate, and what the kept rows say."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.benchmarks.curves.adapted_layers import SHARES, main
from tests.data.own_tickets import rows, write_csv
from tests.search.models import saved_bert

KEPT = Path(__file__).parent / "results" / "adapted_layers.parquet"
SMALL = {"schedule": {"epochs": 1, "grace_epochs": 1}, "examples": {"train": 32, "validation": 16, "max_length": 24}}


def test_each_share_of_the_rate_is_trained_and_rows_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = yaml.safe_load(Path(__file__).with_name("adapted_layers.yaml").read_text(encoding="utf-8"))
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump({**space, **SMALL}), encoding="utf-8")
    monkeypatch.setattr("tests.benchmarks.curves.adapted_layers.SPACE", small)
    monkeypatch.setattr("tests.benchmarks.curves.adapted_layers.OF_GLUE", ())
    saved_bert(tmp_path / "tiny")
    data = write_csv(tmp_path / "tickets.csv", rows(80))
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"tasks": {"tickets": {"data": str(data), "text": "body", "label": "queue"}}}))
    result = str(tmp_path / "found.parquet")
    for seed in ("1", "2"):
        main(result, str(tmp_path), "tiny", str(own), "mini", seed)
    found = pd.read_parquet(result)
    assert found[["backbone", "task", "seed", "share"]].values.tolist() == [
        ["tiny", "tickets", seed, share] for seed in (1, 2) for share in SHARES
    ]
    rates = found.learning_rate / found.share
    assert rates.tolist() == pytest.approx([rates[0]] * len(found))
    main("report", result)
    assert "tickets" in capsys.readouterr().out


def test_smaller_rates_are_better_on_both_encoders_and_not_on_the_decoder() -> None:
    means = pd.read_parquet(KEPT).pivot_table(index=["backbone", "task"], columns="share", values="score")
    gains = {share: (means[share] - means[1.0]).groupby("backbone").mean().to_dict() for share in (0.58, 0.2)}
    assert min(gains[0.58]["e5"], gains[0.58]["mpnet"]) > 0.03
    assert gains[0.2]["smollm2"] < 0
