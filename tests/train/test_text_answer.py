"""Tests that decoders and encoder-decoders learn to write, judge and generate, for every family."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from krona_tune.backbones.find_geometry import geometry
from krona_tune.data.batches import NO_TOKEN, Batch, evaluation_batches, lengths, target_lengths
from krona_tune.data.corpus import TaskData
from krona_tune.data.encode import encode
from krona_tune.data.tasks import Generation, Task
from krona_tune.study.request.schedule import make_schedule
from krona_tune.train import checkpoint
from krona_tune.train.backbone import Backbone, load_backbone, open_tokenizer
from krona_tune.train.evaluate import evaluate, predict, target_losses, to_device
from krona_tune.train.loop import TaskWork, TrialRun
from krona_tune.train.step_times import sequences
from krona_tune.train.task_heads import TextAnswer, make_answer
from tests.language_models import saved_language_model, sums
from tests.models import CONFIGS, of_each_kind
from tests.train.conftest import FLOAT32, tiny_trial

DECODERS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3", "opt", "gpt2", "gpt_neox")
WRITERS = (*DECODERS, "t5", "t5 gated", "mt5", "umt5", "bart")
SUMS = Task(
    name="sums",
    title="sums",
    inputs=("a", "b"),
    labels=(),
    metrics=("exact_match",),
    generation=Generation(prompt="{a}+{b}=", max_new_tokens=6),
)


def loaded(name: str, folder: Path) -> tuple[Backbone, Any]:
    saved_language_model(folder, name)
    config = open_config(folder)
    return load_backbone(str(folder), FLOAT32, geometry(config).writing()), open_tokenizer(str(folder), 1000)


def open_config(folder: Path) -> dict[str, Any]:
    from transformers import PretrainedConfig

    return dict(PretrainedConfig.get_config_dict(folder)[0])


def work(
    backbone: Backbone, tokenizer: Any, cache: Path, rows: int = 24, epochs: float = 4, task: Task = SUMS
) -> TaskWork:
    found = sums(rows, seed=3, most=30)
    table = pa.table({"a": [r["a"] for r in found], "b": [r["b"] for r in found], "label": [r["sum"] for r in found]})
    data = TaskData(
        task=task, train=table, validation=table, test=table, provenance="", synthetic=True, fingerprint=str(rows)
    )
    decoder = not backbone.geometry.is_encoder_decoder
    encoded = encode(data, tokenizer, prompts=True, max_length=16, cache=cache, decoder=decoder)
    return TaskWork(
        task=task,
        train=encoded.train,
        validation=encoded.validation,
        pad_token_id=encoded.pad_token_id,
        schedule=make_schedule(examples_per_epoch=rows, epochs=epochs, grace_epochs=epochs / 2, reduction=2),
        tokenizer=tokenizer,
        test=encoded.validation,
    )


def answering(backbone: Backbone, tokenizer: Any) -> TextAnswer:
    found = make_answer(backbone, SUMS, 0, (), tokenizer.pad_token_id, tokenizer)
    assert isinstance(found, TextAnswer)
    return found


@pytest.mark.parametrize("name", WRITERS)
def test_the_loss_is_that_of_each_examples_target_alone(name: str, tmp_path: Path) -> None:
    """Each example by itself, its logits over the whole text, and the log-likelihoods of the target's tokens."""
    backbone, tokenizer = loaded(name, tmp_path / "model")
    answer, of = answering(backbone, tokenizer), work(backbone, tokenizer, tmp_path, rows=7)
    found = target_losses(answer, of.train, 0, FLOAT32)
    for row, each in enumerate(of.train.to_pylist()):
        read, wrote = torch.tensor([each["input_ids"]]), torch.tensor([each["target_ids"]])
        with torch.no_grad():
            if backbone.geometry.is_encoder_decoder:
                start = torch.tensor([[backbone.config.decoder_start_token_id]])
                shifted = torch.cat([start, wrote[:, :-1]], 1)
                logits = backbone.whole(input_ids=read, decoder_input_ids=shifted).logits[0]
            else:
                logits = backbone.whole(input_ids=torch.cat([read, wrote], 1)).logits[0, read.shape[1] - 1 : -1]
        assert found[row] == pytest.approx(functional.cross_entropy(logits, wrote[0], reduction="sum").item(), abs=1e-3)
    [batch] = evaluation_batches(of.train, 10_000, 0)
    inputs, targets = to_device(batch, FLOAT32)
    counted = (targets != NO_TOKEN).sum().item()
    assert answer.counted(targets).item() == counted == target_lengths(of.train).sum()
    assert answer.loss(inputs, targets).item() == pytest.approx(found.sum() / counted, abs=1e-4)


