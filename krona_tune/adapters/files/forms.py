"""Names the forms in which an adapter is exported, and how each is loaded. No torch."""

from enum import StrEnum
from pathlib import Path

from krona_tune.adapters.files.adapter_card import AdapterCard


class Form(StrEnum):
    """The form of an export: our own, a whole model of transformers, or an adapter of the package peft."""

    ADAPTER = "adapter"
    MERGED = "merged"
    PEFT = "peft"


class WrittenDtype(StrEnum):
    """The dtype in which a merged model is written; it is merged in float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


LIBRARIES = {Form.ADAPTER: "krona_tune", Form.MERGED: "transformers", Form.PEFT: "peft"}

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
}
_BACKBONE = "model = {kind}.from_pretrained({backbone}{outputs})\n"
_LINES = {
    Form.ADAPTER: _BACKBONE + "adapters = krona_tune.load(model, {folder})",
    Form.MERGED: "model = {kind}.from_pretrained({folder})",
    Form.PEFT: _BACKBONE + "model = PeftModel.from_pretrained(model, {folder})",
}


def loading(card: AdapterCard, form: Form, folder: Path | str) -> str:
    """Returns the lines of Python that load what was written to `folder`."""
    words = {
        "kind": KINDS[card.pipeline],
        "outputs": "" if card.text_to_text else f", num_labels={max(len(card.labels), 1)}{_padding(card)}",
        "backbone": repr(card.backbone),
        "folder": repr(str(folder)),
    }
    return (_IMPORTS[form] + _LINES[form]).format(**words)


def _padding(card: AdapterCard) -> str:
    return "" if card.pad_token_id is None else f", pad_token_id={card.pad_token_id}"
