"""Compares searches on real trainings at equal cost: a check of what the replay of recorded curves shows.

python -m tests.benchmarks.search.live DATA TEXTS FOLDER FIRST LAST MOST NAME...

Each study searches two of the four recorded tasks, so that six seeds have every pair once, or the two reserved ones if
TEXTS is what `reserved` writes. Its four workers are simulated: a training is real, and costs the examples that it
trained on, so that two searches pay the same whatever else the machine does. After 5 and 10 full trainings a task, MOST
at most, the winner by its last validation score is trained again to its end with another seed, and only that training's
score on the test half counts. DATA and TEXTS are those of `tests.benchmarks.curves.record`. A study's rows are kept in
FOLDER, so that a comparison that was interrupted goes on with the next study; at the end all rows are written among
those of `results/live.csv`, one a task, rival and budget. NAMEs are those of `replay.rivals`; Ray's search is added.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations, product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from scipy.stats import wilcoxon

from krona_tune.processor import this_processor
from krona_tune.record.recorded_curves import LEARNED
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.planning.space import Params
from krona_tune.search.startup.task_data import PreparedData, prepare_data
from krona_tune.study.randomness import stream
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Report
from krona_tune.train.backbone import Backbone, load_backbone
from krona_tune.train.checkpoint import load, save
from krona_tune.train.device import this_device
from krona_tune.train.evaluate import Diverged
from krona_tune.train.hidden_states import HiddenStateStore
from krona_tune.train.loop import TaskWork, TrialRun
from tests.benchmarks.curves.record import DESIGN, learned_tasks
from tests.benchmarks.kron.step import MINILM
from tests.benchmarks.search import reserved
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.replay.engine import simulate_study
from tests.benchmarks.search.replay.rivals import REFERENCE, RIVALS, TAUGHT
from tests.benchmarks.search.replay.run import RESULTS
from tests.benchmarks.search.table import FINISHED, LAST, winners
from tests.study.request.written_specs import load_changed

PAIRS = tuple(combinations(LEARNED, 2))
BUDGETS = (5.0, 10.0)
WORKERS = 4
STORED = 4 * 2**30
RAW = RESULTS / "live.csv"
COLUMNS = ["study", "seed", "rival", "task", "budget", "validation", "test", "trials", "processor"]
STUDY = ["study", "seed", "rival"]
"""What the rows of one search share."""
Row = tuple[str, int, str, str, float, float, float, int, str]
"""The study's tasks in one word, its seed, the rival, the task, the budget in full trainings, the winner's validation
score, the test score of its training with another seed, the task's trials that had a report by then, the processor."""


@dataclass
class Training:
    """The reports of one trial, each trained when it is asked for; between two reports its state is on disk."""

    name: str
    params: Params
    seed: int
    task: "LiveTask"
    schedule: Schedule
    seen: list[Seen] = field(default_factory=list)

    def __getitem__(self, rung: int) -> Seen:
        while len(self.seen) <= rung:
            report = self._next()
            score, loss = (report.score, report.train_loss) if report else (np.nan, np.nan)
            examples = self.schedule.rungs[len(self.seen)]
            self.seen.append(Seen(examples=examples, score=score, train_loss=loss))
        return self.seen[rung]

    def _next(self) -> Report | None:
        """Trains to the next report; returns None if the training diverged."""
        run, folder = self.task.run(self.name, self.params, self.seed), self.task.folder / self.name
        try:
            if folder.exists():
                load(run, folder)
            report = run.advance()
            folder.mkdir(exist_ok=True)
            save(run, folder)
            return report
        except Diverged:
            return None
        finally:
            run.close()


@dataclass
class LiveTask:
    """A task whose curves are those of real trainings, which all begin with the same seed."""

    work: TaskWork
    backbone: Backbone
    seed: int
    folder: Path
    store: HiddenStateStore | None = None
    _trainings: dict[str, Training] = field(default_factory=dict)

    def curve(self, params: Params, schedule: Schedule) -> Training:
        key = repr(sorted(params.items()))
        if key not in self._trainings:
            name = f"{self.work.task.name}-{len(self._trainings):03d}"
            self._trainings[key] = Training(name, params, self.seed, self, schedule)
        return self._trainings[key]

    def run(self, name: str, params: Params, seed: int) -> TrialRun:
        trial = check_trial(self.work.task.name, seed, params)
        return TrialRun(name, trial, self.work, self.backbone, self.store)

    def test(self, params: Params, seed: int) -> float:
        """Returns the test score of a whole training; NaN if it diverged."""
        run = self.run("again", params, seed)
        try:
            while not run.finished:
                run.advance()
            return run.evaluate_on_test().score
        except Diverged:
            return float("nan")
        finally:
            run.close()


def pair_of(seed: int, texts_folder: str) -> tuple[str, str]:
    """Returns the tasks of a study: the reserved ones if the folder holds them, else two recorded ones in turn."""
    return reserved.NAMES if reserved.are_in(Path(texts_folder)) else PAIRS[seed % len(PAIRS)]


