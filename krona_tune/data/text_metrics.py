"""Compares generated texts with their targets."""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import lru_cache
from statistics import fmean
from unicodedata import category

from rapidfuzz.distance import LCSseq

REMEMBERED = 100_000
"""Pairs whose likeness is kept, because a test half is measured again on resampled examples."""
MINUS = "\N{MINUS SIGN}"
EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Numbers with all their digits; a usual context rounds long ones, and knows none such as 1e1000000."""


def exact_match(answers: Sequence[str], targets: Sequence[str]) -> float:
    """Returns the share of answers that equal their target, but for blanks around them."""
    return fmean(answer.strip() == target.strip() for answer, target in zip(answers, targets, strict=True))


def same_number(answers: Sequence[str], targets: Sequence[str]) -> float:
    """Returns the share of answers that are the target's number: 1,000 is 1000.0 and -0 is 0; what is no number is
    compared as text."""
    return exact_match([*map(_number, answers)], [*map(_number, targets)])


def _number(text: str) -> str:
    try:
        number = Decimal(re.sub(r"[$€£%,\s]", "", text).replace(MINUS, "-").rstrip("."))
        return str(number.normalize(EXACT)) if number else "0"
    except InvalidOperation:
        return text


def token_f1(answers: Sequence[str], targets: Sequence[str]) -> float:
    """Returns the mean F1 of an answer's words: 2·common / (words of the answer + of the target); 1.0 for two empty
    texts. Case and punctuation do not count."""
    return fmean(map(_shared, answers, targets))


def rouge_l(answers: Sequence[str], targets: Sequence[str]) -> float:
    """Returns the mean ROUGE-L F1 (Lin 2004): as `token_f1`, but of the longest common subsequence of words."""
    return fmean(map(_in_order, answers, targets))


@lru_cache(maxsize=REMEMBERED)
def _shared(answer: str, target: str) -> float:
    ours, wanted = words(answer), words(target)
    return _f1((Counter(ours) & Counter(wanted)).total(), ours, wanted)


@lru_cache(maxsize=REMEMBERED)
def _in_order(answer: str, target: str) -> float:
    ours, wanted = words(answer), words(target)
    return _f1(LCSseq.similarity(ours, wanted), ours, wanted)


def _f1(common: int, ours: Sequence[str], wanted: Sequence[str]) -> float:
    return 2 * common / (len(ours) + len(wanted)) if ours or wanted else 1.0


def words(text: str) -> list[str]:
    """Returns a text's lower-case words, which blanks and punctuation separate."""
    return "".join(" " if category(each).startswith("P") else each for each in text.lower()).split()


def extracted(text: str, pattern: str) -> str | None:
    """Returns what a regular expression finds last in a text: its first group, or all of it; None if nothing.

    Without a pattern that is the text.
    """
    if not pattern:
        return text
    matches = list(re.finditer(pattern, text))
    return (matches[-1][min(1, matches[-1].re.groups)] or "") if matches else None
