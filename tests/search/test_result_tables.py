"""Tests the final tables: on validation without finalists, on test with them, and by method if there are several."""

import re
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from math import inf, nan

import pytest
from rich.console import Console

from krona_tune.data.tasks import GLUE
from krona_tune.search.ledger import Ledger
from krona_tune.search.terminal.result_tables import build_result_tables
from krona_tune.study.finals import DEFAULT
from krona_tune.study.finals import HEAD as ALONE
from krona_tune.study.formatting import describe_adapter
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.result import TrialResult
from tests.record.events import manifest
from tests.search.conftest import count_on
from tests.search.ledgers import SHAPE, Heard
from tests.study.final_rows import repeats, row

PLAIN, PARETO = SearchSpec(), SearchSpec(objective="pareto")


def said(
    rows: Sequence[TrialResult],
    *tasks: str,
    synthetic: bool = False,
    width: int = 80,
    fronts: bool = False,
    shared: bool = False,
) -> str:
    console = Console(width=width, file=StringIO())
    facts = manifest(*tasks, synthetic=synthetic).tasks
    ledger = Ledger(count_on(SHAPE), Heard(), list(rows), shared_by=tasks if shared else ())
    console.print(build_result_tables(ledger.standings, facts, PARETO if fronts else PLAIN))
    return console.file.getvalue()  # type: ignore[attr-defined]


def lines(text: str, word: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if word in line]


KRONA = row("000", "search", 0.7, params={"method": "krona", "a_out": 16, "a_in": 24}, metrics={"accuracy": 0.7})
LORA = row("001", "search", 0.6, params={"method": "lora", "rank": 4}, trainable_percent=0.2)
HEAD = row("head-0", "baseline", 0.5, params={"method": "head_only"}, trainable_percent=0.0)
FINALS = [
    *repeats("rte-000", (0.6, 0.7), (0.58, 0.62), trainable_parameters=900, test_resampled=(0.5, 0.75)),
    *repeats("rte-001", (0.6, 0.6), (0.57, 0.63), method="lora"),
    *repeats("rte-002", (0.5, 0.5), (0.381, 0.419)),
    *repeats("rte-head-0", (0.5, 0.5), (0.45, 0.45), method="head_only"),
]


def test_without_finalists_the_best_of_the_search_stands_beside_its_baselines() -> None:
    other = row("head-0", "baseline", 0.4, task="mrpc", params={"method": "head_only"})
    text = said([KRONA, HEAD, other], "rte", "cola", "mrpc")
    assert "validation scores" in text
    assert lines(text, "RTE") == ["RTE 0.700 0.500 0.550 700 krona, 16×24"]
    assert lines(text, "COLA") == ["COLA no result – 0.000"]
    assert lines(text, "MRPC") == ["MRPC no result 0.400 0.550"]
    assert "Finalists" not in text
    assert "Methods" not in text


def test_a_long_adapter_is_cut_nowhere() -> None:
    roles = "query+key+value+output+feed_forward_in+feed_forward_out"
    long = row("000", "search", 0.7, params={"method": "krona", "a_out": 16, "a_in": 24, "roles": roles})
    text = said([long, HEAD], "rte", fronts=True, shared=True)
    assert "…" not in text
    assert text.count("_out") == 3


@pytest.mark.parametrize("score", [nan, inf, -inf])
def test_a_score_that_is_no_number_stands_in_no_table(score: float) -> None:
    lost = [replace(each, trial_id=f"{each.trial_id}-lost", score=score) for each in (KRONA, LORA, HEAD)]
    assert said([*lost, KRONA, LORA, HEAD], "rte", fronts=True) == said([KRONA, LORA, HEAD], "rte", fronts=True)
    assert lines(said(lost, "rte"), "RTE")[0] == "RTE no result – 0.550"


def test_finalists_are_shown_on_both_halves_with_the_head_alone_on_test() -> None:
    text = said([KRONA, HEAD, *FINALS], "rte", "cola")
    assert lines(text, "rte-000 ") == ["RTE rte-000 0.650±0.071 0.600±0.028 0.450±0.000 0.550 900"]
    assert "[0.252, 0.870]" in text
    assert lines(text, "rte-001 ")[0].startswith("≈ rte-001 0.600±0.000 0.600±0.042")
    assert lines(text, "rte-002 ")[0].startswith("rte-002 0.500±0.000 0.400±0.027")
    assert lines(text, "COLA") == ["COLA no result – 0.000"]
    assert "rte-000: krona" in text


