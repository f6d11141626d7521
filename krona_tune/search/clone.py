"""Makes a clone of a trial: its configuration with a few changes, from the start or from its last rung."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from krona_tune.adapters.method_table import is_peft, method_named
from krona_tune.atomic_write import atomic_folder
from krona_tune.record.trial_checkpoints import RemoteCheckpoints, latest_checkpoint, rung_of
from krona_tune.refusal import Refusal, refuse_unknown, shown
from krona_tune.search.planning.resolved_space import what_it_reads
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.kinds import TrialKind
from krona_tune.study.order import OrderRequest
from krona_tune.study.proposer import Proposer
from krona_tune.study.request.loader import refuse_beyond
from krona_tune.study.request.plain_yaml import read_yaml
from krona_tune.study.request.schedule import ScheduleSpec
from krona_tune.study.request.trial import PEFT_FIELD, SECTION_OF, TrainingConfig, TrialConfig, section_of
from krona_tune.study.request.validation_errors import refuse_knob
from krona_tune.study.result import Status, TrialResult

CLONE = "-clone-"
"""What stands in a clone's id between its task and its number."""
SAME_STATE = {"scale"} | TrainingConfig.model_fields.keys() - {"batch_size"}
"""The knobs that a clone may change if it starts from the other's state: the same tensors, and the same steps."""


def clone_of(
    order: OrderRequest, source: TrialResult, number: int, count: Callable[[TrialConfig], object]
) -> TrialMessage:
    """Returns the clone that an order makes of a trial, the `number`th of its task.

    Args:
        count: counts the clone's parameters; it refuses one that does not fit the backbone.

    Raises:
        Refusal: a change is none, or the configuration can't be trained.
    """
    changes: dict[str, Any] = {}
    for setting in order.settings:
        name, value = _change(setting, source)
        if name in changes:
            raise Refusal(f"clone {source.trial_id}: {name}", "it is set twice", "set it once")
        changes[name] = value
    params = _read_by_method(source, changes)
    changed = {name for name in params.keys() | source.params.keys() if params.get(name) != source.params.get(name)}
    if not changed:
        problem = f"{source.trial_id} has these values: the same would be trained again"
        raise Refusal("clone", problem, "change one with --set, such as training.learning_rate=0.001")
    if order.from_last_rung and (others := sorted(changed - SAME_STATE)):
        problem = f"with another {others[0]} its state does not fit, or its steps differ"
        raise Refusal("clone from the last rung", problem, "clone it from the start")
    own = clone_id(source.task, number)
    message = TrialMessage(
        own, source.task, -1 - number, TrialKind.SEARCH, source.seed, params, source.trial_id, Proposer.PERSON
    )
    try:
        count(message.checked())
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(".".join(map(str, first["loc"])), first["msg"], "write a value in its range") from None
    return message


