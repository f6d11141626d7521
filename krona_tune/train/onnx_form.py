"""Writes a merged model with its head as ONNX, with torch's exporter, and computes with what was written.

Needs the packages onnx, onnxscript and onnxruntime.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from krona_tune.refusal import Refusal, refusing
from krona_tune.train.backbone import Inputs, quiet

GRAPH = "model.onnx"
LOGITS = "logits"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
ROWS_AND_LENGTH = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
"""The dimensions of every input that may differ from one call to the next."""


class _Logits(nn.Module):
    """Computes the logits alone, from inputs in a fixed order."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def refuse_without_onnx() -> None:
    """Raises a Refusal if a package for ONNX is not installed."""
    for package in NEEDED:
        try:
            import_module(package)
        except ImportError:
            problem = f"the package {package} is not installed"
            raise Refusal("--format", problem, "pip install 'krona_tune[onnx]'") from None


def write_onnx(model: nn.Module, inputs: Inputs, folder: Path) -> None:
    """Writes `model.onnx`, whose inputs are int64 (n, length) of any n and length, and whose `logits` are (n, outputs).

    Args:
        model: a model for sequence classification, in evaluation mode and float32.
        inputs: those that it is traced with; their names become the graph's.

    Raises:
        Refusal: torch can't export the model.
    """
    names = tuple(inputs)
    unable = ("--format", f"onnx: torch can't export a {type(model).__name__}", "use --format merged")
    with _silent(), refusing(*unable), torch.no_grad():
        program: Any = torch.onnx.export(
            _Logits(model, names).eval(),
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(names),
            output_names=[LOGITS],
            dynamic_shapes=(tuple(ROWS_AND_LENGTH for _ in names),),
            verbose=False,
        )
    program.save(folder / GRAPH)


def onnx_logits(folder: Path, inputs: Mapping[str, Tensor]) -> Tensor:
    """Returns the logits that onnxruntime computes on the CPU, float32 (n, outputs)."""
    import onnxruntime

    with refusing("export", "onnxruntime can't compute what was written", "nothing was written"):
        session = onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])
        taken = {each.name: inputs[each.name].numpy() for each in session.get_inputs()}
        [found] = session.run([LOGITS], taken)
    return torch.from_numpy(found)


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps what the exporter says of its own packages from the terminal."""
    exporter: Any = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), quiet():
            yield
    finally:
        exporter.setLevel(level)
