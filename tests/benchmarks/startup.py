"""Measures what a command costs before it does anything: processor time, beside a bare script that loads the model.

    python -m tests.benchmarks.startup STUDY TASK [--storage DIR]

The bare script imports torch and loads the study's backbone and tokenizer with transformers. Prints each command's
seconds of processor time (user and system, of all threads), the middle of three runs, and its ratio to the bare
script's. The runs are taken in turn, so that other work on the machine meets all alike. Of the study only its page is
written again.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from krona_tune.adapters.adapter_card import read_card
from krona_tune.record.storage import storage_at
from krona_tune.train.backbone_source import find_backbone

RUNS = 3
BARE = """
import sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
AutoTokenizer.from_pretrained(sys.argv[1])
AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
"""
COMMANDS = (
    "predict STUDY --task TASK --input TEXTS --storage STORAGE",
    "export STUDY --task TASK --to NEW --storage STORAGE",
    "train STUDY --task TASK --dry-run --storage STORAGE",
    "show STUDY --storage STORAGE",
    "list --storage STORAGE",
    "watch STUDY --storage STORAGE",
    "report STUDY --storage STORAGE",
    "order STUDY stop nothing --storage STORAGE",
    "run --tasks TASK --space mini --dry-run --storage STORAGE",
    "run --taks TASK",
    "check mini",
    "spaces",
    "space kronecker",
    "doctor",
    "--help",
    "--version",
)


def main() -> None:
    """Prints the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("study")
    words.add_argument("task")
    words.add_argument("--storage", default="studies")
    asked = words.parse_args()
    card = read_card(storage_at(asked.storage).folder / asked.study / "adapters" / asked.task)
    bare = [sys.executable, "-c", BARE, find_backbone(card.backbone, card.roles).location]
    seconds: dict[str, list[float]] = {}
    for _ in range(RUNS):
        seconds.setdefault("", []).append(processor_seconds(bare))
        for command in COMMANDS:
            seconds.setdefault(command, []).append(of_command(command, asked))
    alone = median(seconds.pop(""))
    print(f"| command | seconds | ratio |\n|---|---|---|\n| the bare script | {alone:.2f} | 1 |")
    for command, each in seconds.items():
        print(f"| `{command.replace(' --storage STORAGE', '')}` | {median(each):.2f} | {median(each) / alone:.2f} |")


def of_command(command: str, asked: argparse.Namespace) -> float:
    """Runs a command, each of whose words in capitals stands for a value, and returns its processor time."""
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.txt"
        texts.write_text("The cat sat on the mat.\nMat the on sat the.\n", encoding="utf-8")
        values = {
            "STUDY": asked.study,
            "TASK": asked.task,
            "STORAGE": asked.storage,
            "TEXTS": str(texts),
            "NEW": f"{folder}/new",
        }
        line = [values.get(word, word) for word in command.split()]
        return processor_seconds([sys.executable, "-c", "from krona_tune.cli import program; program()", *line])


def processor_seconds(command: list[str]) -> float:
    """Runs a program without showing what it prints; returns the user and system seconds of all its threads."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 has reaped it
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
