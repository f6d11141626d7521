"""Tests that the row of each form of an export is whole, and that the lines which load one are what readers run."""

import ast
import json
import shlex
from dataclasses import replace
from pickle import dumps, loads
from pkgutil import resolve_name

import pytest
from pydantic import TypeAdapter

from krona_tune.adapters.export_forms import Form, WrittenDtype, loading
from krona_tune.data.tasks import TASKS, Generation, Task
from krona_tune.study.request.trial import AdapterConfig
from tests.adapters.cards import made


@pytest.mark.parametrize("form", Form)
def test_the_row_of_a_form_is_whole(form: Form) -> None:
    facts = form.facts
    assert facts.words
    assert facts.intro.endswith(".")
    assert facts.dtypes[0] is WrittenDtype.FLOAT32, "which is written where no other is asked for"
    assert callable(resolve_name(facts.exact))
    assert callable(resolve_name(facts.writer))
    assert not facts.near or callable(resolve_name(facts.near))
    assert facts.near or not facts.needs_rank, "what has a rank may be near an adapter"
    assert not (facts.offered and facts.needs_rank), "the service names no rank"


@pytest.mark.parametrize("form", Form)
def test_a_form_is_its_word_wherever_it_is_written(form: Form) -> None:
    word = str(form.value)
    assert (form, f"{form}", json.dumps(form)) == (word, word, f'"{word}"')
    assert loads(dumps(form)) is TypeAdapter(Form).validate_python(word) is form


def test_the_function_that_makes_the_form_of_peft_is_there() -> None:
    pytest.importorskip("peft", reason="the extra `peft` is not installed")
    named = [form.facts.peft_form for form in Form if form.facts.peft_form]
    assert named
    assert all(callable(resolve_name(each)) for each in named)


@pytest.mark.parametrize("form", [form for form in Form if form.facts.language == "python"])
@pytest.mark.parametrize(("name", "outputs"), [("bert", ", num_labels=3, ignore_mismatched_sizes=True"), ("t5", "")])
def test_the_lines_that_load_it_are_python(form: Form, name: str, outputs: str) -> None:
    lines = loading(made(name, backbone="it's\n'here"), form, "some 'where\n")
    compile(lines, "lines", "exec")
    compile(loading(made(name), form, "org/name", on_hub=True), "lines", "exec")
    kind = "AutoModelForSeq2SeqLM" if name == "t5" else "AutoModelForSequenceClassification"
    assert f"from transformers import {'AutoTokenizer' if form is Form.ONNX else kind}" in lines
    assert (outputs in lines) or form in {Form.MERGED, Form.ONNX}


@pytest.mark.parametrize("form", [Form.ADAPTER, Form.PEFT, Form.MERGED])
def test_the_module_of_a_class_of_ones_own_is_imported_first_where_it_is_needed(form: Form) -> None:
    def lines(method: str) -> str:
        return loading(made(adapter=AdapterConfig(method=method)), form, "out")

    own = "import my_package.mine  # makes the method known to peft\n"
    assert lines("peft:my_package.mine.MyConfig").startswith(own) == (form is not Form.MERGED)
    assert "known to peft" not in lines("peft:LoRA") + lines("peft:os\nprint().MyConfig")


def test_those_for_llama_cpp_are_words_of_a_shell() -> None:
    words = shlex.split(loading(made("t5"), Form.GGUF, "some 'where"))
    assert words == ["llama-cli", "-m", "MODEL.gguf", "--lora", "some 'where/adapter.gguf"]
    fetched, used = loading(made("t5"), Form.GGUF, "org/name", on_hub=True).splitlines()
    assert fetched == "hf download org/name --local-dir name"
    assert used == "llama-cli -m MODEL.gguf --lora name/adapter.gguf"


