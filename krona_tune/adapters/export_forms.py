"""Holds one row for each form of an export: its words, what it holds exactly, who writes and what loads it. No torch.

The functions of a row are named as `module:name`, so that a form is known without what it needs.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from krona_tune.adapters.adapter_card import CARD, AdapterCard
from krona_tune.adapters.peft_class import module_of
from krona_tune.data.tasks import TASKS, Task
from krona_tune.study.frozen_value import FactsEnum

_RULES, _PEFT_FORMS, _TRAIN = "krona_tune.adapters.exact_forms", "krona_tune.adapters.peft_form", "krona_tune.train"


class WrittenDtype(StrEnum):
    """The dtype in which a whole model is written; it is merged in float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


@dataclass(frozen=True, kw_only=True)
class FormFacts:
    """Holds what is true of all exports of one form.

    Attributes:
        words: what it is, to who chooses it and who gets it.
        intro: the first sentence of its model card.
        library: what the hub calls the library that loads it.
        lines: those that load it, with the fields that `loading` fills in.
        language: that of the lines.
        usage: what else its model card says of its use.
        mark: the file by which it is known in a folder, as a pattern; peft's have the same one.
        dtypes: those in which it is written.
        exact: a `Rule` of `exact_forms`, which says why it does not hold an adapter exactly.
        near: says why it holds no adapter near one either; empty for a form that is never near, and so has no rank.
        writer: writes what a `Job` of `train.export_check` says, or leaves nothing, and says what it has compared.
        needs_rank: it is written with a rank only.
        peft_form: makes its configuration and tensors of peft; empty for those that the method itself has.
        offered: the service writes it: nothing else need be named.
        instead: how a person asks for it in place of a form of peft; empty for one that is never advised.
    """

    words: str
    intro: str
    library: str
    lines: str
    language: str = "python"
    usage: str = ""
    mark: str = "adapter_config.json"
    dtypes: tuple[WrittenDtype, ...] = (WrittenDtype.FLOAT32,)
    exact: str
    near: str = ""
    writer: str
    needs_rank: bool = False
    peft_form: str = ""
    offered: bool = True
    instead: str = ""

    @property
    def names_backbone(self) -> bool:
        """Returns whether its files say where the backbone is, whose weights they do not hold."""
        return "{backbone}" in self.lines


_MODEL = 'model = {kind}.from_pretrained({backbone}, dtype="float32"{outputs})\n'
"""Loads a backbone as it was when the export was checked; by itself transformers takes the dtype of its files."""
_TOKENIZER = "tokenizer = AutoTokenizer.from_pretrained({folder})  # reads as many tokens as training did{cut}"
_PEFT = (
    "from peft import PeftModel\nfrom transformers import {kind}, AutoTokenizer{beside}\n\n"
    f"{_MODEL}{{decoding}}model = PeftModel.from_pretrained(model, {{folder}})\n{_TOKENIZER}{{answer}}"
)


