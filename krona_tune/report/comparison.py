"""Compares several studies task by task: what each winner scores, and whether they can be told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import yaml

from krona_tune.refusal import Refusal
from krona_tune.report.knobs import Knobs, knobs_among
from krona_tune.report.study_results import (
    FinalAverage,
    SearchAverage,
    StudyResults,
    average,
    final_average,
    read_results,
)
from krona_tune.report.task_summary import TaskSummary
from krona_tune.study.finals import Finalist, Spread
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import NOTHING
from krona_tune.study.intervals import Difference, difference, unpaired_difference
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.loader import parse_spec
from krona_tune.study.result import Half, TrialResult
from krona_tune.study.verdicts import difference_text, seed_texts

PAIRED, SAME_EXAMPLES, UNPAIRED = (
    "paired by seed and test example",
    "paired by test example; the seeds are others",
    "not paired: the test examples are others, or not known to be the same",
)
"""How two winners are held against each other."""
COMPARED_NOTE = (
    "Scores are the winners' on test, a mean over seeds, where a study has finals; else the best of its search on "
    "validation (v), one seed, chosen by that score. Differences are from the first study that has finals, with 95 % "
    "intervals over seeds and test examples and about one false alarm in 20 tasks, however many studies there are."
)
"""What every form of a comparison says of its numbers."""
UNASKED = {"name", "reasons"}
"""The keys of a request that ask for nothing."""


@dataclass(frozen=True, kw_only=True)
class ComparedStudy:
    """One study of several. `average` and `final_average` are over the averaged tasks on which all have a result."""

    name: str
    results: StudyResults

    @cached_property
    def tasks(self) -> Mapping[str, TaskSummary]:
        return {each.task: each for each in self.results.tasks}

    def average(self, common: Sequence[str]) -> SearchAverage | None:
        return average([self.tasks[task] for task in common])

    def final_average(self, common: Sequence[str]) -> FinalAverage | None:
        found = final_average([self.tasks[task] for task in common])
        return found if found and len(found.tasks) == len(common) else None


@dataclass(frozen=True, kw_only=True)
class ComparedWinner:
    """Holds what one study has on a task.

    `difference` is the winner's test mean of the study `reference` less its own, and `pairing` how both were held
    against each other; there is none for the reference itself, and where no study has finals.
    """

    study: ComparedStudy
    summary: TaskSummary
    reference: str = ""
    difference: Difference | None = None
    pairing: str = ""

    @property
    def winner(self) -> Finalist | None:
        return self.summary.finals.winner

    @property
    def row(self) -> TrialResult | None:
        """Returns a row of the winner's configuration, or of the best of the search; None without a result."""
        return self.summary.winner

    @property
    def half(self) -> Half | None:
        """Returns which half its score is on; None without a result."""
        return "test" if self.winner else "validation" if self.summary.best else None

    @property
    def score(self) -> Spread | None:
        if self.winner:
            return self.winner.test
        return Spread(mean=self.summary.best.score, deviation=None) if self.summary.best else None

    @property
    def head_only(self) -> Spread | None:
        """Returns the score of the head alone on the same half."""
        if self.winner:
            return self.summary.finals.head_only.test if self.summary.finals.head_only else None
        score = self.summary.baseline_score
        return None if score is None else Spread(mean=score, deviation=None)

    @property
    def gain(self) -> float | None:
        """Returns its score less that of the reference, on test; None if there is nothing to compare."""
        known = self.difference.estimate if self.difference else None
        return -known.mean if known else None

    @property
    def gain_interval(self) -> tuple[float, float] | None:
        low, high = (self.difference.interval if self.difference else None) or (None, None)
        return None if low is None or high is None else (-high, -low)

    @property
    def tied(self) -> bool:
        """Returns whether it can't be told apart from the reference."""
        return self.difference is not None and self.difference.apart is False

    @property
    def verdict(self) -> str:
        """Returns how it compares with the reference, in words; empty for the reference."""
        return difference_text(self.difference, self.reference) if self.difference else ""


