"""Tests the comparison of methods: winners on test if there are finalists, and averages only of comparable values."""

import pytest

from krona_tune.study.compared_methods import averaged, compare_methods, left_out
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.result import Status, TrialResult
from tests.record.events import manifest
from tests.study.final_rows import repeats, row

RTE: dict[str, TaskFacts | None] = {"rte": None}
BOTH: dict[str, TaskFacts | None] = {"rte": None, "cola": None}


def searched(method: str, score: float | None, task: str = "rte", **more: object) -> TrialResult:
    return row(f"{method}-{score}", "search", score, task=task, params={"method": method}, **more)


def test_one_method_is_compared_with_nothing() -> None:
    assert (
        compare_methods([searched("krona", 0.5), row("h", "baseline", 0.4, params={"method": "head_only"})], RTE) == ()
    )


def test_without_finalists_the_best_validation_score_stands_and_the_best_average_comes_first() -> None:
    rows = [
        searched("krona", 0.5, trainable_percent=0.05),
        searched("krona", 0.6, trainable_percent=0.07),
        searched("krona", 0.4, "cola", trainable_percent=0.09),
        searched("lora", 0.7),
        searched("lora", 0.5, "cola"),
        row("h", "baseline", 0.9, params={"method": "head_only"}, trainable_percent=0.0),
    ]
    lora, krona, head = compare_methods(rows, BOTH)
    assert (lora.method, krona.method, head.method) == ("lora", "krona", "head_only")
    assert krona.average is not None
    assert (krona.average.score, krona.average.half) == (pytest.approx(0.5), "validation")
    assert (krona.cells["rte"].mean, krona.cells["rte"].deviation) == (0.6, None)
    assert krona.trainable_percent == pytest.approx(0.08)
    assert (head.average, head.cells.keys()) == (None, {"rte"})


def test_of_a_shared_search_a_method_has_the_scores_of_one_configuration() -> None:
    scores = {"krona": {0: (0.6, 0.6)}, "lora": {1: (0.9, 0.1), 2: (0.1, 0.9), 3: (0.95, None)}}
    rows = [
        searched(method, score, task, number=number)
        for method, numbers in scores.items()
        for number, each in numbers.items()
        for task, score in zip(BOTH, each, strict=True)
        if score
    ]
    lines = {line.method: line for line in compare_methods(rows, BOTH, tuple(BOTH))}
    assert list(lines) == ["krona", "lora", "head_only"]
    assert lines["lora"].average is not None
    assert lines["lora"].average.score == pytest.approx(0.5)
    unfinished = [row for row in rows if (row.task, row.params["method"]) != ("cola", "lora")]
    assert {line.method: line.cells.keys() for line in compare_methods(unfinished, BOTH, tuple(BOTH))}["lora"] == set()


def test_with_finalists_the_test_mean_of_the_methods_own_winner_stands() -> None:
    rows = [
        searched("krona", 0.9),
        searched("lora", 0.8),
        *repeats("k1", (0.6, 0.6), (0.50, 0.54)),
        *repeats("k2", (0.5, 0.5), (0.90, 0.90)),
        *repeats("l1", (0.5, 0.5), (0.61, 0.63), method="lora"),
        *repeats("h", (0.5, 0.5), (0.40, 0.40), method="head_only"),
    ]
    lines = {line.method: line for line in compare_methods(rows, RTE)}
    assert list(lines) == ["lora", "krona", "head_only"]
    cell = lines["krona"].cells["rte"]
    assert (cell.mean, cell.half) == (pytest.approx(0.52), "test")
    assert cell.deviation == pytest.approx(0.02 * 2**0.5)
    assert lines["head_only"].cells["rte"].mean == pytest.approx(0.40)


def test_an_average_on_validation_comes_after_those_on_test() -> None:
    rows = [searched("krona", 0.8), searched("lora", 0.9), *repeats("k", (0.7, 0.7), (0.6, 0.6))]
    first, second, _ = compare_methods(rows, RTE)
    assert [(line.method, line.average.half) for line in (first, second) if line.average] == [
        ("krona", "test"),
        ("lora", "validation"),
    ]


def test_halves_are_never_averaged_together() -> None:
    rows = [
        searched("krona", 0.9),
        searched("krona", 0.8, "cola"),
        searched("lora", 0.7),
        *repeats("k", (0.6,), (0.5,)),
    ]
    line = next(line for line in compare_methods(rows, BOTH) if line.method == "krona")
    assert {task: cell.half for task, cell in line.cells.items()} == {"rte": "test", "cola": "validation"}
    assert line.average is None


def test_a_method_of_failures_has_a_line_of_its_own() -> None:
    failed = searched("bitfit", None, status=Status.FAILED)
    line = compare_methods([searched("krona", 0.5), failed], RTE)[1]
    assert (line.method, line.cells, line.average, line.trainable_percent) == ("bitfit", {}, None, None)


def test_an_average_leaves_out_the_scores_that_have_no_mean_with_others() -> None:
    rows = [
        *(searched("krona", 0.6, task) for task in ("rte", "cola")),
        *(searched("lora", 0.7, task) for task in ("rte", "cola")),
        *(searched(method, -12.3, "wiki") for method in ("krona", "lora")),
    ]
    facts = manifest("rte", "cola", "wiki").tasks
    negated = facts | {"wiki": facts["wiki"].model_copy(update={"averages": False})}
    assert [line.average and line.average.score for line in compare_methods(rows, negated)] == [0.7, 0.6, None]
    only = {task: fact for task, fact in negated.items() if task == "wiki"}
    assert [line.average and line.average.score for line in compare_methods(rows, only)] == [-12.3, -12.3, None]
    assert left_out(negated, ["test"]) == ("wiki",)


def test_a_task_compared_by_loss_is_averaged_on_test_alone() -> None:
    facts = manifest("rte", "wiki").tasks
    both = facts | {"wiki": facts["wiki"].model_copy(update={"compared_by_loss": True})}
    assert (averaged(both, "validation"), averaged(both, "test")) == (("rte",), ("rte", "wiki"))
    assert (left_out(both, ["test"]), left_out(both, ["test", "validation"])) == ((), ("wiki",))
