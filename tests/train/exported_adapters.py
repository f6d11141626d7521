"""Writes folders of tiny backbones with tokenizers, and of adapters for them, as a study does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import PretrainedConfig

from krona_tune.adapters.adapter_files import save_adapter
from krona_tune.adapters.inject import Adapters
from krona_tune.backbones.find_geometry import geometry
from krona_tune.data.corpus import load as load_data
from krona_tune.data.encode import Tokenization
from krona_tune.data.tasks import TASKS, Generation, Task
from krona_tune.study.request.schedule import make_schedule
from krona_tune.train.backbone import candidates, load_backbone, open_tokenizer
from krona_tune.train.loop import TaskWork
from krona_tune.train.predict import AdaptedModel
from krona_tune.train.task_heads import make_answer
from tests.adapters.cards import card_of
from tests.language_models import saved_language_model
from tests.models import CONFIGS
from tests.search.models import saved_bert, saved_model, saved_t5
from tests.train.conftest import FLOAT32
from tests.trained_adapters import shaped, trained


def backbone_folder(name: str, folder: Path) -> Path:
    """Writes a tiny model of a family, with a tokenizer that knows mini-GLUE's words."""
    if "t5" in name:
        return saved_t5(folder)
    saved_bert(folder)
    if name == "bert":
        return folder
    from transformers import AutoTokenizer

    model_type, sizes = CONFIGS[name]
    return saved_model(folder, model_type, sizes, AutoTokenizer.from_pretrained(folder))


def adapter_folder(backbone: Path, folder: Path, task: str = "cola", method: str = "krona", **knobs: object) -> Path:
    """Saves a trained adapter with a changed head and its card."""
    loaded = load_backbone(str(backbone), FLOAT32)
    shape = loaded.geometry
    facts = TASKS[task]
    words = candidates(facts, open_tokenizer(str(backbone), 10_000)) if shape.text_to_text else ()
    config = shaped(shape, method, **knobs)
    adapters = trained(Adapters(loaded.base, shape, config, torch.Generator().manual_seed(0)))
    head = {f"head.{name}": p.detach() + 0.1 for name, p in make_answer(loaded, facts, 3, words).head()}
    card = card_of(
        shape,
        config,
        loaded.fingerprint,
        task=task,
        labels=facts.candidates if shape.text_to_text else facts.labels,
        backbone=str(backbone),
    )
    save_adapter(folder, adapters.state() | head, card)
    adapters.detach()
    return folder


def texts(task: str, rows: int = 40) -> list[tuple[str, ...]]:
    data = load_data(TASKS[task], "mini", train_examples=64, validation_examples=32, test_examples=32)
    return [tuple(row[name] for name in TASKS[task].inputs) for row in data.train.to_pylist()[:rows]]


SUMS = Task(
    name="sums",
    title="sums",
    inputs=("a", "b"),
    labels=(),
    metrics=("exact_match",),
    generation=Generation(prompt="{a}+{b}=", max_new_tokens=4),
)


def writing_adapter(
    name: str, room: Path, method: str = "krona", *, backbone: Path | None = None, **knobs: object
) -> Path:
    """Saves a trained adapter of a tiny model that writes, of this family or of a folder, beside its backbone."""
    backbone = backbone or saved_language_model(room / "backbone", name)
    config, _ = PretrainedConfig.get_config_dict(backbone)
    loaded = load_backbone(str(backbone), FLOAT32, geometry(config).writing())
    adapter = shaped(loaded.geometry, method, **knobs)
    generator = torch.Generator().manual_seed(0)
    adapters = trained(Adapters(loaded.base, loaded.geometry, adapter, generator, loaded.whole))
    facts: dict[str, Any] = {"task": "sums", "labels": (), "own_task": SUMS, "backbone": str(backbone)}
    facts |= {"pad_token_id": 0} if loaded.geometry.writes_alone else {}
    save_adapter(room / "adapter", adapters.state(), card_of(loaded.geometry, adapter, loaded.fingerprint, **facts))
    return room / "adapter"


def work_on(whole: AdaptedModel, rows: list[tuple[str, ...]], labels: Sequence[float | str]) -> TaskWork:
    """Returns rows with these labels as both halves of an adapter's task."""
    columns = dict(zip(whole.task.inputs, map(list, zip(*rows, strict=True)), strict=True))
    shape = whole.backbone.geometry
    read = Tokenization(
        whole.task,
        whole.tokenizer,
        prompts=shape.text_to_text,
        max_length=whole.card.max_length,
        decoder=not shape.is_encoder_decoder,
    )
    table = read.table(pa.table({**columns, "label": labels}))
    schedule = make_schedule(examples_per_epoch=len(rows), epochs=1, grace_epochs=1, reduction=2)
    pad = int(whole.tokenizer.pad_token_id)
    return TaskWork(task=whole.task, train=table, validation=table, pad_token_id=pad, schedule=schedule)