class Form(FactsEnum):
    """A form of an export; its value stands in the names of folders and in the records."""

    facts: FormFacts

    MERGED = (
        "merged",
        FormFacts(
            words="a whole model of transformers",
            intro="A whole model, the adapter merged into the backbone's weights.",
            library="transformers",
            lines="from transformers import {kind}, AutoTokenizer\n\n"
            f"model = {{kind}}.from_pretrained({{folder}})\n{_TOKENIZER}{{logits}}",
            mark="model*.safetensors",
            dtypes=(WrittenDtype.FLOAT32, WrittenDtype.BFLOAT16),
            exact=f"{_RULES}:held_as_merged",
            writer=f"{_TRAIN}.export:leave_merged",
            instead="--format merged",
        ),
    )
    ONNX = (
        "onnx",
        FormFacts(
            words="a whole model of ONNX",
            intro="A whole model for onnxruntime, the adapter merged into the backbone's weights.",
            library="onnx",
            lines="{fetching}from onnxruntime import InferenceSession\nfrom transformers import AutoTokenizer\n\n"
            "folder = {fetched}\n"
            "tokenizer = AutoTokenizer.from_pretrained(folder){cut}\n"
            'session = InferenceSession(f"{{folder}}/model.onnx")\n'
            'inputs = tokenizer({texts}, padding=True, truncation=True, return_tensors="np")\n'
            'logits = session.run(["logits"], {{each.name: inputs[each.name] for each in session.get_inputs()}})[0]',
            mark="model.onnx",
            dtypes=(WrittenDtype.FLOAT32, WrittenDtype.INT8),
            exact=f"{_RULES}:held_as_onnx",
            writer=f"{_TRAIN}.export_onnx:leave_as_onnx",
        ),
    )
    PEFT = (
        "peft",
        FormFacts(
            words="an adapter of peft",
            intro="An adapter in the form of the package peft: the backbone's weights are not in here.",
            library="peft",
            lines=f"{{method}}{{package}}{_PEFT}",
            exact=f"{_RULES}:held_as_peft",
            writer=f"{_TRAIN}.export_peft:leave_as_peft",
            instead="--format peft",
        ),
    )
    KRONA = (
        "krona",
        FormFacts(
            words="an adapter of peft with krona_tune's method",
            intro="An adapter of KronA as a method of the package peft: the backbone's weights are not in here.",
            library="peft",
            lines=f"{{package}}import krona_tune.peft_method  # makes the method known to peft\n{_PEFT}",
            exact=f"{_RULES}:held_as_krona",
            writer=f"{_TRAIN}.export_peft:leave_as_peft",
            peft_form=f"{_PEFT_FORMS}:krona_method_form",
            instead="--format krona (krona_tune's method of peft)",
        ),
    )
    LORA = (
        "lora",
        FormFacts(
            words="a LoRA of peft",
            intro="A LoRA near an adapter, in the form of the package peft: the backbone's weights are not in here.",
            library="peft",
            lines=f"{{package}}{_PEFT}",
            exact=f"{_RULES}:held_as_lora",
            near=f"{_RULES}:changes_weights",
            writer=f"{_TRAIN}.export_peft:leave_as_peft",
            needs_rank=True,
            offered=False,
            instead="--format lora with a --rank (the nearest LoRA)",
        ),
    )
    GGUF = (
        "gguf",
        FormFacts(
            words="a LoRA for llama.cpp",
            intro="A LoRA for llama.cpp: the backbone is not in here. For `MODEL.gguf` below name the backbone's own "
            "GGUF, in whatever quantisation.",
            library="gguf",
            lines="{downloading}llama-cli -m MODEL.gguf --lora {file}",
            language="bash",
            mark="adapter.gguf",
            exact=f"{_RULES}:held_as_gguf",
            near=f"{_RULES}:taken_by_llama_cpp",
            writer=f"{_TRAIN}.export_gguf:leave_as_gguf",
            offered=False,
        ),
    )
    ADAPTER = (
        "adapter",
        FormFacts(
            words="an adapter of krona_tune",
            intro="An adapter: the backbone's weights are not in here.",
            library="krona_tune",
            lines="{fetching}{method}{package}import krona_tune\nfrom transformers import {kind}{beside}\n\n"
            f"{_MODEL}{{decoding}}"
            "adapters = krona_tune.load(model, {fetched})",
            usage="Or on the command line, one example a line: `krona-tune predict DIR`.",
            mark=CARD,
            exact=f"{_RULES}:held_as_itself",
            writer=f"{_TRAIN}.export:leave_as_adapter",
            instead="--format adapter (krona_tune loads it)",
        ),
    )


Licence = Mapping[str, str]
"""What a card's header says of a licence: `license`, and for one that the hub has no word for its name and link."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """Holds what readers elsewhere are told: the licence, and the hub's repository that the files go to, if they do."""

    licence: Licence = field(default_factory=dict)
    repo: str = ""


UNPUBLISHED = Publication()
AUTO_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "text-generation": "AutoModelForCausalLM",
}
"""The class of transformers for each kind of answer."""
_FETCHING = "from huggingface_hub import snapshot_download\n"
_OWN_HEAD = ", num_labels={}, ignore_mismatched_sizes=True"
"""The arguments of a backbone whose head, if it has one, is replaced by the adapter's."""
_AS_IN_TRAINING = dict.fromkeys(("big_bird", "bigbird_pegasus"), ', attention_type="original_full"')
"""The arguments of the backbones that attend to some of a long text's tokens only, unless they are told otherwise."""
_CUT = "\n# Of an example that is too long shorten the {}, as training did: this would cut {}."
_SCORES = """
candidates = [{}]
given = tokenizer({}, truncation=True, return_tensors="pt")
scores = []
for candidate in candidates:
    ids = tokenizer(text_target=candidate, return_tensors="pt").input_ids
    scores.append(model(**given, labels=ids).logits.log_softmax(-1).gather(-1, ids[..., None]).sum().item())
answer = candidates[scores.index(max(scores))]"""
"""The lines with which an encoder-decoder answers with one of its candidates, as in training."""
_WITHOUT_LABELS = {"fsmt"}
"""The model types that take no labels while they keep keys and values."""
_LOGITS = '\nlogits = model(**tokenizer({}, padding=True, truncation=True, return_tensors="pt")).logits'
_ANSWER = "\nanswer = [{}][logits[0].argmax()]"