def test_a_task_whose_finals_did_not_come_says_what_the_search_had() -> None:
    text = said([row("003", "search", 0.4, task="cola", metrics={"matthews": 0.4}), *FINALS], "rte", "cola")
    assert lines(text, "COLA") == ["COLA cola-003 0.400 (search) – 0.000"]
    head = repeats("mrpc-head-0", (0.4, 0.4), (0.35, 0.35), task="mrpc", method="head_only")
    assert lines(said([*head, *FINALS], "rte", "mrpc"), "MRPC") == ["MRPC no result 0.350±0.000 0.550"]


def test_several_methods_stand_side_by_side() -> None:
    text = said([KRONA, LORA, HEAD], "rte")
    assert "Methods, validation scores" in text
    assert "Trained: share of the backbone's parameters, without the head, which numbers" in " ".join(text.split())
    assert lines(text, " %") == ["krona 0.07 % 0.700 0.700", "lora 0.2 % 0.600 0.600", "head_only 0 % 0.500 0.500"]
    mixed = said([KRONA, LORA, *FINALS, row("004", "search", 0.9, task="cola")], "rte", "cola", width=100)
    assert "Methods, test scores" in mixed
    assert lines(mixed, " v ") == ["krona 0.07 % 0.600±0.028 0.900 v –"]
    assert "v: a validation score" in mixed


def test_the_methods_of_all_of_glue_fit_a_terminal_of_eighty_columns() -> None:
    finals = [
        *(each for task in GLUE for each in repeats(f"{task}-000", (0.6, 0.7), (0.58, 0.62), task=task)),
        *(each for task in GLUE for each in repeats(f"{task}-1", (0.6,), (0.5,), task=task, method="lora")),
    ]
    methods = said([KRONA, LORA, *finals], *GLUE).partition("Methods, ")[2]
    assert "…" not in methods
    assert lines(methods, "method") == ["method krona lora head_only"]
    assert lines(methods, "QNLI") == ["QNLI 0.600±0.028 0.500 –"]
    assert lines(methods, "average") == ["average 0.600 0.500 –"]


