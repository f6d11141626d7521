"""Has a row for each kind of order: when a driver takes it, what it then does, and when that is done.

A check needs only the request and the rows: it is made before a driver reads the order, too, without Ray, torch and
Optuna. What an order names, and how people give it, stands in `krona_tune.study.order`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from krona_tune.atomic_write import write_atomically
from krona_tune.record.driver_state import ask_to_stop, forget_to_stop
from krona_tune.refusal import Refusal, unknown
from krona_tune.search.clone import clone_number, clone_of, copy_last_rung, refuse_uncloneable
from krona_tune.search.resume import numbers_left
from krona_tune.search.running_study import KnownStudy, RunningStudy
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_duration, format_many, format_name, format_score
from krona_tune.study.kinds import facts_of
from krona_tune.study.order import SEARCH, Order, OrderKind, OrderRequest
from krona_tune.study.request.field_types import MOST
from krona_tune.study.request.given_values import read_settings
from krona_tune.study.request.loader import dump_spec, load_with
from krona_tune.study.request.plain_yaml import dump_yaml
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import TrialResult
from krona_tune.study.settings import ORDERED, number_of_trials, with_more_trials
from krona_tune.study.study_state import recoverable


@dataclass(frozen=True, kw_only=True)
class OrderAction:
    """Says what a driver does with a kind of order.

    Attributes:
        effect: lets a taken order take effect, again changes nothing more; returns it as it is then.
        check: returns what the order makes, or an empty text; raises a Refusal if it makes no sense now.
        outcome: returns the outcome when the effect is in the records, before that an empty text; None: at once.
        of_the_search: what to do instead once the search has ended and it is refused; empty: it is taken then, too.
        needs_searcher: takes effect only while trials are given out.
        reads_trials: its check reads the trials' rows.
    """

    effect: Callable[[RunningStudy, Order], Order]
    check: Callable[[KnownStudy, OrderRequest], str] = lambda study, order: ""
    outcome: Callable[[RunningStudy, Order], str] | None = None
    of_the_search: str = ""
    needs_searcher: bool = False
    reads_trials: bool = False


def done(order: Order, outcome: str) -> Order:
    return order.model_copy(update={"state": "done", "outcome": outcome})


# To stop a trial


def _check_stop(study: KnownStudy, order: OrderRequest) -> str:
    row = _row(study, order)
    if row.ended:
        state = format_name(row.status)
        raise Refusal(order.text, f"{row.trial_id} does not run, it is {state}", "look at the trials that run")
    if not row.searched:
        raise Refusal(order.text, f"{row.trial_id} is no trial of the search", "pause or cancel the study instead")
    return ""


def _row(study: KnownStudy, order: OrderRequest) -> TrialResult:
    if order.trial not in study.rows:
        raise unknown(order.text, "trial", order.trial, study.running or study.rows)
    return study.rows[order.trial]


def _stop_trial(study: RunningStudy, order: Order) -> Order:
    """Asks the trial's worker to stop, or ends a trial that no worker has."""
    checkpoints, ledger = study.folder.checkpoints.resolve(), study.ledger
    if tune_id := study.searcher and study.searcher.tune_id(order.trial):
        study.stopper.stopped.add(tune_id)
        ask_to_stop(checkpoints, order.trial)
        return order
    forget_to_stop(checkpoints, order.trial)
    if study.searcher:
        study.searcher.withdraw(order.trial)
    row = ledger.rows.get(order.trial)
    if row and not row.ended:
        ledger.stopped_while_waiting(row.trial_id)
    return done(order, _end_of(ledger.rows[order.trial]) if row else "the trial is gone")


def _stopped(study: RunningStudy, order: Order) -> str:
    row = study.ledger.rows.get(order.trial)
    if row is None or not row.ended:
        return ""
    forget_to_stop(study.folder.checkpoints.resolve(), order.trial)
    return _end_of(row)


def _end_of(row: TrialResult) -> str:
    score = "no score" if row.score is None else f"score {format_score(row.score)}"
    words = format_name(row.status)
    return f"{words}, {score}, trained {format_duration(row.train_seconds)}"


# To clone a trial


def _check_clone(study: KnownStudy, order: OrderRequest) -> str:
    row = _row(study, order)
    taken = (*(each.made for each in study.orders), *study.rows)  # the orders of some rows may be lost
    last = max((clone_number(each, row.task) for each in taken), default=-1)
    return _clone(study, order, last + 1).trial_id


def _clone(study: KnownStudy, order: OrderRequest, number: int) -> TrialMessage:
    """Returns the clone that an order makes, the `number`th of its task."""
    row = _row(study, order)
    refuse_uncloneable(row, order.text)
    if study.spec.search.shared:
        problem = "the tasks share their configurations, and a clone would have one task only"
        raise Refusal(order.text, problem, "begin a study of this task")
    return clone_of(order, row, number, study.count)


