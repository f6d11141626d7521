"""Tests the sentences on what was learned, which seeds failed and what can't be told apart."""

from dataclasses import replace

from krona_tune.study.finals import DEFAULT
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.standings import Standings
from krona_tune.study.verdicts import Verdicts, configuration_texts, trained_texts, verdicts_of
from tests.record.events import manifest
from tests.study.final_rows import repeats, row

FACTS = manifest("rte").tasks["rte"]
"""100 validation examples, of which a constant answer has .55."""
PARAMS = {"method": "krona", "learning_rate": 0.001}
SEARCHED = [
    row("000", "search", 0.55, metrics={"accuracy": 0.55}, params=PARAMS, examples=512),
    row("001", "search", 0.5, metrics={"accuracy": 0.5}, params=PARAMS | {"learning_rate": 0.02}, examples=1_024),
]


def verdicts(*finalists: TrialResult, searched: list[TrialResult] = SEARCHED) -> Verdicts:
    return of(Standings([*finalists, *searched]), FACTS)


def of(standings: Standings, facts: TaskFacts) -> Verdicts:
    return verdicts_of(standings, "rte", standings.finals("rte", facts))


def test_where_nothing_was_learned_the_headline_says_so_with_what_was_tried() -> None:
    found = verdicts()
    assert found.nothing
    assert found.headline.startswith(
        "Nothing was learned on RTE: the best adapter is not above the constant answer (0.550 on validation). Likely "
        "reasons: a learning rate that is too low or too high (0.001 to 0.02 were tried), a budget that is too small "
        "(at most 1,024 training examples were seen), examples.max_length that"
    )
    final = verdicts(*repeats("a", (0.55, 0.55), (0.55, 0.55)))
    assert final.headline.startswith("Nothing was learned on RTE: the winner is not above the constant answer")


def test_labels_far_from_zero_are_the_first_reason_why_nothing_was_learned() -> None:
    far = FACTS.model_copy(update={"far_labels": "the labels of RTE are 1,000 ± 3; subtract 1,000 from the column"})
    found = of(Standings(SEARCHED), far).headline
    assert (
        "Likely reasons: the labels of RTE are 1,000 ± 3; subtract 1,000 from the column. Others: a learning rate that "
        "is too low or too high (0.001 to 0.02 were tried), a budget"
    ) in found


def test_nothing_is_said_of_learning_before_a_trial_has_ended_well_or_without_trials() -> None:
    running = [replace(each, status=Status.INTERRUPTED) for each in SEARCHED]
    assert verdicts(searched=running) == verdicts(searched=[]) == Verdicts()


def test_a_winner_within_chance_of_the_constant_answer_is_no_success() -> None:
    small = replace(SEARCHED[0], score=0.6, metrics={"accuracy": 0.6})
    found = verdicts(searched=[small])
    assert (
        found.headline == "On RTE, the best adapter is not shown to be above the constant answer (0.550 on validation)."
    )
    assert not found.nothing
    assert verdicts(searched=[replace(small, score=0.9)]).headline == ""


def test_the_best_of_many_trials_must_be_further_above_the_constant_answer() -> None:
    """With 100 examples .67 is 2.6 standard errors above .55: enough for one trial, and not for the best of twelve."""
    best = replace(SEARCHED[0], score=0.67, metrics={"accuracy": 0.67})
    others = [replace(SEARCHED[1], trial_id=f"rte-{number:03d}") for number in range(1, 12)]
    assert verdicts(searched=[best]).headline == ""
    assert "is not shown to be above" in verdicts(searched=[best, *others]).headline


def test_seeds_that_did_not_learn_are_counted_with_the_exact_interval_of_their_rate() -> None:
    rows = repeats("a", (0.55, 0.9, 0.92), (0.54, 0.88, 0.9), metrics={"accuracy": 0.8})
    assert verdicts(*rows).all == (
        "RTE: 1 of 3 seeds did not learn (95 % interval of the rate: 1 to 91 %) with a, rte-final-a-s1; its test score "
        "is that of the others.",
    )


def test_the_best_of_a_search_is_said_to_be_unfinished_if_another_trial_has_ended_well() -> None:
    cut = replace(SEARCHED[0], score=0.9, status=Status.INTERRUPTED, epochs=1.5)
    assert verdicts(searched=[cut, SEARCHED[1]]).others == (
        "RTE: the best trial, rte-000, has not been trained to the end (1.5 epochs).",
    )
    assert verdicts(searched=[SEARCHED[0], replace(cut, score=0.4)]).others == ()
    running, stopped = replace(cut, ended_at=None), replace(cut, ended_at=7.0)
    assert verdicts(searched=[running]).others == ()
    assert verdicts(searched=[stopped]).others == (
        "RTE: the best trial, rte-000, has not been trained to the end (1.5 epochs).",
    )


def test_seeds_without_a_test_score_are_counted() -> None:
    rows = repeats("a", (0.9, 0.9, 0.9), (0.9, 0.9, 0.9), metrics={"accuracy": 0.9})
    assert verdicts(replace(rows[0], test_score=None), *rows[1:]).all == ("RTE: 1 of 3 seeds of a has no test score.",)


def test_finalists_are_compared_with_the_winner_in_one_way_of_words() -> None:
    said = verdicts(
        *repeats("a", (0.9,) * 3, (0.80, 0.82, 0.81)),
        *repeats("b", (0.8,) * 3, (0.79, 0.83, 0.80)),
        *repeats("c", (0.7,) * 3, (0.60, 0.621, 0.612)),
        *repeats("d", (0.6,), (0.6,)),
    ).others
    assert said == (
        "RTE: b can't be told apart from the winner; 0.088 would have been seen.",
        "RTE: c is worse than the winner by 0.199 on test.",
        "RTE: d is not compared with the winner: they share fewer than two seeds that learned.",
    )


