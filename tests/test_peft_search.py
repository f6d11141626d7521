"""Tests that an Optuna trial chooses configurations of peft that fit a model and a limit, also through a Trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

pytest.importorskip("peft", reason="the extra `peft` is not installed")

import datasets
from peft import PromptTuningConfig, get_peft_model, get_peft_model_state_dict
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BartConfig,
    Trainer,
    TrainingArguments,
)

import krona_tune
from krona_tune.peft_search import optuna_space
from krona_tune.refusal import Refusal
from tests.backbones.families import build as build_family
from tests.models import build


def model(name: str = "bert") -> Any:
    return build(name, outputs=2)[1]


def drawn(count: int, name: str = "bert", **limits: Any) -> list[Any]:
    """Returns what evenly drawn trials choose."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    whole = model(name)
    return [optuna_space(study.ask(), whole, **limits) for _ in range(count)]


def adapter_parameters(config: Any, name: str = "bert") -> int:
    """Counts what peft trains, without a head."""
    adapted = get_peft_model(model(name), config)
    named = (pair for pair in adapted.named_parameters() if pair[1].requires_grad)
    return sum(p.numel() for key, p in named if "modules_to_save" not in key)


@pytest.mark.parametrize("name", ["bert", "t5", "llama"])
@pytest.mark.parametrize("limit", [900, 3000])
def test_every_choice_fits_the_model_and_the_limit(name: str, limit: int) -> None:
    configs = drawn(25, name, max_params=limit, roles="query+value+feed_forward_in")
    for config in configs:
        assert 0 < adapter_parameters(config, name) <= limit
    assert len({str(config.to_dict()) for config in configs}) > 10


def test_without_a_limit_all_methods_and_every_kind_of_shape_are_chosen() -> None:
    configs = drawn(60)
    assert {str(config.peft_type).rpartition(".")[2] for config in configs} == {"KRONA", "LOKR", "LORA"}
    shapes = {(config.a_out, config.a_in, config.terms) for config in configs if config.peft_type == "KRONA"}
    assert len(shapes) > 10
    assert all(24 % a_out == 24 % a_in == 0 for a_out, a_in, _ in shapes)


def test_only_the_asked_maps_layers_and_methods_are_adapted() -> None:
    [config] = drawn(1, roles="output", layers="last 1", methods=["lora"])
    assert config.peft_type == "LORA"
    assert config.target_modules == {"bert.encoder.layer.2.attention.output.dense"}
    assert config.task_type == "SEQ_CLS"


def classifier(name: str) -> Any:
    return build(name, outputs=2)[1]


def reader(name: str) -> Any:
    return AutoModelForQuestionAnswering.from_config(classifier(name).config)


def sorter(name: str) -> Any:
    return AutoModelForSequenceClassification.from_config(classifier(name).config)


