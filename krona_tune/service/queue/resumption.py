"""Resumes a study of the storage through its queue, and trains what it has chosen, as the command line does."""

from contextlib import suppress

from krona_tune.api.study_request import lift_ordered_stop, resumed_spec
from krona_tune.record.orders import remove_order, waiting_orders
from krona_tune.record.records import read_trials_so_far
from krona_tune.refusal import Refusal
from krona_tune.refused_calls import naming_fields
from krona_tune.search.full_training import configuration
from krona_tune.service.queue.entry import Entry, Resumption, TrainingRequest
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.served_studies import ServedStudies
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.order import OrderKind, order_request
from krona_tune.study.request.given_values import given_by
from krona_tune.study.settings import field_names
from krona_tune.study.study_state import FINISHED


@naming_fields(field_names(Resumption.model_fields))
def resume_study(queue: StudyQueue, studies: ServedStudies, asked: Resumption, person: str, by: str) -> Entry:
    """Gives the study a place, and leaves what it shall have more as orders, which its next driver reads first.

    The orders follow the place, which only one request gets: of one that is refused, nothing waits for a driver.

    Args:
        person: whose the study is in the queue.
        by: who gives the orders.

    Raises:
        Refusal: there is no such study, it runs or has a place, it has ended and nothing more is asked of it, or a
            value is refused.
    """
    folder = _idle_folder(queue, studies, asked.name)
    more = {"time_budget": asked.time_budget or None, "trials": f"+{asked.trials}" if asked.trials else None}
    given = {name: value for name, value in more.items() if value}
    if not given and _is_finished(studies, asked.name):
        raise Refusal("trials", "the study has all that was asked of it", "give it more trials or more time")
    spec = resumed_spec(folder, given_by(given))
    orders = [order_request(what=OrderKind(name), value=value) for name, value in given.items()]  # type: ignore[call-arg]
    for order in orders:
        studies.check(asked.name, order)
    with queue.resuming(asked.name, asked.priority, person) as entry:
        left = lift_ordered_stop(folder, spec, by)
        try:
            left += (studies.order(asked.name, order, by) for order in orders)
            queue.note_orders(entry, left)
        except BaseException:
            for given_order in left:
                remove_order(folder, given_order)
            raise
    return entry


@naming_fields(field_names(TrainingRequest.model_fields))
def train_study(queue: StudyQueue, studies: ServedStudies, asked: TrainingRequest, person: str) -> Entry:
    """Gives a full training of a study's chosen configuration, or of a trial's, a place.

    Raises:
        Refusal: there is no such study, it runs or has a place, or it has no such task or trial.
    """
    folder = _idle_folder(queue, studies, asked.name)
    rows, facts = read_trials_so_far(folder.results), read_manifest(folder.manifest).tasks
    configuration(rows, resumed_spec(folder), facts, asked.task or None, asked.trial or None)
    return queue.train(asked, person)


def _is_finished(studies: ServedStudies, name: str) -> bool:
    """Returns whether nothing of a study is left; of one that can't be read something is: its driver recovers it."""
    with suppress(Refusal):
        return not waiting_orders(studies.folder(name)) and studies.detail(name).state == FINISHED
    return False


def _idle_folder(queue: StudyQueue, studies: ServedStudies, name: str) -> StudyFolder:
    """Returns the folder of a study that does not run and has no place. Raises a Refusal if there is none."""
    folder = studies.folder(name)
    if studies.look(name).runs:
        raise Refusal("name", f"{name!r} runs", "wait for its end; more trials and more time can be ordered of it")
    queue.refuse_live(name)
    return folder
