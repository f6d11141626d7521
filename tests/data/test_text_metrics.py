"""Tests the metrics of generated texts against values worked out by hand, and what is extracted of a text."""

import math

import numpy as np
import pytest

from krona_tune.data.metrics import constant_baseline, measure, measure_losses, token_baseline
from krona_tune.data.tasks import Generation, Task
from krona_tune.data.text_metrics import exact_match, extracted, rouge_l, same_number, token_f1


def task(*metrics: str, **generation: object) -> Task:
    asked = Generation(prompt="{q}", **generation)  # type: ignore[arg-type]
    lower = ("perplexity",) if "perplexity" in metrics else ()
    return Task(
        name="own", title="own", inputs=("q",), labels=(), metrics=metrics, generation=asked, lower_is_better=lower
    )


def texts(*some: str) -> np.ndarray:
    return np.array(some, dtype=object)


def test_exact_match_is_a_share_and_ignores_blanks_around_an_answer() -> None:
    assert exact_match(["7", " 7 ", "07", "seven"], ["7"] * 4) == 0.5


def test_a_number_is_the_same_however_it_is_written() -> None:
    answers = ["1,000", "-$12.50", "7%.", "seven", "1e3", "8", "12345678901234567890"]
    wanted = ["1000.0", "-12.5", "7", "seven", "1000", "9", "12345678901234567891"]
    assert same_number(answers, wanted) == pytest.approx(5 / 7)


@pytest.mark.parametrize(
    ("answer", "target", "same"),
    [
        ("1e1000000", "10e999999", True),
        ("1e1000000", "1e1000001", False),
        ("1e-1000000", "1e-2000000", False),
        ("1e99999999999999999999", "1e99999999999999999998", False),
        ("1234567890" * 4 + "1", "1234567890" * 4 + "2", False),
        ("nan", "7", False),
        ("-0.00", "0", True),
        ("0e5", "-0", True),
        ("\N{MINUS SIGN}7.50", "-7.5", True),
        ("\N{MINUS SIGN}7", "7", False),
    ],
)
def test_a_number_of_any_size_is_compared_whole(answer: str, target: str, same: bool) -> None:
    assert same_number([answer, "5"], [target, "6"]) == same / 2


def test_token_f1_counts_common_words_and_rouge_l_those_in_order() -> None:
    answer, target = "the cat sat on the mat", "On the mat sat the cat!"
    assert token_f1([answer], [target]) == 1.0
    assert rouge_l([answer], [target]) == pytest.approx(2 * 3 / 12)
    assert rouge_l(["a b c d"], ["a x c"]) == token_f1(["a b c d"], ["a x c"]) == pytest.approx(2 * 2 / 7)
    assert token_f1(["😀 हिन्दी"], ["😢 हिन्दी"]) == 0.5
    assert rouge_l(["", ""], ["", "word"]) == token_f1(["", ""], ["", "word"]) == 0.5


@pytest.mark.parametrize(
    ("text", "pattern", "found"),
    [
        ("so 3, then 12", r"\d+", "12"),
        ("the answer is: 12.", r"answer is:? (\d+)", "12"),
        ("none", r"\d+", None),
        ("a()", r"\((x)?\)", ""),
        (" whole ", "", " whole "),
    ],
)
def test_the_last_match_counts_and_its_first_group(text: str, pattern: str, found: str | None) -> None:
    assert extracted(text, pattern) == found


def test_only_what_is_extracted_is_compared_and_an_answer_without_it_is_wrong() -> None:
    answers = texts("I get 5", "it is 7 apples", "no idea")
    targets = texts("so 5", "#### 7", "#### 7")
    assert measure(task("exact_match", extract=r"\d+"), answers, targets)["score"] == pytest.approx(2 / 3)
    assert measure(task("exact_match"), answers, targets)["score"] == 0.0


def test_the_constant_answer_is_the_most_frequent_target() -> None:
    train, validation = texts("a 1", "b 1", "c 2"), texts("x 1", "y 2", "z 1", "1")
    assert constant_baseline(task("exact_match", extract=r"\d"), train, validation) == 0.75
    assert constant_baseline(task("exact_match"), texts("1", "2", "1"), texts("1", "2")) == 0.5


def test_perplexity_is_e_to_the_mean_loss_of_a_token_and_lower_is_better() -> None:
    losses, tokens = np.array([math.log(8.0), math.log(2.0)]), np.array([3, 1])
    assert measure(task("perplexity"), losses, tokens) == {
        "perplexity": pytest.approx(2.0),
        "score": pytest.approx(-2.0),
    }
    assert measure_losses(task("perplexity"), losses, tokens)["score"] == pytest.approx(-2.0)
    judged = measure_losses(task("exact_match", evaluate="loss"), losses, tokens)
    assert judged == {"loss": pytest.approx(math.log(2.0)), "score": pytest.approx(-math.log(2.0))}
    assert math.isfinite(measure(task("perplexity"), np.array([1e6]), np.array([1]))["score"])


def test_the_constant_answer_in_nats_is_that_of_the_tokens_frequencies() -> None:
    by_loss = task("exact_match", evaluate="loss")
    expected = -(math.log(6 / 3) + math.log(6 / 2) + math.log(6 / 1)) / 3  # one is added to each, and for unknown ones
    assert token_baseline(by_loss, [[5, 5, 6]], [[5, 6, 9]]) == pytest.approx(expected)
