"""Loads the data of a full training: all of a task's training half, or every half together."""

from dataclasses import replace

import pyarrow as pa

from krona_tune.search.full_training import FullTraining
from krona_tune.search.planning.plan import Plan
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.study.request.study_spec import ExamplesSpec
from krona_tune.train.loop import TaskWork


def full_work(plan: Plan, location: str, asked: FullTraining) -> TaskWork:
    """Returns all of the task's examples for the workers. Raises a Refusal if the data can't be read any more."""
    task, spec = asked.of.task, plan.spec
    examples = ExamplesSpec(max_length=spec.examples.max_length)
    own = {task: plan.own_data[task]} if task in plan.own_data else {}
    tops = spec.finalists.model_copy(update={"top": max(1, spec.finalists.top)})  # so that there is a test half
    whole = replace(
        plan,
        spec=spec.model_copy(update={"tasks": (task,), "examples": examples, "finalists": tops}),
        tasks={task: plan.tasks[task]},
        own_data=own,
    )
    prepared = prepare_data(whole, location)
    work, test = prepared.works[task], prepared.tests[task]
    if not asked.everything:
        return replace(work, test=test)
    train = pa.concat_tables([work.train, work.validation, test]).combine_chunks()
    return replace(
        work, train=train, validation=work.validation.slice(0, 0), schedule=spec.schedule.of(task, len(train))
    )
