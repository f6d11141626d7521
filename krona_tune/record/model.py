"""Loads a registered adapter for MLflow: `mlflow.pyfunc.load_model("models:/STUDY.TASK/1").predict([...])`."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd


class AdapterModel:
    """An adapter on its backbone, loaded once.

    `predict` takes a frame with the task's text columns, by their names or in their order, and returns one answer per
    row: a label, a number for a regression, or what the model writes.
    """

    def __init__(self, folder: Path, model: str | None) -> None:
        """`model` is a hub name or folder of the backbone; None: the card's."""
        # Loaded only here, so that this package does not import `train`.
        self._predict = import_module("krona_tune.train.predict")
        self._whole = self._predict.ready(folder, model)

    def predict(self, frame: pd.DataFrame, params: Mapping[str, Any] | None = None) -> list[str] | list[float]:
        """Returns the answers. Raises a Refusal that names the row with an empty text."""
        task = self._whole.task
        columns = list(task.inputs)
        chosen = frame[columns] if set(columns) <= set(frame.columns) else frame.iloc[:, : len(columns)]
        rows = [tuple(map(str, row)) for row in chosen.itertuples(index=False)]
        for number, row in enumerate(rows):
            self._predict.refuse_misshapen(row, task, f"row {number}")
        texts = [prediction.text for prediction in self._predict.predictions(self._whole, rows)]
        return [float(text) for text in texts] if task.is_regression else texts


def _load_pyfunc(data_path: str, model_config: Mapping[str, Any] | None = None) -> AdapterModel:
    """Loads an adapter for MLflow, which calls this name. The key `model` of `model_config` names another backbone.

    `data_path` is the adapter's folder inside the model.
    """
    return AdapterModel(Path(data_path), (model_config or {}).get("model"))
