"""Tests that YAML and `--set` become a StudySpec in every form, and that refusals name place, value and fix."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from krona_tune.refusal import Refusal
from krona_tune.study.request import loader
from krona_tune.study.request.domain import Choice, Divisors, Fixed, Range
from krona_tune.study.request.loader import DroppedSetting, build_spec, dump_spec, load_spec, read_request, read_section
from krona_tune.study.request.plain_yaml import read_yaml
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.request.study_spec import StudySpec
from tests.study.request.written_specs import FULL, OWN, spec_of


def written(tmp_path: Path, text: str = FULL) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


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


def test_settings_override_the_file_and_flags_override_settings(tmp_path: Path) -> None:
    settings = ["adapter.scale=1e-4", "training.learning_rate={low: 1, high: 3}", "search.trials=9", "seed=5"]
    spec = load_spec(written(tmp_path), settings, {"search.trials": 3, "seed": None, "tasks": ("stsb",)})
    assert spec.adapter["scale"] == Fixed(1e-4)
    assert spec.training["learning_rate"] == Range(1, 3)
    assert (spec.search.trials, spec.seed, spec.tasks) == (3, 5, ("stsb",))


def test_a_setting_makes_the_section_that_the_file_lacks(tmp_path: Path) -> None:
    path = written(tmp_path, "model: m\n")
    assert load_spec(path, ["adapter.roles=key+value"]).adapter["roles"] == Fixed("key+value")


def test_one_tasks_value_can_be_set_alone(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path), ["schedule.epochs.cola=4"])
    assert spec.schedule.epochs == {"default": 20, "sst2": 3, "cola": 4}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("adapter.scale", "--set: 'adapter.scale' has no '='; write --set adapter.scale=2"),
        ("training.learning_rate=", "--set training.learning_rate: has no value; write one after '=', or null"),
        ("adapter.scale= ", "--set adapter.scale: has no value"),
        ("tasks=[]", "--set tasks: names no task; name one, or leave tasks out for all of GLUE"),
        ("tasks={}", "--set tasks: names no task"),
        ("trials=3", "--set trials: unknown key 'trials'; write search.trials"),
        ("learning_rate=0.1", "--set learning_rate: unknown key 'learning_rate'; write training.learning_rate"),
        ("name=mine", "--set name: a study is named where it is begun; write --name"),
        ("adapter.scael=2", "--set adapter.scael: unknown key 'scael', did you mean 'scale'?"),
        ("adapter.scale={", "--set adapter.scale, line 1, column 2: not YAML"),
        ("seed.deep=1", "--set seed.deep: 'seed' holds 11, not keys; name an existing path"),
        ("=3", "unknown key ''"),
        ("resources.nice=20", "--set resources.nice: 20 is refused; write 19 or less"),
        ("resources.nice=-1", "--set resources.nice: -1 is refused; write 0 or more"),
        ("resources.nice=0.5", "--set resources.nice: 0.5 is refused; write a whole number"),
        ("adapter={scale: 2, scale: 3}", "--set adapter, line 1, column 12: the key 'scale' is written twice"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        load_spec(written(tmp_path), [setting])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=NINES", "--set seed, line 1, column 1: '9999"),
        ("seed=NINES", "' can't be read as int; write a shorter number, or a word in quotes"),
        ("seed=0xNINES", "seed: a value too large to be shown is beyond 2^63; write a smaller number"),
        ("adapter.scale=NINES.0", "--set adapter.scale: inf is refused; write a finite number"),
        ("search.max_params=NINES%", "99%' is refused; write a number of parameters such as 200000, or a share"),
        ("search.time_budget=NINESh", "99h' is refused; write a time such as 90s, 20min, 1h30m or 2d"),
        ("adapter.layers=first NINES", "--set adapter.layers: can't be read: 'first 999"),
        ("adapter.layers=0,NINES", "--set adapter.layers: can't be read: '0,999"),
        ("model=xNINES", "99' is refused; write a name of at most 255 bytes, or a path of at most 3000"),
        ("data=WORDS", "is refused; write a name of at most"),
        ("search.warm_start=PATH", "a.a.a.' is refused; write a name of at most"),
        ("PATHb=1", "unknown key 'a'; known: adapter, backbone, data"),
        ("schedule.epochs.PATHb=1", "is refused; write a number"),
        ("WORDS=1", "unknown key 'x x"),
    ],
)
def test_what_is_thousands_of_characters_long_is_refused_in_few(tmp_path: Path, setting: str, message: str) -> None:
    for word, long in (("NINES", "9" * 5000), ("PATH", "a." * 5000), ("WORDS", "x " * 2500)):
        setting = setting.replace(word, long)
    with pytest.raises(Refusal) as refused:
        load_spec(written(tmp_path), [setting])
    assert message in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adapter: {scael: 2}", "x.yaml: adapter: unknown key 'scael', did you mean 'scale'?"),
        ("foo: 1", "x.yaml: unknown key 'foo'; known: adapter, backbone, data, deploy, examples, "),
        ("foo-bar: 1", "x.yaml: unknown key 'foo-bar'; known: adapter"),
        ("schedule: {9x: 2}", "x.yaml: schedule: unknown key '9x'; known: epochs, grace_epochs, reduction"),
        ("schedule: fast", "x.yaml: schedule: 'fast' is refused; write keys and values"),
        ("schedule:", "x.yaml: schedule: null is refused; write keys and values"),
        ("schedule: {epochs: fast}", "x.yaml: schedule.epochs: 'fast' is refused; write a number"),
        ("schedule: {epoch: 2}", "x.yaml: schedule: unknown key 'epoch', did you mean 'epochs'?"),
        ("7: 1", "x.yaml, line 2, column 1: the key 7 is no word; put it in quotes"),
        ("model: 3", "x.yaml: model: 3 is refused; write a word, in quotes if it looks like something else"),
        ("tasks: cola", "x.yaml: tasks: 'cola' is refused; write a list, such as [a, b]"),
        ("data: ''", "x.yaml: data: '' is refused; write a name of at most"),
        ('data: "a\\0"', "x.yaml: data: 'a\\x00' is refused; write a name of at most"),
        ('data: "\\ud800"', "x.yaml: data: '\\ud800' is refused; write it in UTF-8"),
        ("tasks: [cola, 3]", "x.yaml: tasks: 3 is refused; write a word, in quotes"),
        ("precision: fp16", "x.yaml: precision: 'fp16' is refused; write 'auto', 'bf16' or 'fp32'"),
        ("adapter: []", "x.yaml: adapter: [] is refused; write keys and values"),
        ("adapter: {a_out: divisor}", "adapter.a_out: unknown form of a size 'divisor', did you mean 'divisors'?"),
        ("adapter: {a_in: [2, divisors]}", "adapter.a_in: unknown form of a size 'divisors', did you mean 'divisors'?"),
        ("adapter: {a_in: {low: 1, hgih: 2}}", "x.yaml: adapter.a_in: unknown key 'hgih', did you mean 'high'?"),
        ("adapter: {scale: 2, roles: key, scale: 3}", "line 2, column 33: the key 'scale' is written twice, first in"),
        ("seed: 9223372036854775808", "x.yaml: seed: 9223372036854775808 is beyond 2^63; write a smaller number"),
        ("search: {trials: -9223372036854775809}", "search.trials: -9223372036854775809 is beyond 2^63"),
        (
            "training: {batch_size: {low: 1, high: 0xffffffffffffffff}}",
            "batch_size.high: 18446744073709551615 is",
        ),
        ("adapter: {scale: 0}", "x.yaml: adapter: scale: 0 is refused; write a number above 0"),
        ("adapter: {scale: [2, -1]}", "x.yaml: adapter: scale: -1 is refused; write a number above 0"),
        ("adapter: {scale: '4'}", "x.yaml: adapter: scale: '4' is refused; write a number"),
        (
            "adapter: {scale: divisors}",
            "adapter.scale: divisors are the sizes of a factor; write them at a_out or a_in",
        ),
        (
            "adapter: {layer_norms: 'yes please'}",
            "layer_norms: 'yes please' is refused; write true, false or adapted",
        ),
        ("adapter: {layer_norms: {low: 0, high: 1}}", "layer_norms: 0 is refused; write true, false or adapted"),
        ("adapter: {roles: quary}", "x.yaml: adapter: roles: unknown role 'quary', did you mean 'query'?"),
        ("adapter: {stacks: middle}", "x.yaml: adapter: stacks: unknown stack 'middle'; known: decoder, encoder"),
        ("adapter: {layers: [all, lots]}", "adapter: layers: can't be read: 'lots'; write all, first 4, last 4"),
        ("adapter: {layers: 3}", "x.yaml: adapter: layers: 3 is refused; write a word"),
        ("adapter: {a_out: 0}", "x.yaml: adapter: a_out: 0 is refused; write 1 or more"),
        ("training: {warmup: 1}", "x.yaml: training: warmup: 1 is refused; write a number below 1"),
        ("training: {dropout: {low: 0, high: 1}}", "training: dropout: 1 is refused; write a number below 1"),
        ("training: {batch_size: 7.5}", "training: batch_size: 7.5 is refused; write a whole number"),
        ("training: {batch_size: {low: 8, high: 32, step: 4.5}}", "batch_size: 12.5 is refused"),
        ("training: {clip_norm: .inf}", "clip_norm: inf is refused; write a finite number"),
        ("training: {learning_rate: {low: 3, high: 1}}", "x.yaml: training.learning_rate: low 3 is above high 1; swap"),
        ("schedule: {epochs: 0}", "x.yaml: schedule.epochs: 0 is refused; write a number above 0"),
        ("schedule: {epochs: {cola: 2}}", "schedule.epochs: {'cola': 2} is refused; a setting by task needs the key"),
        (
            "schedule: {epochs: {default: 2, rte: -3}}",
            "x.yaml: schedule.epochs.rte: -3 is refused; write a n",
        ),
        ("schedule: {reduction: 1}", "schedule.reduction: 1 is refused; write 2 or more"),
        ("examples: {train: {default: 0}}", "examples.train.default: 0 is refused; write 1 or more"),
        ("examples: {max_length: 3}", "examples.max_length: 3 is refused; write 4 or more"),
        ("search: {trials: 0}", "search.trials: 0 is refused; write 1 or more"),
        (r'name: "a\0b"', r"x.yaml: name: 'a\x00b' is refused; write it without control characters"),
        ("search: {trials: true}", "search.trials: true is refused; write a number"),
        ("schedule: {epochs: {default: false}}", "schedule.epochs.default: false is refused; write a number"),
        ("search: {baseline_learning_rates: [0.1, true]}", "search.baseline_learning_rates: true is refused; write a"),
        ("search: {trials: 1000000000}", "search.trials: 1000000000 is refused; write 1,000,000 or less"),
        ("search: {trials: 1e300}", "search.trials: 1e+300 is refused; write a whole number"),
        ("schedule: {epochs: 1e300}", "schedule.epochs: 1e+300 is refused; write 1,000,000 or less"),
        ("schedule: {epochs: .nan}", "schedule.epochs: nan is refused; write "),
        ("examples: {train: 1e18}", "examples.train: 1e+18 is refused; write 1,000,000,000,000,000 or less"),
        ("finalists: {top: 1e7}", "finalists.top: 10000000.0 is refused; write 1,000,000 or less"),
        ("search: {max_params: lots}", "'lots' is refused; write a number of parameters such as 200000, or a share"),
        ("search: {max_params: 0%}", "search.max_params: '0%' is refused"),
        (
            "search: {time_budget: soon}",
            "search.time_budget: 'soon' is refused; write a time such as 90s, 20min, 1h30m or 2d",
        ),
        ("search: {time_budget: 0s}", "search.time_budget: 0 is refused; write a number above 0"),
        ("resources: {cpus_per_trial: .inf}", "resources.cpus_per_trial: inf is refused"),
        ("backbone: {roles: {qery: '*.q'}}", "x.yaml: backbone.roles.qery: 'qery' is refused; input should be 'query'"),
        ("backbone: {roles: {query: 7}}", "x.yaml: backbone.roles.query: 7 is refused; write a word"),
        ("backbone: {roles: {feed_forward: '*.mlp'}}", "it is a whole block; name its maps as feed_forward_in and"),
        ("backbone: {role: {}}", "x.yaml: backbone: unknown key 'role', did you mean 'roles'?"),
        ("seed: 1.5", "x.yaml: seed: 1.5 is refused; write a whole number"),
        (OWN.format(f"label: b, title: {'x' * 61}"), "is refused; write at most 60 characters"),
        (OWN.format("label: b, metric: []"), "x.yaml: tasks.t.metric: [] is refused; write at least 1"),
        ("seed: true", "x.yaml: seed: true is refused; write a number"),
        ("search: {trials: true}", "x.yaml: search.trials: true is refused; write a number"),
        ("schedule: {epochs: {default: 2, rte: yes}}", "x.yaml: schedule.epochs.rte: true is refused; write a number"),
        ("search: {baseline_learning_rates: [true]}", "search.baseline_learning_rates: true is refused; write a n"),
        (OWN.format("target: b, max_new_tokens: true"), "x.yaml: tasks.t.max_new_tokens: true is refused; write a num"),
        (OWN.format("label: b, class_weights: {x: true}"), "tasks.t.class_weights.x: true is refused; write a number"),
        (OWN.format("label: b, class_weights: {x: 1e308}"), "class_weights.x: 1e+308 is refused; write 1,000,000 or"),
        (OWN.format("label: b, class_weights: {x: 1e-300}"), "tasks.t.class_weights.x: 1e-300 is refused; write 1e-06"),
        ("name: [", "x.yaml, line 2, column 8: not YAML: while parsing a flow node, expected the node content"),
    ],
)
def test_a_wrong_request_is_refused_with_place_value_and_fix(text: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        spec_of(text if text.startswith("model") else f"model: m\n{text}")
    assert str(refused.value).startswith("x.yaml")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; see search_spaces/"),
        ("- model", "holds ['model'], not keys and values"),
        ("tasks: [cola]", "the key 'model' is missing; add it"),
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


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {
        "search.wind": DroppedSetting(False, "it never helped"),
        "search.depth": DroppedSetting(3, "every depth is searched"),
    }
    monkeypatch.setattr(loader, "DROPPED", gone)


@pytest.mark.usefixtures("dropped")
def test_a_setting_at_its_old_default_is_passed_over() -> None:
    written = {"model": "m", "search": {"wind": False, "trials": 7, "depth": 3}}
    assert build_spec(written, "x.yaml") == build_spec({"model": "m", "search": {"trials": 7}}, "x.yaml")
    assert written["search"] == {"wind": False, "trials": 7, "depth": 3}


@pytest.mark.usefixtures("dropped")
@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"wind": True}, "x.yaml: search.wind: true is refused: it never helped; leave it out, or write false"),
        ({"depth": 2}, "x.yaml: search.depth: 2 is refused: every depth is searched; leave it out, or write 3"),
    ],
)
def test_another_value_is_refused_with_the_reason(search: dict[str, object], said: str) -> None:
    with pytest.raises(Refusal) as refused:
        build_spec({"model": "m", "search": search}, "x.yaml")
    assert str(refused.value).startswith(said)


@pytest.mark.usefixtures("dropped")
def test_a_setting_that_never_was_is_unknown() -> None:
    with pytest.raises(Refusal, match="unknown key 'winds'"):
        build_spec({"model": "m", "search": {"winds": False}}, "x.yaml")


def test_of_a_recorded_section_only_the_named_keys_are_read() -> None:
    request = {"search": {"trials": 7, "former": 3, "stop": "odd"}}
    assert read_section(request, "search", SearchSpec, "trials", "shared") == SearchSpec(trials=7)
    assert read_section({"search": None}, "search", SearchSpec, "trials") == SearchSpec()
    with pytest.raises(Refusal, match=r"^study\.yaml: its search can't be read .*; put back what"):
        read_section(request, "search", SearchSpec, "stop")