def loading(card: AdapterCard, form: Form, place: Path | str, *, on_hub: bool = False, package: str = "") -> str:
    """Returns the lines that load what was written to a folder, or is in a repository of the hub.

    Those of a LoRA for llama.cpp are lines of a shell, in which MODEL.gguf is the backbone.

    A `package` that carries the backbone gives it without a network.
    """
    place, packaged = str(place), bool(package) and not on_hub
    beside = place.rpartition("/")[2] if on_hub else place
    task = card.own_task or TASKS.get(card.task)
    names = [f"a {name}" for name in (task.inputs if task else ("text",))]
    texts = ", ".join(f"[{quoted(text)}]" for text in (["\n".join(names)] if card.joined_texts else names))
    logits, answer = _LOGITS.format(texts), _ANSWER.format(", ".join(map(quoted, card.labels)))
    return form.facts.lines.format(
        kind=AUTO_CLASSES[card.pipeline],
        beside="".join(f", {name}" for name in _classes(card, task)),
        texts=texts,
        cut=_cut(card, task, names),
        logits=_answering(card, names) if card.text_to_text else logits,
        answer="" if card.text_to_text else logits + answer * bool(card.labels),
        outputs="".join(_arguments(card)),
        decoding=_decoding(card, task),
        method=_own_import(card),
        package=f"from {package} import get_model_path\n" * packaged,
        backbone="get_model_path()" if packaged else repr(card.backbone),
        folder=repr(place),  # of what a library fetches by its name on the hub
        fetching=_FETCHING * on_hub,
        fetched=f"snapshot_download({place!r})" if on_hub else repr(place),
        downloading=f"hf download {shlex.quote(place)} --local-dir {shlex.quote(beside)}\n" * on_hub,
        file=shlex.quote(f"{beside}/{form.facts.mark}"),
    )


def _cut(card: AdapterCard, task: Task | None, texts: Sequence[str]) -> str:
    """Returns what warns of a tokenizer that would cut another part of too long an example than training did."""
    if len(texts) > 1:
        return _CUT.format("longest text", "the last") if card.joined_texts or card.text_to_text else ""
    ends = task and task.generation and not task.prompt(texts).endswith(texts[0])
    return _CUT.format("text", "the end of its prompt") if ends else ""


def _answering(card: AdapterCard, texts: Sequence[str]) -> str:
    """Returns the lines that choose a text-to-text model's answer; nothing for a decoder, or where it writes freely."""
    task = card.own_task or TASKS.get(card.task)
    if task is None or task.generation or card.pad_token_id is not None or card.model_type in _WITHOUT_LABELS:
        return ""
    return _SCORES.format(", ".join(map(quoted, card.labels)), quoted(task.prompt(texts)))


def quoted(text: str) -> str:
    """Returns the text as a string of Python, on one line."""
    return json.dumps(text, ensure_ascii=False)


def _own_import(card: AdapterCard) -> str:
    """Returns the line that imports the method's own class, which no file makes krona_tune or peft import."""
    module = module_of(card.adapter.method)
    named = all(word.isidentifier() for word in module.split("."))  # what another text says is no line of Python
    return f"import {module}  # makes the method known to peft\n" * named


def _decoding(card: AdapterCard, task: Task | None) -> str:
    """Returns the line with which a backbone that writes follows the rules of training and not its own."""
    if not (card.decoding and task and task.generation):
        return ""
    arguments = card.decoding.arguments(task.generation.max_new_tokens)
    rules = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"model.generation_config = GenerationConfig({rules})\n"


def _classes(card: AdapterCard, task: Task | None) -> Iterator[str]:
    """Yields the names of transformers that the lines need besides the model's and the tokenizer's."""
    if card.dequantised_by.isidentifier():  # what another text says is no line of Python
        yield card.dequantised_by
    if _decoding(card, task):
        yield "GenerationConfig"


def _arguments(card: AdapterCard) -> Iterator[str]:
    """Yields what a backbone is loaded with besides its dtype."""
    if not card.text_to_text:
        yield _OWN_HEAD.format(max(len(card.labels), 1))
        if card.pad_token_id is not None:
            yield f", pad_token_id={card.pad_token_id}"
    yield _AS_IN_TRAINING.get(card.model_type, "")
    if card.dequantised_by.isidentifier():  # what another text says is no line of Python
        yield f", quantization_config={card.dequantised_by}(dequantize=True)"
