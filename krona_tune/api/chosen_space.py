"""Chooses the space of a request that names none: a shipped one, or one made for its own model and data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krona_tune.api.folders import FOLDERS, whole_path
from krona_tune.api.shipped_spaces import space_file
from krona_tune.api.study_request import default_to_glue
from krona_tune.study.request.given_values import GivenValue, giver, naming_given, with_given
from krona_tune.study.request.loader import AUTO, build_spec, load_spec, spec_with
from krona_tune.study.request.study_spec import OF_GLUE, ResourcesSpec, StudySpec
from krona_tune.study.request.task_spec import TaskSpec

if TYPE_CHECKING:
    from krona_tune.search.startup.auto_space import DerivedSpace
    from krona_tune.search.startup.slots import Cluster

OWN = ("model", "data")
"""The keys of which a value of one's own asks for a space that is made for it, as tasks of one's own do."""


@dataclass(frozen=True, kw_only=True)
class ChosenSpace:
    """The file or the values of a space, and in words why it was taken."""

    source: "Path | DerivedSpace"
    reason: str = ""

    @property
    def place(self) -> Path:
        """Returns the file, or the name of a space that is none."""
        return self.source if isinstance(self.source, Path) else Path(AUTO)


def choose_space(
    given: Sequence[GivenValue], address: str | None = None, *, dry_run: bool = False, on: "Cluster | None" = None
) -> ChosenSpace:
    """Returns the space for a request that names none, on this machine or cluster.

    Args:
        given: what a person gave.
        address: a Ray cluster to join; a dry run joins none, because that could start a node.
        on: what a queue has, which is asked in place of this machine.

    Raises:
        Refusal: the cluster does not answer; or a space that is made finds what no study could be run with.
    """
    from krona_tune.search.startup.cluster import await_abandoned, connect
    from krona_tune.search.startup.slots import this_machine

    asked = address and not dry_run
    await_abandoned()
    cluster = on or (connect(address, _resources_of(given)) if asked else this_machine())
    where = f"the cluster at {address}" if asked else "the queue" if on else "this machine"
    later = f"; the cluster at {address} is asked when the study begins" if address and dry_run else ""
    found = f"{where} has {'a' if cluster.gpus else 'no'} GPU{later}"
    if not is_own(given):
        return ChosenSpace(source=shipped_for(cluster), reason=found)
    if later:
        cluster = _with_room(cluster, _resources_of(given))
    return ChosenSpace(source=derived_for(cluster, given), reason=f"made for model, data and machine; {found}")


def _with_room(cluster: "Cluster", asked: ResourcesSpec) -> "Cluster":
    """Returns a cluster that has, beside what this machine has, what a trial is asked to have: who plans for another
    one does not know it."""
    gpus = asked.gpus_per_trial or 0.0
    nodes = [
        replace(node, cpus=max(node.cpus, asked.cpus_per_trial), gpus=max(node.gpus, gpus)) for node in cluster.nodes
    ]
    return replace(cluster, nodes=tuple(nodes))


def _resources_of(given: Sequence[GivenValue]) -> ResourcesSpec:
    """Returns what a person asks for each trial, whatever the space."""
    own = [each for each in given if each.key.partition(".")[0] == "resources"]
    with naming_given(AUTO, own):
        return build_spec(with_given({"model": AUTO}, AUTO, own), AUTO).resources


def is_own(given: Sequence[GivenValue]) -> bool:
    """Returns whether a person names a model, data or a task of their own."""
    return any(each.key in OWN or each.key.startswith("tasks.") or _names_own(each) for each in given)


def _names_own(given: GivenValue) -> bool:
    tasks = given.value if given.key == "tasks" else None
    return isinstance(tasks, Mapping) and any(task not in (None, OF_GLUE) for task in tasks.values())


def shipped_for(cluster: "Cluster") -> Path:
    """Returns the shipped space for a machine."""
    return space_file("t5_base" if cluster.gpus else "mini")


def derived_for(cluster: "Cluster", given: Sequence[GivenValue]) -> "DerivedSpace":
    """Returns the space that follows from model, data and machine, without reasons for what a person gave."""
    from krona_tune.search.startup.auto_space import DerivedSpace, derive_space
    from krona_tune.search.startup.slots import slots

    def complete(values: Mapping[str, Any]) -> StudySpec:
        return default_to_glue(spec_with(values, AUTO, Path.cwd(), given))

    shipped = load_spec(shipped_for(cluster))
    defaults = {key: getattr(shipped, key) for key in OWN}
    with naming_given(AUTO, given):
        found = derive_space(complete, defaults, slots(cluster, complete(defaults).resources))
    kept = {key: why for key, why in found.reasons.items() if giver(key, given) is None}
    return DerivedSpace(values=found.values, reasons=kept)


def written_space(space: "DerivedSpace", given: Sequence[GivenValue]) -> str:
    """Returns a space that was made, with what a person gave, as YAML to be kept and changed."""
    from krona_tune.search.startup.auto_space import as_yaml

    found = with_given(space.values, AUTO, given)
    if isinstance(tasks := found.get("tasks"), Mapping):
        found["tasks"] = {name: _without_defaults(task) for name, task in tasks.items()}
        if (
            not {None, OF_GLUE} & {task for task in tasks.values() if not isinstance(task, Mapping)}
            and giver("data", given) is None
        ):
            found.pop("data", None)  # nothing is read from there
    whole = {name: whole_path(found[name]) for name in FOLDERS if isinstance(found.get(name), str)}
    return as_yaml({**found, **whole}, space.reasons)


def _without_defaults(task: Any) -> Any:
    """Returns what is said of a task beyond what holds of any."""
    if not isinstance(task, Mapping):
        return task
    usual = TaskSpec.model_construct().model_dump(mode="json", exclude_none=True)
    return {key: value for key, value in task.items() if usual.get(key) != value}
