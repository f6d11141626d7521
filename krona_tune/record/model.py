"""Registers a task's adapter as a model in MLflow: its own folder and the name of what loads it; no code.

This module is what loads it: `mlflow.pyfunc.load_model("models:/STUDY.TASK/1").predict([...])`.
"""

import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krona_tune.adapters.adapter_card import AdapterCard, read_card, task_of, tensors_digest
from krona_tune.adapters.method_table import method_named
from krona_tune.data.example_files import texts_of
from krona_tune.data.separated_text import refuse_lacking
from krona_tune.data.tasks import Task
from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.mlflow_mirror.mlflow_runs import StudyRuns
from krona_tune.refusal import refusing

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import RegisteredModel
    from mlflow.models import ModelSignature

logger = logging.getLogger(__name__)

LOADER = "krona_tune.record.model"
"""The name of this module, which stands in every registered model."""
CHOSEN_ALIAS, WON_ALIAS = "chosen", "winner"
"""The aliases of the version to use, and of that which won the task; as a rule one version has both."""


def register(
    runs: StudyRuns, task: str, name: str, adapter: Path, aliases: Sequence[str] = (CHOSEN_ALIAS, WON_ALIAS)
) -> str:
    """Returns the version of the registered model that holds this adapter; makes one if no version holds it yet.

    Args:
        task: the task that has the model in its run.
        name: of the registered model, `<study>.<task>`; if another study of this name or somebody else has that one,
            the name also says when this one began.
        adapter: what a study leaves in `adapters/<task>`.
        aliases: the names that this version gets, which no other version then has.
    """
    client, card, name = runs.client, read_card(adapter), _own_name(runs, name)
    digest = tensors_digest(adapter)
    versions = client.search_model_versions(f"name='{name}'")
    version = next((str(found.version) for found in versions if found.tags.get(words.DIGEST) == digest), None)
    if version is None:
        _ensure_name(runs, name, card)
        version = _new_version(runs, runs.tasks[task], name, adapter, words.model_tags(card, digest))
    given = client.get_registered_model(name).aliases
    for alias in aliases:
        if str(given.get(alias)) != version:
            client.set_registered_model_alias(name, alias, version)
    return version


