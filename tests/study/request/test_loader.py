"""Tests that YAML and `--set` become a StudySpec in every form, and that refusals name place, value and fix."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from krona_tune.refusal import Refusal
from krona_tune.study.request.domain import Choice, Divisors, Fixed, Range
from krona_tune.study.request.loader import build_spec, dump_spec, load_spec, read_request, read_section
from krona_tune.study.request.plain_yaml import read_yaml
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.request.study_spec import StudySpec
from tests.study.request.written_specs import FULL, spec_of, written


def test_every_form_of_a_knob_is_read() -> None:
    spec = spec_of(FULL)
    assert spec.adapter == {
        "method": Choice(("krona", "krona_b")),
        "a_out": Divisors(),
        "a_in": Divisors(4, 96),
        "scale": Choice((1, 2, 4)),
        "layer_norms": Choice((False, True)),
    }
    assert spec.training == {
        "learning_rate": Range(1e-4, 3e-2, True),
        "weight_decay": Range(0, 0.1),
        "batch_size": Range(8, 64, step=8),
    }
    assert spec.tasks == ("cola", "rte")
    assert (spec.search.max_params, spec.search.time_budget) == ("0.1%", 5400)


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.e-4", ".1e-3", "+1e-4", "0.0001"])
def test_a_number_with_an_exponent_is_a_number(text: str) -> None:
    assert read_yaml(text, "x") == pytest.approx(1e-4)
    assert spec_of(f"model: m\nadapter: {{scale: {text}}}").adapter["scale"] == Fixed(pytest.approx(1e-4))


def test_a_word_that_only_looks_like_a_number_stays_a_word() -> None:
    assert read_yaml("[e5, 1e, 0,2,5, 1-4]", "x") == ["e5", "1e", 0, 2, 5, "1-4"]
    assert read_yaml("layers: 0,2,5", "x") == {"layers": "0,2,5"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; name a space in YAML; krona-tune spaces shows some"),
        ("- model", "holds ['model'], not keys and values"),
        ("text;label a fine film;good", "holds text, not keys and values"),
        ("tasks: [cola]", "the key 'model' is missing; add it, or give one with --model"),
    ],
)
def test_a_file_that_is_no_request_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(Refusal) as refused:
        load_spec(path)
    assert str(refused.value).startswith(f"{path}: {message}")


def test_only_a_regular_file_of_some_size_is_read(tmp_path: Path) -> None:
    """A read that never ends would stop only the test's thread."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"#" * 10**6)
    said = []
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null"), tmp_path, tmp_path / "large"):
        with ThreadPoolExecutor(max_workers=1) as aside:
            said.append(str(aside.submit(refusal_of, path).result(timeout=60)))
    assert [line.partition(": ")[2] for line in said] == [
        *["can't be read: it is no regular file; give a YAML file that can be read"] * 4,
        "can't be read: it has more than 400,000 bytes; give a YAML file that can be read",
    ]


def refusal_of(path: Path) -> Refusal:
    with pytest.raises(Refusal) as refused:
        load_spec(path)
    return refused.value


def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"nowhere\.yaml: can't be read: .*; give a YAML file that can be read"):
        load_spec(tmp_path / "nowhere.yaml")
    with pytest.raises(Refusal, match="can't be read"):
        load_spec(tmp_path)
    with pytest.raises(Refusal, match="can't be read: File name too long"):
        load_spec(tmp_path / ("x" * 300))
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"model: \xff\n")
    with pytest.raises(Refusal, match=r"bytes\.yaml: can't be read: byte 8 is not UTF-8"):
        load_spec(path)


def spec_or_refusal(text: str) -> tuple[StudySpec | None, Refusal | None]:
    """Returns the spec or the refusal of a text."""
    try:
        return build_spec(read_request(text, "x.yaml"), "x.yaml"), None
    except Refusal as refusal:
        return None, refusal


WORDS = [
    "model",
    "adapter",
    "scale",
    "layers",
    "schedule",
    "epochs",
    "default",
    "low",
    "high",
    "log",
    "divisors",
    "a_out",
]