@pytest.mark.parametrize("width", [24, 40, 60])
def test_a_narrow_terminal_cuts_nothing_off(width: int) -> None:
    text = said([KRONA, LORA, HEAD, *FINALS, row("004", "search", 0.9, task="cola")], "rte", "cola", width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    finals = text[text.index("Finalists of") : text.index("Chosen on")]
    assert finals.count("900") == 2  # the parameters of two of them
    assert "".join(finals.split()).count("0.550") == 1  # the constant answer's score


def test_where_a_table_does_not_fit_its_cells_stand_in_lines() -> None:
    text = said([KRONA, HEAD, *FINALS], "rte", width=40)
    assert lines(text, "head only on test") == ["head only on test 0.450±0.000"]
    assert lines(text, "parameters")[0] == "parameters 900"


def test_no_number_is_divided_where_names_are_long() -> None:
    rows = [replace(each, task="fi_lms_b", test_score=-(each.test_score or 0) - 12) for each in [KRONA, *FINALS]]
    for width in range(40, 120):
        text = said(rows, "fi_lms_b", width=width)
        finals = text[text.index("Finalists of") : text.index("Chosen on")]
        assert {len(decimals) for decimals in re.findall(r"\d\.(\d*)", finals)} == {3}, width


def test_synthetic_numbers_are_marked_on_every_table() -> None:
    assert said([KRONA, LORA, *FINALS], "rte", synthetic=True).count("(synthetic data)") == 2
    assert "synthetic" not in said([KRONA, LORA, *FINALS], "rte")


def test_the_finals_fit_a_terminal_of_eighty_columns() -> None:
    text = said([KRONA, HEAD, *FINALS], "rte")
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_long_name_of_a_task_cuts_no_number_off() -> None:
    name = "reviews_of_our_customers_of_last_year"
    ran = repeats(f"{name}-000", (0.6, 0.7), (0.58, 0.62), trainable_parameters=1_234_567)
    finals = [replace(each, task=name) for each in ran]
    text = said([replace(KRONA, task=name), *finals], name)
    assert max(map(len, text.splitlines())) <= 80
    assert "1,234,567" in text
    table = text[text.index("Finalists of each task") :]
    assert name.upper() in "".join(table.split())


def test_a_head_that_is_chosen_is_marked() -> None:
    low = repeats("rte-default", (0.6, 0.61), (0.6, 0.6), number=DEFAULT)
    finals = [*repeats("rte-000", (0.6, 0.7), (0.58, 0.62), number=1), *low]
    high = repeats("rte-head-0", (0.9, 0.9), (0.9, 0.9), method="head_only", number=ALONE)
    text = said([KRONA, *finals, *high], "rte")
    assert "chosen" in text[text.index("Finalists of each task") : text.index("Chosen on validation")]


def test_a_title_with_brackets_is_whole_in_its_lines() -> None:
    facts = {"rte": manifest("rte").tasks["rte"].model_copy(update={"title": "Questions [/r/x] [by]"})}
    console = Console(width=80, file=StringIO())
    standings = Ledger(count_on(SHAPE), Heard(), [KRONA, *FINALS]).standings
    console.print(build_result_tables(standings, facts, PLAIN))
    assert "Questions [/" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_sum_in_a_line_says_what_differs_from_a_single_product() -> None:
    single = {"method": "krona", "a_out": 24, "a_in": 16, "terms": 1, "scaling": "plain", "init": "krona", "scale": 4}
    assert describe_adapter(single) == "krona, 24×16, scale 4"
    summed = single | {"terms": 4, "scaling": "stable", "init": "cdka"}
    assert describe_adapter(summed) == "krona, 24×16, 4 terms, init cdka, scale 4, stable scaling"


def test_an_adapter_in_a_line() -> None:
    assert (
        describe_adapter({"method": "lora", "rank": 4, "scale": 2.0, "layers": "all"})
        == "lora, rank 4, scale 2, all layers"
    )
    assert describe_adapter({"method": "bitfit", "layers": "last 1"}) == "bitfit, last layer"


def sized(task: str, *points: tuple[int, float]) -> list[TrialResult]:
    return [
        row(f"{number:03d}", "search", score, task=task, number=number, trainable_parameters=size)
        for number, (size, score) in enumerate(points)
    ]


def test_score_against_parameters_is_shown_a_task_and_for_the_average_where_it_was_the_aim() -> None:
    rows = [*sized("cola", (100, 0.2), (300, 0.5), (250, 0.1)), *sized("rte", (150, 0.6), (400, 0.8))]
    text = said(rows, "cola", "rte", width=120, fronts=True)
    assert lines(text, "cola-00")[0].startswith("COLA cola-000 0.200 100")
    assert lines(text, "cola-00")[1].startswith("cola-001 0.500 300")
    assert "cola-002" not in text
    assert [line.split()[:3] for line in text.splitlines()[-3:]] == [
        ["average", "0.400", "150"],
        ["0.550", "300"],
        ["0.650", "400"],
    ]
    assert "at most" not in said(rows, "cola", "rte", width=120)
    assert "at most" not in said(sized("cola", (100, 0.2)), "cola", fronts=True)


def test_configurations_for_all_tasks_are_ranked_by_their_average() -> None:
    rows = [*sized("cola", (100, 0.9), (300, 0.5), (250, 0.4)), *sized("rte", (100, 0.1), (310, 0.8))]
    text = said(rows, "cola", "rte", width=120, shared=True)
    assert lines(text, " 0.650 ")[0].startswith("1 0.650 0.500 0.800 310")
    assert lines(text, " 0.900 ")[0].startswith("0 0.500 0.900 0.100 100")
    assert lines(text, "COLA ")[0].startswith("COLA 0.500")


def test_what_records_and_manifest_say_is_no_markup() -> None:
    """The row was edited by hand: its brackets close nothing and it has only half a shape."""
    odd = row("[/x]", "search", 0.7, params={"method": "[/b]", "a_out": 16, "roles": "[/y]"})
    facts = {"rte": manifest("rte").tasks["rte"].model_copy(update={"title": "[/t]"})}
    console = Console(width=120, file=StringIO())
    console.print(build_result_tables(Ledger(count_on(SHAPE), Heard(), [odd, *FINALS]).standings, facts, PARETO))
    console.print(build_result_tables(Ledger(count_on(SHAPE), Heard(), [odd, LORA]).standings, facts, PARETO))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[/t]" in text
    assert "[/b], [/y]" in text
    assert "rte-[/x]" in text


def test_the_average_of_methods_and_sizes_leaves_out_what_has_no_mean_with_others() -> None:
    facts = manifest("rte", "cola", "wiki").tasks
    negated = facts | {"wiki": facts["wiki"].model_copy(update={"averages": False})}
    scores = {"rte": 0.7, "cola": 0.9, "wiki": -12.3}
    rows = [row("000", "search", score, task=task) for task, score in scores.items()]
    rows += [row("001", "search", score, task=task, params={"method": "lora"}) for task, score in scores.items()]
    console = Console(width=100, file=StringIO())
    console.print(build_result_tables(Ledger(count_on(SHAPE), Heard(), rows).standings, negated, PARETO))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert lines(text, "0.07 %")[0] == "krona 0.07 % 0.700 0.900 -12.300 0.800"
    assert lines(text, "of each task's best") == ["average 0.800 700 of each task's best with at most so many"]
    assert " ".join(text.split()).count("The average is without WIKI: no mean with other scores.") == 2


def test_a_task_on_which_nothing_was_learned_comes_first_and_is_not_green() -> None:
    flat = replace(KRONA, score=0.55, metrics={"accuracy": 0.55})
    console = Console(width=200, file=StringIO(), force_terminal=True, color_system="standard", _environ={})
    rows = Ledger(count_on(SHAPE), Heard(), [flat, HEAD])
    console.print(build_result_tables(rows.standings, manifest("rte").tasks, PLAIN))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Nothing was learned on RTE: the best adapter is not above" in text.splitlines()[0]
    assert "\x1b[32m" not in text


def test_a_gain_over_the_head_alone_that_may_be_chance_is_said_under_the_tables() -> None:
    best, head = (replace(each, score=0.8, metrics={"accuracy": 0.8}) for each in (KRONA, HEAD))
    unshown = (
        "RTE: the best adapter is not shown to be better than the head alone at this number of validation examples."
    )
    assert unshown in said([best, head], "rte", width=120)
    assert unshown not in said([best, replace(head, score=0.6, metrics={"accuracy": 0.6})], "rte", width=120)


def test_a_finalist_of_one_seed_was_not_compared_and_has_no_mark() -> None:
    text = said([*FINALS, *repeats("rte-003", (0.4,), (0.5,))], "rte")
    assert [line for line in lines(text, "0.400") if "rte-003" in line] == ["rte-003 0.400 0.500 700"]
    assert any(line.startswith("≈ rte-001") for line in lines(text, "rte-001"))


def test_below_the_finalists_stands_which_difference_would_have_been_seen() -> None:
    text = " ".join(said(FINALS, "rte").split())
    assert "RTE: rte-001 can't be told apart from the winner; 0.554 would have been seen." in text
    assert "RTE: rte-002 is worse than the winner by 0.200 on test." in text


def test_a_search_that_ended_by_itself_says_so_under_the_tables() -> None:
    rows = [row(f"{number:03d}", "search", 0.7, number=number, ended_at=float(number)) for number in range(8)]
    rows = [replace(each, score=0.7 - 0.001 * each.number) for each in rows]
    search = SearchSpec(trials=30, stop="auto", least_gain=0.02, stop_trials=30)
    console = Console(width=200, file=StringIO())
    standings = Ledger(count_on(SHAPE), Heard(), rows).standings
    console.print(build_result_tables(standings, manifest("rte").tasks, search))
    assert "The search of RTE ended by itself with 8 of 30 trials" in console.file.getvalue()  # type: ignore[attr-defined]
