"""Holds one table: which key of a study each flag sets, and whether a resumed study accepts the flag."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from krona_tune.api.folders import with_whole_paths
from krona_tune.data.tasks import GLUE
from krona_tune.record.orders import give_order
from krona_tune.record.parquet_reader import read_orders
from krona_tune.refusal import Refusal, shown
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest, refuse_edited
from krona_tune.study.order import Order, OrderKind, OrderRequest, is_paused, search_ended_by
from krona_tune.study.request.loader import build_spec, load_spec, naming_given, put, read_given
from krona_tune.study.request.study_spec import CHANGEABLE, StudySpec

MOST_DIGITS = 9
"""The most digits that a number of trials may have."""


class Flag(NamedTuple):
    """A flag and the key of study.yaml that it sets; `of_command` marks one that only this command reads."""

    key: str = ""
    of_command: bool = False

    @property
    def taken(self) -> bool:
        """Returns whether a resumed study takes the flag; of the others it keeps what it was begun with."""
        return self.of_command or self.key.startswith(CHANGEABLE)


FLAGS = {
    "--tasks": Flag("tasks"),
    "--space": Flag(),
    "--set": Flag(),
    "--model": Flag("model"),
    "--data": Flag("data"),
    "--seed": Flag("seed"),
    "--max-params": Flag("search.max_params"),
    "--warm-start": Flag("search.warm_start"),
    "--objective": Flag("search.objective"),
    "--shared": Flag("search.shared"),
    "--per-task": Flag("search.shared"),
    "--name": Flag(),
    "--or-resume": Flag(),
    "--trials": Flag("search.trials"),
    "--time-budget": Flag("search.time_budget"),
    "--cpus-per-trial": Flag("resources.cpus_per_trial"),
    "--gpus-per-trial": Flag("resources.gpus_per_trial"),
    "--max-concurrent": Flag("resources.max_concurrent"),
    "--price": Flag("resources.price_per_hour"),
    "--address": Flag(of_command=True),
    "--storage": Flag(of_command=True),
    "--tracking-uri": Flag(of_command=True),
    "--notify": Flag(of_command=True),
    "--wandb": Flag(of_command=True),
    "--share": Flag(of_command=True),
    "--quiet": Flag(of_command=True),
    "--dry-run": Flag(of_command=True),
}


def overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that the flags set, by the keys of study.yaml."""
    return {
        FLAGS[flag].key: number_of_trials(value) if flag == "--trials" else value
        for flag, value in given.items()
        if FLAGS[flag].key
    }


def flag_names(given: Iterable[str]) -> dict[str, str]:
    """Returns the flag that sets each key, of the given flags."""
    return {FLAGS[flag].key: flag for flag in given if FLAGS[flag].key}


def refuse_kept(given: Mapping[str, Any]) -> None:
    """Raises a Refusal if a flag is given that a resumed study does not accept."""
    for flag in _kept(given):
        raise Refusal(flag, "a resumed study keeps what it was begun with", f"leave {flag} out")


def going_on(folder: StudyFolder, given: Mapping[str, Any]) -> StudySpec:
    """Returns the request of a resumed study, with the accepted flags applied.

    Raises:
        Refusal: another flag differs from what the study was begun with, or its request was edited since.
    """
    earlier = load_spec(folder.spec)
    if folder.manifest.exists():
        refuse_edited(read_manifest(folder.manifest), earlier, folder.spec)
    _refuse_different(folder, earlier, _kept(given))
    taken = {flag: value for flag, value in given.items() if FLAGS[flag].taken}
    if "--or-resume" not in given and str(trials := taken.get("--trials", "")).startswith("+"):
        taken["--trials"] = earlier.search.trials + number_of_trials(trials[1:])
    return load_spec(folder.spec, (), overrides(taken), flag_names(taken))


def with_values(spec: StudySpec, flags: Mapping[str, Any]) -> StudySpec:
    """Returns a request with the values that flags set. Raises a Refusal if one is refused."""
    given, plain = read_given((), overrides(flags), flag_names(flags)), spec.plain()
    with naming_given("the request", given):
        for each in given:
            put(plain, each, each.by)
        return build_spec(plain, "the request")


def let_go_on(folder: StudyFolder, spec: StudySpec) -> None:
    """Lifts an ordered pause, and an ordered end of the search, if a resumed study's request asks for more."""
    before, now = load_spec(folder.spec).search, spec.search
    if now.trials <= before.trials and now.time_budget == before.time_budget:
        return
    orders: list[Order] = []
    with suppress(Refusal):  # what can't be read is renamed by the driver
        orders = read_orders(folder.results)
    for _ in filter(None, (is_paused(orders), search_ended_by(orders))):
        give_order(folder, OrderRequest(what=OrderKind.CONTINUE))


def with_tasks(spec: StudySpec) -> StudySpec:
    """Returns the spec, with the eight tasks of GLUE if it names no tasks."""
    return spec if spec.tasks else spec.model_copy(update={"tasks": GLUE})


def number_of_trials(given: object) -> int:
    """Returns what was given as a number of trials. Raises a Refusal if it is not one."""
    text = str(given)
    if not text.isdecimal() or len(text) > MOST_DIGITS or int(text) < 1:
        raise Refusal("--trials", f"{shown(given)} is not a number of trials", "give a whole number from 1")
    return int(text)


def _refuse_different(folder: StudyFolder, earlier: StudySpec, kept: Mapping[str, Any]) -> None:
    settings: Sequence[str] = kept.get("--set", ())
    space: Path = kept.get("--space", folder.spec)
    again = with_tasks(load_spec(space, settings, overrides(kept) | {"name": folder.name}, flag_names(kept)))
    then, now = earlier.settings(), with_whole_paths(again).settings()
    for flag, key in _compared(kept, settings, then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            of = "" if FLAGS[flag].key == key else f"{key} "
            problem = f"the study {folder.name!r} was begun with {of}{_said(then, key)}, not {of}{_said(now, key)}"
            raise Refusal(flag, problem, "repeat what it was begun with, or choose another --name")


def _kept(given: Mapping[str, Any]) -> dict[str, Any]:
    return {flag: value for flag, value in given.items() if not FLAGS[flag].taken}


def _compared(kept: Mapping[str, Any], settings: Sequence[str], keys: set[str]) -> Iterator[tuple[str, str]]:
    """Yields each flag with each key to compare: its own key, the keys that a `--set` sets, or, for `--space`, all keys
    that no flag may change in a resumed study."""
    for flag in kept:
        if key := FLAGS[flag].key:
            yield from ((flag, path) for path in sorted({key, *(path for path in keys if path.startswith(f"{key}."))}))
    for path in (setting.partition("=")[0].strip() for setting in settings):
        yield from (("--set", key) for key in sorted(keys) if f"{key}.".startswith(f"{path}."))
    if "--space" in kept:
        later = {flag.key for flag in FLAGS.values() if flag.taken}
        yield from (("--space", key) for key in sorted(keys - later))


def _said(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key, "nothing")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
