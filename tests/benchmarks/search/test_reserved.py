"""Tests that the reserved tasks are read from their packages' files: news, and mails without their headers."""

import json
from pathlib import Path

from tests.benchmarks.search.live import PAIRS, pair_of
from tests.benchmarks.search.reserved import NAMES, are_in, mails, main, news


def packages(folder: Path) -> tuple[Path, Path]:
    """Writes a few invented news and mails as the packages hold them."""
    printed = {"sport/1": "They won\n\nagain", "sport/2": "They won again", "trade/1": "Prices \xa3 fell"}
    for name, text in printed.items():
        path = folder / "news" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    for group, body in {"spam-1": "Win  now", "easy-ham-1": "See\nyou", "hard-ham-1": "See you", "spam-2": ""}.items():
        (folder / group).mkdir()
        mail = {"group": group, "text": f"From: a\nSubject: b\n\n{body}"}
        (folder / group / "0.json").write_text(json.dumps(mail))
    return folder / "news", folder


def test_news_and_bodies_of_mails_are_read_once(tmp_path: Path) -> None:
    printed, folder = packages(tmp_path)
    assert news(printed).values.tolist() == [["They won again", "sport"], ["Prices \ufffd fell", "trade"]]
    assert mails(folder).values.tolist() == [["See you", "ham"], ["Win now", "spam"]]


def test_a_study_searches_the_reserved_tasks_where_they_were_written(tmp_path: Path) -> None:
    printed, folder = packages(tmp_path)
    assert pair_of(7, str(tmp_path / "texts")) == PAIRS[1]
    main(str(printed), str(folder), str(tmp_path / "texts"))
    assert are_in(tmp_path / "texts")
    assert pair_of(7, str(tmp_path / "texts")) == NAMES
