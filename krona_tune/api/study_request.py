"""Makes the request of a study from flags: of a new one, and of one that is resumed."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krona_tune.adapters.method_table import METHODS
from krona_tune.api.folders import with_whole_paths
from krona_tune.data.tasks import GLUE
from krona_tune.record.orders import give_order, remove_order, waiting_orders
from krona_tune.record.parquet_reader import read_orders, read_trials
from krona_tune.refusal import Refusal
from krona_tune.search.budget import Budget
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest, refuse_edited
from krona_tune.study.order import Order, OrderKind, OrderRequest, stops_after
from krona_tune.study.request.domain import as_real
from krona_tune.study.request.given_values import GivenValue, changing, giver, lasting
from krona_tune.study.request.loader import AUTO, load_spec, load_with, read_request, spec_with
from krona_tune.study.request.plain_yaml import by_path
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.request.study_spec import SETTLED, StudySpec
from krona_tune.study.request.trial import PEFT_FIELD, PLACES, section_of
from krona_tune.study.settings import CHANGEABLE, ORDERED, with_more_trials

if TYPE_CHECKING:
    from krona_tune.search.startup.auto_space import DerivedSpace

NEW_IN_SHIPPED_SPACES = ("backbone.narrow",)
"""The keys that shipped spaces lacked once: a study that was begun with one of those goes on without them."""


def spec_of(space: "Path | DerivedSpace", given: Sequence[GivenValue]) -> StudySpec:
    """Returns the request of a new study: what is written for it, with no more trials than its space has points."""
    return no_more_than_points(written_spec(space, given), [each.key for each in given])


def written_spec(space: "Path | DerivedSpace", given: Sequence[GivenValue]) -> StudySpec:
    """Returns what a space asks for, changed by what a person gave, with all tasks of GLUE if neither names one."""
    if isinstance(space, Path):
        return default_to_glue(load_with(space, given))
    return default_to_glue(spec_with(space.whole, AUTO, Path.cwd(), given))


def no_more_than_points(spec: StudySpec, given: Collection[str]) -> StudySpec:
    """Returns a request with as many trials as its space has points at most, since others would repeat them.

    Args:
        given: the keys that a person has set beside the space; a number of trials among them stays.
    """
    if "search.trials" in given:
        return spec
    points = [_most_points(spec, str(method)) for method in spec.domains()["method"].ends()] or [1]
    most = max(spec.search.by_group(points))
    if most >= spec.search.trials:
        return spec
    return spec.model_copy(update={"search": spec.search.model_copy(update={"trials": int(most)})})


def _most_points(spec: StudySpec, method: str) -> float:
    """Returns how many points a method has at most, on any backbone; of a method of peft every knob counts."""
    reads = METHODS[method].reads if method in METHODS else None
    placed = () if spec.backbone.target_modules is None else PLACES  # named maps leave nothing to place
    return prod(
        as_real(domain).count if name.startswith(PEFT_FIELD) else domain.count  # fields may be real numbers
        for name, domain in spec.domains(method).items()
        if section_of(name) == "training" or reads is None or (name in reads and name not in placed)
    )


def resumed_spec(
    folder: StudyFolder, given: Sequence[GivenValue] = (), space: Path | None = None, *, adds: bool = True
) -> StudySpec:
    """Returns the request of a study that goes on, with those of the given values that may change.

    Args:
        given: what a person gives now, again or anew.
        space: the space, if a person names it again.
        adds: whether `+20` trials are added to those that the study has.

    Raises:
        Refusal: anything else differs from what the study was begun with, or its request was edited since; or a study
            that goes on is given fewer trials than a task has begun.
    """
    earlier = load_spec(folder.spec)
    if folder.manifest.exists():
        refuse_edited(read_manifest(folder.manifest), earlier, folder.spec)
    sections = [each for each in given if space and isinstance(each.value, Mapping)]  # in place of the space's
    name = GivenValue("name", earlier.name, "name")  # its folder may have another one by now
    kept = [*lasting(given), *sections, name]
    _refuse_different(folder.name, earlier, written_spec(space or folder.spec, kept), kept)
    taken = [_with_more(each, earlier.search.trials) if adds else each for each in changing(given)]
    if adds:
        _refuse_fewer_than_begun(folder, taken, earlier.search)
    return default_to_glue(load_with(folder.spec, taken))


def _refuse_fewer_than_begun(folder: StudyFolder, given: Sequence[GivenValue], earlier: SearchSpec) -> None:
    """Refuses fewer trials than a task, or a method on it, has begun, since none of them would be taken back."""
    asked = next((each for each in given if each.key == "search.trials"), None)
    if asked is None or not isinstance(asked.value, int) or asked.value >= earlier.trials:
        return
    begun: Counter[str] = Counter()
    with suppress(Refusal):  # what can't be read is recovered by the driver
        own = (
            row for row in read_trials(folder.results) if row.searched and row.number >= 0
        )  # a clone is not asked for
        begun.update(f"{row.params['method']} on {row.task}" if earlier.per_method else row.task for row in own)
    for group, most in begun.most_common(1):
        if most > asked.value:
            problem = f"{group} has begun {most} trials of its search, more than {asked.value}"
            raise Refusal(asked.by, problem, f"write {most} or more, +1 for one more of each task, or leave it out")


def not_taken(folder: StudyFolder, space: Path, given: Sequence[GivenValue]) -> Iterator[str]:
    """Yields in sentences what a space says of keys that may change, and a study that goes on does not take from it:
    only what a person gives beside it counts, since orders may have changed the rest."""
    written = dict(by_path("", read_request(space.read_text(encoding="utf-8"), str(space))))
    asked = no_more_than_points(load_with(space, lasting(given)), [each.key for each in given])
    then, now = load_spec(folder.spec).settings(), asked.settings()
    for key in CHANGEABLE:
        if key in written and giver(key, given) is None and then.get(key) != now.get(key):
            fix = f"krona-tune resume {folder.name}{folder.storage_flag} --set {key}=… changes it"
            yield f"{key} of {space.name} is not taken: the study has {_text(then, key)}; {fix}"


def without_ordered(folder: StudyFolder, given: Sequence[GivenValue]) -> tuple[list[GivenValue], list[str]]:
    """Returns what a command or a script gives that is only repeated, without the values that orders have changed since
    it was first given, or wait to change; and, in sentences, which of its values these are."""
    if not folder.spec.exists():
        return list(given), []
    orders: list[Order] = []
    with suppress(Refusal, OSError):  # what can't be read is renamed by the driver
        orders = [*read_orders(folder.results), *waiting_orders(folder)]
    newer = {ORDERED[each.what]: each for each in orders if each.what in ORDERED and each.state != "refused"}
    then, asked = load_spec(folder.spec).settings(), {each.key: each for each in changing(given)}
    said = [
        f"{asked[key].by} is not taken: {order.by or 'somebody'} ordered {order.text} since the study began, "
        f"and it has {_text(then, key)}; krona-tune resume {folder.name}{folder.storage_flag} --set {key}=… changes it"
        for key, order in newer.items()
        if key in asked and (order.state != "done" or asked[key].value != then.get(key))
    ]
    return [each for value in given for each in _without(newer, value)], said


def _without(keys: Collection[str], given: GivenValue) -> Iterator[GivenValue]:
    """Yields a value unless it is of one of these keys; a section without them."""
    if isinstance(given.value, Mapping):
        left = {name: value for name, value in given.value.items() if f"{given.key}.{name}" not in keys}
        yield given._replace(value=left)
    elif given.key not in keys:
        yield given


def _with_more(given: GivenValue, trials: int) -> GivenValue:
    """Returns a number of trials such as +20 as that many beside those that there are; another value as it is."""
    is_more = given.key == "search.trials" and str(given.value).startswith("+")
    total = with_more_trials(given.value, trials) if is_more else None
    return given._replace(value=total) if total else given


def lift_ordered_stop(folder: StudyFolder, spec: StudySpec, by: str = "") -> list[Order]:
    """Lifts an ordered pause, and an ordered end of the search, if a resumed study's request asks for more, also those
    that wait for the next driver; returns the orders that do it."""
    before, now = load_spec(folder.spec).search, spec.search
    if not _asks_for_more(before, now):
        return []
    orders: list[Order] = []
    with suppress(Refusal):  # what can't be read is renamed by the driver
        orders = read_orders(folder.results)
    stops = stops_after(orders, EarlierOrders.of(folder).orders)
    return [give_order(folder, OrderRequest(what=OrderKind.CONTINUE), by) for _ in range(stops)]


def _asks_for_more(before: SearchSpec, now: SearchSpec) -> bool:
    """Returns whether more trials are asked for, or a limit is raised or lifted."""
    limits = zip(vars(Budget.of(before)).values(), vars(Budget.of(now)).values(), strict=True)
    return now.trials > before.trials or any(then is not None and (new is None or new > then) for then, new in limits)


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


def _refuse_different(name: str, then: StudySpec, now: StudySpec, given: Sequence[GivenValue]) -> None:
    """Refuses a request if the study of this name was begun with another; names what gave the first other key."""
    before, asked = (with_whole_paths(default_to_glue(each)).settings() for each in (then, now))
    different = different_keys(before, asked, given)
    if {*different} & {*SETTLED}:
        settled = now.settled().settings()
        different = [key for key in different if key not in SETTLED or settled.get(key) != before.get(key)]
    for key in different:
        by = giver(key, given)
        of = "" if by and by.key == key else f"{key} "
        problem = f"the study {name!r} was begun with {of}{_text(before, key)}, not {of}{_text(asked, key)}"
        raise Refusal(by.by if by else "--space", problem, "repeat what it was begun with, or choose another name")


def different_keys(then: Mapping[str, Any], now: Mapping[str, Any], given: Sequence[GivenValue]) -> list[str]:
    """Returns the keys that a study was begun with another value of, those that a person gives now first.

    Without those that may change, those that a new study settles if nobody gives them, and those that shipped spaces
    lacked once.

    Args:
        then: the settings of the study.
        now: the settings that it is asked for again.
    """
    free = {*CHANGEABLE, *(key for key in SETTLED if key not in now)}
    free |= {key for key in NEW_IN_SHIPPED_SPACES if giver(key, given) is None}
    found = [key for key in (then.keys() | now.keys()) - free if then.get(key) != now.get(key)]
    return sorted(found, key=lambda key: (giver(key, given) is None, key))


def _text(values: Mapping[str, Any], key: str) -> str:
    inner = {name.removeprefix(f"{key}."): each for name, each in values.items() if name.startswith(f"{key}.")}
    value = values.get(key, [f"{name}: {each}" for name, each in inner.items()] or "nothing")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
