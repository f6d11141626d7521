"""Changes a value of a running study's request, as somebody orders."""

from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order, OrderRequest
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.plain_yaml import dump_yaml
from krona_tune.study.request.study_spec import StudySpec

KEYS = {"trials": "search.trials", "max_concurrent": "resources.max_concurrent", "time_budget": "search.time_budget"}
"""The key of study.yaml that an order with a value changes."""
MOST_DIGITS, MOST_AT_ONCE = 9, 10_000


def new_value(order: Order | OrderRequest, spec: StudySpec, folder: StudyFolder) -> str:
    """Returns the value that the order's key gets, as YAML writes it. Raises a Refusal if it can't have that."""
    text = order.value.strip()
    if order.what == "share":
        return str(_number_at_once(order, text, 0))
    asked = {"trials": _trials, "max_concurrent": _at_once}.get(order.what, _as_written)(order, text, spec)
    section, _, name = KEYS[order.what].partition(".")
    value = getattr(getattr(with_value(order, asked, spec, folder), section), name)
    return dump_yaml(value).partition("\n")[0]


def with_value(order: Order | OrderRequest, value: str, spec: StudySpec, folder: StudyFolder) -> StudySpec:
    """Returns the request with another value of the order's key. Raises a Refusal if it can't have that value."""
    key = KEYS[order.what]
    section, _, name = key.partition(".")
    try:
        found = getattr(load_spec(folder.spec, (f"{key}={value}",)), section)
    except Refusal as refusal:
        place = order.said if refusal.place == f"--set {key}" else refusal.place
        raise Refusal(place, refusal.problem, refusal.fix) from None
    part = getattr(spec, section).model_copy(update={name: getattr(found, name)})
    return spec.model_copy(update={section: part})


def _as_written(order: Order | OrderRequest, text: str, spec: StudySpec) -> str:
    return text


def _trials(order: Order | OrderRequest, text: str, spec: StudySpec) -> str:
    now, fix = spec.search.trials, "write +20 for 20 more a task"
    number = _number(text.removeprefix("+"))
    if number < 1:
        raise Refusal(order.said, f"{text!r} is not a number of trials", fix)
    total = number + now * text.startswith("+")
    if total <= now:
        raise Refusal(order.said, f"each task has {now} already", fix)
    return str(total)


def _at_once(order: Order | OrderRequest, text: str, spec: StudySpec) -> str:
    return str(_number_at_once(order, text, 1))


def _number_at_once(order: Order | OrderRequest, text: str, least: int) -> int:
    number = _number(text)
    if not least <= number <= MOST_AT_ONCE:
        raise Refusal(order.said, f"{text!r} is not a number of trials", f"write {least} to {MOST_AT_ONCE:,}")
    return number


def _number(digits: str) -> int:
    """Returns a text as a whole number; -1 if it is none, or longer than anybody would write."""
    return int(digits) if digits.isdecimal() and len(digits) <= MOST_DIGITS else -1
