"""Loads, splits and tokenises each task's data once, before the first trial or a full training, for the workers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from krona_tune.data.batches import TARGET, lengths
from krona_tune.data.corpus import PARTS, TaskData, find_doubts, find_warnings
from krona_tune.data.encode import (
    EncodedTask,
    Tokenization,
    TokenizerSettings,
    cut_examples,
    encode,
    encode_test,
    joins_texts,
    splitting_fingerprint,
    token_table,
    tokens_fingerprint,
    vocabulary_fingerprint,
)
from krona_tune.data.metrics import code_of_functions_digest, constant_baseline, functions_digest, token_baseline
from krona_tune.data.prompts import (
    READ_BACK,
    PromptWriter,
    changed_targets,
    refuse_long_targets,
    refuse_without_room,
)
from krona_tune.data.tasks import Task
from krona_tune.machine import cache_folder
from krona_tune.search.full_training import FullTraining, whole_plan
from krona_tune.search.planning.label_offset import doubt_far_labels
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.startup.answer_length import answer_tokens, label_words
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import TaskFacts, read_manifest, refuse_other_inputs, task_inputs
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.study_spec import EARLIER_CONFIDENCE
from krona_tune.train.backbone import open_tokenizer
from krona_tune.train.backbone_source import download
from krona_tune.train.loop import TaskWork


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """The workers' data and the manifest's facts about them, by task.

    `works` do not contain the test halves, which are in `tests` if finalists are asked for; `data_warnings` are what a
    person should know about a task's data before training, and under no name about all of them. `vocabulary` is the
    hash of the tokenizer's, `splitting` that of how it splits texts.
    """

    works: dict[str, TaskWork]
    facts: dict[str, TaskFacts]
    tests: dict[str, pa.Table]
    data_warnings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    vocabulary: str = ""
    splitting: str = ""

    def final_works(self) -> dict[str, TaskWork]:
        """Returns the data of finalists' workers, which include the test halves; those without finalists have none."""
        return {task: replace(work, test=self.tests.get(task)) for task, work in self.works.items()}

    def warnings_of(self, task: str | None = None) -> tuple[str, ...]:
        """Returns the warnings about the data of a task, or of all."""
        asked = self.data_warnings.values() if task is None else [self.data_warnings.get(task, ())]
        return tuple(chain.from_iterable(asked))


LONGEST_READ = 100
"""The longest targets of a part that are read before a study begins."""


def prepare_data(plan: Plan, location: str) -> PreparedData:
    """Loads and tokenises every task's data. Raises a Refusal if data or tokenizer are not available."""
    tokenizer = open_tokenizer(location, plan.geometry.vocabulary)
    data = {name: plan.data_of(name) for name in plan.tasks}
    prepared = {name: _prepare_task(plan, each, tokenizer) for name, each in data.items()}
    finals = data if plan.spec.finalists.top else {}
    tests = {name: encode_test(each, tokenizer, **_encoding(plan)) for name, each in finals.items()}
    warnings: dict[str, tuple[str, ...]] = {}
    for name, (work, facts) in prepared.items():
        changed = [*find_warnings(data[name]), *filter(None, [facts.far_labels])]
        changed += _doubt_cut(
            plan, work.task, tokenizer, facts.cut_examples or 0, facts.train_examples + facts.validation_examples
        )
        parts = {"train": work.train, "validation": work.validation, "test": tests.get(name)}
        for part, table in ((part, table) for part, table in parts.items() if table is not None):
            refuse_long_targets(work.task, table, part)
            _refuse_without_room(plan, work.task, table, part)
            changed += changed_targets(work.task, table, part, tokenizer)
        warnings[name] = tuple(changed)
    return PreparedData(
        works={name: work for name, (work, _) in prepared.items()},
        facts={name: facts for name, (_, facts) in prepared.items()},
        tests=tests,
        data_warnings={**warnings, "": tuple(_mixed_scores(plan))},
        vocabulary=vocabulary_fingerprint(tokenizer),
        splitting=splitting_fingerprint(tokenizer),
    )


def full_work(plan: Plan, location: str, asked: FullTraining) -> TaskWork:
    """Returns all of the task's examples for the workers. Raises a Refusal if the data can't be read any more."""
    task, spec = asked.of.task, plan.spec
    prepared = prepare_data(whole_plan(plan, asked), location)
    work, test = prepared.works[task], prepared.tests[task]
    if not asked.everything:
        return replace(work, test=test)
    train = pa.concat_tables([work.train, work.validation, test]).combine_chunks()
    return replace(
        work, train=train, validation=work.validation.slice(0, 0), schedule=spec.schedule.of(task, len(train))
    )


