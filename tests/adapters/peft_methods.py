"""Tries every method of the installed peft on tiny models, and prints the table of docs/peft_methods.md.

python -m tests.adapters.peft_methods > docs/peft_methods.md
"""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from krona_tune.adapters.adapter_files import TENSORS, read_tensors
from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.merge import merge, unmerge
from krona_tune.adapters.peft_class import VARIANTS, config_class
from krona_tune.adapters.placement import count
from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import AdapterConfig
from tests.models import build, tokens
from tests.trained_adapters import head_of, outputs

MODELS = {"bert": "encoder", "t5": "encoder-decoder", "llama": "decoder"}


SMALL: dict[str, dict[str, Any]] = {
    "adamss": {"r": 8, "num_subspaces": 2, "subspace_rank": 1},
    "boft": {"boft_block_size": 2},
    "c3a": {"block_size": 2},
    "fourierft": {"n_frequency": 20, "init_weights": True},
    "gralora": {"r": 4, "gralora_k": 2},
    "miss": {"r": 2},
    "oft": {"oft_block_size": 2},
    "osf": {"effective_rank": 4},
    "road": {"group_size": 2},
    "shira": {"r": 2},
    "supertuning": {"r": 2},
    "vblora": {"vector_length": 2, "num_vectors": 8},
    "waveft": {"n_frequency": 20},
} | {
    name: {"r": 4}
    for name in (
        "deft", "delora", "dora", "hira", "hra", "lily", "loha", "lokr", "lora", "peanut", "pissa", "pvera", "randlora",
        "rslora", "tinylora", "unilora", "vera",
    )
}  # fmt: skip
"""Fields that fit the tiny models' odd sizes."""


STARTS_ELSEWHERE = {"c3a", "unilora", "vblora"}
"""Methods whose first outputs are not, or not quite, the frozen model's."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What a method does on one tiny model. `merged` and `exported` are the largest differences of an output, or why
    it can't be done; `unmerged` is that of a frozen weight after merging and unmerging."""

    foretold: int
    built: int
    started: float
    first_loss: float
    last_loss: float
    restored: bool
    again: float
    merged: float | str
    unmerged: float
    exported: float | str


def names() -> list[str]:
    """Returns peft's methods and the names of their variants."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kinds = (str(getattr(kind, "value", kind)).lower().replace("_", "") for kind in PEFT_TYPE_TO_CONFIG_MAPPING)
    return sorted({*kinds, *VARIANTS} - {"krona"})


def why_not(name: str) -> str | None:
    """Returns why a method does not run; None if it does."""
    try:
        config_class(f"peft:{name}")
    except Refusal as refusal:
        return refusal.problem
    return None


def configured(name: str) -> AdapterConfig:
    return AdapterConfig(method=f"peft:{name}", peft=SMALL.get(name, {}), roles="query+value+feed_forward_in")


def attempt(name: str, family: str) -> Tried:
    """Puts a method on a tiny model, trains it, saves it, merges it, and lets peft load it."""
    shape, model, base = build(family)
    config, before = configured(name), outputs(model, shape)
    adapters = Adapters(base, shape, config, torch.Generator().manual_seed(0))
    started = _apart(outputs(model, shape), before)
    losses = list(_train(model, shape, adapters))
    trained, state = outputs(model, shape), adapters.state()
    adapters.detach()
    restored = torch.equal(outputs(model, shape), before)
    with (
        tempfile.TemporaryDirectory() as folder,
        Adapters(base, shape, config, torch.Generator().manual_seed(9)) as other,
    ):
        save_file(state, Path(folder) / TENSORS)
        other.load_state(read_tensors(Path(folder)))
        again = _apart(outputs(model, shape), trained)
    merged, unmerged = _merged(family, config, state, trained)
    return Tried(
        foretold=count(shape, config, 0).adapter,
        built=sum(each.numel() for each in adapters.parameters()),
        started=started,
        first_loss=losses[0],
        last_loss=losses[-1],
        restored=restored,
        again=again,
        merged=merged,
        unmerged=unmerged,
        exported=_exported(family, adapters, trained),
    )


def _train(model: nn.Module, shape: Any, adapters: Adapters, steps: int = 12) -> Iterator[float]:
    inputs = tokens(shape)
    optimiser = torch.optim.AdamW(adapters.parameters(), lr=2e-2)
    for _ in range(steps):
        logits = model(**inputs).logits.flatten(0, -2)
        labels = torch.arange(len(logits)) % logits.shape[-1]
        loss = nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()


def _merged(
    family: str, config: AdapterConfig, state: dict[str, torch.Tensor], trained: torch.Tensor
) -> tuple[float | str, float]:
    shape, model, base = build(family)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    adapters = Adapters(base, shape, config, torch.Generator().manual_seed(9))
    adapters.load_state(state)
    try:
        merge(adapters)
    except Refusal as refusal:
        return refusal.problem, 0.0
    apart = _apart(outputs(model, shape), trained)
    unmerge(adapters)
    adapters.detach()
    return apart, max(_apart(tensor, before[name]) for name, tensor in base.state_dict().items())


def _exported(family: str, adapters: Adapters, trained: torch.Tensor) -> float | str:
    """Returns how far outputs are apart once peft alone has loaded what it saved, with the model's own head."""
    from peft import PeftModel

    from krona_tune.adapters.peft_form import as_peft

    shape, model, base = build(family)
    head = {name: model.get_parameter(name).detach() for name in head_of(model, base)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        as_peft(model, adapters, head).save_pretrained(folder)
        _, fresh, _ = build(family)
        return _apart(outputs(PeftModel.from_pretrained(fresh, folder).eval(), shape), trained)


def _apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return (found - expected).abs().max().item()


HEAD = """# Methods of peft

What a study can search as `peft:NAME`, tried on tiny random models of three kinds with peft {version}: an encoder
(BERT), an encoder-decoder (T5) and a decoder (Llama). Each method adapts the query, value and first feed-forward maps,
trains for twelve steps, is saved and read, merged into the weights, and saved and loaded by peft alone. The parameters
are those of the three models, foretold by the plan and equal to what was built.

Printed by `python -m tests.adapters.peft_methods`; the tests try every line again.

| method | parameters | starts as the frozen model | merges | peft loads it |
|---|---|---|---|---|
"""


def line(name: str) -> str:
    tried = [attempt(name, family) for family in MODELS]
    sizes = ", ".join(f"{each.built:,}" for each in tried)
    start = "yes" if all(each.started < 1e-5 for each in tried) else "no"
    cells = [sizes, start, _said([each.merged for each in tried]), _said([each.exported for each in tried])]
    return f"| `peft:{name}` | {' | '.join(cells)} |"


def _said(found: list[float | str]) -> str:
    reasons = list(dict.fromkeys(each for each in found if isinstance(each, str)))
    return "yes" if not reasons else "no: " + "; ".join(reasons)


def main() -> None:
    runs = [name for name in names() if why_not(name) is None]
    print(HEAD.format(version=version("peft")) + "\n".join(map(line, runs)))
    print("\nThese do not run:\n")
    print("\n".join(f"- `peft:{name}`: {why_not(name)}" for name in names() if name not in runs))


if __name__ == "__main__":
    Path("docs").mkdir(exist_ok=True)
    main()


PLACES = {"roles": "query+value", "layers": "last 1"}