@pytest.mark.parametrize(
    ("name", "make"),
    [(name, make) for name in ("bert", "deberta-v3", "modernbert") for make in (classifier, reader)]
    + [("bart", sorter), ("t5", sorter)],
)
def test_the_whole_head_is_trained_and_saved(name: str, make: Callable[[str], Any]) -> None:
    whole = make(name)
    base = {id(parameter) for parameter in whole.base_model.parameters()}
    head = {key: parameter.clone() for key, parameter in whole.named_parameters() if id(parameter) not in base}
    adapted = get_peft_model(whole, optuna_space(None, whole, roles="output"))
    saved = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    found = {key.removeprefix("base_model.model."): tensor for key, tensor in saved.items() if "krona_" not in key}
    assert found.keys() == head.keys()
    assert all(found[key].equal(tensor) for key, tensor in head.items())
    trained = [parameter for _, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert sum(map(torch.numel, trained)) == sum(map(torch.numel, saved.values()))


def test_what_fills_gaps_trains_no_head() -> None:
    whole = AutoModelForMaskedLM.from_config(model().config)
    assert optuna_space(None, whole).modules_to_save is None


@pytest.mark.parametrize("roles", ["output", "feed_forward_in"])
def test_lora_alone_is_chosen_for_transposed_maps(roles: str) -> None:
    configs = drawn(5, "gpt2", roles=roles)
    assert {(str(config.peft_type).rpartition(".")[2], config.fan_in_fan_out) for config in configs} == {("LORA", True)}
    assert adapter_parameters(configs[0], "gpt2") > 0


def test_a_limit_below_every_adapter_is_refused_with_the_smallest() -> None:
    with pytest.raises(Refusal) as refused:
        drawn(1, max_params=3)
    place, _, fix = str(refused.value).partition("; ")
    assert place == "max_params: 3: no adapter is so small"
    least = int(fix.removeprefix("write ").removesuffix(" or more"))
    [config] = drawn(1, max_params=least)
    assert adapter_parameters(config) == least


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("gpt2", {}, "is a part of a map, and peft adapts whole maps; choose other roles"),
        (
            "gpt2",
            {"roles": "output", "methods": ["krona", "lokr"]},
            "methods: only LoRA adapts transposed maps, which this model has; add lora, or choose other roles",
        ),
        ("bert", {"methods": ["dora"]}, "methods: unknown method 'dora', did you mean 'lora'?"),
        ("bert", {"roles": "cross_query"}, "no such site in this bert"),
        (
            "bert",
            {"roles": "query+feed_forward"},
            r"feed_forward is a whole block; name its maps",
        ),
    ],
)
def test_what_peft_can_not_adapt_is_refused(name: str, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=said.replace("?", r"\?")):
        drawn(1, name, **asked)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (AutoModelForTokenClassification, "TOKEN_CLS"),
        (AutoModelForQuestionAnswering, "QUESTION_ANS"),
        (AutoModelForSequenceClassification, "SEQ_CLS"),
        (AutoModelForMaskedLM, None),
        (AutoModel, None),
    ],
)
def test_peft_learns_what_a_head_answers(make: Any, said: str | None) -> None:
    assert optuna_space(None, make.from_config(model().config)).task_type == said


def test_maps_that_peft_takes_for_those_of_experts_are_refused() -> None:
    whole = build_family("deepseek_v3")[1]
    roles = "feed_forward_in+feed_forward_out"
    with pytest.raises(Refusal, match="roles: peft's LoRA takes maps of these names in a deepseek_v3 for its experts"):
        optuna_space(None, whole, methods=["lora"], roles=roles)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    chosen = {str(optuna_space(study.ask(), whole, roles=roles).peft_type) for _ in range(12)}
    assert not any("LORA" in each for each in chosen)


def test_a_part_of_a_model_is_refused() -> None:
    sizes = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 50}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    half = AutoModelForCausalLM.from_config(BartConfig(**sizes, **heads))
    with pytest.raises(Refusal, match=r"model: it has no model\.encoder\.layers\.0\.\S+, as if it were a part of"):
        optuna_space(None, half)


def test_an_adapted_model_is_refused() -> None:
    plain = model()
    adapted = get_peft_model(plain, optuna_space(None, plain))
    prompted = get_peft_model(model(), PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3))
    for each in (adapted, plain, prompted):
        with pytest.raises(Refusal, match="model: it has an adapter of peft already; give the model as it was before"):
            optuna_space(None, each)
    assert optuna_space(None, adapted.unload()).peft_type == "KRONA"


@pytest.mark.slow
def test_a_trainer_searches_with_it(tmp_path: Path) -> None:
    rows = [{"input_ids": [5 + n % 7, 6, 7], "labels": n % 2} for n in range(16)]
    tried: list[Any] = []

    def model_init(trial: optuna.Trial | None) -> Any:
        whole = model()
        config = krona_tune.optuna_space(trial, whole, max_params=600)
        tried.append((trial, config))
        return get_peft_model(whole, config)

    settings = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, report_to=[], eval_strategy="no", save_strategy="no", use_cpu=True
    )
    trainer = Trainer(
        model_init=model_init,
        args=settings,
        train_dataset=datasets.Dataset.from_list(rows),
        eval_dataset=datasets.Dataset.from_list(rows),
    )
    best = trainer.hyperparameter_search(
        backend="optuna", n_trials=3, hp_space=lambda trial: {"learning_rate": trial.suggest_float("lr", 1e-4, 1e-2)}
    )
    assert {"method", "scale", "lr"} <= set(best.hyperparameters)
    assert len([trial for trial, _ in tried if trial is not None]) == 3