@pytest.mark.parametrize("name", WRITERS)
def test_a_batch_writes_what_each_example_alone_would_by_the_likeliest_token(name: str, tmp_path: Path) -> None:
    backbone, tokenizer = loaded(name, tmp_path / "model")
    answer, of = answering(backbone, tokenizer), work(backbone, tokenizer, tmp_path, rows=5)
    found = predict(answer, SUMS, of.train, 0, FLOAT32)
    for row, each in enumerate(of.train.to_pylist()):
        assert found[row] == greedy(backbone, each["input_ids"], tokenizer)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_texts_that_memory_does_not_hold_together_are_written_and_judged_in_parts(name: str, tmp_path: Path) -> None:
    backbone, tokenizer = loaded(name, tmp_path / "model")
    answer, of = answering(backbone, tokenizer), work(backbone, tokenizer, tmp_path, rows=7)
    judge = partial(target_losses, answer, of.train, 0, FLOAT32)
    write = partial(predict, answer, SUMS, of.train, 0, FLOAT32)
    expected, written = judge(), write()

    def full(of: pa.Table, batch: Batch) -> None:
        if len(batch.rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert judge(full) == pytest.approx(expected, abs=1e-4)
    assert write(full).tolist() == written.tolist()


@torch.no_grad()
def greedy(backbone: Backbone, ids: list[int], tokenizer: Any) -> str:
    decodes = backbone.geometry.is_encoder_decoder
    written = [backbone.config.decoder_start_token_id] if decodes else list(ids)
    start = len(written)
    while len(written) - start < 6 and (len(written) == start or written[-1] != tokenizer.eos_token_id):
        given = (
            {"input_ids": torch.tensor([ids]), "decoder_input_ids": torch.tensor([written])}
            if decodes
            else {"input_ids": torch.tensor([written])}
        )
        written.append(int(backbone.whole(**given).logits[0, -1].argmax()))
    return str(tokenizer.decode(written[start:], skip_special_tokens=True)).strip()


LEARNERS = ("llama", "gemma", "phi3", "opt", "gpt2", "gpt_neox", "t5", "bart")
KNOBS: dict[str, Any] = {
    "roles": "query+value+output+feed_forward_in+feed_forward_out", "a_out": 2, "a_in": 2, "layer_norms": True,
    "learning_rate": 2e-2, "batch_size": 12,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", of_each_kind(LEARNERS, usual=("llama", "t5")))
def test_an_adapter_learns_sums_by_heart(name: str, tmp_path: Path) -> None:
    backbone, tokenizer = loaded(name, tmp_path / "model")
    run = TrialRun("t", tiny_trial("sums", **KNOBS), work(backbone, tokenizer, tmp_path, epochs=120), backbone)
    first, last = run.advance(), run.advance()
    assert run.finished
    assert last.train_loss < first.train_loss
    assert last.score >= 0.9
    tested = run.evaluate_on_test()
    assert tested.score == last.score
    assert len(tested.resampled) == 500
    run.close()


@pytest.mark.parametrize("name", of_each_kind(LEARNERS))
def test_a_resumed_adapter_learns_as_one_that_went_on(name: str, tmp_path: Path) -> None:
    backbone, tokenizer = loaded(name, tmp_path / "model")
    of = work(backbone, tokenizer, tmp_path, epochs=4)
    run = TrialRun("t", tiny_trial("sums", **KNOBS), of, backbone)
    first = run.advance()
    checkpoint.save(run, tmp_path)
    last = run.advance()
    state = run.state()
    assert run.finished
    assert last.train_loss < first.train_loss
    run.close()
    again = TrialRun("t", tiny_trial("sums", **KNOBS), of, backbone)
    checkpoint.load(again, tmp_path)
    again.advance()
    assert all(torch.equal(tensor, state[key]) for key, tensor in again.state().items())
    again.close()


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_trials_are_judged_by_loss_or_perplexity_and_tested_by_what_they_write(name: str, tmp_path: Path) -> None:
    backbone, tokenizer = loaded(name, tmp_path / "model")
    assert SUMS.generation
    by_loss = replace(SUMS, generation=replace(SUMS.generation, evaluate="loss"))
    perplexing = replace(SUMS, metrics=("perplexity",), lower_is_better=("perplexity",))
    for task in (by_loss, perplexing):
        of = work(backbone, tokenizer, tmp_path, epochs=2, task=task)
        run = TrialRun("t", tiny_trial("sums"), of, backbone)
        run.advance()
        report = run.advance()
        losses = target_losses(run.answer, of.validation, 0, FLOAT32).sum() / target_lengths(of.validation).sum()
        expected = losses if task is by_loss else math.exp(losses)
        assert report.score == pytest.approx(-expected)
        tested = run.evaluate_on_test()
        assert set(tested.metrics) == set(task.metrics)
        assert tested.score == (pytest.approx(-expected) if task is perplexing else tested.metrics["exact_match"])
        run.close()


def test_accumulated_parts_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    """Parts have different numbers of target tokens, so a mean of means would differ."""
    backbone, tokenizer = loaded("llama", tmp_path / "model")
    of = work(backbone, tokenizer, tmp_path, epochs=2)
    found = []
    for parts in (1, 5):
        run = TrialRun("t", tiny_trial("sums", accumulation=parts), of, backbone)
        run.advance()
        found.append(run.state())
        run.close()
    for key, tensor in found[0].items():
        assert torch.allclose(tensor, found[1][key], atol=1e-5)


def test_the_models_own_rules_of_generation_neither_apply_nor_are_lost(tmp_path: Path) -> None:
    backbone, tokenizer = loaded("llama", tmp_path / "model")
    answer, of = answering(backbone, tokenizer), work(backbone, tokenizer, tmp_path, rows=5)
    plain = predict(answer, SUMS, of.train, 0, FLOAT32)
    own: Any = backbone.whole.generation_config
    own.update(repetition_penalty=50.0, min_new_tokens=6, num_beams=3)
    assert predict(answer, SUMS, of.train, 0, FLOAT32).tolist() == plain.tolist()
    assert backbone.whole.generation_config is own


def test_timed_sequences_keep_their_targets(tmp_path: Path) -> None:
    backbone, tokenizer = loaded("llama", tmp_path / "model")
    of = work(backbone, tokenizer, tmp_path)
    table = sequences(of, 30, 16)
    assert target_lengths(table).tolist() == np.resize(target_lengths(of.train), 30).tolist()
    assert set(lengths(table)) == {16}
    assert set(evaluate(answering(backbone, tokenizer), SUMS, table, 0, FLOAT32)) == {"exact_match", "score"}


def test_an_encoder_does_not_write() -> None:
    model_type, values = CONFIGS["bert"]
    with pytest.raises(ValueError, match="bert only reads"):
        geometry({**values, "model_type": model_type}).writing()
