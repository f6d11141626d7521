"""Tests what is said of a whole study: the test half first if there are finalists, shared configurations, methods."""

from dataclasses import replace

import pytest

from krona_tune.api.study import open_study
from krona_tune.record.records import Records
from krona_tune.report.study_page import render, write_report
from krona_tune.report.study_results import GLUE_AVERAGE, StudyResults, final_average, methods_part, reported
from krona_tune.report.task_summary import summarise
from krona_tune.service.study_summary import summarise_study
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest
from krona_tune.study.result import Status
from krona_tune.study.standings import Standings
from tests.record.events import manifest
from tests.report.conftest import Empty
from tests.report.finalists import HEAD, KNOBS, LORA, SEARCHED, final_rows, page, sized
from tests.report.pages import read
from tests.study.final_rows import repeats, row


def test_one_tasks_headline_is_the_winners_test_score(empty: Empty) -> None:
    text = page(empty("rte"), [SEARCHED, HEAD, *final_rows()]).text
    assert "On RTE, the winner is krona with A of 16×24 and scale 4: test score 0.600 ± 0.028" in text
    assert (
        "mean and standard deviation over 2 seeds (95 % interval 0.252 to 0.870, over seeds and test examples)" in text
    )
    assert "+0.150 against training the head alone under the same seeds (0.450 ± 0.000)" in text
    told = (
        "RTE: the winner can't be told apart from the head alone; with so few seeds and examples, no difference would "
    )
    assert f"{told}have been seen." in text
    assert "On RTE, the winner is not shown to be above the constant answer (0.550 on validation)." in text
    assert "the test half was looked at once, afterwards" in text


def test_a_gain_over_fewer_seeds_than_the_winner_has_says_so(empty: Empty) -> None:
    more = replace(repeats("000", (0.66,), (0.9,), task="rte")[0], params=KNOBS, of="rte-000", trial_id="more", seed=7)
    text = page(empty("rte"), [SEARCHED, HEAD, *final_rows(), more]).text
    assert "test score 0.700 ± 0.174" in text
    both = "over the 2 seeds with which both learned and were tested (over all with which it learned 0.450"
    assert f"+0.150 against training the head alone {both}" in text


def test_the_table_says_why_a_finalist_has_no_interval(empty: Empty) -> None:
    rows = [
        replace(each, test_resampled=(), test_note="no interval: <slow>") if each.of == "rte-000" else each
        for each in final_rows()
    ]
    drawn = page(empty("rte"), [SEARCHED, HEAD, *rows])
    assert "0.600 ± 0.028" in drawn.text
    assert "95 % interval 0.5" not in drawn.text
    assert '– <abbr title="no interval: &lt;slow&gt;">*</abbr>' in write_report(empty("rte")).read_text()


def test_several_tasks_are_averaged_on_the_test_half(empty: Empty) -> None:
    rows = [SEARCHED, *final_rows(), row("000", "search", 0.9, task="mrpc"), *final_rows("mrpc", shift=0.2)]
    text = page(empty("rte", "mrpc", "cola"), [*rows, row("003", "search", 0.3, task="cola")]).text
    assert "The winners average 0.700 on the test half over 2 tasks, each a mean over 2 seeds" in text
    assert "+0.250 against training the head alone (0.450)" in text
    assert "Without finalists yet: COLA" in text


def test_winners_without_a_mean_are_told_one_by_one_and_their_test_scores_stand_in_the_table(empty: Empty) -> None:
    folder, made = empty("rte", "mrpc"), manifest("rte", "mrpc")
    facts = {task: facts.model_copy(update={"averages": False}) for task, facts in made.tasks.items()}
    made.model_copy(update={"tasks": facts}).write(folder.manifest)
    rows = [SEARCHED, *final_rows(), row("000", "search", 0.9, task="mrpc"), *final_rows("mrpc", shift=0.2)]
    text = page(folder, rows).text
    assert "average" not in text[: text.index("The winners were chosen")]
    assert "On RTE, the winner has a test score of 0.600 ± 0.028 , +0.150 against training the head alone" in text
    assert "On MRPC, the winner has a test score of 0.800 ± 0.028" in text
    assert "Winner on test" in text


def test_the_finalists_table_marks_who_can_not_be_told_apart(empty: Empty) -> None:
    shown = page(empty("rte"), [SEARCHED, HEAD, *final_rows()])
    table = shown.text[shown.text.index("the finalists, by mean") : shown.text.index("RTE: the search")]
    assert "1 0.680 ± 0.028 0.600 ± 0.028 0.252 to 0.870 – 2 krona" in table
    assert "2 0.600 ± 0.000 0.600 ± 0.042 ≈ 0.235 to 0.880 * can't be told apart from the winner; 0.554" in table
    assert "3 0.500 ± 0.000 0.400 ± 0.027 0.196 to 0.646 * is worse than the winner by 0.200 on test" in table
    assert "head only 0.500 ± 0.000 0.450 ± 0.000 – * – 2" in table
    assert "Of 2 other finalists, 1 can't be told apart from the winner on test" in shown.text
    assert "task-rte-seeds" in shown.ids


