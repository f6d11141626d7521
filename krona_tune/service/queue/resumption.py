"""Resumes a study of the storage through its queue, with more trials or more time, as `krona-tune resume` does."""

from krona_tune.api.study_request import lift_ordered_stop, resumed_spec
from krona_tune.refusal import Refusal
from krona_tune.service.queue.entry import Entry, Resumption
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.served_studies import ServedStudies
from krona_tune.study.order import OrderKind, order_request
from krona_tune.study.settings import by_flag


def resume_study(queue: StudyQueue, studies: ServedStudies, asked: Resumption, person: str, by: str) -> Entry:
    """Leaves the study what it shall have more as orders, which its next driver reads first, and gives it a place.

    Args:
        person: whose the study is in the queue.
        by: who gives the orders.

    Raises:
        Refusal: there is no such study, it runs or has a place, it has ended and nothing more is asked of it, or a
            value is refused.
    """
    folder = studies.folder(asked.name)
    if studies.look(asked.name).runs:
        raise Refusal("name", f"{asked.name!r} runs", "order more trials or more time of it")
    queue.refuse_live(asked.name)
    more = {"trials": f"+{asked.trials}" if asked.trials else None, "time_budget": asked.time_budget or None}
    given = {name: value for name, value in more.items() if value}
    if not given and studies.detail(asked.name).state == "finished":
        raise Refusal("trials", "the study has all that was asked of it", "give it more trials or more time")
    lift_ordered_stop(folder, resumed_spec(folder, by_flag(given)))
    for name, value in given.items():
        studies.order(asked.name, order_request(what=OrderKind(name), value=value), by)  # type: ignore[call-arg]
    return queue.resume(asked.name, asked.priority, person)
