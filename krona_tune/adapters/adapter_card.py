"""Reads what an adapter says of itself, a JSON file beside its tensors, and names the forms of its export. No torch."""

import hashlib
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, FiniteFloat, ValidationError

from krona_tune.adapters.peft_class import module_of
from krona_tune.backbones.geometry import Role
from krona_tune.data.tasks import TASKS, Task
from krona_tune.hub import refuse_unreadable
from krona_tune.refusal import Refusal, refusing, unknown
from krona_tune.study.request.field_types import MOST
from krona_tune.study.request.study_spec import Quantize
from krona_tune.study.request.trial import AdapterConfig, FrozenValue

CARD = "adapter.json"
SELECTED = "highest validation score of the study's trials; the test half was not looked at"
SELECTED_IN_FINALS = (
    "highest mean validation score over the seeds, and of its seeds the highest; test was looked at after"
)


class AdapterCard(FrozenValue):
    """The facts about an adapter: its configuration, its backbone, how it was chosen and how good it is.

    `labels` are the classes in their order, a text-to-text model's candidates, or nothing for a regression's head.
    `backbone_fingerprint` is `frozen_model.fingerprint`'s, `backbone_sha256` that of the weights' files; either may be
    unknown. At most `max_length` tokens of an input are read, in `precision`; `cut_share` of its train and validation
    examples had more, None if that is unknown. `score` and `metrics` are this adapter's
    on the validation half, the `test_…` ones on the test half if it was evaluated there; `test_interval` is the score's
    95 % interval over draws of the test examples. It was trained with `seed`,
    one of the `seeds` that its configuration was trained with. `winner` is the trial that won the task, if another one
    was chosen. `trained_on` says so if it was trained on more examples
    than the study's other trials; if none were held out it has no score. `own_task` is the whole task if it is none of
    GLUE's. `roles` are the corrections of the backbone's geometry. A decoder's head reads the last token
    that is not `pad_token_id`, which only decoders have. `quantize` says in how many bits the backbone's weights were
    kept. `joined_texts`: the tokenizer gets the two texts of an example as one, with a line break between them.
    """

    format: Literal[2] = 2
    krona_tune_version: str
    task: str
    labels: tuple[str, ...]
    text_to_text: bool
    max_length: int = Field(ge=1, le=MOST)
    precision: str
    adapter: AdapterConfig
    backbone: str
    model_type: str
    backbone_width: int
    backbone_layers: int
    backbone_fingerprint: str | None
    backbone_sha256: str
    score: FiniteFloat | None
    metrics: dict[str, FiniteFloat]
    test_score: FiniteFloat | None = None
    test_metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    test_interval: tuple[FiniteFloat, FiniteFloat] | None = None
    selected_by: str = SELECTED
    winner: str = ""
    synthetic: bool
    trial_id: str
    study: str
    seed: int
    seeds: tuple[int, ...]
    command: str
    params: dict[str, bool | int | FiniteFloat | str | None]
    trained_on: str = ""
    own_task: Task | None = None
    roles: dict[Role, str] = Field(default_factory=dict)
    pad_token_id: int | None = None
    quantize: Quantize | None = None
    cut_share: FiniteFloat | None = None
    joined_texts: bool = False

    @property
    def pipeline(self) -> str:
        """Returns the name that the hub has for this kind of answer."""
        if not self.text_to_text:
            return "text-classification"
        return "text2text-generation" if self.pad_token_id is None else "text-generation"

    @property
    def metric_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.metrics, *self.test_metrics]))


def read_card(folder: Path) -> AdapterCard:
    """Returns the card in a folder. Raises a Refusal if there is no readable card."""
    path = folder / CARD
    if not os.path.exists(path):
        raise Refusal(str(folder), f"holds no {CARD}", "give a folder such as studies/NAME/adapters/TASK")
    refuse_unreadable(path)
    try:
        with refusing(str(path), "can't be read"):
            content = path.read_bytes()
        return AdapterCard.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"{where}: {first['msg']}" if where else first["msg"]
        raise Refusal(str(path), f"is no card of an adapter: {problem}", "take the folder that a study left") from None


def trial_in(folder: Path) -> str:
    """Returns the trial whose adapter is in a folder; empty if no adapter is there, or its card can't be read."""
    with suppress(Refusal):
        return read_card(folder).trial_id
    return ""