def _begin_clone(study: RunningStudy, order: Order) -> Order:
    from krona_tune.search.searchers.task_searcher import StudySearcher  # imports Ray, which no check needs

    searcher, request = study.searcher, order.request
    assert searcher is not None, "clones are taken in the search only"
    assert request is not None, "what can't be read is not taken"
    known = study.known()
    message = _clone(known, request, clone_number(order.made, _row(known, request).task))
    if searcher.knows(message.trial_id):
        return order
    outcome = f"it is {message.trial_id}"
    if order.from_last_rung:
        source, folder = study.ledger.rows[order.trial], study.folder
        places = folder.checkpoints.resolve(), folder.remote_checkpoints
        rung, message = copy_last_rung(source, message, *places, study.plan.spec.schedule)
        outcome += f", from rung {rung}"
    if study.plan.space.holds(message.params) and isinstance(searcher, StudySearcher):
        searcher.teach(message)
    else:
        outcome += "; its point lies outside the space, so the sampler learns nothing from it"
    searcher.add(message)
    study.view.expect({message.task: 1})
    return order.model_copy(update={"outcome": outcome})


def _cloned(study: RunningStudy, order: Order) -> str:
    return (order.outcome or f"it is {order.made}") if order.made in study.ledger.rows else ""


# To let failed trials go on

MOST_NAMED = 20
"""How many of the trials that go on are named."""


def _check_retry(study: KnownStudy, order: OrderRequest) -> str:
    if not recoverable(study.rows.values()):
        raise Refusal(order.text, "no trial has failed or ran out of memory", "there is nothing to do")
    return ""


def _retry(study: RunningStudy, order: Order) -> Order:
    """Lets the failed trials go on of the phase that runs, if it takes trials, and of those to come.

    Those of a phase that has ended stay as they are: the next one would take them for trials that the end cut off.
    """
    now, failed = study.open_phase, recoverable(study.ledger.rows.values())
    if not failed:  # the driver that had taken the order was killed after it had let them go on
        return done(order, "the failed trials will go on")
    running = [row for row in failed if facts_of(row.kind).phase == now]
    coming = [row for row in failed if _comes_after(row, study)]
    trials = [(TrialMessage.of_row(row), not row.of or study.plan.space.holds(row.params)) for row in running]
    if not (running or coming):
        fix = "give the order before the study is resumed, with a larger budget if that is used up"
        raise Refusal(order.text, "the study takes no trial of their kind now", fix)
    for row in (*running, *coming):
        study.ledger.reopened(row.trial_id)
    for message, known in trials:
        assert study.searcher is not None, "a phase is open"
        (study.searcher.retry if known else study.searcher.add)(message)
    retried = [row.trial_id for row in (*running, *coming)]
    more = f" and {len(retried) - MOST_NAMED} more" * (len(retried) > MOST_NAMED)
    return done(order, f"{format_many(len(retried), 'trial')} will go on: {', '.join(retried[:MOST_NAMED])}{more}")


def _comes_after(row: TrialResult, study: RunningStudy) -> bool:
    """Returns whether a trial's phase has not begun in this session."""
    phase = facts_of(row.kind).phase or 0
    return phase > study.phase or (phase == study.phase and study.searcher is None)


# To let the study wait, go on or end


def _check_pause(study: KnownStudy, order: OrderRequest) -> str:
    if study.paused:
        raise Refusal(order.text, "the study is paused already", "let it go on with continue")
    return ""


def _pause(study: RunningStudy, order: Order) -> Order:
    study.paused = True
    study.stand()
    return done(order, "trials wait at their next rungs")


def _check_continue(study: KnownStudy, order: OrderRequest) -> str:
    """Returns what the order lets go on: the search that was ended, or the paused study."""
    if study.paused is False and not study.ended:
        raise Refusal(order.text, "the study is not paused, and nobody ended its search", "there is nothing to do")
    return SEARCH if study.ended and not study.paused else "study"


def _continue(study: RunningStudy, order: Order) -> Order:
    if order.made == SEARCH:
        study.stopper.ended = ""
        return done(order, "the search goes on" if study.in_search else "the search goes on when the study is resumed")
    study.paused = False
    study.stand()
    return done(order, "the study goes on")


def _end_search(study: RunningStudy, order: Order) -> Order:
    ends, study.stopper.ended = study.in_search, order.by
    return done(order, "the search ends; the finalists are trained next" if ends else "the search has ended")


def _check_cancel(study: KnownStudy, order: OrderRequest) -> str:
    if not study.runs:
        raise Refusal(order.text, "the study does not run", "there is nothing to end")
    return ""


def _cancel(study: RunningStudy, order: Order) -> Order:
    study.stopper.ask("cancelled")
    return done(order, "the driver ends; running trials are kept at their last rungs")


# To change a value


def _check_trials(study: KnownStudy, order: OrderRequest) -> str:
    now, fix = study.spec.search.trials, "write +20 for 20 more a task"
    total = with_more_trials(order.value, now)
    if not total:
        raise Refusal(order.text, f"{order.value.strip()!r} is not a number of trials", fix)
    if total <= now:
        raise Refusal(order.text, f"each task has {now} already", fix)
    return _as_yaml(study, order, str(total))


def _check_at_once(study: KnownStudy, order: OrderRequest) -> str:
    return _as_yaml(study, order, _number_at_once(order, 1))


