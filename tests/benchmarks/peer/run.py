"""Compares krona_tune with its peer as whole programs: python -m tests.benchmarks.peer.run --data DIR [--case rte]

DIR holds GLUE's official TSV files. Each round runs both sides one after the other. Times are from start to end of the
whole program, with all processes that it starts.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.peer.case import CASES, Side, read_side
from tests.benchmarks.peer.tree import Watched, watch

SIDES = {
    "krona_tune": ("ours", "auto"),
    "krona_tune, float32": ("ours", "fp32"),
    "peer": ("peer", "careful"),
    "peer, by length": ("peer", "fast"),
}
PEER = "peer"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The measurements of one program run."""

    watched: Watched
    side: Side

    @property
    def numbers(self) -> dict[str, float]:
        side, last = self.side, [scores[-1] for scores in self.side.scores]
        return {
            "wall seconds": self.watched.wall_seconds,
            "cpu seconds": self.watched.cpu_seconds,
            "peak MiB": self.watched.peak_bytes / 2**20,
            "seconds to the first trial": side.first_trial_seconds,
            "seconds a trial": statistics.mean(side.trial_seconds),
            "foretold over taken": side.foretold_seconds / statistics.mean(side.trial_seconds),
            "mean last score": statistics.mean(last),
            "best score": max(map(max, side.scores)),
            "trained parameters": statistics.mean(side.trainable),
        }


def outcome(case: str, data: str, side: str) -> Outcome:
    module, way = SIDES[side]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        watched = watch([sys.executable, "-m", f"tests.benchmarks.peer.{module}", case, data, str(out), way])
        return Outcome(watched=watched, side=read_side(out))


def table(case: str, outcomes: dict[str, list[Outcome]]) -> str:
    """Returns the medians over the rounds, each with its ratio to the peer's."""
    medians = {side: _medians(runs) for side, runs in outcomes.items()}
    lines = [f"{case}: medians of {len(next(iter(outcomes.values())))} rounds"]
    for name in next(iter(medians.values())):
        cells = []
        for side, numbers in medians.items():
            over = f" ({numbers[name] / medians[PEER][name]:.2f})" if PEER in medians and side != PEER else ""
            cells.append(f"{side} {numbers[name]:.4g}{over}")
        lines.append(f"  {name:<28}" + "  ".join(cells))
    return "\n".join(lines)


def _medians(runs: list[Outcome]) -> dict[str, float]:
    return {name: statistics.median(run.numbers[name] for run in runs) for name in runs[0].numbers}


def main() -> None:
    """Runs the cases, prints one table per case and writes every number to a file."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--data", required=True)
    words.add_argument("--case", choices=CASES, action="append", help="default: rte and cola")
    words.add_argument("--side", choices=SIDES, action="append", help="default: krona_tune and peer")
    words.add_argument("--rounds", type=int, default=1)
    words.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "study.json")
    asked = words.parse_args()
    found: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "torch": torch.__version__}
    for case in asked.case or ["rte", "cola"]:
        outcomes: dict[str, list[Outcome]] = {side: [] for side in asked.side or ["krona_tune", PEER]}
        for number in range(asked.rounds):
            for side, runs in outcomes.items():
                runs.append(outcome(case, asked.data, side))
                wall, load = runs[-1].watched.wall_seconds, os.getloadavg()[0]
                print(f"{case}, round {number + 1}, {side}: {wall:.1f} s, load {load:.1f}", flush=True)
        print(table(case, outcomes), flush=True)
        found[case] = {side: [asdict(run) for run in runs] for side, runs in outcomes.items()}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
