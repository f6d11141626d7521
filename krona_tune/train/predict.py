"""Answers new examples, read as people write them, with a saved adapter on its backbone."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from krona_tune.adapters.adapter_card import AdapterCard, read_card, task_of
from krona_tune.adapters.adapter_files import OtherBackbone, load, refuse_replaced, shape_for
from krona_tune.adapters.inject import Adapters
from krona_tune.backbones.geometry import Geometry
from krona_tune.data.answer_files import answer_columns, refuse_same_columns
from krona_tune.data.batches import evaluation_batches
from krona_tune.data.encode import Tokenization, cut_examples, splitting_fingerprint, vocabulary_fingerprint
from krona_tune.data.example_files import ExampleRows, Row
from krona_tune.data.separated_text import refuse_misshapen
from krona_tune.data.tasks import Task
from krona_tune.hub import home
from krona_tune.processor import torch_threads
from krona_tune.refusal import Refusal, refusing
from krona_tune.refused_calls import refusing_at_the_caller
from krona_tune.study.folder import own_input
from krona_tune.study.formatting import format_answer
from krona_tune.train.backbone import Backbone, Inputs, candidates, load_backbone, open_tokenizer, quiet
from krona_tune.train.backbone_source import BackboneSource, download, find_backbone
from krona_tune.train.device import Device
from krona_tune.train.evaluate import EVALUATION_TOKENS, in_parts, to_device
from krona_tune.train.task_heads import Answer, Head, TextAnswer, VerbalizedAnswer, make_answer

CPU = Device(kind="cpu", dtype=torch.float32)
TRIED = "a word and some more of them, one after the other"
"""The text by which a loaded adapter is tried; a Funnel of three blocks reads no shorter ones."""


def _try(answer: Answer, inputs: Inputs) -> None:
    """Answers a first input; of a text only the likelihood of one token."""
    if isinstance(answer, TextAnswer):
        answer.loss({name: inputs[name] for name in ("input_ids", "attention_mask")}, inputs["input_ids"][:, :1])
    else:
        answer.predict(inputs)


@dataclass(frozen=True, kw_only=True)
class AdaptedModel:
    """A backbone with the adapter from a folder. `answer.model` gives the adapted outputs."""

    card: AdapterCard
    task: Task
    backbone: Backbone
    answer: Answer
    adapters: Adapters
    tokenizer: PreTrainedTokenizerBase


@torch_threads()
@torch.random.fork_rng(devices=[])
def load_adapted(
    folder: Path, *, model: str | None = None, device: Device = CPU, quantized: bool = True
) -> AdaptedModel:
    """Loads an adapter's backbone and puts the adapter on it, as training does. What a caller draws next from torch's
    random numbers stays the same.

    Args:
        folder: what a study leaves in `adapters/<task>`.
        model: a hub name or folder of the backbone; without it, the card's.
        quantized: keep its weights in as few bits as in training; False: in the device's dtype.

    Raises:
        Refusal: the adapter can't be read, the backbone can't be found, or they do not belong together.
    """
    card = read_card(folder)
    task = task_of(card, folder)
    source, shape = backbone_of(card, folder, model)
    source = download(source)
    tokenizer = open_tokenizer(source.location, shape.vocabulary)
    if card.vocabulary and vocabulary_fingerprint(tokenizer) != card.vocabulary:
        problem = f"was trained with another tokenizer than the one in {source.location}, whose ids mean other words"
        raise Refusal(str(folder), problem, "put that of its backbone back, or name the backbone with --model")
    if card.splitting and splitting_fingerprint(tokenizer) != card.splitting:
        said = f"the tokenizer in {source.location} splits texts otherwise than the one that {folder} was trained with"
        warnings.warn(f"{said}, so answers may be others", stacklevel=2)
    device = replace(device, quantize=card.quantize if quantized else None)
    backbone = load_backbone(source.location, device, shape)
    words = (
        candidates(task, tokenizer, decoder=backbone.geometry.writes_alone) if backbone.geometry.text_to_text else ()
    )
    unable = (source.location, f"can't answer {task.title}", "save the model again")
    with quiet(), refusing(*unable):
        answering = make_answer(backbone, task, 0, words, tokenizer.pad_token_id, tokenizer)  # its head is replaced
    try:
        adapters = load(answering.model, folder)
    except OtherBackbone as refusal:
        fix = "put its weights back, or name the backbone that it was trained on with --model"
        raise refusal.at(refusal.place, fix=fix) from None
    refuse_replaced(folder, card)
    answering.model.eval()
    with torch.no_grad(), refusing(*unable):
        few = tokenizer(TRIED, return_tensors="pt").to(device.kind)  # asked to cut, it would go on to
        _try(answering, {name: each[:, : card.max_length] for name, each in few.items()})
    return AdaptedModel(
        card=card,
        task=task,
        backbone=backbone,
        answer=answering,
        adapters=adapters,
        tokenizer=tokenizer,
    )


def backbone_of(card: AdapterCard, folder: Path, model: str | None) -> tuple[BackboneSource, Geometry]:
    """Returns where an adapter's backbone is, and its geometry; no weights are loaded.

    Raises:
        Refusal: the backbone can't be found, or the adapter in `folder` belongs to another one.
    """
    source = find_backbone(named_backbone(card, folder) if model is None else model, card.roles)
    now = source.computing
    for key in sorted(card.backbone_config.keys() & now.keys()):
        if (then := card.backbone_config[key]) != now[key]:
            problem = f"was trained with {key} {then!r:.60}, the config.json of {source.location} says {now[key]!r:.60}"
            raise Refusal(str(folder), problem, "put its config.json back, or name its backbone with --model")
    return source, shape_for(card, source.geometry, folder)


def named_backbone(card: AdapterCard, folder: Path) -> str:
    """Returns the backbone that a card names; that which the study of an adapter in `folder` keeps, where it is now."""
    return own_input(card.backbone, folder.resolve().parent.parent)


ROWS_AT_ONCE = 1024
"""Rows that are read before any of them is answered: enough for batches with little padding."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A label, a regression's answer as text and as a number, or a written text; and the probability of each label, if
    there are any."""

    text: str
    number: float | None = None
    probabilities: tuple[float, ...] = ()

    @property
    def answer(self) -> str | float:
        """Returns the number of a regression, else the text."""
        return self.text if self.number is None else self.number


@refusing_at_the_caller
def predict(folder: str | Path, examples: Sequence[str | Sequence[str]], *, model: str | None = None) -> list[str]:
    """Returns one answer for each example, in their order: a label, a number as text, or what the model writes.

        krona_tune.predict("studies/NAME/adapters/cola", ["The cat sat.", "Cat the sat."])

    Args:
        folder: what a study leaves in `adapters/<task>`.
        examples: one text each, or for a task of pairs two texts in the order of the task's inputs.
        model: a hub name or folder of the backbone; without it, the card's.

    Raises:
        Refusal: an example has another number of texts than the task, or `load_adapted` refuses.
    """
    folder = home(Path(folder))
    task = task_of(read_card(folder), folder)
    rows = [(example,) if isinstance(example, str) else tuple(example) for example in examples]
    for number, row in enumerate(rows):
        refuse_misshapen(row, task, f"examples[{number}]", "as a tuple")
    whole = ready(folder, model)
    return [prediction.text for prediction in predictions(whole, rows, warn_of_cut(whole))]


def warn_of_cut(whole: AdaptedModel) -> Callable[[int, int], None]:
    """Returns what `predictions` tells how many inputs were cut; it warns a person who calls from Python."""

    def told(cut: int, of: int) -> None:
        said = f"{cut} of {of} inputs were cut to {whole.card.max_length} tokens, as in training"
        warnings.warn(said, stacklevel=2)

    return told


def ready(folder: Path, model: str | None) -> AdaptedModel:
    """Returns the adapter on its backbone, on the GPU if there is one, in float32."""
    return load_adapted(
        folder, model=model, device=Device(kind="cuda" if torch.cuda.is_available() else "cpu", dtype=torch.float32)
    )


def predictions(
    whole: AdaptedModel, rows: Iterable[Sequence[str]], told: Callable[[int, int], None] | None = None
) -> Iterator[Prediction]:
    """Yields the answers in the rows' order.

    Args:
        rows: fit the task; some at a time are batched by length.
        told: is told in the end how many of how many rows had more tokens than the adapter was trained to read, if any.
    """
    coming, cut, answered = iter(rows), 0, 0
    while some := list(islice(coming, ROWS_AT_ONCE)):
        table = _tokenized(whole, some)
        cut, answered = cut + cut_examples(table), answered + len(some)
        yield from _predicted(whole, table)
    if told and cut:
        told(cut, answered)


def answer_rows(
    whole: AdaptedModel,
    examples: ExampleRows,
    *,
    scores: bool,
    told: Callable[[int, int], None] | None,
    kept: bool = True,
) -> Iterator[Row]:
    """Yields each row of a file's examples with its answer under `prediction`, in their order; some are read at a time.

    Args:
        scores: each label's probability is added under `probability_LABEL`.
        told: as `predictions` takes it.
        kept: the row's own columns are written beside the answer, so that none of them may have its name.
    """
    waiting: deque[Row] = deque()
    added = answer_columns(whole.task, scores=scores)

    def texts() -> Iterator[Sequence[str]]:
        for row in examples.rows():
            if kept:
                refuse_same_columns(row, added)
            waiting.append(row)
            yield [row[name] for name in examples.columns]

    for each in predictions(whole, texts(), told):
        yield waiting.popleft() | dict(zip(added, (each.answer, *each.probabilities), strict=False))


@torch_threads()
@torch.no_grad()
def _predicted(whole: AdaptedModel, table: pa.Table) -> list[Prediction]:
    found: dict[int, Prediction] = {}
    device, asked = whole.backbone.device, whole.task.generation
    new = asked.max_new_tokens if asked else None
    for batch in evaluation_batches(table, EVALUATION_TOKENS[device.kind], int(whole.tokenizer.pad_token_id), new):
        for part, answers in in_parts(batch, lambda part: list(_answers(whole, to_device(part, device)[0]))):
            found |= zip(part.rows.tolist(), answers, strict=True)
    return [found[row] for row in range(len(table))]


def _tokenized(whole: AdaptedModel, rows: Sequence[Sequence[str]]) -> pa.Table:
    """Returns the rows' token ids, made like those of a task's test half; their labels mean nothing."""
    columns = zip(*rows, strict=True)
    texts = {name: pa.array(column, pa.string()) for name, column in zip(whole.task.inputs, columns, strict=True)}
    blank = pa.array([0] * len(rows), pa.int64()) if whole.task.generation is None else pa.array([""] * len(rows))
    geometry = whole.backbone.geometry
    tokenization = Tokenization(
        whole.task,
        whole.tokenizer,
        prompts=geometry.text_to_text,
        max_length=whole.card.max_length,
        decoder=not geometry.is_encoder_decoder,
    )
    return tokenization.table(pa.table({**texts, "label": blank}))


def _answers(whole: AdaptedModel, inputs: Inputs) -> Iterable[Prediction]:
    task = whole.task
    if not task.labels:
        found = whole.answer.predict(inputs)
        if isinstance(found, Tensor):
            digits = 9 if isinstance(whole.answer, Head) else 17  # a head answers in float32
            return [
                Prediction(text=format_answer(value), number=float(f"{value:.{digits}g}")) for value in found.tolist()
            ]
        return [Prediction(text=text) for text in found]
    likely = _probabilities(whole.answer, inputs).cpu()
    return [Prediction(text=task.labels[row.argmax()], probabilities=tuple(row.tolist())) for row in likely]


def _probabilities(answer: Answer, inputs: Inputs) -> Tensor:
    """Returns (n, labels): a head's softmax, or the label words' likelihoods, scaled to a sum of 1."""
    match answer:
        case Head() | VerbalizedAnswer():
            return answer.outputs(inputs).softmax(-1)
        case _:
            raise TypeError(type(answer).__name__)