def _mixed_scores(plan: Plan) -> Iterator[str]:
    """Yields a word if one configuration for all tasks is judged by a mean of scores that have none."""
    negated = [task.title for task in plan.tasks.values() if not task.averages]
    if plan.spec.search.shared and 0 < len(negated) < len(plan.tasks):
        yield f"--shared judges by a mean over tasks; {negated[0]} has none with others, because lower is better"


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The first training examples of a task, as (text, answer) of what is left after tokenisation; the tokens of some
    train and validation examples, and how many of those are `cut`; and warnings."""

    examples: tuple[tuple[str, str], ...]
    tokens: tuple[int, ...]
    cut: int
    warnings: tuple[str, ...]


MOST_LOOKED_AT = 2_000
"""The examples of a task of which a preview counts those that are cut."""


def preview_data(plan: Plan, tasks: Iterable[str], count: int) -> dict[str, Preview]:
    """Returns what a person should see of these tasks' data before a study begins, with `count` examples of each.

    Raises a Refusal if the tokenizer reads two label words alike, or has more tokens in a target than an answer may.
    """
    tokenizer = open_tokenizer(plan.source.location, plan.geometry.vocabulary)
    data = {name: plan.data_of(name) for name in tasks}
    return {name: _preview(plan, each, tokenizer, count) for name, each in data.items()}


def _preview(plan: Plan, data: TaskData, tokenizer: PreTrainedTokenizerBase, count: int) -> Preview:
    prompts, length, changed = plan.geometry.text_to_text, plan.spec.examples.max_length, list[str]()
    decoder = not plan.geometry.is_encoder_decoder
    if data.task.generation:
        writer = PromptWriter(data.task, tokenizer, decoder=decoder, max_length=length)
        changed = _doubt_targets(plan, data, writer, tokenizer)
    label_words(plan, data.task, tokenizer)
    reader = Tokenization(data.task, tokenizer, prompts=prompts, max_length=length, decoder=decoder)
    some = data.train.slice(0, count)
    ids = reader.table(some)["input_ids"].to_pylist()
    answers = [_answer(data.task, label, prompts=prompts) for label in some["label"].to_pylist()]
    examples = zip(map(tokenizer.decode, ids), answers, strict=True)
    whole = pa.concat_tables([data.train, data.validation])
    looked = whole.take(np.random.default_rng(0).permutation(len(whole))[:MOST_LOOKED_AT])
    table = reader.table(looked)
    cut = cut_examples(table)
    doubts = (*doubt_far_labels(data.task, plan.geometry), *_doubt_cut(plan, data.task, tokenizer, cut, len(looked)))
    return Preview(
        examples=tuple(examples),
        tokens=tuple(lengths(table).tolist()),
        cut=cut,
        warnings=(*find_warnings(data), *changed, *doubts),
    )


def _refuse_without_room(plan: Plan, task: Task, table: pa.Table, part: str) -> None:
    decoder = not plan.geometry.is_encoder_decoder
    refuse_without_room(task, table, part, plan.geometry.positions, decoder=decoder)


def _doubt_targets(plan: Plan, data: TaskData, writer: PromptWriter, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Refuses targets that are too long, if one of the longest texts among them is, and returns which are changed."""
    found: list[str] = []
    for part in PARTS:
        table = getattr(data, part)
        order = pc.array_sort_indices(pc.utf8_length(table["label"]).combine_chunks(), order="descending")
        longest = token_table(writer, data.task, table.take(order.slice(0, LONGEST_READ)))
        refuse_long_targets(data.task, longest, part)
        _refuse_without_room(plan, data.task, longest, part)
        first = token_table(writer, data.task, table.slice(0, READ_BACK))
        found += changed_targets(data.task, first, part, tokenizer)
    return found


def _answer(task: Task, label: Any, *, prompts: bool) -> str:
    if task.generation:
        return str(label)
    if prompts:
        return task.candidates[task.target(label)]
    return f"{label:.15g}" if task.is_regression else task.labels[int(label)]


