"""Makes the request of a study from flags: of a new one, and of one that is resumed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krona_tune.api.folders import with_whole_paths
from krona_tune.data.tasks import GLUE
from krona_tune.record.orders import give_order, remove_order
from krona_tune.record.parquet_reader import read_orders
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest, refuse_edited
from krona_tune.study.order import Order, OrderKind, OrderRequest, is_paused, search_ended_by
from krona_tune.study.request.given_values import GivenValue, naming_given, put, read_given
from krona_tune.study.request.loader import build_spec, load_spec, load_with, spec_with
from krona_tune.study.request.study_spec import SETTLED, StudySpec
from krona_tune.study.settings import SETTINGS, changing, flag_names, number_of_trials, overrides

if TYPE_CHECKING:
    from krona_tune.search.startup.auto_space import DerivedSpace

AUTO = "auto"
"""The place of a space that was made for a request, in messages and where a study is named after its space."""
NEW_IN_SHIPPED_SPACES = "backbone.narrow"
"""A key that shipped spaces lacked once: a study that was begun with one of those goes on without it."""


def new_spec(space: "Path | DerivedSpace", settings: Sequence[str], given: Mapping[str, Any], name: str) -> StudySpec:
    """Returns the request of a new study of this name: what a space asks for, changed by settings and by flags."""
    return spec_of(space, read_given(settings, overrides(given) | {"name": name}, flag_names(given)))


def spec_of(space: "Path | DerivedSpace", given: Sequence[GivenValue]) -> StudySpec:
    """Returns the request of a new study: what is written for it, with one trial if all is fixed."""
    return one_if_fixed(written_spec(space, given), [each.key for each in given])


def written_spec(space: "Path | DerivedSpace", given: Sequence[GivenValue]) -> StudySpec:
    """Returns what a space asks for, changed by what a person gave, with all tasks of GLUE if neither names one."""
    if isinstance(space, Path):
        return default_to_glue(load_with(space, given))
    return default_to_glue(spec_with(space.whole, AUTO, Path.cwd(), given))


def one_if_fixed(spec: StudySpec, given: Collection[str]) -> StudySpec:
    """Returns a request in which all is fixed with one trial, since others would repeat it.

    Args:
        given: the keys that a person has set beside the space; a number of trials among them stays.
    """
    if spec.searches or "search.trials" in given:
        return spec
    return spec.model_copy(update={"search": spec.search.model_copy(update={"trials": 1})})


def refuse_unchangeable(given: Mapping[str, Any]) -> None:
    """Raises a Refusal if a flag is given that a resumed study does not accept."""
    for flag in _kept(given):
        raise Refusal(flag, "a resumed study keeps what it was begun with", f"leave {flag} out")


def resumed_spec(folder: StudyFolder, given: Mapping[str, Any]) -> StudySpec:
    """Returns the request of a resumed study, with the accepted flags applied.

    Raises:
        Refusal: another flag differs from what the study was begun with, or its request was edited since.
    """
    earlier = load_spec(folder.spec)
    if folder.manifest.exists():
        refuse_edited(read_manifest(folder.manifest), earlier, folder.spec)
    _refuse_different(folder, earlier, _kept(given))
    taken = changing(given)
    if "--or-resume" not in given and str(trials := taken.get("--trials", "")).startswith("+"):
        taken["--trials"] = earlier.search.trials + number_of_trials(trials[1:])
    return default_to_glue(load_spec(folder.spec, (), overrides(taken), flag_names(taken)))


def with_values(spec: StudySpec, flags: Mapping[str, Any]) -> StudySpec:
    """Returns a request with the values that flags set. Raises a Refusal if one is refused."""
    given, plain = read_given((), overrides(flags), flag_names(flags)), spec.plain()
    with naming_given("the request", given):
        for each in given:
            put(plain, each, each.by)
        return build_spec(plain, "the request")


def lift_ordered_stop(folder: StudyFolder, spec: StudySpec) -> list[Order]:
    """Lifts an ordered pause, and an ordered end of the search, if a resumed study's request asks for more; returns the
    orders that do it."""
    before, now = load_spec(folder.spec).search, spec.search
    if now.trials <= before.trials and now.time_budget == before.time_budget:
        return []
    orders: list[Order] = []
    with suppress(Refusal):  # what can't be read is renamed by the driver
        orders = read_orders(folder.results)
    stops = filter(None, (is_paused(orders), search_ended_by(orders)))
    return [give_order(folder, OrderRequest(what=OrderKind.CONTINUE)) for _ in stops]


@contextmanager
def lifting_ordered_stop(folder: StudyFolder, spec: StudySpec) -> Iterator[None]:
    """Lifts what `lift_ordered_stop` lifts for a study that goes on in this context, or stays as it is if it fails."""
    orders = lift_ordered_stop(folder, spec) if folder.spec.exists() else []
    try:
        yield
    except BaseException:
        for order in orders:
            remove_order(folder, order)
        raise


def default_to_glue(spec: StudySpec) -> StudySpec:
    """Returns the spec, with the eight tasks of GLUE if it names no tasks."""
    return spec if spec.tasks else spec.model_copy(update={"tasks": GLUE})


def _refuse_different(folder: StudyFolder, earlier: StudySpec, kept: Mapping[str, Any]) -> None:
    settings: Sequence[str] = kept.get("--set", ())
    space: Path = kept.get("--space", folder.spec)
    again = new_spec(space, settings, kept, folder.name)
    then, now = earlier.settings(), with_whole_paths(again).settings()
    for flag, key in _compared(kept, settings, then.keys() | now.keys()):
        if then.get(key) != now.get(key) and (key in now or key not in SETTLED):
            of = "" if key in flag_names([flag]) else f"{key} "
            problem = f"the study {folder.name!r} was begun with {of}{_text(then, key)}, not {of}{_text(now, key)}"
            raise Refusal(flag, problem, "repeat what it was begun with, or choose another --name")


def _kept(given: Mapping[str, Any]) -> dict[str, Any]:
    return {flag: value for flag, value in given.items() if flag not in changing(given)}


def _compared(kept: Mapping[str, Any], settings: Sequence[str], keys: set[str]) -> Iterator[tuple[str, str]]:
    """Yields each flag with each key to compare: its own key, the keys that a `--set` sets, or, for `--space`, all keys
    that no flag may change in a resumed study."""
    for key, flag in flag_names(kept).items():
        yield from ((flag, path) for path in sorted({key, *(path for path in keys if path.startswith(f"{key}."))}))
    for path in (setting.partition("=")[0].strip() for setting in settings):
        yield from (("--set", key) for key in sorted(keys) if f"{key}.".startswith(f"{path}."))
    if "--space" in kept:
        later = {row.key for row in SETTINGS.values() if row.changes}
        yield from (("--space", key) for key in sorted(keys - later - {NEW_IN_SHIPPED_SPACES}))


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key, "nothing")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
