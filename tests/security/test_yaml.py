"""Tests that a study's YAML and `--set` are data: nothing is run, nothing grows, and errors are refused."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from krona_tune.refusal import Refusal
from krona_tune.study.request.loader import build_spec, dump_spec, load_spec
from krona_tune.study.request.plain_yaml import read_yaml
from krona_tune.study.request.study_spec import StudySpec
from tests.security.hostile import HOSTILE, ODD_TEXTS, VALUES, changed, damaged
from tests.security.hostile import clean as clean_of_tracebacks
from tests.study.request.written_specs import load_changed

SPACES = sorted((Path(__file__).resolve().parents[2] / "search_spaces").glob("*.yaml"))
RIGHT: dict[str, Any] = {path.stem: read_yaml(path.read_text(encoding="utf-8"), path.name) for path in SPACES}
MINI = next(path for path in SPACES if path.stem == "mini")
OUTSIDE_WORDS = re.compile(r"[Ii]nput should|NoneType|Exceeds the limit|codec|Errno|recursion|<class|validation error")
COMMANDS = [
    "!!python/object/apply:os.system ['touch {mark}']",
    "!!python/object/new:subprocess.Popen [[touch, {mark}]]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object/apply:builtins.exec [\"open('{mark}', 'w')\"]",
]


def clean(read: Callable[[], Any]) -> Any:
    """Returns what is read, or the refusal, which must be in krona_tune's own words."""
    found = clean_of_tracebacks(read)
    assert not (isinstance(found, Refusal) and OUTSIDE_WORDS.search(str(found))), str(found)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_yaml_can_run_nothing(command: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    space = tmp_path / "x.yaml"
    space.write_text(f"model: {command.format(mark=mark)}\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"x\.yaml, line 1, column 8: the tag '.*' means nothing here"):
        load_spec(space)
    with pytest.raises(Refusal, match="--set model, line 1, column 1: the tag "):
        load_changed(MINI, [f"model={command.format(mark=mark)}"])
    assert not mark.exists()


def test_a_yaml_of_a_few_lines_can_not_grow_to_gigabytes() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(Refusal, match=r"line 2, column 10: \*a0 is an alias; write it out"):
        read_yaml("\n".join(lines), "x.yaml")
    with pytest.raises(Refusal, match="write it out"):
        read_yaml("a: &a [*a]", "x.yaml")


def test_a_yaml_that_nests_without_end_is_refused() -> None:
    for text in ("[" * 20_000, "{a: " * 20_000, "- " * 20_000 + "x"):
        assert isinstance(clean(lambda text=text: read_yaml(text, "x.yaml")), Refusal)


@HOSTILE
@given(st.text(max_size=200) | st.text(alphabet="[]{}:,-&*!|>'\"#%@ \n\t0123456789eE.+_ab<=~", max_size=60))
@example("!%80")
def test_any_text_is_plain_values_or_refused(text: str) -> None:
    clean(lambda: read_yaml(text, "x.yaml"))


@HOSTILE
@given(st.sampled_from(SPACES).flatmap(lambda path: damaged(path.read_bytes())))
def test_a_damaged_space_is_a_spec_or_refused(content: bytes) -> None:
    text = content.decode("utf-8", errors="replace")

    def spec() -> StudySpec:
        written = read_yaml(text, "x.yaml")
        return build_spec(written if isinstance(written, dict) else {}, "x.yaml")

    clean(spec)


@HOSTILE
@given(st.sampled_from(sorted(RIGHT)).flatmap(lambda name: changed(RIGHT[name])))
@example({"model": "x", "methods": {"peft:LoRA": {"r": math.nan}}})
@example({"model": "x", "methods": {"\ud800": {}}})
@example({"model": "x", "methods": {"peft:LoRA": {"\ud800": 2}}})
def test_a_space_with_other_values_is_a_spec_that_can_be_written_and_read_again_or_refused(written: Any) -> None:
    spec = clean(lambda: build_spec(written, "x.yaml"))
    if isinstance(spec, StudySpec):
        assert build_spec(read_yaml(dump_spec(spec), "again"), "again") == spec


@HOSTILE
@given(
    st.sampled_from(["adapter.scale", "model", "search.trials", "finalists", "methods.lora.rank", "", ".", "a..b"])
    | ODD_TEXTS,
    st.text(max_size=30) | VALUES.map(repr),
)
def test_any_setting_is_taken_or_refused(key: str, value: str) -> None:
    clean(lambda: load_changed(MINI, [f"{key}={value}"]))


@pytest.mark.parametrize("number", [10**400, -(10**400), 2**63, 1e308, 1e-320], ids=lambda number: f"{number!r:.8}")
@pytest.mark.parametrize(
    "path", ["adapter.scale", "adapter.a_out", "training.learning_rate", "training.batch_size", "search.trials", "seed"]
)
def test_a_number_beyond_all_machines_is_taken_or_refused(path: str, number: float) -> None:
    section, _, name = path.partition(".")
    for value in (number, [number, 1], {"low": number, "high": number * 2}, {"low": 1, "high": number, "step": number}):
        written = {**RIGHT["mini"], section: {name: value} if name else value}
        clean(lambda written=written: build_spec(written, "x.yaml"))