def _read_by_method(source: TrialResult, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the trial's parameters with the changes, without those that only its former method reads.

    Raises:
        Refusal: a change is one of a knob that the method does not read: the same would be trained again.
    """
    before, method = str(source.params["method"]), str(changes.get("method", source.params["method"]))
    where = f"clone {source.trial_id}"
    reads = method_named(method, f"{where}: method").reads
    for name in changes:
        of_peft = is_peft(method) and name.startswith(PEFT_FIELD)
        if name != "method" and section_of(name) == "adapter" and name not in reads and not of_peft:
            raise Refusal(f"{where}: {name}", f"{method} does not read it", what_it_reads(method))
    if method == before:
        return {**source.params, **changes}
    gone = method_named(before).reads - reads
    kept = {name: each for name, each in source.params.items() if name not in gone and not name.startswith(PEFT_FIELD)}
    return {**kept, **changes}


def refuse_uncloneable(row: TrialResult, place: str) -> None:
    """Refuses a trial that is none of the search."""
    if not row.searched:
        raise Refusal(place, f"{row.trial_id} is a {row.kind}", "clone a trial of the search")


def clone_id(task: str, number: int) -> str:
    """Returns the id of a task's clone, counted from 0."""
    return f"{task}{CLONE}{number}"


def is_clone(trial_id: str) -> bool:
    """Returns whether an id is that of a clone, of whatever task."""
    return trial_id.rpartition(CLONE)[2].isdecimal() and CLONE in trial_id


def clone_number(trial_id: str, task: str) -> int:
    """Reads from an id which clone of a task it is, counted from 0; -1 if it is that of none."""
    of, _, number = trial_id.rpartition(CLONE)
    return int(number) if of == task and number.isdecimal() else -1


def copy_last_rung(
    source: TrialResult, message: TrialMessage, checkpoints: Path, elsewhere: str | None, schedule: ScheduleSpec
) -> tuple[int, TrialMessage]:
    """Gives a clone the state of the other trial's last rung; returns the number of that rung, and the clone with the
    examples that it need not see. A clone that has got one keeps it, wherever the other trial is by now.

    Raises:
        Refusal: there is no such state, it is one of the trial's end, or it can't be read or written.
    """
    from krona_tune.train import checkpoint  # imports torch, which no other order needs

    place = f"clone {source.trial_id} from its last rung"
    remote = RemoteCheckpoints(elsewhere)
    remote.bring(checkpoints / message.trial_id)
    got = latest_checkpoint(checkpoints / message.trial_id)
    if got and checkpoint.is_copy(got, message.checked().fingerprint):
        if not remote.send(got):  # a driver that was killed may not have sent it
            raise Refusal(place, "its state can't be copied (its copy could not be sent)", "clone it from the start")
        return rung_of(got), replace(message, copied_examples=checkpoint.examples_of(got))
    remote.bring(checkpoints / source.trial_id)
    state = latest_checkpoint(checkpoints / source.trial_id)
    if source.status is Status.COMPLETED or (state and _is_of_the_end(state, schedule)):
        raise Refusal(place, "it was trained to its end, so no rung is left for a clone", "clone it from the start")
    if state is None:
        raise Refusal(place, "no state of it is kept", "clone it from the start")
    own = checkpoints / message.trial_id / state.name
    try:
        own.parent.mkdir(parents=True, exist_ok=True)
        if not own.exists():
            with atomic_folder(own) as unfinished:
                checkpoint.adopt(state, unfinished, message.checked())
        if not remote.send(own):  # a worker on another machine would begin at the start
            shutil.rmtree(own.parent, ignore_errors=True)
            raise OSError("its copy could not be sent")
    except (OSError, checkpoint.Unusable) as error:
        raise Refusal(place, f"its state can't be copied ({error})", "try again, or clone it from the start") from None
    return rung_of(state), replace(message, copied_examples=checkpoint.examples_of(own))


def _is_of_the_end(state: Path, schedule: ScheduleSpec) -> bool:
    """Returns whether a state is that of its trial's last rung; a trial may be cut off between that and its end."""
    from krona_tune.train import checkpoint  # imports torch

    report = checkpoint.last_report(state)  # `adopt` says what can't be read
    if report is None:
        return False
    whole = schedule.of(report.task, round(report.examples / report.epochs))
    return report.examples >= whole.total_examples


def _change(setting: str, source: TrialResult) -> tuple[str, Any]:
    """Returns the knob and the value of a text such as `training.learning_rate=0.001`; the section may be left out."""
    key, _, text = setting.partition("=")
    section, _, name = key.strip().rpartition(".")
    known, place = {*SECTION_OF, *source.params}, f"clone {source.trial_id}: {key}"
    refuse_unknown(place, "knob", known, name)
    if section not in {"", section_of(name)}:
        raise Refusal(place, f"{name} is no key of {section}", f"write {section_of(name)}.{name}")
    value = read_yaml(text, place)
    if not isinstance(value, str | bool | int | float | None):
        raise Refusal(place, f"{shown(value)} is no single value", "write one value")
    earlier = source.params.get(name)
    if isinstance(value, bool) and isinstance(earlier, int | float) and not isinstance(earlier, bool):
        raise Refusal(place, f"{shown(value)} is no number", "write a number")
    if isinstance(value, int):
        refuse_beyond(value, place)
    if name in SECTION_OF:  # what trials take for a value of another type, records can't hold
        refuse_knob(name, value, f"clone {source.trial_id}: {section_of(name)}")
    if isinstance(earlier, float) and isinstance(value, int) and not isinstance(value, bool):
        return name, float(value)
    return name, value
