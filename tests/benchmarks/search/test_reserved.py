"""Tests that the reserved tasks are read from their packages' files: reviews, and mails without their headers."""

import json
import zipfile
from pathlib import Path

from tests.benchmarks.search.live import PAIRS, pair_of
from tests.benchmarks.search.reserved import NAMES, are_in, mails, main, reviews


def packages(folder: Path) -> tuple[Path, Path]:
    """Writes a few invented reviews and mails as the packages hold them."""
    rated = [("It&#039;s kind to me", "positive"), ("It hurts", "negative"), ("It hurts", "negative")]
    lines = ["\treview\trating", *(f'{number}\t"{text}"\t{rating}' for number, (text, rating) in enumerate(rated))]
    with zipfile.ZipFile(folder / "drugs.zip", "w") as packed:
        packed.writestr("train.tsv", "\n".join(lines))
    for group, body in {"spam-1": "Win  now", "easy-ham-1": "See\nyou", "hard-ham-1": "See you", "spam-2": ""}.items():
        (folder / group).mkdir()
        mail = {"group": group, "text": f"From: a\nSubject: b\n\n{body}"}
        (folder / group / "0.json").write_text(json.dumps(mail))
    return folder / "drugs.zip", folder


def test_reviews_and_bodies_of_mails_are_read_once(tmp_path: Path) -> None:
    rated, folder = packages(tmp_path)
    assert reviews(rated).values.tolist() == [["It's kind to me", "positive"], ["It hurts", "negative"]]
    assert mails(folder).values.tolist() == [["See you", "ham"], ["Win now", "spam"]]


def test_a_study_searches_the_reserved_tasks_where_they_were_written(tmp_path: Path) -> None:
    rated, folder = packages(tmp_path)
    assert pair_of(7, str(tmp_path / "texts")) == PAIRS[1]
    main(str(rated), str(folder), str(tmp_path / "texts"))
    assert are_in(tmp_path / "texts")
    assert pair_of(7, str(tmp_path / "texts")) == NAMES
