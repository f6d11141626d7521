"""`python -m tests.benchmarks.search.replay`: compares searches on studies that are replayed from recorded curves.

python -m tests.benchmarks.search.replay look               # correlations, and how well the judges predict
python -m tests.benchmarks.search.replay compare JUDGE FIRST LAST [NAME…]
python -m tests.benchmarks.search.replay report JUDGE FIRST LAST [RIVAL]   # tables of stored regrets, ratios to RIVAL's
python -m tests.benchmarks.search.replay draw JUDGE FIRST LAST             # the picture of the documentation

JUDGE is effects or knobs (`surrogate.JUDGES`). The seeds FIRST to LAST each make a study; below 100 none has STS-B, so
that the search can be changed by them. NAMEs are those of `rivals.RIVALS`, all of them if none is given; some need
`pip install syne-tune`; the baselines of every table are added where they are not stored. All regrets are written to a
file of the seeds, rival by rival.
"""

import random
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from krona_tune.record.recorded_curves import curves
from krona_tune.study.randomness import stream
from tests.benchmarks.curves.figures import PICTURES
from tests.benchmarks.search.replay.engine import simulate_study
from tests.benchmarks.search.replay.first_points import first_numbers
from tests.benchmarks.search.replay.recorded import EPOCHS, recorded_tasks
from tests.benchmarks.search.replay.regret_ratios import (
    CLUSTERS,
    as_markdown,
    clusters_as_markdown,
    draw,
    ratios,
    scores_as_markdown,
)
from tests.benchmarks.search.replay.rivals import REFERENCE, RIVALS, MakeAll, with_baselines
from tests.benchmarks.search.replay.surrogate import JUDGES, Surrogate, fidelity, surrogates
from tests.benchmarks.search.table import winners

RESULTS = Path(__file__).parents[1] / "results"
BUDGETS = (2.0, 5.0, 10.0, 20.0, 40.0)
WORKERS = 4
SEARCHED = ("newsgroups", "reuters", "stsb")
"""The tasks that replayed studies search: judges predict them better than SST-2, though `look` accepts none on any."""
SHOWN = 10.0
"""The budget at which regrets are shown in scores, too."""
FINAL = 100
"""The first seed that decides nothing but is reported."""
COLUMNS = ["rival", "seed", "task", "budget", "rule", "regret"]
Row = tuple[str, int, str, float, str, float]
"""What the columns hold; the regret is a share of the span."""


def look() -> None:
    """Prints what is to be known before any comparison."""
    found = curves()
    last = found[(found.kind == "search") & (found.epochs == EPOCHS)]
    scores = last.pivot(index="number", columns="task", values="score")
    print("rank correlation of the last scores between tasks\n", scores.corr("spearman").round(2).to_string())
    fits = {name: fidelity(recorded_tasks(), judge) for name, judge in JUDGES.items()}
    print("rank correlation of epochs 1 and 3 with the last; of predicted and true last scores; residual, seeds")
    for task, each in recorded_tasks().items():
        pairs = [spearmanr(each.scores[:, e - 1], each.scores[:, -1], nan_policy="omit").statistic for e in (1, 3)]
        judged = [
            f"{name} {fit[task].rank_correlation:.2f}, {fit[task].residual:.3f}, {fit[task].seeds:.3f}, "
            f"{'accepted' if fit[task].accepted else 'not accepted'}"
            for name, fit in fits.items()
        ]
        print(f"{task:12} {pairs[0]:.2f} {pairs[1]:.2f}", *judged, sep="   ")


def tasks_of(seed: int) -> list[str]:
    """Returns the tasks of a replayed study: two of those that its seed may see, so that a search may learn from
    others before."""
    seen = [task for task in SEARCHED if seed >= FINAL or task != "stsb"]
    return sorted(random.Random(stream(seed, "tasks")).sample(seen, 2))


def one_study(name: str, seed: int, judge: str) -> list[Row]:
    """Returns the rows of one replayed study."""
    study = tasks_of(seed)
    of_study = {task: recorded_tasks()[task] for task in study}
    return replayed(name, RIVALS[name], seed, surrogates(of_study, seed, JUDGES[judge], first_numbers(study)))


def replayed(name: str, make: MakeAll, seed: int, instances: Mapping[str, Surrogate]) -> list[Row]:
    """Returns the rows of the search that is made for a study, whose tasks are these instances."""
    warnings.simplefilter("ignore")  # about empty rungs and experimental parts of Optuna
    worst = {task: float(np.nanmin(each.recorded.scores[:, -1])) for task, each in instances.items()}
    events = simulate_study(make(seed, worst), instances, workers=WORKERS, budget=max(BUDGETS))
    return [
        (name, seed, task, budget, rule, (each.best - each.final(winner.trial.params)) / each.span)
        for (task, each), budget in product(instances.items(), BUDGETS)
        for rule, winner in winners(events[task], budget).items()
    ]


def _results(judge: str, first: int, last: int) -> Path:
    return RESULTS / f"replay-{judge}-{first}-{last}.parquet"


def compare(judge: str, seeds: Sequence[int], names: Sequence[str]) -> None:
    """Replays the rivals on every seed, writes their regrets among those of the other rivals on these seeds, and prints
    them all."""
    began, path = time.monotonic(), _results(judge, seeds[0], seeds[-1])
    before = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=COLUMNS)
    names = with_baselines(names, before.rival)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        jobs = [pool.submit(one_study, name, seed, judge) for seed, name in product(seeds, names)]
        found = pd.DataFrame([row for job in jobs for row in job.result()], columns=COLUMNS)
    if len(before):
        found = pd.concat([before[~before.rival.isin(names)], found], ignore_index=True)
    found.to_parquet(path, index=False)
    report(found)
    print(f"{len(seeds)} studies, {time.monotonic() - began:.0f} s")
    print("one-sided 95 % bounds of the ratios to each rival over studies, by budget")
    for other in dict.fromkeys(found.rival):
        for (ours, budget), each in ratios(found, other).items():
            if ours.startswith("krona_tune"):
                print(f"{ours} / {other}, {budget:g}: {each.middle:.2f} < {each.bound:.2f}, p {each.p:.1g}")


def report(found: pd.DataFrame, to: str = REFERENCE) -> None:
    """Prints the tables of regrets: over studies, by each clustering, and in scores; ratios are to the rival `to`."""
    spans = {task: recorded.span for task, recorded in recorded_tasks().items()}
    clustered = [clusters_as_markdown(found, to, clustering) for clustering in CLUSTERS]
    for lines in (as_markdown(found, to), *clustered, scores_as_markdown(found, spans, SHOWN)):
        print("\n".join(lines), end="\n\n")


def main() -> None:
    """Does what the words after the program's name ask for."""
    if sys.argv[1:2] == ["compare"]:
        judge, first, last, *names = sys.argv[2:]
        compare(judge, range(int(first), int(last) + 1), names or list(RIVALS))
    elif sys.argv[1:2] in (["report"], ["draw"]):
        word, judge, first, last, *rival = sys.argv[1:]
        found = pd.read_parquet(_results(judge, int(first), int(last)))
        if word == "report":
            report(found, *rival)
        else:
            draw(found, REFERENCE, PICTURES / "replays.svg")
    else:
        look()
