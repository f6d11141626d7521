"""Reads what an adapter says of itself, a JSON file beside its tensors. No torch."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from krona_tune.adapters.decoding import Decoding
from krona_tune.backbones.geometry import Role
from krona_tune.data.tasks import TASKS, Task
from krona_tune.hub import refuse_unreadable
from krona_tune.machine import installed_versions
from krona_tune.refusal import Refusal, refusing, unknown
from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.request.field_types import MOST
from krona_tune.study.request.study_spec import Quantize
from krona_tune.study.request.trial import AdapterConfig
from krona_tune.study.standings import BEST_OF_ALL

CARD = "adapter.json"
WRITES_ALONE = "text-generation"
"""Names what a decoder does that writes, as the hub names it."""
SELECTED_IN_FINALS = (
    "highest mean validation score over the seeds, and of its seeds the highest; test was looked at after"
)


class AdapterCard(FrozenValue):
    """The facts about an adapter: its configuration, its backbone, how it was chosen and how good it is.

    `labels` are the classes in their order, a text-to-text model's candidates, or nothing for a regression's head.
    `backbone_fingerprint` is `frozen_model.fingerprint`'s, `backbone_parts` are `part_fingerprints`', `vocabulary` and
    `splitting` the hashes of the tokenizer's and of how it splits texts, `backbone_config` what of the backbone's
    config.json its outputs follow from; each may be unknown. At most `max_length` tokens of an input are read, in
    `precision`; `cut_share` of its train and validation examples had more, None if that is unknown. `score` and
    `metrics` are this adapter's on the validation half, the `test_…` ones on the test half if it was evaluated there;
    `test_interval` is the score's 95 % interval over draws of the test examples. It was trained with `seed`, one of the
    `seeds` that its configuration was trained with, of which `verdicts` are sentences. `winner` is the trial that won
    the task, if another one was chosen. `trained_on` says so if it was trained on more examples than the study's other
    trials; if none were held out it has no score. `own_task` is the whole task if it is none of GLUE's. `roles` are the
    corrections of the backbone's geometry. A decoder's head reads the last token that is not `pad_token_id`, which only
    decoders have. `quantize` says in how many bits the backbone's weights were kept; `dequantised_by` names the class
    of transformers with which weights in few bits were loaded as whole numbers. `joined_texts`: the tokenizer gets the
    two texts of an example as one, with a line break between them. `decoding` says how a model that writes does so;
    None for others, and in a card of an earlier version.
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
    backbone_parts: dict[str, str] = Field(default_factory=dict)
    vocabulary: str = ""
    splitting: str = ""
    backbone_config: dict[str, Any] = Field(default_factory=dict)
    score: FiniteFloat | None
    metrics: dict[str, FiniteFloat]
    test_score: FiniteFloat | None = None
    test_metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    test_interval: tuple[FiniteFloat, FiniteFloat] | None = None
    selected_by: str = BEST_OF_ALL
    winner: str = ""
    verdicts: tuple[str, ...] = ()
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
    dequantised_by: str = ""
    cut_share: FiniteFloat | None = None
    joined_texts: bool = False
    decoding: Decoding | None = None
    backbone_sha256: str = Field(default="", exclude=True)
    """Stands in cards of earlier versions; nothing compares it."""

    @property
    def pipeline(self) -> str:
        """Returns the name that the hub has for this kind of answer."""
        if not self.text_to_text:
            return "text-classification"
        return "text2text-generation" if self.pad_token_id is None else WRITES_ALONE

    @property
    def metric_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.metrics, *self.test_metrics]))


def read_card(folder: Path) -> AdapterCard:
    """Returns the card in a folder. Raises a Refusal if there is no readable card."""
    path = folder / CARD
    if not os.path.exists(path):
        other = "load it as its README.md says, or give" if os.path.exists(folder / "README.md") else "give"
        raise Refusal(str(folder), f"holds no {CARD}", f"{other} a folder such as studies/NAME/adapters/TASK")
    refuse_unreadable(path)
    try:
        with refusing(str(path), "can't be read"):
            content = path.read_bytes()
        return AdapterCard.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"{where}: {first['msg']}" if where else first["msg"]
        version = _other_version(content)
        fix = f"install krona_tune {version}, which wrote it" if version else "take the folder that a study left"
        raise Refusal(str(path), f"is no card of an adapter: {problem}", fix) from None


def _other_version(content: bytes) -> str:
    """Returns the version of krona_tune that wrote a card, as it says itself; empty if it is this one, or not said."""
    with suppress(ValidationError):
        version = _AnyCard.model_validate_json(content).krona_tune_version
        return "" if version == installed_versions(["krona_tune"]).get("krona_tune") else version
    return ""


class _AnyCard(BaseModel):
    """Holds what the cards of all versions say."""

    krona_tune_version: str


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
