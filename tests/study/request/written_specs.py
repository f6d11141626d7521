"""Writes requests as YAML, and reads them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from krona_tune.study.request.given_values import GivenValue, read_settings
from krona_tune.study.request.loader import build_spec, load_with
from krona_tune.study.request.plain_yaml import read_yaml
from krona_tune.study.request.study_spec import StudySpec

FULL = """\
model: some/encoder
data: mini
tasks: [cola, rte]
seed: 11
adapter:
  method: [krona, krona_b]
  a_out: divisors
  a_in: {divisors: {low: 4, high: 96}}
  scale: [1, 2, 4]
  layer_norms: [false, true]
training:
  learning_rate: {low: 1e-4, high: 3e-2, log: true}
  weight_decay: {low: 0, high: 0.1}
  batch_size: {low: 8, high: 64, step: 8}
schedule:
  epochs: {default: 20, sst2: 3}
  grace_epochs: 0.5
examples: {train: {default: 500, rte: 70}, max_length: 64}
search: {trials: 7, max_params: 0.1%, time_budget: 1h30m}
resources: {cpus_per_trial: 2}
"""


OWN = "tasks: {{t: {{data: x.csv, text: a, {}}}}}"
"""A task of one's own with these keys."""


def spec_of(text: str) -> StudySpec:
    return build_spec(read_yaml(text, "x.yaml"), "x.yaml")


def load_changed(path: Path, settings: Iterable[str] = (), values: Mapping[str, Any] | None = None) -> StudySpec:
    """Returns the request of a file, changed by texts as `--set` has them and then by values of keys."""
    by_key = [GivenValue(key, value, key) for key, value in (values or {}).items()]
    return load_with(path, [*read_settings(settings), *by_key])


def written(tmp_path: Path, text: str = FULL) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path
