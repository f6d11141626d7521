"""The peer: Ray Tune with a function trainable, ASHA, transformers' Trainer, PEFT's LoKr and dynamic padding.

python -m tests.benchmarks.peer.peer CASE DATA OUT [careful | fast]

`fast` also asks the Trainer for batches of similar length and, if the CPU supports it (few do), for bfloat16.
"""

import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from datasets import Dataset
from peft import LoKrConfig, TaskType, get_peft_model
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from krona_tune.data.corpus import load
from krona_tune.data.metrics import measure
from krona_tune.data.tasks import TASKS
from krona_tune.train.device import this_device
from tests.benchmarks.peer.case import CASES, LAYERS, MINILM, TRIALS_AT_ONCE, Case, Side, process_start

WAYS: dict[str, dict[str, Any]] = {
    "careful": {},
    "fast": {
        "bf16": this_device("auto", gpu=False).dtype == torch.bfloat16,
        "train_sampling_strategy": "group_by_length",
    },
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def tokenised(case: Case, data: str) -> dict[str, Dataset]:
    """Returns the rows that krona_tune uses for the task, tokenised, not padded."""
    task = TASKS[case.task]
    rows = load(task, data, train_examples=case.train_examples, seed=case.seed)
    tokenizer = AutoTokenizer.from_pretrained(MINILM)

    def encode(batch: dict[str, list[Any]]) -> Any:
        return tokenizer(*(batch[name] for name in task.inputs), truncation=True, max_length=case.max_length)

    halves = {"train": rows.train, "validation": rows.validation}
    return {
        name: Dataset.from_dict(table.to_pydict()).map(encode, batched=True, remove_columns=list(task.inputs))
        for name, table in halves.items()
    }


class Reporting(TrainerCallback):  # type: ignore[misc]
    """A callback that reports each evaluation to Ray Tune, with facts of the trial."""

    def __init__(self, **facts: float) -> None:
        self._facts = facts

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **rest: Any) -> None:
        tune.report({"score": metrics["eval_score"], "epoch": round(state.epoch), **self._facts})


def train(config: dict[str, Any], *, case: Case, halves: dict[str, Dataset], way: str) -> None:
    """Trains one trial as the documentation of each library describes it."""
    torch.set_num_threads(1)
    if config["factor"] is None:
        train_head(config, case=case, halves=halves)
        return
    started, task = time.time(), TASKS[case.task]
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    torch.manual_seed(case.seed)
    model = AutoModelForSequenceClassification.from_pretrained(MINILM, num_labels=len(task.labels), **NO_DROPOUT)
    rank = model.config.hidden_size  # both factors are full
    lokr = LoKrConfig(
        task_type=TaskType.SEQ_CLS,
        r=rank,
        alpha=config["scale"] * rank,
        decompose_factor=config["factor"],
        target_modules=["query", "value"],
        layers_to_transform=list(range(config["first_layer"], LAYERS)),
        layers_pattern="layer",
    )
    model = get_peft_model(model, lokr)
    trainable, _ = model.get_nb_trainable_parameters()

    def scores(found: EvalPrediction) -> dict[str, float]:
        return measure(task, np.argmax(found.predictions, axis=-1), found.label_ids)

    arguments = TrainingArguments(
        output_dir="trainer",
        num_train_epochs=case.epochs,
        per_device_train_batch_size=case.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=config["learning_rate"],
        warmup_steps=case.warmup,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        seed=case.seed,
        **WAYS[way],
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=halves["train"],
        eval_dataset=halves["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=scores,
        callbacks=[Reporting(started=started, trainable=trainable)],
    )
    trainer.train()


def train_head(config: dict[str, Any], *, case: Case, halves: dict[str, Dataset]) -> None:
    """Trains the head alone as an expert would: the encoder runs once, then only the head is trained on its output."""
    started, task = time.time(), TASKS[case.task]
    torch.manual_seed(case.seed)
    model = AutoModelForSequenceClassification.from_pretrained(MINILM, num_labels=len(task.labels), **NO_DROPOUT)
    collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(MINILM))
    states, labels = {}, {}
    for name, half in halves.items():
        parts = DataLoader(half, batch_size=64, collate_fn=collate)
        with torch.no_grad():
            batches = [(model.base_model(**_inputs(part)).pooler_output, part["labels"]) for part in parts]
        states[name], labels[name] = (torch.cat(each) for each in zip(*batches, strict=True))
    head = model.classifier
    steps = case.epochs * -(-len(states["train"]) // case.batch_size)
    optimiser = torch.optim.AdamW(head.parameters(), lr=config["learning_rate"], weight_decay=0.0)
    rate = get_linear_schedule_with_warmup(optimiser, int(case.warmup * steps), steps)
    for epoch in range(case.epochs):
        for rows in torch.split(torch.randperm(len(states["train"])), case.batch_size):
            optimiser.zero_grad()
            loss: Any = functional.cross_entropy(head(states["train"][rows]), labels["train"][rows])
            loss.backward()
            optimiser.step()
            rate.step()
        with torch.no_grad():
            answers = head(states["validation"]).argmax(-1).numpy()
        score = measure(task, answers, labels["validation"].numpy())["score"]
        trained = sum(each.numel() for each in head.parameters())
        tune.report({"score": score, "epoch": epoch + 1, "started": started, "trainable": trained})


def _inputs(part: Any) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "labels"}


def main(name: str, data: str, out: str, way: str = "careful") -> None:
    """Runs the study and writes its measurements."""
    began, case = process_start(), CASES[name]
    halves = tokenised(case, data)
    ray.init(num_cpus=TRIALS_AT_ONCE, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(train, case=case, halves=halves, way=way), {"cpu": 1}),
            param_space={"number": tune.grid_search(list(range(case.trials)))} | _by_number(case),
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max",
                scheduler=ASHAScheduler(time_attr="epoch", max_t=case.epochs, grace_period=case.epochs),
                max_concurrent_trials=TRIALS_AT_ONCE,
            ),
            run_config=tune.RunConfig(storage_path=folder, name="study", verbose=0),
        ).fit()
        ray.shutdown()
        if results.errors:
            raise results.errors[0]
        found = sorted(results, key=lambda result: result.config["number"])
    frames = [result.metrics_dataframe for result in found]
    starts = [float(frame["started"].iloc[0]) for frame in frames]
    Side(
        scores=[frame["score"].tolist() for frame in frames],
        trainable=[int(frame["trainable"].iloc[0]) for frame in frames],
        first_trial_seconds=min(starts) - began,
        trial_seconds=[float(f["timestamp"].iloc[-1]) - s for f, s in zip(frames, starts, strict=True)],
    ).write(Path(out))


def _by_number(case: Case) -> dict[str, Any]:
    """Returns each knob's value in the configuration of each number."""

    def knob(name: str) -> Any:
        values = [asdict(configuration)[name] for configuration in case.configurations]
        return tune.sample_from(lambda config: values[config["number"]])

    return {name: knob(name) for name in ("factor", "scale", "learning_rate", "first_layer")}


if __name__ == "__main__":
    main(*sys.argv[1:])
