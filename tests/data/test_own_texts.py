"""Tests that files with texts as answers become a task, and that wrong requests for one are refused."""

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pydantic import ValidationError

from krona_tune.data import user_code
from krona_tune.data.corpus import OwnData, load
from krona_tune.data.own_data import load_own
from krona_tune.refusal import Refusal
from krona_tune.study.request.task_spec import TaskSpec
from tests.language_models import sums, write_sums


def own(folder: Path, **keys: Any) -> OwnData:
    data = write_sums(folder / "sums.csv", sums(100, seed=1))
    asked = {"data": str(data), "text": ["a", "b"], "target": "sum", "prompt": "{a}+{b}=", **keys}
    spec = TaskSpec.model_validate({key: value for key, value in asked.items() if value is not None})
    return load_own("sums", spec, "tasks.sums")


def refusal_of(folder: Path, **keys: Any) -> str:
    with pytest.raises((Refusal, ValidationError)) as refused:
        own(folder, **keys)
    return str(refused.value)


def test_targets_are_texts_also_where_they_are_numbers(tmp_path: Path) -> None:
    found = own(tmp_path)
    assert found.task.generation is not None
    assert found.task.metrics == ("exact_match",)
    assert not found.task.is_regression
    assert {part: table.num_rows for part, table in found.parts.items()} == {"train": 70, "validation": 15, "test": 15}
    row = found.parts["train"].to_pylist()[0]
    assert int(row["a"]) + int(row["b"]) == int(row["label"])
    assert found.task.prompt(("1", "2")) == "1+2="


def test_the_fingerprint_depends_on_the_targets(tmp_path: Path) -> None:
    found = own(tmp_path)
    changed = {part: table.set_column(2, "label", pa.array(["0"] * len(table))) for part, table in found.parts.items()}
    other = OwnData(task=found.task, parts=changed, provenance="", shares=(), warnings=())
    assert load(found.task, found).fingerprint != load(found.task, other).fingerprint
    assert load(found.task, found).fingerprint == load(found.task, own(tmp_path)).fingerprint


def test_the_only_text_is_also_called_text_and_without_a_prompt_it_is_read_alone(tmp_path: Path) -> None:
    assert own(tmp_path, text="a", prompt="double {text}:").task.prompt(["4"]) == "double 4:"
    assert own(tmp_path, text="a", prompt=None).task.prompt(["4"]) == "4"
    assert own(tmp_path, prompt=None).task.prompt(["4", "5"]) == "4\n5"


def test_braces_around_what_is_no_column_stay_in_a_prompt(tmp_path: Path) -> None:
    for braces in ('{"sum": {"of": 1}}', "{}", "{1}", "{an answer}", "\\boxed{x} \\frac{x}{y} 2^{n}", "{{name}}"):
        assert own(tmp_path, prompt=f"{{a}}+{{b}} in {braces}: ").task.prompt(("1", "2")) == f"1+2 in {braces}: "


def test_a_function_of_ones_own_gets_targets_and_answers_as_texts(tmp_path: Path) -> None:
    (tmp_path / "near.py").write_text(
        "def near(targets, answers):\n"
        "    return sum(abs(len(t) - len(a)) for t, a in zip(targets, answers)) / len(targets)\n"
    )
    found = own(tmp_path, metric=f"{tmp_path}/near.py:near", direction="lower")
    assert found.task.lower_is_better == ("near",)


