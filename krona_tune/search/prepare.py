"""Before the first trial: each task's data loaded, split and tokenised once, as workers take them."""

from dataclasses import dataclass
from pathlib import Path

import platformdirs
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from krona_tune.glue.corpus import load
from krona_tune.glue.encode import encode
from krona_tune.glue.metrics import constant_baseline
from krona_tune.glue.tasks import TASKS, Task
from krona_tune.refusal import Refusal
from krona_tune.search.plan import Plan
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.spec import for_task
from krona_tune.train.loop import TaskWork


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the workers get, and what the manifest says of it, by task."""

    works: dict[str, TaskWork]
    facts: dict[str, TaskFacts]


def cache_folder() -> Path:
    """Where tokenised data are kept between studies."""
    return Path(platformdirs.user_cache_dir("krona_tune")) / "encoded"


def prepare(plan: Plan, location: str) -> Prepared:
    """Loads and tokenises every task. Raises a Refusal where data or tokenizer can't be had."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
    except (OSError, ValueError) as error:
        raise Refusal("--model", f"{location} has no usable tokenizer: {error}", "save one there") from None
    words = len(tokenizer) - len(tokenizer.all_special_ids)
    if not 0 < words <= plan.source.config["vocab_size"]:
        problem = f"its tokenizer knows {words:,} words, the model {plan.source.config['vocab_size']:,}"
        raise Refusal("--model", f"{location}: {problem}", "save the model's own tokenizer there")
    works, facts = {}, {}
    for name in plan.spec.tasks:
        works[name], facts[name] = _prepare_task(plan, TASKS[name], tokenizer)
    return Prepared(works=works, facts=facts)


def _prepare_task(plan: Plan, task: Task, tokenizer: PreTrainedTokenizerBase) -> tuple[TaskWork, TaskFacts]:
    spec = plan.spec
    limits = {
        f"{split}_examples": None if limit is None else for_task(limit, task.name)
        for split in ("train", "validation", "test")
        for limit in [getattr(spec.examples, split)]
    }
    data = load(task, spec.data, seed=spec.seed, **limits)
    encoded = encode(
        data,
        tokenizer,
        prompts=plan.geometry.text_to_text,
        max_length=spec.examples.max_length,
        cache=cache_folder(),
    )
    work = TaskWork(
        task=task,
        train=encoded.train,
        validation=encoded.validation,
        pad_token_id=encoded.pad_token_id,
        schedule=spec.schedule.of(task.name, len(encoded.train)),
        candidates=_candidates(task, tokenizer) if plan.geometry.text_to_text else (),
    )
    labels = [table.column("label").to_numpy() for table in (encoded.train, encoded.validation)]
    facts = TaskFacts(
        title=task.title,
        metrics=task.metrics,
        provenance=data.provenance,
        synthetic=data.synthetic,
        fingerprint=data.fingerprint,
        train_examples=len(encoded.train),
        validation_examples=len(encoded.validation),
        constant_score=constant_baseline(task, *labels),
        rungs=work.schedule.rungs,
    )
    return work, facts


def _candidates(task: Task, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], ...]:
    """The label words as token ids, each with its end of sequence."""
    return tuple(tuple(tokenizer(word).input_ids) for word in task.candidates)