def test_a_finalist_that_was_not_compared_has_no_mark_and_is_counted(empty: Empty) -> None:
    text = page(empty("rte"), [SEARCHED, HEAD, *final_rows(), *repeats("003", (0.4,), (0.6,))]).text
    assert "Of 3 other finalists, 1 can't be told apart from the winner on test, and 1 is not compared with it." in text
    shown = text[text.index("4 0.400 0.600") :]
    assert shown.startswith(
        "4 0.400 0.600 – * is not compared with the winner: they share fewer than two seeds that learned 1"
    )


def test_every_part_of_a_synthetic_study_is_marked_once(empty: Empty) -> None:
    folder = empty("rte", synthetic=True)
    page(folder, [SEARCHED, LORA, HEAD, *final_rows()])
    html = folder.page.read_text(encoding="utf-8")
    for part in ("tasks", "methods", "task-rte", "cost"):
        section = html.split(f'<section aria-labelledby="{part}">')[1].split("</section>")[0]
        assert section.split("</h2>")[0].count("synthetic data: mini-GLUE") == 1
        assert section.count("synthetic data: mini-GLUE") == 1


def test_a_study_without_finalists_says_nothing_of_them(study: StudyFolder) -> None:
    text = read(write_report(study)).text
    assert "inalist" not in text
    assert "on test" not in text


def test_methods_stand_side_by_side(empty: Empty) -> None:
    text = page(empty("rte"), [SEARCHED, LORA, HEAD, *final_rows()]).text
    table = text[text.index("Each method's winner on test") :]
    assert "krona 0.07 % 0.600 ± 0.028 0.600 lora 0.07 % 0.600 ± 0.042 0.600 head only" in table
    assert "Edalati et al." not in table


def test_methods_without_finalists_are_compared_on_validation_and_that_is_said(empty: Empty) -> None:
    text = page(empty("rte"), [SEARCHED, LORA, HEAD]).text
    table = text[text.index("Each method's best validation score") :]
    assert "krona 0.07 % 0.700 0.700 lora 0.2 % 0.600 0.600 head only 0 % 0.500 0.500" in table
    assert "flattered by being chosen on the same examples" in table


def test_one_method_is_set_beside_nothing(empty: Empty) -> None:
    assert "methods" not in page(empty("rte"), [SEARCHED, HEAD]).ids


def t5_base(*, synthetic: bool = False, name: str = "google-t5/t5-base") -> Manifest:
    made = manifest("rte", synthetic=synthetic)
    return made.model_copy(update={"model": made.model.model_copy(update={"name": name, "model_type": "t5"})})


def test_reported_averages_stand_beside_t5_base_on_real_data_only(empty: Empty) -> None:
    assert reported(t5_base()) == GLUE_AVERAGE
    assert reported(t5_base(name="/models/t5-base/")) == GLUE_AVERAGE
    assert reported(t5_base(synthetic=True)) == {}
    assert reported(t5_base(name="google-t5/t5-small")) == {}
    assert reported(manifest("rte")) == {}


def test_reported_averages_are_said_to_be_others(empty: Empty) -> None:
    folder = empty("rte")
    t5_base().write(folder.manifest)
    text = page(folder, [SEARCHED, LORA, HEAD, *final_rows()]).text
    assert "reported by Edalati et al. (arXiv 2212.10650), as transcribed" in text
    assert "The last column is not measured here" in text
    assert "krona 0.07 % 0.600 ± 0.028 0.600 86.14 lora 0.07 % 0.600 ± 0.042 0.600 85.73 head only" in text


def test_the_final_average_needs_every_head() -> None:
    facts = manifest("rte").tasks["rte"]
    with_head = summarise("rte", Standings(final_rows()), facts)
    without = summarise(
        "mrpc", Standings([each for each in final_rows("mrpc") if each.params["method"] != "head_only"]), facts
    )
    both = final_average([with_head, without])
    assert both is not None
    assert (both.tasks, both.test, both.head_only, both.seeds) == (("rte", "mrpc"), pytest.approx(0.6), None, (2,))
    assert final_average([summarise("cola", Standings([]), facts)]) is None
    assert methods_part(StudyResults(manifest=manifest(), recorded=Records(), spec="")) is None


def test_the_final_average_counts_the_seeds_that_learned() -> None:
    facts = manifest("rte").tasks["rte"]
    scores = (0.9, 0.91, 0.5)
    rows = [replace(row, metrics={"accuracy": row.score or 0.0}) for row in repeats("000", scores, scores)]
    found = final_average([summarise("rte", Standings(rows), facts)])
    assert found
    assert (found.seeds, found.test) == ((2,), pytest.approx(0.905))


def test_the_page_stays_self_contained(empty: Empty) -> None:
    shown = page(empty("rte"), [SEARCHED, LORA, HEAD, *final_rows()])
    assert [load for load in shown.loads if not load.startswith(("#", "data:"))] == []
    assert shown.tags["script"] == 4 + shown.tags["figure"]
    assert len(shown.ids) == len(set(shown.ids))