def _encoding(plan: Plan) -> TokenizerSettings:
    """Returns the settings that turn texts into token ids in this study."""
    return {
        "prompts": plan.geometry.text_to_text,
        "max_length": plan.spec.examples.max_length,
        "cache": cache_folder() / "encoded",
        "decoder": not plan.geometry.is_encoder_decoder,
    }


def _prepare_task(plan: Plan, data: TaskData, tokenizer: PreTrainedTokenizerBase) -> tuple[TaskWork, TaskFacts]:
    task, spec = data.task, plan.spec
    encoded = encode(data, tokenizer, **_encoding(plan))
    work = TaskWork(
        task=task,
        train=encoded.train,
        validation=encoded.validation,
        pad_token_id=encoded.pad_token_id,
        schedule=spec.schedule.of(task.name, len(encoded.train)),
        candidates=label_words(plan, task, tokenizer),
        tokenizer=tokenizer if task.generation else None,
    )
    facts = TaskFacts(
        title=task.title,
        metrics=task.metrics,
        provenance=data.provenance,
        synthetic=data.synthetic,
        own=task.name in plan.own_data,
        functions=functions_digest(task),
        code_of_functions=code_of_functions_digest(task),
        fingerprint=data.fingerprint,
        contents=data.contents,
        tokens=tokens_fingerprint(encoded.train, encoded.validation),
        train_examples=len(encoded.train),
        validation_examples=len(encoded.validation),
        constant_score=_constant_score(task, encoded),
        pad_token_id=encoded.pad_token_id,
        averages=task.averages,
        compared_by_loss=task.tested_by_other_scores,
        rungs=work.schedule.rungs if spec.search.early_stopping else (work.schedule.total_examples,),
        max_length=spec.examples.max_length,
        cut_examples=cut_examples(encoded.train) + cut_examples(encoded.validation),
        joined_texts=not plan.geometry.text_to_text and len(task.inputs) > 1 and joins_texts(tokenizer),
        final_seeds=spec.finalists.seeds,
        steady=bool(spec.finalists.steady),
        confidence=spec.finalists.confidence or EARLIER_CONFIDENCE,
        means_decide=plan.means_decide and bool(spec.finalists.steady),
        labels=task.labels,
        extract=task.generation.extract if task.generation else "",
        doubts=tuple(find_doubts(data, tested=spec.finalists.top > 0)),
        far_labels="".join(doubt_far_labels(task, plan.geometry)),
    )
    return work, facts


MUCH = 0.05
"""The share of cut examples above which a person is warned."""


def _doubt_cut(plan: Plan, task: Task, tokenizer: PreTrainedTokenizerBase, cut: int, of: int) -> Iterator[str]:
    """Yields a warning if many examples of a task lose their ends."""
    length, positions = plan.spec.examples.max_length, plan.positions
    if cut > MUCH * of:
        most = None if positions is None else positions - answer_tokens(plan, task, tokenizer)
        more = min(2 * length, most or 2 * length)
        fix = f"--set examples.max_length={more} reads more"
        if most is not None and most <= length:
            known = plan.geometry.positions is not None  # a model with rotary positions computes further ones
            fix = "the model reads no more" if known else f"the model was trained to read {positions}"
        yield f"{cut / of:.0%} of the examples of {task.title} are cut to {length} tokens; {fix}"


def _constant_score(task: Task, encoded: EncodedTask) -> float:
    """Returns the validation score of the best constant answer, in the unit by which trials are compared."""
    parts = (encoded.train, encoded.validation)
    if task.judged_by_loss:
        return token_baseline(task, *(table[TARGET].to_pylist() for table in parts))
    return constant_baseline(task, *(table["label"].to_numpy() for table in parts))


def validation_data(folder: StudyFolder, task: str, model: str | None = None) -> TaskWork:
    """Returns a task's encoded data as its study had them; `model` says where the backbone is now. Raises a Refusal if
    they can't be read any more, or are others by now."""
    spec = load_spec(folder.spec)
    spec = spec.model_copy(update={"model": model}) if model else spec
    finals = spec.finalists.model_copy(update={"top": 0})  # leaves the test half alone
    begun = read_manifest(folder.manifest)
    plan = make_plan(spec.model_copy(update={"tasks": (task,), "finalists": finals}), str(folder.spec), begun)
    source = download(plan.source)
    prepared = prepare_data(replace(plan, source=source), source.location)
    then, now = begun.tasks[task], prepared.facts[task]
    refuse_other_inputs(task_inputs(task, then, now), folder.name)
    return prepared.works[task]
