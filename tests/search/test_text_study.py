"""Tests studies whose tasks are answered with text: what is refused before the start, and a whole one on a real Ray."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import krona_tune
from krona_tune.adapters.adapter_card import read_card
from krona_tune.adapters.adapter_files import read_adapter
from krona_tune.adapters.export_forms import Form
from krona_tune.data.metrics import token_baseline
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.refusal import Refusal
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.startup.task_data import prepare_data, preview_data
from krona_tune.study.manifest import read_manifest
from krona_tune.study.request.loader import build_spec
from krona_tune.study.result import Status
from krona_tune.train.export import export_adapter
from tests.language_models import saved_decoder_of_words, saved_language_model, sums, write_sums
from tests.train.exported_adapters import backbone_folder
from tests.whole_studies import ONE_WORKER, Home, WarmProgram

SUMS = {"text": ["a", "b"], "target": "sum", "prompt": "{a}+{b}=", "max_new_tokens": 5}


def asked(model: Path, folder: Path, tasks: dict[str, Any], **sections: Any) -> Plan:
    data = str(write_sums(folder / "sums.csv", sums(120, seed=1)))
    named = {name: task if isinstance(task, str) else {"data": data, **SUMS, **task} for name, task in tasks.items()}
    written = {"model": str(model), "data": "mini", "tasks": named, "examples": {"max_length": 16}, **sections}
    return make_plan(build_spec(written, "x.yaml"), "x.yaml")


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    return saved_language_model(tmp_path / "decoder")


def test_an_encoder_is_refused_a_task_with_a_target(tmp_path: Path) -> None:
    model = backbone_folder("bert", tmp_path / "bert")
    with pytest.raises(Refusal) as refused:
        asked(model, tmp_path, {"adding": {}})
    assert str(refused.value) == (
        f"tasks.adding.target: {model} is an encoder, which writes no text; "
        "take a decoder or an encoder-decoder, or give the task a label"
    )


def test_a_decoder_does_not_answer_with_text_and_with_a_head_in_one_study(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="it answers adding with text, rte with a head; make two studies of them"):
        asked(decoder, tmp_path, {"adding": {}, "rte": "glue"})


def test_there_must_be_room_for_prompt_and_answer(tmp_path: Path) -> None:
    model = saved_language_model(tmp_path / "decoder", "gpt2")
    with pytest.raises(Refusal) as refused:
        asked(model, tmp_path, {"adding": {"max_new_tokens": 25}})
    assert f"25 tokens after 16 of examples.max_length, {model} has room for 40" in str(refused.value)


@pytest.mark.parametrize("part", ["train", "test"])
def test_targets_that_are_only_read_must_fit_the_model_too(part: str, tmp_path: Path) -> None:
    """A perplexity has no limit on the length of a target."""
    model = saved_language_model(tmp_path / "decoder", "gpt2")
    for each in ("train", "validation", "test"):
        some = [{"a": "1", "b": str(n), "sum": "9" * (35 if n == 7 and each == part else 3)} for n in range(30)]
        write_sums(tmp_path / f"{each}.csv", some)
    likely = {"data": str(tmp_path), "metric": "perplexity"}
    (tmp_path / "other").mkdir()
    plan = asked(model, tmp_path / "other", {"likely": likely}, finalists={"top": 1, "seeds": 1})
    said = f"tasks.likely.target: the longest {part} example has 41 tokens of prompt and target, the model has room for"
    for ask in (lambda: preview_data(plan, ["likely"], 1), lambda: prepare_data(plan, str(model))):
        with pytest.raises(Refusal) as refused:
            ask()
        assert str(refused.value).startswith(said)


def test_nothing_but_the_adapter_is_trained_and_one_frozen_model_is_the_baseline(decoder: Path, tmp_path: Path) -> None:
    plan = asked(decoder, tmp_path, {"adding": {}})
    trials = plan.baselines("adding")
    assert len(trials) == 1
    assert plan.count(trials[0].checked()).trainable == 0


def test_what_the_tokenizer_makes_of_answers_is_refused_before_a_start(tmp_path: Path) -> None:
    """A run refuses it too, after Ray has started."""
    model = saved_language_model(tmp_path / "t5", "t5")  # it knows no capitals
    data = tmp_path / "moods.csv"
    data.write_text("text,label\n" + "a fine day,GOOD\na sad day,BADE\n" * 30)
    task = {"data": str(data), "text": "text", "label": "label"}
    for words in ({}, {"words": {"GOOD": "YES", "BADE": "NOO"}}):
        written = {"model": str(model), "tasks": {"moods": {**task, **words}}, "examples": {"max_length": 16}}
        plan = make_plan(build_spec(written, "x.yaml"), "x.yaml")
        with pytest.raises(Refusal, match=r"tasks.moods.words: the model's tokenizer reads '\w+' and '\w+' alike"):
            preview_data(plan, ["moods"], 1)
    long = asked(model, tmp_path, {"adding": {"max_new_tokens": 2}})
    with pytest.raises(Refusal) as refused:
        preview_data(long, ["adding"], 1)
    assert "tasks.adding.max_new_tokens: 2, but " in str(refused.value)


@pytest.mark.parametrize(
    ("name", "longest", "length", "said"),
    [
        ("codegen", 5, 26, "examples.max_length: 26 tokens before 7 of the answer '{long}' to moods, {} has room for "
                           "32; write 25 or less"),
        ("codegen", 33, 26, "tasks.moods.words: the answer '{long}' has 35 tokens, {} has room for 32; take a model"),
        ("bart", 50, 26, "tasks.moods.words: the answer '{long}' has 51 tokens, {} has room for 40; take a model"),
        ("codegen", 5, 25, ""),
        ("bart", 5, 40, ""),
    ],
)  # fmt: skip
def test_label_words_need_room_after_the_prompt_of_a_decoder(
    name: str, longest: int, length: int, said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    model = saved_language_model(folder, "bart") if name == "bart" else saved_decoder_of_words(folder, 32)
    data = tmp_path / "moods.csv"
    data.write_text("text,label\n" + f"{'a day ' * 9},{'g' * longest}\n{'no day ' * 9},bad\n" * 30)
    task = {"data": str(data), "text": "text", "label": "label"}
    written = {"model": str(model), "tasks": {"moods": task}, "examples": {"max_length": length}}
    plan = make_plan(build_spec(written, "x.yaml"), "x.yaml")
    for ask in (lambda: preview_data(plan, ["moods"], 1), lambda: prepare_data(plan, str(model))):
        if not said:
            ask()
            continue
        with pytest.raises(Refusal) as refused:
            ask()
        assert said.format(model, long="g" * longest) in str(refused.value)


def test_cut_prompts_are_told_the_most_that_leaves_room_for_label_words(tmp_path: Path) -> None:
    model = saved_decoder_of_words(tmp_path / "model", 32)
    data = tmp_path / "moods.csv"
    data.write_text("text,label\n" + f"{'a day ' * 9},good\n{'no day ' * 9},bad\n" * 30)
    task = {"data": str(data), "text": "text", "label": "label"}
    for length, fix in ((16, "--set examples.max_length=26 reads more"), (26, "the model reads no more")):
        written = {"model": str(model), "tasks": {"moods": task}, "examples": {"max_length": length}}
        plan = make_plan(build_spec(written, "x.yaml"), "x.yaml")
        *_, warning = preview_data(plan, ["moods"], 1)["moods"].warnings
        assert warning.endswith(fix)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_the_data_are_encoded_as_the_kind_of_model_reads_them(name: str, tmp_path: Path) -> None:
    model = saved_language_model(tmp_path / "model", name)
    plan = asked(model, tmp_path, {"adding": {}, "judged": {"evaluate": "loss"}})
    work = (prepared := prepare_data(plan, str(model))).works["adding"]
    first = work.train.to_pylist()[0]
    text = work.tokenizer.decode(first["input_ids"]) if work.tokenizer else ""
    assert text.endswith("=" if name == "llama" else "=</s>")
    [(shown, answer)] = preview_data(plan, ["adding"], 1)["adding"].examples
    assert (shown, answer) == (text, first["label"])
    targets = (work.train["target_ids"].to_pylist(), work.validation["target_ids"].to_pylist())
    assert prepared.facts["judged"].constant_score == token_baseline(plan.tasks["judged"], *targets) < -1
    assert 0 <= prepared.facts["adding"].constant_score < 0.3


def test_the_facts_say_which_scores_have_a_mean_and_a_mean_of_others_is_warned_of(
    decoder: Path, tmp_path: Path
) -> None:
    (tmp_path / "costs.py").write_text("def cost(targets, answers):\n    return float((targets != answers).mean())\n")
    wrong = {"metric": f"{tmp_path}/costs.py:cost", "direction": "lower"}
    apart = asked(decoder, tmp_path, {"adding": {}, "wrong": wrong, "likely": {"metric": "perplexity"}})
    prepared = prepare_data(apart, str(decoder))
    assert {name: facts.averages for name, facts in prepared.facts.items()} == {
        "adding": True,
        "wrong": False,
        "likely": False,
    }
    assert not any("mean" in each for each in prepared.warnings_of())
    shared = asked(decoder, tmp_path, {"adding": {}, "wrong": wrong}, search={"shared": True})
    told = prepare_data(shared, str(decoder)).warnings_of()
    assert "--shared judges by a mean over tasks; wrong has none with others, because lower is better" in told


@pytest.mark.slow
def test_a_whole_study_of_a_decoder_leaves_adapters_that_write(home: Home, warm: WarmProgram) -> None:
    decoder = saved_language_model(home.root / "decoder")
    write_sums(home.root / "sums.csv", sums(160, seed=1, most=20))
    (home.root / "text.yaml").write_text(
        f"model: {decoder}\n"
        "tasks:\n"
        "  adding: {data: sums.csv, text: [a, b], target: sum, prompt: '{a}+{b}=', max_new_tokens: 5}\n"
        "  judged: {data: sums.csv, text: [a, b], target: sum, prompt: '{a}+{b}=', max_new_tokens: 5, evaluate: loss}\n"
        "  likely: {data: sums.csv, text: a, target: sum, prompt: '{text}:', metric: perplexity, max_new_tokens: 5}\n"
        "adapter: {method: krona, a_out: 2, a_in: 2, roles: query+value}\n"
        "training: {learning_rate: {low: 1e-3, high: 1e-2, log: true}, batch_size: 16}\n"
        "examples: {max_length: 16}\n"
        "schedule: {epochs: 2, grace_epochs: 1, reduction: 2}\n"
        "search: {trials: 2}\n"
        "finalists: {top: 1, seeds: 1}\n",
        encoding="utf-8",
    )
    done = warm.run(home, "--space", "text.yaml", "--name", "text", *ONE_WORKER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 a task by TPE, and 1 of the frozen model" in " ".join(done.stdout.split())
    folder = home.study("text")
    rows = read_trials(folder.results)
    assert {row.status for row in rows} <= {Status.COMPLETED, Status.STOPPED_EARLY}, [row.error for row in rows]
    metrics = {(report.task, *report.metrics) for report in read_reports(folder.results)}
    assert metrics == {("adding", "exact_match"), ("judged", "loss"), ("likely", "perplexity")}
    tested = {(row.task, *row.test_metrics) for row in rows if row.kind == "finalist"}
    assert tested == {("adding", "exact_match"), ("judged", "exact_match"), ("likely", "perplexity")}
    manifest = read_manifest(folder.manifest)
    assert manifest.model.text_to_text
    assert [name for name, facts in manifest.tasks.items() if facts.compared_by_loss] == ["judged"]
    assert "On judged a validation score is the targets' loss, negated." in " ".join(done.stdout.split())
    assert "adding" in folder.page.read_text(encoding="utf-8")

    card = read_card(folder.adapter("adding"))
    assert (card.text_to_text, card.pipeline) == (True, "text-generation")
    assert not any(name.startswith("head.") for name in read_adapter(folder.adapter("adding"))[1])
    assert "{a}+{b}=" in (folder.adapter("adding") / "README.md").read_text(encoding="utf-8")
    answers = krona_tune.predict(folder.adapter("adding"), [("1", "2"), ("3", "4")])
    assert [type(answer) for answer in answers] == [str, str]
    for form in (Form.MERGED, Form.PEFT):
        exported = export_adapter(folder.adapter("adding"), home.root / f"out-{form}", form)
        assert "AutoModelForCausalLM" in exported.loading
    leaves_the_nearest_lora(home, warm, read_card(folder.adapter("judged")).score)


def leaves_the_nearest_lora(home: Home, warm: WarmProgram, score: float | None) -> None:
    """Exports the task `judged` as a LoRA: judged on the study's own data, and with nothing but LoRA in its files."""
    words = ("export", "text", "--task", "judged", "--format", "lora", "--rank", "2", "--to", "near")
    near = warm.run(home, *words, program="main")
    assert near.returncode == 0, near.stdout + near.stderr
    [before] = re.findall(r"the adapter's (-?[\d.]+), both in float32", near.stdout)
    assert float(before) == pytest.approx(score, abs=0.02)
    assert "The nearest LoRA of rank 2: it keeps" in (home.root / "near" / "README.md").read_text(encoding="utf-8")
    config = json.loads((home.root / "near" / "adapter_config.json").read_text())
    assert (config["modules_to_save"], config["task_type"], config["r"]) == (None, "CAUSAL_LM", 2)
    keys = load_file(home.root / "near" / "adapter_model.safetensors")
    assert all(re.fullmatch(r"base_model\.model\.model\.layers\.\d\..*_proj\.lora_[AB]\.weight", key) for key in keys)