LEAVES = st.one_of(
    st.sampled_from([*WORDS, "all", "0.1%", "1h", "query+value", "2001-99-99", "0x_", "1e-4", ".inf", ".nan", "~", ""]),
    st.integers(-3, 300).map(str),
    st.text(max_size=6),
)


YAML = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
        | st.dictionaries(st.sampled_from(WORDS) | LEAVES, inner, max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"
        )
    ),
    max_leaves=6,
)


@given(
    st.text(max_size=40)
    | YAML
    | YAML.map("model: m\nadapter: {}".format)
    | YAML.map("model: m\nadapter: {{a_out: {}}}".format)
    | YAML.map("model: m\ntraining: {{learning_rate: {}}}".format)
    | YAML.map("model: m\nschedule: {}".format)
    | YAML.map("model: m\nexamples: {{train: {}}}".format)
    | YAML.map("model: m\nsearch: {}".format)
)
@example("!!int ''")
@example("!!timestamp x")
@example("!!bool maybe")
@example("model: &a [*a]")
@example("? [a]\n: b")
@example("\x00")
def test_any_text_is_a_spec_or_a_refusal_and_a_spec_reads_back_to_itself(text: str) -> None:
    spec, refusal = spec_or_refusal(text)
    assert (spec is None) != (refusal is None)
    if refusal:
        assert refusal.place.startswith("x.yaml")
        assert refusal.problem
    if spec:
        assert spec_of(dump_spec(spec)) == spec


VALUES = st.floats(1e-6, 1e3) | st.integers(1, 512)


PRINTABLE = st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" ")


@st.composite
def ranges(draw: Any, numbers: st.SearchStrategy[Any]) -> dict[str, Any]:
    low, high = sorted((draw(numbers), draw(numbers)))
    return {"low": low, "high": high} | draw(st.sampled_from([{}, {"log": True}] if low > 0 else [{}]))


@given(
    scale=VALUES | st.lists(VALUES, min_size=1, max_size=4) | ranges(VALUES),
    weight_decay=st.just(0) | ranges(st.just(0) | st.floats(0, 1)),
    a_out=st.just("divisors")
    | st.integers(1, 96)
    | st.fixed_dictionaries({"divisors": st.just({"low": 2, "high": 48})}),
    epochs=st.floats(0.1, 50) | st.fixed_dictionaries({"default": st.integers(1, 9), "rte": st.floats(0.5, 4)}),
    max_params=st.none() | st.sampled_from(["0.1%", "200_000", 4000]),
    name=st.text(PRINTABLE, max_size=8) | st.sampled_from(["1e-4", "12e5", "0x1f", "1_000", "on", "2001-01-01", "~"]),
)
def test_a_dumped_spec_is_read_back_equal(
    scale: Any, weight_decay: Any, a_out: Any, epochs: Any, max_params: Any, name: str
) -> None:
    spec = build_spec(
        {
            "model": "m",
            "name": name,
            "tasks": ["cola", "stsb"],
            "adapter": {"scale": scale, "a_out": a_out},
            "methods": {"lora": {"weight_decay": weight_decay, "rank": [1, 2]}},
            "training": {"weight_decay": weight_decay},
            "schedule": {"epochs": epochs},
            "search": {"max_params": max_params, "time_budget": "30m"},
        },
        "x.yaml",
    )
    assert spec_of(dump_spec(spec)) == spec


def test_of_a_recorded_section_only_the_named_keys_are_read() -> None:
    request = {"search": {"trials": 7, "former": 3, "stop": "odd"}}
    assert read_section(request, "search", SearchSpec, "trials", "shared") == SearchSpec(trials=7)
    assert read_section({"search": None}, "search", SearchSpec, "trials") == SearchSpec()
    with pytest.raises(Refusal, match=r"^study\.yaml: its search can't be read .*; put back what"):
        read_section(request, "search", SearchSpec, "stop")