def tensors_digest(folder: Path) -> str:
    """Returns the sha256 of the tensors of the adapter in a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()


def task_of(card: AdapterCard, folder: Path) -> Task:
    """Returns the task that the adapter answers. Raises a Refusal if it is unknown or the card has other labels."""
    if card.own_task is None and card.task not in TASKS:
        raise unknown(str(folder), "task", card.task, TASKS)
    task = card.own_task or TASKS[card.task]
    known = task.candidates if card.text_to_text else task.labels
    if card.labels != known:
        problem = f"its labels are {', '.join(card.labels)}; those of {task.title} are {', '.join(known)}"
        raise Refusal(str(folder), problem, "load it with krona_tune.load, and name its labels yourself")
    return task


class Form(StrEnum):
    """The form of an export: our own, a whole model of transformers or ONNX, an equal adapter of the package peft, by a
    method that peft has or by `krona_tune.peft_method`, the nearest LoRA of a rank, or a LoRA for llama.cpp."""

    ADAPTER = "adapter"
    MERGED = "merged"
    ONNX = "onnx"
    PEFT = "peft"
    KRONA = "krona"
    LORA = "lora"
    GGUF = "gguf"


class WrittenDtype(StrEnum):
    """The dtype in which a whole model is written; it is merged in float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


DTYPES_OF = dict.fromkeys(Form, (WrittenDtype.FLOAT32,)) | {
    Form.MERGED: (WrittenDtype.FLOAT32, WrittenDtype.BFLOAT16),
    Form.ONNX: (WrittenDtype.FLOAT32, WrittenDtype.INT8),
}
"""The dtypes in which each form is written."""
GGUF_FILE = "adapter.gguf"
"""The file of a LoRA for llama.cpp."""


@dataclass(frozen=True, kw_only=True)
class Approximation:
    """Says how near a LoRA of a `rank` comes to an adapter: the share of its squared norm that is kept, and the
    validation scores `before` and `after`; None if they could not be measured. `fitted` is the score after a fit to
    what the adapter computes on training `texts`; on others the two were `apart` before and after it."""

    rank: int
    kept: float
    before: float | None = None
    after: float | None = None
    fitted: float | None = None
    texts: int = 0
    apart: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """Writes the rank, the share of the norm and both scores as a sentence for people."""
        if self.apart:
            return (
                f"A LoRA of rank {self.rank}, fitted to what the adapter computes on {self.texts:,} training texts: "
                f"on others it is {self.apart[1]:.3g} apart from it, and the nearest LoRA, which keeps {self.kept:.1%} "
                f"of its squared norm, {self.apart[0]:.3g}. The validation score is {_told(self.fitted)}, that of the "
                f"nearest LoRA {_told(self.after)}, the adapter's {_told(self.before)}, all in float32."
            )
        norm = f"The nearest LoRA of rank {self.rank}: it keeps {self.kept:.1%} of the adapter's squared norm"
        if self.before is None or self.after is None:
            return f"{norm}; what that costs on validation was not measured."
        return f"{norm}; its validation score is {self.after:.4f}, the adapter's {self.before:.4f}, both in float32."


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """Says what int8 weights cost: the largest `difference` of a logit, and the validation scores `before` and `after`,
    None if they could not be measured. Says too what they save: the graph's bytes, and the milliseconds of a batch by
    its size, with inputs of `tokens` tokens; each in float32 and in int8.
    """

    difference: float
    file_bytes: tuple[int, int]
    milliseconds: Mapping[int, tuple[float, float]]
    tokens: int
    before: float | None = None
    after: float | None = None

    @property
    def text(self) -> str:
        """Writes what it costs and saves as sentences for people."""
        said = f"Its weights are int8, which moves a logit by at most {self.difference:.2g} on inputs drawn by chance; "
        if self.before is None or self.after is None:
            said += "what that costs on validation was not measured."
        else:
            said += f"its validation score is {self.after:.4f}, in float32 {self.before:.4f}."
        times = [f"{int8:.1f} ms instead of {whole:.1f}" for whole, int8 in self.milliseconds.values()]
        sizes = " and ".join(f"{time} for a batch of {n}" for n, time in zip(self.milliseconds, times, strict=True))
        before, after = (size / 1e6 for size in self.file_bytes)
        return (
            f"{said} The graph has {after:.1f} MB instead of {before:.1f}, and where it was written it takes {sizes}, "
            f"of {self.tokens} tokens each."
        )


def _told(score: float | None) -> str:
    return "not measured" if score is None else f"{score:.4f}"


Licence = Mapping[str, str]
"""What a card's header says of a licence: `license`, and for one that the hub has no word for its name and link."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Holds what readers elsewhere are told: the licence, and the hub's repository that the files go to, if they do."""

    licence: Licence = field(default_factory=dict)
    repo: str = ""


UNPUBLISHED = Published()
LIBRARIES = {
    Form.ADAPTER: "krona_tune",
    Form.MERGED: "transformers",
    Form.ONNX: "onnx",
    Form.PEFT: "peft",
    Form.KRONA: "peft",
    Form.LORA: "peft",
    Form.GGUF: "gguf",
}

