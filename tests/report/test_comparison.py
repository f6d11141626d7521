"""Tests how studies are compared: what is held against what, how it is paired, and what is said of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from krona_tune.report.comparison import Comparison, differences, read_comparison
from krona_tune.report.comparison_page import render_comparison
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import build_spec, dump_spec
from tests.record.events import manifest
from tests.report.compared import final_rows, final_study, write_study
from tests.study.final_rows import row

LOW, HIGH = (0.70, 0.72, 0.71), (0.80, 0.815, 0.812)


def compared(*folders: StudyFolder) -> Comparison:
    return read_comparison(folders)


def test_equal_seeds_and_examples_are_paired(tmp_path: Path) -> None:
    found = compared(final_study(tmp_path / "a", LOW), final_study(tmp_path / "b", HIGH))
    first, second = found.tasks[0].entries
    assert (first.difference, first.reference, first.verdict) == (None, "", "")
    assert second.pairing == "paired by seed and test example"
    assert second.gain == pytest.approx(0.099)
    low, high = second.gain_interval or (0, 0)
    assert 0.08 < low < 0.099 < high < 0.12
    assert found.tasks[0].verdicts == ("RTE: b is better than a by 0.099 on test (paired by seed and test example).",)


def test_other_seeds_on_the_same_examples_are_paired_by_example(tmp_path: Path) -> None:
    found = compared(final_study(tmp_path / "a", LOW), final_study(tmp_path / "b", HIGH, first_seed=201))
    second = found.tasks[0].entries[1]
    assert second.pairing == "paired by test example; the seeds are others"
    assert second.verdict == "is better than a by 0.099 on test"


def test_other_examples_are_not_paired_and_doubted(tmp_path: Path) -> None:
    made = manifest("rte")
    facts = {"rte": made.tasks["rte"].model_copy(update={"fingerprint": "another"})}
    other = write_study(tmp_path / "b", made.model_copy(update={"tasks": facts}), final_rows((0.72, 0.74, 0.73)))
    found = compared(final_study(tmp_path / "a", LOW), other)
    second = found.tasks[0].entries[1]
    assert second.pairing == "not paired: the test examples are others, or not known to be the same"
    assert second.verdict.startswith("can't be told apart from a; 0.")
    assert second.verdict.endswith("would have been seen")
    assert second.tied
    assert found.doubts == ["On RTE the studies did not see the same examples."]


@pytest.mark.parametrize("change", [{"metrics": ("matthews_correlation",)}, {"compared_by_loss": True}], ids=str)
def test_searches_by_other_metrics_are_doubted_and_have_no_mean(tmp_path: Path, change: dict[str, Any]) -> None:
    made = manifest("rte")
    facts = {"rte": made.tasks["rte"].model_copy(update=change)}
    rows = [row("000", "search", 0.6)]
    one = write_study(tmp_path / "a", made, rows)
    found = compared(one, write_study(tmp_path / "b", made.model_copy(update={"tasks": facts}), rows))
    assert found.doubts == ["On RTE the studies' scores are of other metrics."]
    assert ([each.task for each in found.known], found.common) == (["rte"], [])


@pytest.mark.parametrize("named", [("a", "b"), ("b", "a")])
def test_a_study_without_finals_or_result_is_not_compared_and_never_the_reference(
    tmp_path: Path, named: tuple[str, str]
) -> None:
    folders = {
        "a": final_study(tmp_path / "a", LOW),
        "b": write_study(tmp_path / "b", manifest("rte"), [row("000", "search", 0.9)]),
    }
    found = compared(
        *(folders[name] for name in named), write_study(tmp_path / "c", manifest("rte"), [row("000", "search", None)])
    )
    entries = {entry.study.name: entry for entry in found.tasks[0].entries}
    assert entries["a"].difference is None
    assert entries["b"].verdict == (
        "is not compared with a: without finals, its score is one seed's, which was chosen by that score"
    )
    assert entries["c"].verdict == "is not compared with a: no result"
    assert [(entries[name].half, entries[name].gain) for name in "bc"] == [("validation", None), (None, None)]


@pytest.mark.parametrize(
    "change", [{"metrics": ("f1",)}, {"functions": "0" * 64}, {"averages": False}, {"extract": r"(\d+)"}], ids=str
)
def test_other_metrics_are_not_compared(tmp_path: Path, change: dict[str, Any]) -> None:
    """Two functions of one's own may have one name; a score where lower is better is negated and has no average."""
    made = manifest("rte")
    facts = {"rte": made.tasks["rte"].model_copy(update=change)}
    other = write_study(tmp_path / "b", made.model_copy(update={"tasks": facts}), final_rows(HIGH))
    assert compared(final_study(tmp_path / "a", LOW), other).tasks[0].entries[1].verdict == (
        "is not compared with a: their metrics are others"
    )


def test_f1_of_one_label_is_not_compared_with_that_of_the_other(tmp_path: Path) -> None:
    studies = []
    for name, labels in {"a": ("ham", "spam"), "b": ("spam", "ham"), "c": None}.items():
        made = manifest("rte")
        facts = {"rte": made.tasks["rte"].model_copy(update={"metrics": ("f1",), "labels": labels})}
        written = made.model_copy(update={"tasks": facts})
        studies.append(write_study(tmp_path / name, written, final_rows(HIGH if name == "b" else LOW)))
    assert not compared(studies[2], *studies[:2]).tasks[0].same_metrics, "whichever of them comes first"
    _, other, older = compared(*studies).tasks[0].entries
    assert other.verdict == "is not compared with a: their metrics are others"
    assert "metrics" not in older.verdict, "an older study did not record its labels"


