"""Writes a merged model with its head as ONNX, with torch's exporter, quantises it, and computes with it.

Needs the packages onnx, onnxscript and onnxruntime.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from krona_tune.refusal import Refusal, lacking_package, refusing, told
from krona_tune.train.backbone import Inputs, quiet

GRAPH = "model.onnx"
LOGITS = "logits"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
TIMED_RUNS = 9
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
            raise lacking_package("--format", package, "onnx") from None


def write_onnx(model: nn.Module, inputs: Inputs, folder: Path) -> None:
    """Writes `model.onnx`, whose inputs are int64 (n, length) of any n and length, and whose `logits` are (n, outputs).

    Args:
        model: a model for sequence classification, in evaluation mode and float32.
        inputs: those that it is traced with; their names become the graph's.

    Raises:
        Refusal: torch can't export the model.
    """
    names = tuple(inputs)
    try:
        with _silent(), redirect_stdout(StringIO()), redirect_stderr(StringIO()), torch.no_grad():
            program: Any = torch.onnx.export(
                _Logits(model, names).eval(),
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(names),
                output_names=[LOGITS],
                dynamic_shapes=(tuple(ROWS_AND_LENGTH for _ in names),),
                verbose=False,
            )
    except Exception as error:  # the exporter's own, with the traced graph and pages of advice in its text
        why = f"onnx: torch can't export a {type(model).__name__} ({told(_first_cause(error))})"
        raise Refusal("--format", why, "use --format merged") from None
    program.save(folder / GRAPH)


def _first_cause(error: BaseException) -> BaseException:
    return _first_cause(error.__cause__) if error.__cause__ else error


def quantise(graph: Path, to: Path) -> None:
    """Writes a graph whose matrices are int8, with a scale for each row; what they are multiplied with is rounded as it
    comes (dynamic quantisation).

    Raises:
        Refusal: onnxruntime can't quantise it.
    """
    with _silent(), refusing("--dtype", "onnxruntime can't quantise the graph", "leave --dtype int8 out"):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            graph,
            to,
            per_channel=True,
            reduce_range=True,  # the sums of older processors' instructions have 16 bits
            weight_type=QuantType.QInt8,
            use_external_data_format=graph.with_suffix(".onnx.data").exists(),
        )


class OnnxModel(nn.Module):
    """A written graph as a model: it takes inputs by name, computes on the CPU, and gives `logits`, (n, outputs)."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        import onnxruntime

        with refusing("export", "onnxruntime can't read what was written", "nothing was written"):
            self._session = onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_inputs()]

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        with refusing("export", "onnxruntime can't compute what was written", "nothing was written"):
            taken = {name: self._given(name, inputs).cpu().numpy() for name in self._names}
            [found] = self._session.run([LOGITS], taken)
        return SimpleNamespace(logits=torch.from_numpy(found))

    def _given(self, name: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns an input; token types are zero where there are none, as transformers has it."""
        return inputs[name] if name in inputs else torch.zeros_like(inputs["input_ids"])


def median_milliseconds(model: OnnxModel, inputs: Inputs) -> float:
    """Returns how long the model takes for these inputs: the median of some runs after the first."""
    took = []
    for _ in range(TIMED_RUNS + 1):
        begin = perf_counter()
        model(**inputs)
        took.append(1000 * (perf_counter() - begin))
    return median(took[1:])


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps what the exporter and the quantiser say of their own packages from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), quiet():
            yield
    finally:
        logging.disable(before)