AUTO_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "text-generation": "AutoModelForCausalLM",
}
"""The class of transformers for each kind of answer."""
_PEFT = "from peft import PeftModel\n"
_IMPORTS = {
    Form.ADAPTER: "import krona_tune\n",
    Form.MERGED: "",
    Form.ONNX: "from onnxruntime import InferenceSession\n",
    Form.PEFT: _PEFT,
    Form.KRONA: f"import krona_tune.peft_method  # makes the method known to peft\n{_PEFT}",
    Form.LORA: _PEFT,
    Form.GGUF: "",
}
_FETCHING = "from huggingface_hub import snapshot_download\n"
_BACKBONE = "model = {kind}.from_pretrained({backbone}{outputs})\n"
_LINES = {
    "krona_tune": _BACKBONE + "adapters = krona_tune.load(model, {folder})",
    "transformers": "model = {kind}.from_pretrained({folder})\n"
    "tokenizer = AutoTokenizer.from_pretrained({folder})  # reads as many tokens as training did",
    "peft": _BACKBONE + "model = PeftModel.from_pretrained(model, {folder})",
    "onnx": "folder = {folder}\n"
    "tokenizer = {kind}.from_pretrained(folder)\n"
    'session = InferenceSession(f"{{folder}}/model.onnx")\n'
    'inputs = tokenizer({texts}, padding=True, truncation=True, return_tensors="np")\n'
    'logits = session.run(["logits"], {{each.name: inputs[each.name] for each in session.get_inputs()}})[0]',
}
_OWN_HEAD = ", num_labels={}, ignore_mismatched_sizes=True"
"""The arguments of a backbone whose head, if it has one, is replaced by the adapter's."""
_ANSWER = '\nlogits = model(**tokenizer({texts}, padding=True, truncation=True, return_tensors="pt")).logits'


def loading(card: AdapterCard, form: Form, place: Path | str, *, on_hub: bool = False, package: str = "") -> str:
    """Returns the lines of Python that load what was written to a folder, or is in a repository of the hub.

    Those of a LoRA for llama.cpp are lines of a shell, in which MODEL.gguf is the backbone.

    A `package` that carries the backbone gives it without a network.
    """
    fetched = on_hub and form in {Form.ADAPTER, Form.ONNX}  # the other forms' libraries fetch by name
    if form is Form.GGUF:
        return _llama_cpp(str(place), on_hub=on_hub)
    packaged = bool(package) and not on_hub and "{backbone}" in _LINES[LIBRARIES[form]]
    task = card.own_task or TASKS.get(card.task)
    texts = [f"a {name}" for name in (task.inputs if task else ("text",))]
    words = {
        "kind": "AutoTokenizer" if form is Form.ONNX else AUTO_CLASSES[card.pipeline],
        "texts": ", ".join(f'["{text}"]' for text in ([r"\n".join(texts)] if card.joined_texts else texts)),
        "outputs": "" if card.text_to_text else _OWN_HEAD.format(max(len(card.labels), 1)) + _padding(card),
        "backbone": "get_model_path()" if packaged else repr(card.backbone),
        "folder": f"snapshot_download({str(place)!r})" if fetched else repr(str(place)),
    }
    imports = _own_import(card, form) + f"from {package} import get_model_path\n" * packaged + _IMPORTS[form]
    reads = ", AutoTokenizer" * (form is Form.MERGED)
    imports += f"from transformers import {{kind}}{reads}\n\n"
    answer = _ANSWER * (form is Form.MERGED and not card.text_to_text)
    return (_FETCHING * fetched + imports + _LINES[LIBRARIES[form]] + answer).format(**words)


def _own_import(card: AdapterCard, form: Form) -> str:
    """Returns the line that imports the method's own class, which no file makes krona_tune or peft import."""
    module = module_of(card.adapter.method)
    named = all(word.isidentifier() for word in module.split("."))  # what another text says is no line of Python
    return f"import {module}  # makes the method known to peft\n" if named and form in {Form.ADAPTER, Form.PEFT} else ""


def _padding(card: AdapterCard) -> str:
    return "" if card.pad_token_id is None else f", pad_token_id={card.pad_token_id}"


def _llama_cpp(place: str, *, on_hub: bool) -> str:
    """Returns the lines of a shell that put a LoRA on its backbone in llama.cpp."""
    folder = place.rpartition("/")[2] if on_hub else place
    fetched = f"hf download {shlex.quote(place)} --local-dir {shlex.quote(folder)}\n" * on_hub
    return f"{fetched}llama-cli -m MODEL.gguf --lora {shlex.quote(f'{folder}/{GGUF_FILE}')}"