def test_an_expression_that_never_ends_is_refused_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_code, "CALL_SECONDS", 0.5)
    for part in ("train", "test"):
        write_sums(tmp_path / f"{part}.csv", [{"a": part, "b": str(n), "sum": "a" * 40 + "b"} for n in range(9)])
    asked = {"data": str(tmp_path), "text": ["a", "b"], "target": "sum", "extract": "(a+)+$"}
    with pytest.raises(Refusal, match=r"^tasks\.sums\.extract: the expression: it took more than 0\.5 s; make it"):
        load_own("sums", TaskSpec.model_validate(asked), "tasks.sums")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"prompt": "{a} {b} {total}"}, "tasks.sums.prompt: unknown placeholder 'total'; known: a, b"),
        ({"prompt": "{a} and"}, "tasks.sums.prompt: it has no place for the text: {b} is not in '{a} and'"),
        (
            {"metric": "accuracy"},
            "accuracy judges labels and numbers, not texts; write one of exact_match",
        ),
        ({"metric": "exact_mach"}, "tasks.sums.metric: unknown metric 'exact_mach', did you mean 'exact_match'?"),
        (
            {"metric": ["perplexity", "rouge_l"]},
            "tasks.sums.metric: perplexity has no mean with others; write it alone",
        ),
        ({"extract": r"(\d"}, "no regular expression: missing ), unterminated subpattern"),
        ({"extract": "a{99999999999}"}, "no regular expression: the repetition number is too large"),
        ({"extract": "(" * 2000 + "a" + ")" * 2000}, "no regular expression: maximum recursion depth exceeded"),
        ({"extract": "answer"}, "tasks.sums.extract: finds nothing in 15 of 15 validation targets, the first is '"),
        ({"label": "sum"}, "names a label and a target; write label: COLUMN for classes or numbers, or target"),
        ({"target": None}, "names neither a label nor a target"),
        ({"target": None, "label": "sum"}, "prompt is about tasks with a target; leave it out"),
        ({"words": {"1": "one"}}, "words is about tasks with a label; leave it out"),
        ({"target": "a"}, "the target 'a' is a text that the model reads"),
        ({"target": "total"}, "no column 'total'; found a, b, sum"),
        (
            {"target": None, "prompt": None, "label": "sum", "metric": "rouge_l"},
            "rouge_l judges texts, not labels and numbers",
        ),
    ],
)
def test_a_wrong_request_is_refused_with_the_fix(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal_of(tmp_path, **keys)


def elsewhere(folder: Path, **keys: Any) -> dict[str, Any]:
    """Returns a request whose test part is in another folder, in columns of other names."""
    other = folder / "other"
    other.mkdir()
    for part in ("train", "test"):
        lines = ["q,r,total", *(f"{part}{n},{n},{n}" for n in range(4))]
        (other / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return {"split": {"test": {"data": str(other), "text": ["q", "r"], "target": "total", **keys}}}


def test_a_part_elsewhere_is_read_in_its_own_columns(tmp_path: Path) -> None:
    found = own(tmp_path, **elsewhere(tmp_path))
    assert found.parts["test"].to_pylist()[0] == {"a": "test0", "b": "0", "label": "0"}
    assert {part: table.num_rows for part, table in found.parts.items()} == {"train": 85, "validation": 15, "test": 4}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"text": "q"}, "split.test has 1 texts, the task 2; name a column for each"),
        ({"text": ["q", "total"]}, "split.test: the target 'total' is a text that the model reads"),
        (
            {"target": None, "label": "total"},
            "split.test names another kind of answer than the task; write target: COLUMN",
        ),
        ({"target": "sum"}, "no column 'sum'; found q, r, total"),
    ],
)
def test_a_wrong_part_elsewhere_is_refused(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal_of(tmp_path, **elsewhere(tmp_path, **keys))


def test_a_folder_gives_the_part_that_is_asked_of_it_or_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for part in ("train", "test"):
        write_sums(other / f"{part}.csv", [{"a": part, "b": str(n), "sum": str(n)} for n in range(4)])
    assert set(own(tmp_path, split={"test": str(other)}).parts["test"]["a"].to_pylist()) == {"test"}
    said = refusal_of(tmp_path, split={"validation": str(other)})
    assert said == f"{other}: has no validation part; found test, train; name a file, or hold examples out"


def test_names_of_a_hubs_classes_are_targets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features({"q": datasets.Value("string"), "mood": datasets.ClassLabel(names=["bad", "good"])})
    rows = datasets.Dataset.from_dict({"q": [f"text {n}" for n in range(40)], "mood": [0, 1] * 20}, features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *words: datasets.DatasetDict(train=rows))
    spec = TaskSpec.model_validate({"data": "hub:moods", "text": "q", "target": "mood"})
    assert set(load_own("moods", spec, "tasks.moods").parts["train"]["label"].to_pylist()) == {"bad", "good"}


def test_what_is_only_trained_on_may_lack_what_is_extracted(tmp_path: Path) -> None:
    keys = elsewhere(tmp_path)
    assert "of 4 test targets" in refusal_of(tmp_path, extract=r"^(\d\d+)$", evaluate="loss", **keys)
    assert own(tmp_path, extract=r"^(\d)$", evaluate="loss", **keys).task.judged_by_loss
