"""Prints what a study's plan says before it begins: what will be run, first examples, and what it takes."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console

from krona_tune import __version__
from krona_tune.api.plan_view import cut_text, needs_lines, plan_lines, preview_tasks
from krona_tune.api.printing import console, print_lines, say, warn
from krona_tune.data.glue import HUB
from krona_tune.refusal import Refusal, cut, readable
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder

if TYPE_CHECKING:
    from krona_tune.search.planning.plan import Plan
    from krona_tune.search.startup.slots import Slots
    from krona_tune.search.startup.task_data import Preview


def print_plan(plan: "Plan", reason: str, where: str = "", earlier: "EarlierOrders | None" = None) -> None:
    """Prints what will be run, in a few lines; takes what `plan_lines` takes."""
    console.print(f"[bold]krona_tune {__version__}[/bold]")
    print_lines(plan_lines(plan, reason, where, earlier))
    print_warnings(plan.lacking())


def print_dry_run(plan: "Plan", slots: "Slots | None", folder: StudyFolder, how: str = "") -> None:
    """Prints what a dry run adds to the plan: first examples, what the study takes on such slots, if they are known,
    and what to expect without any search, with `how` to train that, in words for who reads it."""
    seen = print_examples(plan, plan.spec.tasks)
    if slots:
        print_needs(plan, slots, seen, folder)
    print_recommendation(plan, how)


def print_examples(plan: "Plan", tasks: Iterable[str]) -> "dict[str, Preview]":
    """Prints the first training examples of each own task as the model will see them, and what is odd about its data;
    of GLUE's tasks that lie in a folder only what is cut.

    It goes to the terminal, or to the page of whoever asks a service for it; it is kept nowhere. Returns what was seen.
    """
    previews = preview_tasks(plan, tasks)
    for name, seen in previews.items():
        shown_examples = seen.examples if name in plan.own_data else ()
        console.print(f"\n{name}{', as the model will see it' if shown_examples else ''}:", highlight=False)
        for text, label in shown_examples:
            say(readable(f"  {text}\n    → {cut(label)}"))
        say(f"  {cut_text(plan, seen)}")
        print_warnings(seen.warnings)
    return previews


def print_needs(plan: "Plan", slots: "Slots", previews: "Mapping[str, Preview]", folder: StudyFolder) -> None:
    """Prints what a study would take on this machine, or on one with such slots."""
    lines = needs_lines(plan, slots, previews, folder)
    whole = "What the whole study takes, with what it has trained already,"
    what = whole if folder.manifest.exists() else "What it takes,"
    console.print(f"\n{what} as far as that is known before a step is timed:", highlight=False)
    print_lines(lines)


def print_recommendation(plan: "Plan", how: str = "") -> None:
    """Prints what a plan lets expect without any search, where that needs no download; nothing, where none can be made.

    What `recommend` would refuse, such as data that can't be read, is no reason to refuse a dry run.
    """
    from krona_tune.api.recommendation_view import RecommendationView
    from krona_tune.search.planning.recommendation import recommend_point

    if plan.space.searched() and (plan.spec.data != HUB or set(plan.own_data) == set(plan.spec.tasks)):
        with suppress(Refusal):
            lines = RecommendationView(recommend_point(plan)).lines
            console.print(f"\nWithout any search{how and f' ({how})'}:", highlight=False)
            print_lines(lines)


def print_warnings(warnings: Iterable[str], to: Console = console) -> None:
    """Prints what a plan warns of, beside the plan or, where only results are printed, on the standard error."""
    for warning in warnings:
        warn(readable(warning), to=to)