def test_a_package_gives_the_backbone_to_who_has_the_files_and_the_hub_to_others() -> None:
    card = made(backbone="org/name")
    lines = loading(card, Form.PEFT, "out", package="carrier")
    assert lines.startswith("from carrier import get_model_path\n")
    assert 'from_pretrained(get_model_path(), dtype="float32", num_labels=3, ignore_mismatched_sizes=True)' in lines
    assert "carrier" not in loading(card, Form.PEFT, "me/out", on_hub=True, package="carrier")
    assert "carrier" not in loading(card, Form.MERGED, "out", package="carrier")


@pytest.mark.parametrize("form", [Form.MERGED, Form.ONNX, Form.PEFT])
@pytest.mark.parametrize("joined", [False, True])
def test_no_name_of_a_column_becomes_code(form: Form, joined: bool) -> None:
    names = ('review "raw"', 'x"]); print("', "two\nlines\\", "{braces}", "wörter \U0001f600\u2028")
    task = replace(TASKS["cola"], name="own", inputs=names)
    lines = loading(made(task="own", own_task=task, joined_texts=joined), form, "out")
    [call] = [each for each in ast.walk(ast.parse(lines)) if getattr(getattr(each, "func", 0), "id", "") == "tokenizer"]
    given = [text for argument in call.args for text in ast.literal_eval(argument)]
    expected = [f"a {name}" for name in names]
    assert given == (["\n".join(expected)] if joined else expected)
    assert lines.count("\n") == loading(made(joined_texts=joined), form, "out").count("\n")


@pytest.mark.parametrize("form", [Form.MERGED, Form.ONNX, Form.PEFT])
def test_two_texts_that_training_read_as_one_are_one_in_the_lines(form: Form) -> None:
    pair = {"task": "rte", "labels": TASKS["rte"].labels}
    assert 'tokenizer(["a sentence1"], ["a sentence2"], ' in loading(made(**pair), form, "out")
    assert 'tokenizer(["a sentence1\\na sentence2"], ' in loading(made(**pair, joined_texts=True), form, "out")


@pytest.mark.parametrize("form", [Form.PEFT, Form.KRONA, Form.LORA, Form.ADAPTER])
def test_a_backbone_that_may_attend_sparsely_is_loaded_as_it_was_trained(form: Form) -> None:
    assert ', attention_type="original_full")' in loading(made(model_type="big_bird"), form, "out")
    assert "attention_type" not in loading(made(), form, "out")


@pytest.mark.parametrize("form", [Form.MERGED, Form.ONNX, Form.PEFT])
def test_who_joins_two_texts_is_told_to_cut_the_longest(form: Form) -> None:
    said = "# Of an example that is too long shorten the longest text, as"
    joined = loading(made("bert", joined_texts=True), form, "out")
    assert said in joined
    compile(joined, "lines", "exec")
    assert said not in loading(made("bert"), form, "out")
    assert said not in loading(made("bert", task="cola", labels=("a", "b"), joined_texts=True), form, "out")


@pytest.mark.parametrize(("prompt", "warned"), [("q: {q} a:", True), ("Add: {q}", False)])
def test_who_cuts_a_prompt_is_told_to_leave_its_end(prompt: str, warned: bool) -> None:
    sums = Task(
        name="sums",
        title="sums",
        inputs=("q",),
        labels=(),
        metrics=("exact_match",),
        generation=Generation(prompt=prompt),
    )
    lines = loading(made("llama", task="sums", own_task=sums, labels=()), Form.MERGED, "out")
    compile(lines, "lines", "exec")
    said = "# Of an example that is too long shorten the text, as training did: this would cut the end of its prompt."
    assert (said in lines) == warned


def test_weights_that_were_loaded_as_whole_numbers_are_loaded_so_again() -> None:
    lines = loading(made(dequantised_by="FineGrainedFP8Config"), Form.PEFT, "out")
    compile(lines, "lines", "exec")
    assert "from transformers import AutoModelForSequenceClassification, AutoTokenizer, FineGrainedFP8Config\n" in lines
    assert ", quantization_config=FineGrainedFP8Config(dequantize=True))" in lines
    assert "print" not in loading(made(dequantised_by="x; print()"), Form.PEFT, "out")