def _own_name(runs: StudyRuns, name: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        found = runs.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return name
    if not _fits(runs, found):
        own = f"{name}-{re.sub('[:/]', '', runs.begun)}"
        logger.warning("the registered model %s is not this study's; this one's is %s", name, own)
        return own
    if words.BEGUN not in found.tags:
        runs.client.set_registered_model_tag(name, words.BEGUN, runs.begun)
    return name


def _fits(runs: StudyRuns, found: "RegisteredModel") -> bool:
    """Returns whether a registered model has this study's tags, or has nobody's and no version."""
    if {words.STUDY, words.BEGUN} & found.tags.keys():  # without the begin if an earlier version made it
        return bool(found.tags.get(words.BEGUN, runs.begun) == runs.begun)
    return not runs.client.search_model_versions(f"name='{found.name}'", max_results=1)


def _ensure_name(runs: StudyRuns, name: str, card: AdapterCard) -> None:
    from mlflow.exceptions import MlflowException

    tags = {words.STUDY: card.study, words.TASK: card.task, words.BEGUN: runs.begun}
    try:
        runs.client.create_registered_model(name, tags, f"The chosen adapter of {card.backbone} for {card.task}.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _new_version(runs: StudyRuns, run_id: str, name: str, adapter: Path, tags: Mapping[str, str]) -> str:
    model = _logged(runs, tags) or _log(runs, run_id, name, adapter, tags)
    note = words.model_note(read_card(adapter))
    made = runs.client.create_model_version(
        name, model.artifact_location, run_id, dict(tags), description=note, model_id=model.model_id
    )
    return str(made.version)


def _logged(runs: StudyRuns, tags: Mapping[str, str]) -> "LoggedModel | None":
    """Returns the adapter as a model that an earlier attempt uploaded completely but did not register."""
    models = runs.client.search_logged_models([runs.experiment_id])
    ready = [model for model in models if str(model.status) == "READY"]
    return next((model for model in ready if model.tags.get(words.DIGEST) == tags[words.DIGEST]), None)


def _log(runs: StudyRuns, run_id: str, name: str, adapter: Path, tags: Mapping[str, str]) -> "LoggedModel":
    from mlflow.entities import LoggedModelOutput

    client = runs.client
    params = {knob: str(value) for knob, value in read_card(adapter).params.items()}
    title = name.replace(".", "-")  # a logged model's name can't contain a dot
    model = client.create_logged_model(
        runs.experiment_id, name=title, source_run_id=run_id, tags=dict(tags), params=params
    )
    with tempfile.TemporaryDirectory() as room:
        built = Path(room) / "model"
        save_model(built, adapter, run_id=run_id, model_id=model.model_id)
        client.log_model_artifacts(model.model_id, str(built))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def save_model(to: Path, adapter: Path, *, run_id: str | None = None, model_id: str | None = None) -> None:
    """Writes an adapter's folder as an MLflow model; loading it needs krona_tune and the backbone."""
    import mlflow.pyfunc
    from mlflow.models import Model

    card = read_card(adapter)
    mlflow.pyfunc.save_model(
        to,
        loader_module=LOADER,
        data_path=str(adapter),
        mlflow_model=Model(run_id=run_id, model_id=model_id),
        signature=_signature(adapter, card),
        pip_requirements=[_requirement(card)],
        model_config={"model": card.backbone},
        metadata={"task": card.task, "columns": list(task_of(card, adapter).inputs), "labels": list(card.labels)},
    )


def _requirement(card: AdapterCard) -> str:
    """Returns what pip installs to load an adapter: krona_tune as it was, with the extras of its method and weights."""
    needed = {method_named(card.adapter.method).needs, "quantize" if card.quantize else None}
    extras = ",".join(sorted(extra for extra in needed if extra))
    return f"krona_tune{f'[{extras}]' if extras else ''}=={card.krona_tune_version}"


def _signature(adapter: Path, card: AdapterCard) -> "ModelSignature":
    """Returns the type of the answer alone: with a signature of its input MLflow would drop the columns beyond it, and
    what is left would not tell a list of texts from a frame of other columns."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    answer = DataType.double if task_of(card, adapter).is_regression else DataType.string
    return ModelSignature(outputs=Schema([ColSpec(answer)]))


class AdapterModel:
    """An adapter on its backbone, loaded once.

    `predict` takes texts, or rows of texts in the order of the task's inputs; or a frame, or what makes one, with a
    column for each input by its name, beside which it may have others. It returns one answer per row: a label, a number
    for a regression, or what the model writes.
    """

    def __init__(self, folder: Path, model: str | None) -> None:
        """`model` is a hub name or folder of the backbone; None: the card's."""
        # Loaded only here, so that this package does not import `train`.
        self._predict = import_module("krona_tune.train.predict")
        self._whole = self._predict.ready(folder, model)

    def predict(self, given: Any, params: Mapping[str, Any] | None = None) -> list[str] | list[float]:
        """Returns the answers. Raises a Refusal that names the column that is missing, or the row without a text."""
        task = self._whole.task
        told = self._predict.warn_of_cut(self._whole)
        texts = [prediction.text for prediction in self._predict.predictions(self._whole, _rows(given, task), told)]
        return [float(text) for text in texts] if task.is_regression else texts


def _rows(given: Any, task: Task) -> list[list[str]]:
    """Returns the texts of each row."""
    inputs = list(task.inputs)
    frame = _frame(given)
    names = list(map(str, frame.columns))
    if names == list(map(str, range(len(inputs)))):
        frame = frame.set_axis(inputs, axis="columns")
    else:
        refuse_lacking(names, inputs, "input", f"{task.title} takes {' and '.join(inputs)}")
    rows = frame[inputs].itertuples(index=False, name=None)
    return [
        texts_of(dict(zip(inputs, row, strict=True)), inputs, task, f"row {number}") for number, row in enumerate(rows)
    ]


def _frame(given: Any) -> "pd.DataFrame":
    """Returns texts, rows, columns by their names or an array as a frame; one text, or the texts of one, is a row."""
    import pandas as pd

    values = given.values() if isinstance(given, Mapping) else [given]
    one = all(isinstance(value, str) for value in values)
    with refusing("input", "it is no table of texts", "give a list of texts, or a frame with a column for each input"):
        return pd.DataFrame([given] if one else given)


def _load_pyfunc(data_path: str, model_config: Mapping[str, Any] | None = None) -> AdapterModel:
    """Loads an adapter for MLflow, which calls this name. The key `model` of `model_config` names another backbone.

    `data_path` is the adapter's folder inside the model.
    """
    return AdapterModel(Path(data_path), (model_config or {}).get("model"))