def _check_time(study: KnownStudy, order: OrderRequest) -> str:
    return _as_yaml(study, order, order.value.strip())


def _check_share(study: KnownStudy, order: OrderRequest) -> str:
    if not study.in_queue:
        raise Refusal(order.text, "no queue runs this study", "order max-concurrent, or pause")
    return _number_at_once(order, 0)


def _number_at_once(order: OrderRequest, least: int) -> str:
    number = number_of_trials(order.value.strip())
    if not (isinstance(number, int) and least <= number <= MOST):
        problem = f"{order.value.strip()!r} is not a number of trials"
        raise Refusal(order.text, problem, f"write {least} to {MOST:,}")
    return str(number)


def _as_yaml(study: KnownStudy, order: OrderRequest, value: str) -> str:
    """Returns the value that the order's key gets, as YAML writes it. Raises a Refusal if it can't have that."""
    section, _, name = ORDERED[order.what].partition(".")
    value = getattr(getattr(_with_value(order, value, study.spec, study.folder), section), name)
    return dump_yaml(value).partition("\n")[0]


def _with_value(order: Order | OrderRequest, value: str, spec: StudySpec, folder: StudyFolder) -> StudySpec:
    """Returns the request with another value of the order's key. Raises a Refusal if it can't have that value."""
    key = ORDERED[order.what]
    section, _, name = key.partition(".")
    try:
        found = getattr(load_with(folder.spec, read_settings([f"{key}={value}"])), section)
    except Refusal as refusal:
        raise refusal.at(order.text if refusal.place == f"--set {key}" else refusal.place) from None
    part = getattr(spec, section).model_copy(update={name: getattr(found, name)})
    return spec.model_copy(update={section: part})


def _set_value(study: RunningStudy, order: Order) -> Order:
    """Writes the new value into the request."""
    spec = _with_value(order, order.made, study.plan.spec, study.folder)
    write_atomically(study.folder.spec, dump_spec(spec))  # first: an order that can't be written is refused
    study.plan = replace(study.plan, spec=spec)
    return done(order, f"{ORDERED[order.what]}: {order.made}")


def _set_trials(study: RunningStudy, order: Order) -> Order:
    from krona_tune.search.searchers.shared_searcher import SharedSearcher  # imports Ray, which no check needs
    from krona_tune.search.searchers.task_searcher import StudySearcher

    before, answered = study.plan, _set_value(study, order)

    def added(task: str | None = None) -> list[int]:
        earlier = set(numbers_left(before, study.ledger, task))
        return [number for number in numbers_left(study.plan, study.ledger, task) if number not in earlier]

    if isinstance(study.searcher, SharedSearcher):
        more_of_all = added()
        study.searcher.extend(more_of_all)
        study.view.expect(dict.fromkeys(study.plan.spec.tasks, len(more_of_all)))
    if isinstance(study.searcher, StudySearcher):
        more = {task: added(task) for task in study.plan.spec.tasks}
        study.view.expect(study.searcher.extend(more))
    return answered


def _set_at_once(study: RunningStudy, order: Order) -> Order:
    answered = _set_value(study, order)
    study.most = int(order.made)
    return answered


def _set_time(study: RunningStudy, order: Order) -> Order:
    answered = _set_value(study, order)
    study.stopper.allow(study.plan.spec.search.time_budget)
    return answered


def _set_share(study: RunningStudy, order: Order) -> Order:
    study.share = int(order.made)
    study.stand()
    return done(order, f"trials at once: {order.made}")


ORDER_ACTIONS: Mapping[str, OrderAction] = {
    OrderKind.STOP_TRIAL: OrderAction(check=_check_stop, effect=_stop_trial, outcome=_stopped, reads_trials=True),
    OrderKind.CLONE_TRIAL: OrderAction(
        check=_check_clone,
        effect=_begin_clone,
        outcome=_cloned,
        of_the_search="wait for the study's end, then order it again, after continue if somebody ended the search, and "
        "resume the study",
        needs_searcher=True,
        reads_trials=True,
    ),
    OrderKind.PAUSE: OrderAction(check=_check_pause, effect=_pause),
    OrderKind.CONTINUE: OrderAction(check=_check_continue, effect=_continue),
    OrderKind.STOP: OrderAction(effect=_end_search, of_the_search="there is nothing to stop"),
    OrderKind.CANCEL: OrderAction(check=_check_cancel, effect=_cancel),
    OrderKind.RETRY: OrderAction(check=_check_retry, effect=_retry, reads_trials=True),
    OrderKind.TRIALS: OrderAction(
        check=_check_trials,
        effect=_set_trials,
        of_the_search="wait for the study's end, then resume it with more trials",
    ),
    OrderKind.MAX_CONCURRENT: OrderAction(check=_check_at_once, effect=_set_at_once),
    OrderKind.TIME_BUDGET: OrderAction(check=_check_time, effect=_set_time),
    OrderKind.SHARE: OrderAction(check=_check_share, effect=_set_share),
}
"""What a driver does with each kind of order."""