SHARED, OWN = "search: {shared: true}", "search: {trials: 3}"
ROWS = [
    *sized("cola", (100, 0.9), (300, 0.5), (250, 0.4)),
    *sized("rte", (100, 0.1), (310, 0.8), (250, 0.6)),
]


def test_only_configurations_that_came_to_their_end_on_every_task_are_ranked() -> None:
    broken = [*ROWS[:-1], replace(ROWS[-1], status=Status.DIVERGED)]
    part = StudyResults(manifest=manifest("cola", "rte"), recorded=Records(trials=tuple(broken)), spec=SHARED).shared
    assert part is not None
    assert [(each.number, each.average, each.parameters) for each in part.ranked] == [(1, 0.65, 310), (0, 0.5, 100)]
    assert part.begun == 3
    assert part.front == [(100, 0.5), (310, 0.65)]


def test_the_winner_of_the_average_is_named_on_every_task() -> None:
    page = " ".join(
        render(
            StudyResults(manifest=manifest("cola", "rte"), recorded=Records(trials=tuple(ROWS)), spec=SHARED)
        ).split()
    )
    assert "One configuration for all tasks averages <strong>0.650</strong> on validation over 2 tasks" in page
    assert "<code>cola-001</code>, here at place 2 with 0.500" in page
    assert 'id="shared-ranking"' in page
    own = render(StudyResults(manifest=manifest("cola", "rte"), recorded=Records(trials=tuple(ROWS)), spec=OWN))
    assert 'id="shared-ranking"' not in own
    assert "The best adapters average <strong>0.850</strong>" in " ".join(own.split())


def test_without_a_whole_configuration_the_page_says_so() -> None:
    page = " ".join(
        render(
            StudyResults(manifest=manifest("cola", "rte"), recorded=Records(trials=tuple(ROWS[:2])), spec=SHARED)
        ).split()
    )
    assert "None of the 2 configurations that were begun has come to its end on every task" in page


def test_one_configuration_is_told_task_by_task_where_scores_have_no_mean() -> None:
    made = manifest("cola", "rte")
    facts = {task: facts.model_copy(update={"compared_by_loss": True}) for task, facts in made.tasks.items()}
    page = " ".join(
        render(
            StudyResults(
                manifest=made.model_copy(update={"tasks": facts}), recorded=Records(trials=tuple(ROWS)), spec=SHARED
            )
        ).split()
    )
    assert "On RTE, the one configuration for all tasks has a validation score of <strong>0.800</strong>" in page
    assert "averages <strong>" not in page
    assert 'id="shared-ranking"' in page


def test_a_task_on_which_nothing_was_learned_is_the_headline_and_no_gain(empty: Empty) -> None:
    flat = replace(SEARCHED, score=0.55, metrics={"accuracy": 0.55})
    drawn = page(empty("rte"), [flat, replace(HEAD, score=0.55)])
    assert "Nothing was learned on RTE: the best adapter is not above the constant answer (0.550" in drawn.text
    headline = drawn.text[: drawn.text.index("All tasks Best")]
    assert "+0.000" not in headline
    assert "the best adapter is krona" not in headline


def test_a_gain_over_the_head_alone_that_may_be_chance_is_said_on_the_page_in_python_and_by_rest(empty: Empty) -> None:
    folder, said = empty("rte"), "RTE: the best adapter is not shown to be better than the head alone at this number"
    best = replace(SEARCHED, score=0.8, metrics={"accuracy": 0.8})
    assert page(folder, [best, replace(HEAD, score=0.75, metrics={"accuracy": 0.75})]).text.count(said) == 1
    assert open_study(folder.root).verdicts["rte"][0].startswith(said)
    assert summarise_study(folder, runs=False).verdicts[0].startswith(said)


def test_seeds_that_did_not_learn_stand_in_the_finalists_table_and_in_python_and_rest_in_the_same_words(
    empty: Empty,
) -> None:
    rows = repeats("rte-000", (0.55, 0.9, 0.92), (0.54, 0.88, 0.9), metrics={"accuracy": 0.8})
    folder = empty("rte")
    drawn = page(folder, [SEARCHED, HEAD, *rows])
    said = "RTE: 1 of 3 seeds did not learn (95 % interval of the rate: 1 to 91 %) with rte-000"
    assert drawn.text.count(said) == 2
    assert "3 (1 did not learn)" in drawn.text
    assert open_study(folder.root).verdicts["rte"][0].startswith(said)
    assert summarise_study(folder, runs=False).verdicts[0].startswith(said)


def test_finalists_that_all_failed_are_said_beside_the_best_of_the_search(empty: Empty) -> None:
    lost = [
        replace(each, status=Status.FAILED, score=None, test_score=None, error="MemoryError: no room")
        for each in repeats("rte-000", (0.6, 0.6), (0.6, 0.6))
    ]
    text = page(empty("rte"), [SEARCHED, HEAD, *lost]).text
    assert "RTE: all finalists failed: rte-000, 2 trainings of which 0 diverged (MemoryError: no room)." in text
    assert "On RTE, the best adapter is krona" in text