def test_the_head_alone_is_compared_in_the_same_words() -> None:
    def head(*scores: float) -> str:
        rows = [*repeats("a", (0.9,) * 3, (0.80, 0.82, 0.81)), *repeats("h", scores, scores, method="head_only")]
        return verdicts(*rows).others[-1]

    assert head(0.60, 0.621, 0.612) == "RTE: the winner is better than the head alone by 0.199 on test."
    assert head(0.95, 0.971, 0.962) == "RTE: the winner is worse than the head alone by 0.151 on test."
    assert head(0.79, 0.83, 0.80).startswith("RTE: the winner can't be told apart from the head alone; 0.0")
    assert head(0.80, 0.82, 0.81).endswith("can't be told apart from the head alone: all scores are equal.")
    assert head(0.7).endswith("is not compared with the head alone: they share fewer than two seeds that learned.")
    seeds = "the 2 seeds with which both learned and were tested"
    few = f"RTE: the winner is better than the head alone by 0.204 on test, over {seeds}."
    assert head(0.60, 0.612) == few


def test_perfect_scores_are_said_to_have_no_interval() -> None:
    perfect = [replace(each, test_resampled=(1.0,) * 9) for each in repeats("a", (0.9, 0.9, 0.9), (1.0, 1.0, 1.0))]
    assert "RTE: the test mean of the winner has no interval: all scores are equal." in verdicts(*perfect).others


def test_beside_one_adapter_it_is_said_what_all_seeds_of_its_configuration_say() -> None:
    learned = repeats("a", (0.9, 0.9, 0.92), (0.88, 0.9, 0.92), metrics={"accuracy": 0.9})
    assert trained_texts(FACTS, learned) == (
        "A constant answer has 0.550 on the study's validation examples.",
        "The mean test score of 3 seeds is 0.900 ± 0.020 (95 % interval 0.838 to 0.940).",
    )
    failed = repeats("a", (0.55, 0.9, 0.92), (0.54, 0.88, 0.9), metrics={"accuracy": 0.8})
    odd = FACTS.model_copy(update={"doubts": ("few examples",)})
    _, mean, failure, doubt = trained_texts(odd, failed)
    assert mean.startswith("The mean test score of the 2 seeds that learned is 0.890 ± 0.014")
    assert failure.startswith("1 of 3 seeds did not learn (95 % interval of the rate: 1 to 91 %) with a, ")
    assert doubt == "Few examples."
    assert trained_texts(odd, [replace(failed[0], score=None, test_score=None)]) == ("Few examples.",)
    unknown = FACTS.model_copy(update={"constant_score": float("nan")})
    assert trained_texts(unknown, failed)[0].startswith("The mean test score of 3 seeds is ")


def test_beside_one_adapter_it_is_said_that_nothing_was_learned() -> None:
    nothing = trained_texts(FACTS, repeats("a", (0.55, 0.55), (0.5, 0.5)))
    assert nothing[0].startswith("Nothing was learned on RTE: the configuration is not above the constant answer")
    best = replace(SEARCHED[0], score=0.67, metrics={"accuracy": 0.67})
    assert configuration_texts(FACTS, [best]) == ("A constant answer has 0.550 on the study's validation examples.",)
    assert "is not shown to be above the constant" in configuration_texts(FACTS, [best], best_of=12)[0]
    assert trained_texts(FACTS, [replace(best, score=None)]) == trained_texts(FACTS, []) == (), "nothing was held out"


def test_what_is_odd_about_the_data_is_said_beside_scores_only() -> None:
    odd = FACTS.model_copy(update={"doubts": ("no test example of RTE has the label 'no'",)})
    said = "RTE: no test example of RTE has the label 'no'."
    assert of(Standings(SEARCHED), odd).others == (said,)
    assert of(Standings([]), odd).others == ()
    assert verdicts().others == ()


def test_the_head_alone_is_compared_where_something_was_learned_and_no_finalist_won() -> None:
    best, again = (replace(SEARCHED[0], score=score, metrics={"accuracy": score}) for score in (0.8, 0.78))
    head = replace(again, kind=TrialKind.BASELINE)
    said = "RTE: the best adapter is not shown to be better than the head alone at this number of validation examples."
    assert verdicts(searched=[best, head]).others == (said,)
    assert said not in verdicts(*repeats("a", (0.8, 0.8), (0.8, 0.8)), searched=[best, head]).others
    assert verdicts(searched=[*SEARCHED, head]).others == (), "nothing was learned"


def test_finalists_that_all_failed_have_a_sentence_with_the_first_reason() -> None:
    rows = repeats("a", (0.9, 0.9), (0.9, 0.9))
    failed = replace(rows[0], status=Status.FAILED, test_score=None, error="Traceback\nMemoryError: no room")
    diverged = replace(rows[1], status=Status.DIVERGED, test_score=None)
    assert verdicts(failed, diverged).others == (
        "RTE: all finalists failed: a, 2 trainings of which 1 diverged (MemoryError: no room).",
    )


def test_where_the_default_failed_with_all_others_nothing_is_chosen_and_all_are_said_to_have_failed() -> None:
    rows = repeats("default", (0.9, 0.9), (0.9, 0.9), number=DEFAULT)
    failed = [replace(row, status=Status.OUT_OF_MEMORY, test_score=None, error="no room") for row in rows]
    assert verdicts(*failed).others == (
        "RTE: all finalists failed: default, 2 trainings of which 0 diverged (no room).",
    )
