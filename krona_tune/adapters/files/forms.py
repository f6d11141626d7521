"""Names the forms in which an adapter is exported, and how each is loaded. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from krona_tune.adapters.files.adapter_card import AdapterCard


class Form(StrEnum):
    """The form of an export: our own, a whole model of transformers, an adapter of the package peft that is equal, or
    the nearest LoRA of a rank."""

    ADAPTER = "adapter"
    MERGED = "merged"
    PEFT = "peft"
    LORA = "lora"


class WrittenDtype(StrEnum):
    """The dtype in which a merged model is written; it is merged in float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class Approximation:
    """Says how near a LoRA of a `rank` comes to an adapter: the share of its squared norm that is kept, and the
    validation scores `before` and `after`; None if they could not be measured."""

    rank: int
    kept: float
    before: float | None = None
    after: float | None = None

    @property
    def said(self) -> str:
        """Returns this in words."""
        norm = f"The nearest LoRA of rank {self.rank}: it keeps {self.kept:.1%} of the adapter's squared norm"
        if self.before is None or self.after is None:
            return f"{norm}; what that costs on validation was not measured."
        return f"{norm}; its validation score is {self.after:.4f}, the adapter's {self.before:.4f}, both in float32."


Licence = Mapping[str, str]
"""What a card's header says of a licence: `license`, and for one that the hub has no word for its name and link."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What readers elsewhere are told: the licence, and the hub's repository that the files go to, if they do."""

    licence: Licence = field(default_factory=dict)
    repo: str = ""


UNPUBLISHED = Published()
LIBRARIES = {Form.ADAPTER: "krona_tune", Form.MERGED: "transformers", Form.PEFT: "peft", Form.LORA: "peft"}

KINDS = {
    "text-classification": "AutoModelForSequenceClassification",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "text-generation": "AutoModelForCausalLM",
}
"""The class of transformers for each kind of answer."""
_IMPORTS = {
    Form.ADAPTER: "import krona_tune\nfrom transformers import {kind}\n\n",
    Form.MERGED: "from transformers import {kind}\n\n",
    Form.PEFT: "from peft import PeftModel\nfrom transformers import {kind}\n\n",
    Form.LORA: "from peft import PeftModel\nfrom transformers import {kind}\n\n",
}
_FETCHING = "from huggingface_hub import snapshot_download\n"
_BACKBONE = "model = {kind}.from_pretrained({backbone}{outputs})\n"
_LINES = {
    Form.ADAPTER: _BACKBONE + "adapters = krona_tune.load(model, {folder})",
    Form.MERGED: "model = {kind}.from_pretrained({folder})",
    Form.PEFT: _BACKBONE + "model = PeftModel.from_pretrained(model, {folder})",
    Form.LORA: _BACKBONE + "model = PeftModel.from_pretrained(model, {folder})",
}


def loading(card: AdapterCard, form: Form, place: Path | str, *, on_hub: bool = False) -> str:
    """Returns the lines of Python that load what was written to a folder, or is in a repository of the hub."""
    fetched = on_hub and form is Form.ADAPTER  # the other forms' libraries fetch by name
    words = {
        "kind": KINDS[card.pipeline],
        "outputs": "" if card.text_to_text else f", num_labels={max(len(card.labels), 1)}{_padding(card)}",
        "backbone": repr(card.backbone),
        "folder": f"snapshot_download({str(place)!r})" if fetched else repr(str(place)),
    }
    return (_FETCHING * fetched + _IMPORTS[form] + _LINES[form]).format(**words)


def _padding(card: AdapterCard) -> str:
    return "" if card.pad_token_id is None else f", pad_token_id={card.pad_token_id}"