def test_a_score_without_draws_of_its_examples_is_not_compared_and_its_gain_is_told(tmp_path: Path) -> None:
    slow = [replace(each, test_resampled=(), test_note="no interval: it is too slow") for each in final_rows(HIGH)]
    other = write_study(tmp_path / "b", manifest("rte"), slow)
    second = compared(final_study(tmp_path / "a", LOW), other).tasks[0].entries[1]
    assert second.verdict == "is not compared with a: it is too slow"
    assert (second.gain, second.gain_interval, second.pairing) == (pytest.approx(0.099), None, "")


def test_more_studies_widen_the_intervals_of_each(tmp_path: Path) -> None:
    """Scores on one axis: with two comparisons each of them needs 97.5 %."""
    folders = [final_study(tmp_path / name, scores) for name, scores in (("a", LOW), ("b", HIGH), ("c", HIGH))]
    pair, three = compared(*folders[:2]), compared(*folders)
    [narrow, wide] = [each.tasks[0].entries[1].gain_interval or (0, 0) for each in (pair, three)]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_seeds_that_did_not_learn_are_named_with_their_study(tmp_path: Path) -> None:
    flat = (0.55, 0.80, 0.812)
    found = compared(final_study(tmp_path / "a", LOW), final_study(tmp_path / "b", flat)).tasks[0].verdicts
    assert any("1 of 3 seeds did not learn" in text and text.endswith("that of the others, in b.") for text in found)


def test_only_knobs_of_winners_that_differ_are_listed(tmp_path: Path) -> None:
    a = final_study(tmp_path / "a", LOW, scale=4.0, rank=3)
    b = final_study(tmp_path / "b", HIGH, scale=2.0, rank=3)
    knobs = compared(a, b).tasks[0].knobs
    assert knobs.differing == ("scale",)
    assert {"method": "krona", "rank": "3"}.items() <= knobs.fixed.items()


def test_a_task_of_one_study_has_a_row_and_no_average(tmp_path: Path) -> None:
    rows = [*final_rows(LOW), *final_rows(LOW, task="cola")]
    found = compared(write_study(tmp_path / "a", manifest("rte", "cola"), rows), final_study(tmp_path / "b", HIGH))
    assert [(each.task, len(each.entries)) for each in found.tasks] == [("rte", 2), ("cola", 1)]
    assert found.common == ["rte"]


def test_tasks_that_are_compared_by_loss_are_averaged_on_test(tmp_path: Path) -> None:
    made = manifest("rte", "cola")
    by_loss = made.tasks["cola"].model_copy(update={"compared_by_loss": True})
    made = made.model_copy(update={"tasks": {**made.tasks, "cola": by_loss}})
    one, other = (
        write_study(tmp_path / name, made, [*final_rows(scores), *final_rows(scores, task="cola")])
        for name, scores in (("a", LOW), ("b", HIGH))
    )
    found = compared(one, other)
    assert (found.half, found.common) == ("test", ["rte", "cola"])
    final = found.studies[0].final_average(found.common)
    assert final is not None
    assert final.tasks == ("rte", "cola")
    assert found.common_on("validation") == ["rte"]  # there the other's score is a loss
    page = render_comparison(found)
    assert "Those on validation are over RTE, since a loss has no mean with other scores." in page
    searched = write_study(tmp_path / "c", made, [row("000", "search", 0.6), row("001", "search", 0.6, task="cola")])
    assert compared(one, searched).common == ["rte"]


def test_other_backbones_are_doubted(tmp_path: Path) -> None:
    made = manifest("rte")
    model = made.model.model_copy(update={"fingerprint": "another"})
    other = write_study(tmp_path / "b", made.model_copy(update={"model": model}), final_rows(HIGH))
    assert compared(final_study(tmp_path / "a", LOW), other).doubts == ["The studies adapted different backbones."]


def test_studies_without_a_common_task_are_said_to_compare_nothing(tmp_path: Path) -> None:
    one, other = (
        write_study(tmp_path / name, manifest(task), [row("000", "search", 0.6, task=task)])
        for name, task in (("a", "rte"), ("b", "cola"))
    )
    assert compared(one, other).doubts == ["No two of the studies have a task in common, so nothing is compared."]


def test_requests_are_compared_key_by_key() -> None:
    specs = {
        "a": "name: a\nseed: 1\nreasons: {model: packaged}\nadapter:\n  scale: [1, 2]\n",
        "b": "name: b\nseed: 1\nadapter:\n  scale: 4\n  rank: 2\n",
    }
    assert differences(specs) == {"adapter.scale": ("[1, 2]", "4"), "adapter.rank": ("–", "2")}


def test_a_key_that_a_request_of_before_lacks_has_its_default() -> None:
    before = "name: a\nmodel: m\ntasks: [cola]\nsearch: {trials: 4}\n"
    spec = build_spec({"name": "b", "model": "m", "tasks": ["cola"], "search": {"trials": 8}}, "x.yaml")
    assert differences({"a": before, "b": dump_spec(spec)}) == {"search.trials": ("4", "8")}


def test_letters_of_every_language_are_shown_as_they_were_written() -> None:
    specs = {"a": "tasks: {x: {label: Übung}}\n", "b": "tasks: {x: {label: 課題, words: {Ü: gut}}}\n"}
    assert differences(specs) == {"tasks.x.label": ("Übung", "課題"), "tasks.x.words.Ü": ("–", "gut")}