@dataclass(frozen=True, kw_only=True)
class ComparedTask:
    """One task over the studies that have it. `same_data`: all of them saw the same examples."""

    task: str
    title: str
    entries: tuple[ComparedWinner, ...]
    same_data: bool

    @property
    def anchor(self) -> str:
        return self.entries[0].summary.anchor

    def averages_on(self, half: Half) -> bool:
        """Returns whether the scores of all studies on this half have a mean with those of other tasks."""
        return all(each.summary.facts is None or each.summary.facts.averages_on(half) for each in self.entries)

    @property
    def same_metrics(self) -> bool:
        """Returns whether the scores of all studies are of the same metrics."""
        known = [each.summary.facts for each in self.entries if each.summary.facts]
        by_loss = {facts.compared_by_loss for facts in known}
        return len(by_loss) <= 1 and all(_same_metrics(*pair) for pair in combinations(known, 2))

    @property
    def synthetic(self) -> bool:
        return any(each.summary.synthetic for each in self.entries)

    @property
    def tested(self) -> bool:
        """Returns whether some study has finals."""
        return any(each.winner for each in self.entries)

    @property
    def knobs(self) -> Knobs:
        """Returns which knobs differ between the studies' winners; a single one differs from none and is like none."""
        winners = [each.row for each in self.entries if each.row]
        return knobs_among(winners if len(winners) > 1 else [])

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Returns in sentences how the winners compare, how they were paired, and which seeds did not learn."""
        told = [f"{each.study.name} {each.verdict} ({each.pairing})" for each in self.entries if each.pairing]
        told += [f"{each.study.name} {each.verdict}" for each in self.entries if each.difference and not each.pairing]
        told += [
            f"{text}, in {each.study.name}" for each in self.entries if each.winner for text in seed_texts(each.winner)
        ]
        headlines = [
            f"{each.study.name}: {each.summary.verdicts.headline}"
            for each in self.entries
            if each.summary.verdicts.headline
        ]
        return (*headlines, *(f"{self.title}: {text}." for text in told))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several studies, their tasks one after the other, and where their requests differ."""

    studies: tuple[ComparedStudy, ...]
    tasks: tuple[ComparedTask, ...]

    @property
    def known(self) -> list[ComparedTask]:
        """Returns the tasks on which every study has a result."""
        whole = [each for each in self.tasks if len(each.entries) == len(self.studies)]
        return [each for each in whole if all(entry.summary.best for entry in each.entries)]

    @property
    def half(self) -> Half:
        """Returns the half that averages are of: test if all studies have finals on all tasks that they share."""
        return "test" if all(entry.winner for each in self.known for entry in each.entries) else "validation"

    @property
    def common(self) -> list[str]:
        """Returns those of the known tasks whose scores have a mean, on the half that averages are of."""
        return self.common_on(self.half)

    def common_on(self, half: Half) -> list[str]:
        """Returns those of the known tasks whose scores on a half have a mean."""
        alone = len(self.known) == 1
        return [each.task for each in self.known if each.same_metrics and (alone or each.averages_on(half))]

    @property
    def synthetic(self) -> bool:
        return any(study.results.manifest.synthetic for study in self.studies)

    @property
    def differences(self) -> dict[str, tuple[str, ...]]:
        """Returns the keys in which the studies' requests differ, with each study's value."""
        return differences({study.name: study.results.spec for study in self.studies})

    @property
    def doubts(self) -> list[str]:
        """Returns in sentences why a difference may not be the method's."""
        other = [each.title for each in self.tasks if not each.same_data]
        backbones = {study.results.manifest.model.fingerprint for study in self.studies}
        shared = any(len(each.entries) > 1 for each in self.tasks)
        said = [] if shared else ["No two of the studies have a task in common, so nothing is compared."]
        said += [f"On {', '.join(other)} the studies did not see the same examples."] if other else []
        others = [each.title for each in self.tasks if not each.same_metrics]
        said += [f"On {', '.join(others)} the studies' scores are of other metrics."] if others else []
        return [*said, *(["The studies adapted different backbones."] if len(backbones) > 1 else [])]


def read_comparison(folders: Sequence[StudyFolder]) -> Comparison:
    """Compares the studies in two or more folders.

    Raises:
        Refusal: fewer than two different studies are named, or one of the folders holds none, or no trial.
    """
    different = list({folder.root.resolve(): folder for folder in folders}.values())
    refuse_one([str(folder.root) for folder in different])
    return comparison_of([ComparedStudy(name=name, results=read_results(each)) for each, name in _named(different)])


def refuse_one(names: Sequence[str]) -> None:
    """Raises a Refusal if fewer than two studies are named."""
    if len(names) < 2:
        named = f"only {names[0]} is named" if names else "none is named"
        raise Refusal("studies", named, "name two studies or more")