def prepare(data: str, texts_folder: str) -> PreparedData:
    """Returns the data of the recorded tasks or of the reserved ones, with their test halves."""
    folder = Path(texts_folder).resolve()
    found = reserved.tasks(folder) if reserved.are_in(folder) else learned_tasks(folder)
    settings = [f"tasks={json.dumps(found)}", "finalists.top=1", "schedule.report_every=rung"]
    settings += [f"examples.train={reserved.TRAIN}"] * reserved.are_in(folder)
    spec = load_changed(DESIGN, settings, {"data": data, "model": MINILM})
    return prepare_data(make_plan(spec, "live"), MINILM)


def one_study(name: str, seed: int, most: float, data: str, texts_folder: str) -> list[Row]:
    """Returns the rows of one study, whose greatest budget is `most` full trainings a task."""
    warnings.simplefilter("ignore")  # about experimental parts of Optuna
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    prepared = prepare(data, texts_folder)
    backbone = load_backbone(MINILM, this_device("fp32", gpu=False))
    store = HiddenStateStore.of_this_machine(STORED)
    chances = {task: prepared.facts[task].constant_score for task in pair_of(seed, texts_folder)}
    with tempfile.TemporaryDirectory() as folder:
        tasks = {
            task: LiveTask(work, backbone, stream(seed, "trial", task) % 2**31, Path(folder), store)
            for task, work in prepared.final_works().items()
            if task in chances
        }
        events = simulate_study(RIVALS[name](seed, chances), tasks, workers=WORKERS, budget=most)
        rule, rows = FINISHED if name == TAUGHT else LAST, list[Row]()
        tested: dict[tuple[str, str], float] = {}
        for (task, each), budget in product(tasks.items(), [each for each in BUDGETS if each <= most]):
            best = winners(events[task], budget)[rule]
            key = task, best.trial.trial_id
            if key not in tested:
                tested[key] = each.test(best.trial.params, stream(seed, "again", task) % 2**31)
            trials = len({event.trial.trial_id for event in events[task] if event.cost <= budget})
            scores = best.seen.score, tested[key]
            rows.append(("+".join(sorted(tasks)), seed, name, task, budget, *scores, trials, this_processor().name))
    return rows


def compare(
    names: Sequence[str], seeds: Sequence[int], most: float, data: str, texts_folder: str, folder: Path
) -> pd.DataFrame:
    """Returns the rows of all studies of this greatest budget; runs those that `folder` does not hold."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {(seed, name): folder / f"{name}-{seed}.csv" for seed, name in product(seeds, names)}
    with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool:
        jobs = {
            path: pool.submit(one_study, name, seed, most, data, texts_folder)
            for (seed, name), path in paths.items()
            if not path.exists()
        }
        for path, job in jobs.items():
            pd.DataFrame(job.result(), columns=COLUMNS).to_csv(path, index=False, float_format="%.5f")
            print(f"{path.stem} is there", flush=True)
    return pd.concat([pd.read_csv(path) for path in paths.values()], ignore_index=True)


def write_raw(frame: pd.DataFrame, path: Path = RAW) -> None:
    """Writes the rows among those that the file has, in order; those of the same study, seed and rival are replaced."""
    if path.exists():
        before = pd.read_csv(path)
        again = pd.MultiIndex.from_frame(before[STUDY]).isin(pd.MultiIndex.from_frame(frame[STUDY]))
        frame = pd.concat([before[~again], frame], ignore_index=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame[COLUMNS].sort_values([*STUDY, "task", "budget"]).to_csv(path, index=False, float_format="%.5f")


def summary(frame: pd.DataFrame) -> str:
    """Returns each rival's mean test score by budget and task and, over the studies, its mean difference from Ray's own
    with one standard error and Wilcoxon's signed-rank p; beside it the median over task results, of which a mean may
    hang on a few."""
    tests = frame.pivot(index=["budget", "task", "seed"], columns="rival", values="test")
    differences = tests.drop(columns=REFERENCE).sub(tests[REFERENCE], axis=0)
    studies = differences.groupby(["budget", "seed"]).mean().groupby("budget")
    parts = {
        "test score": tests.groupby(["budget", "task"]).mean(),
        f"less {REFERENCE}": studies.mean(),
        "standard error": studies.sem(),
        "Wilcoxon p": studies.agg(_wilcoxon_p),
        "median over task results": differences.groupby("budget").median(),
        "studies": studies.count(),
    }
    return "\n".join(f"{name}\n{part.T.to_string(float_format='{:.3f}'.format)}" for name, part in parts.items())


def _wilcoxon_p(differences: pd.Series) -> float:
    return float(wilcoxon(differences.dropna()).pvalue)


def main(data: str, texts_folder: str, folder: str, first: str, last: str, most: str, *names: str) -> None:
    """Runs the studies of the seeds FIRST to LAST, writes their rows and prints what the rivals reach."""
    if not RIVALS.keys() >= set(names):
        sys.exit(f"name some of {list(RIVALS)}, not {list(names)}")
    seeds = range(int(first), int(last) + 1)
    found = compare(list(dict.fromkeys([REFERENCE, *names])), seeds, float(most), data, texts_folder, Path(folder))
    write_raw(found)
    print(summary(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