def comparison_of(studies: Sequence[ComparedStudy]) -> Comparison:
    """Compares studies; on each task the first of them that has finals is what the others are held against."""
    names = dict.fromkeys(task for study in studies for task in study.tasks)
    return Comparison(studies=tuple(studies), tasks=tuple(_task(task, studies) for task in names))


def differences(specs: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Returns the keys in which the studies' requests differ, with each study's value.

    Its name is left out, and the reasons, which ask for nothing.
    """
    flat = [_flat(_whole(text)) for text in specs.values()]
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = {key: tuple(each.get(key, NOTHING) for each in flat) for key in keys if key.partition(".")[0] not in UNASKED}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _whole(text: str) -> object:
    """Returns a request with the defaults of what it lacks: a version of before had fewer keys; as it is if it can't be
    read."""
    try:
        return parse_spec(text, "study.yaml", Path.cwd()).plain()
    except Refusal:
        return yaml.safe_load(text) or {}


def _flat(value: object, above: str = "") -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        text = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
        return {above: text.removesuffix("...\n").strip()}
    below = (_flat(each, f"{above}.{key}" if above else str(key)) for key, each in value.items())
    return {key: text for each in below for key, text in each.items()}


def _named(folders: Sequence[StudyFolder]) -> list[tuple[StudyFolder, str]]:
    """Returns each study with its name, or with its path if another one has the same name."""
    names = [folder.root.resolve().name for folder in folders]
    return [
        (folder, name if names.count(name) == 1 else str(folder.root))
        for folder, name in zip(folders, names, strict=True)
    ]


def _task(task: str, studies: Sequence[ComparedStudy]) -> ComparedTask:
    having = [(study, study.tasks[task]) for study in studies if task in study.tasks]
    settled = [(study, summary) for study, summary in having if summary.finals.winner]
    reference = settled[0] if settled else None
    return ComparedTask(
        task=task,
        title=having[0][1].title,
        entries=tuple(_entry(study, summary, reference, len(settled) - 1) for study, summary in having),
        same_data=len({_data(summary.facts) for _, summary in having}) == 1,
    )


def _entry(
    study: ComparedStudy, summary: TaskSummary, reference: tuple[ComparedStudy, TaskSummary] | None, comparisons: int
) -> ComparedWinner:
    if reference is None or study is reference[0]:
        return ComparedWinner(study=study, summary=summary)
    found, pairing = _held_against(reference[1], summary, float(max(1, comparisons)))
    return ComparedWinner(study=study, summary=summary, reference=reference[0].name, difference=found, pairing=pairing)


def _held_against(one: TaskSummary, other: TaskSummary, comparisons: float) -> tuple[Difference, str]:
    """Returns the difference of two studies' winners, and how they were paired; paired as closely as can be."""
    first, second = one.finals.winner, other.finals.winner
    assert first
    if second is None:
        why = "without finals, its score is one seed's, which was chosen by that score" if other.best else "no result"
        return _none(why), ""
    if one.facts and other.facts and not _same_metrics(one.facts, other.facts):
        return _none("their metrics are others"), ""
    same = _data(one.facts) is not None and _data(one.facts) == _data(other.facts) and first.examples == second.examples
    seeds = first.test_by_seed().keys() & second.test_by_seed().keys()
    if same and len(seeds) > 1:
        sides = first.scored_by_seed(), second.scored_by_seed()
        found = difference(*sides, first.examples, comparisons, first.bounds)
    else:
        one_by_one, others = (tuple(each.scored_by_seed().values()) for each in (first, second))
        examples = first.examples, second.examples
        found = unpaired_difference(one_by_one, others, examples, comparisons, first.bounds, same_examples=same)
    why = found.why_none or first.undrawn or second.undrawn
    pairing = PAIRED if same and len(seeds) > 1 else SAME_EXAMPLES if same else UNPAIRED
    return replace(found, why_none=why), "" if why else pairing


def _none(why: str) -> Difference:
    return Difference(estimate=None, why_none=why)


def _same_metrics(one: TaskFacts, other: TaskFacts) -> bool:
    """Returns whether two studies' scores of a task on test are of the same metrics: functions of one's own under one
    name may differ, count the other way, be about another label, or of other parts of the answers."""
    if None not in (one.counted_label, other.counted_label) and one.counted_label != other.counted_label:
        return False
    told = ((each.metrics, each.functions, each.averages, each.extract) for each in (one, other))
    return len(set(told)) == 1


def _data(facts: TaskFacts | None) -> object:
    return (facts.fingerprint, facts.train_examples, facts.validation_examples) if facts else None
