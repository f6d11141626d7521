"""Holds a study's own loop: one session runs search, finals and repeats, or a full training, then writes the results.

`Driver.run` makes one phase after the other; within a phase `TrialLoop` says what becomes of each trial, from its start
to its end. Ray Tune, behind `tune_host`, calls the loop's methods: it asks the phase's searcher for trials, gives them
to workers and lets the phase's scheduler judge their rungs.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from krona_tune.record.driver_state import TrialProgress, progress_of, read_driver_state, write_driver_state
from krona_tune.record.ownership import why_lost
from krona_tune.record.remote_copy import OVERTAKEN
from krona_tune.record.trial_checkpoints import RemoteCheckpoints, latest_checkpoint, remove
from krona_tune.search.artifacts import Artifacts, write_artifacts
from krona_tune.search.budget import RAISED_BY, Amount, Budget, Rates, StudyClock, spent
from krona_tune.search.driver_options import DriverOptions, Outcome
from krona_tune.search.forecast import Forecast
from krona_tune.search.kept_checkpoints import unneeded
from krona_tune.search.phases import (
    SearchedStudy,
    chosen_phase,
    finals_reserve,
    full_phase,
    keep_effects,
    needs_of,
    search_phase,
)
from krona_tune.search.progress.trials_left import by_task, later_not_begun, search_left
from krona_tune.search.ray_metrics import StudyMetrics, readings
from krona_tune.search.resume import LATER_PHASES, LaterPhase
from krona_tune.search.running_study import RunningStudy
from krona_tune.search.searchers.task_searcher import OPEN, GatedSearcher
from krona_tune.search.startup.begin_study import DriverContext
from krona_tune.search.study_orders import StudyOrders
from krona_tune.search.study_records import StudySinks, open_records
from krona_tune.search.study_stopper import StudyStopper, interruptible
from krona_tune.search.terminal.live_view import View
from krona_tune.search.trial_loop import TrialLoop
from krona_tune.search.trial_message import TrialMessage
from krona_tune.search.tune_host import Phase, tune_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_many
from krona_tune.study.kinds import FIRST_TRAINED, FULL_TRAININGS, PHASES
from krona_tune.study.result import Status
from krona_tune.study.search_end import search_end
from krona_tune.study.study_state import Counts, DriverState, End, Stage, asked_trials
from krona_tune.train import checkpoint

CLOSING_SECONDS = 4.0
"""How long ending the records may take if Ray was lost: whoever sent a signal to all processes soon kills them."""
STATE_SECONDS, STATE_SHARE = 2.0, 0.05
"""The time between two writings of the driver's state, and which share of the driver's time they take at most: a
forecast reads all rows."""
PAUSED_SECONDS = 0.2
"""The time between two looks for orders while no trial may run."""


def cut_short(stopper: StudyStopper, left: int) -> str:
    """Returns what ended a search that has trials left; empty if none is left, or nothing has ended it."""
    reason = f"The budget of {stopper.used_up}" if stopper.used_up else stopper.ended
    if not (reason and left):
        return ""
    how = _go_on(stopper) if stopper.used_up else ""
    return f"{reason} ended the search with {format_many(left, 'trial')} to go{how}."


def left_over(stopper: StudyStopper, left: int, trials: int, kind: str) -> str:
    """Returns what is said of a phase of known trials that ended with some left, and what lets them be trained."""
    return f"Stopped with {left} of {trials} {kind} to go{_go_on(stopper)}."


def _go_on(stopper: StudyStopper) -> str:
    """Says what trains the rest: a resumed study, with more of the budget that is used up."""
    limit = stopper.used_up
    return "; to train the rest, resume the study" + (f" with a larger {RAISED_BY[limit]}" if limit else "")


def await_slots(orders: StudyOrders, searcher: GatedSearcher, stopper: StudyStopper) -> None:
    """Waits, without a worker, while trials are left and none may run."""
    while not (searcher.exhausted or orders.slots() or stopper.stop_all()):
        orders.look()
        time.sleep(PAUSED_SECONDS)


def halt_if_overtaken(folder: StudyFolder, stopper: StudyStopper) -> None:
    """Ends the study here, in order, if another driver runs it elsewhere by now, or may have its folder."""
    if why := OVERTAKEN.get(folder.root) or why_lost(folder.root):
        stopper.halt(why)


class Driver:
    """One session of a study. It ends with the study, or when the study is stopped, and can be run once.

    Args:
        forecast: what the study's trials will take; None if nobody knows, and in a full training.
        console: where the view is drawn.
    """

    stage: Stage
    records: Literal["open", "ending", "ended"]
    foretold: float | None
    fulfilled: int | None

    def __init__(
        self, context: DriverContext, options: DriverOptions, forecast: Forecast | None, console: Console
    ) -> None:
        plan, folder, again = context.plan, context.folder, options.again
        self.context, self.options, self.forecast, self.console = context, options, forecast, console
        earlier = read_driver_state(folder)  # the sink of a copy elsewhere removes it
        self.opened = open_records(plan, folder)
        self.sinks = StudySinks(self.opened, context, options)
        self.ledger = self.opened.ledger(context, self.sinks)
        self.clock = StudyClock(folder.clock, counts=not again, began=options.began)
        self.stopper = StudyStopper(Budget() if again else Budget.of(plan.spec.search), self._spent)
        self.view = View(
            console,
            self.ledger,
            context.manifest.tasks,
            self._progress,
            quiet=options.start.quiet,
            seconds_left=(lambda: self.foretold or 0.0) if forecast else None,
            price=context.price,
        )
        self.study = RunningStudy(
            plan=plan,
            folder=folder,
            ledger=self.ledger,
            stopper=self.stopper,
            clock=self.clock,
            view=self.view,
            most=self._most(),
            share=options.start.share,
            state_changed=self._write_state,
        )
        self.orders = StudyOrders(
            self.study,
            kept=lambda: not self.sinks.unrecorded,
            ticked=self._tick,
            earlier=options.earlier,
            full_training=bool(again),
            room=context.room,
        )
        self.metrics = StudyMetrics(
            folder.name,
            lambda: readings(
                list(self.ledger.rows.values()), set(self.ledger.running), plan.spec.tasks, plan.spec.shared_by
            ),
        )
        self.loop = TrialLoop(ledger=self.ledger, stopper=self.stopper, changed=self._changed, obey=self.orders.look)
        self.artifacts, self.state_due, self.foretold = Artifacts(), 0.0, None
        self.stage, self.later = "full training" if again else "search", 0
        self.search_over, self.records = False, "open"
        self.searched, self.fulfilled = False, earlier.fulfilled if earlier and not self.opened.message else None

    def run(self, write_page: Callable[..., Path]) -> Outcome:
        """Runs the rest of the study until its end or a stop, or only the full training that the options name; writes
        the adapters and, with `write_page`, the page of the study's folder."""
        if self.opened.message:
            self.view.say(self.opened.message)
        with interruptible(self.stopper, self.console):
            with self.view:
                self.orders.begin()
                if self.options.again:
                    self._train_fully()
                elif self._search() and self._train_again() and self.searched:
                    self.fulfilled = asked_trials(self.study.plan.spec, self.study.plan.planned)
            if not self.stopper.lost:
                self.metrics.changed(last=True)
        with interruptible(self.stopper, self.console):
            self._end(write_page)
        with interruptible(self.stopper, self.console):  # a second request may have come before the end, or in it
            if self.records == "open":
                self._close(cut_short=True)
            elif self.records == "ending":
                self._write_state(*self.stopper.end, cut_short=True)
        return self._outcome()

    # The phases. All share one budget: the search leaves what finals and repeats will need; a stop ends all.

    def _search(self) -> bool:
        """Runs the search; returns whether the finals follow."""
        prepared, plan = self.context.prepared, self.context.plan
        facts = self.context.manifest.tasks
        self.stopper.reserve = finals_reserve(plan, prepared.works, self.ledger, self._rates, self.forecast, facts)
        phase = search_phase(
            SearchedStudy(
                plan=self.study.plan,
                works=prepared.works,
                folder=self.context.folder,
                ledger=self.ledger,
                stopper=self.stopper,
                contents={task: facts.contents for task, facts in prepared.facts.items()},
                ends=self._ends_by_itself,
                leaves_out=self._leave_out,
            )
        )
        later = later_not_begun(plan.spec, plan.planned, self.ledger.rows.values(), self.context.manifest.tasks)
        self.view.expect(later)
        self.later = sum(later.values())
        self._run(phase, "search", 1)
        plan, rows = self.study.plan, self.ledger.rows.values()
        self.searched = phase.searcher.exhausted and all(row.ended for row in rows if row.kind in FIRST_TRAINED)
        if phase.surrogate and not self.stopper.interrupted:
            keep_effects(phase.surrogate, plan, self.context.folder)
        left = by_task(search_left(plan.spec, plan.planned, rows, lambda row: row.ended))
        if said := cut_short(self.stopper, 0 if self.searched else sum(left.values())):
            self.view.say(said)
        if not self.stopper.interrupted:
            self.view.end_search()
            self.later, self.search_over = 0, True
        finals = {key: row for key, row in self.ledger.rows.items() if row.kind not in FIRST_TRAINED}
        self.stopper.let_finals_end(spent(finals, 0.0))
        asked = Counts.of(plan.spec, plan.planned).by_kind
        if self.stopper.interrupted and any(asked[phase.kind] for phase in LATER_PHASES):
            self.view.say("The search was stopped before its end, so nothing was trained again with other seeds yet.")
        return not self.stopper.interrupted

    def _ends_by_itself(self, task: str) -> bool:
        """Returns whether a task's search ends by itself, and says so."""
        end = search_end(self.study.plan.spec.search, self.ledger.rows.values(), task)
        if end:
            self.view.say(end.text(self.context.manifest.tasks[task].title))
        return end is not None

    def _leave_out(self, trials: Mapping[str, int]) -> None:
        """Counts no more the trials of each task that will not come."""
        self.view.expect({task: -count for task, count in trials.items()})

    def _train_again(self) -> bool:
        """Trains what the rows choose: the trials of each later phase, if all of the one before have ended.

        Returns whether nothing of it is left, no more seeds either for which there was no room.
        """
        ended = all(map(self._complete, LATER_PHASES))
        plan, facts = self.study.plan, self.context.manifest.tasks
        return ended and not any(phase.left(plan, self.ledger, facts) for phase in LATER_PHASES)

    def _complete(self, of: LaterPhase) -> bool:
        """Trains what is left of a phase, and what the rows choose meanwhile, until they choose nothing more; returns
        whether all of that has ended.

        A phase without trials is one, too: it refuses the orders that came too late for the search.
        """
        prepared, kind = self.context.prepared, of.kind.facts
        works = prepared.final_works() if kind.tested else prepared.works
        asked: dict[str, TrialMessage] = {}
        trials, says = self._chosen(of, asked), of.begins(self.study.plan.spec)
        while True:
            if trials:
                self.view.say(f"{says}: {len(trials)} trials.")
            self._run(
                chosen_phase(trials, works, self.ledger, self.stopper, self._following(of, asked)),
                of.stage,
                of.number,
            )
            if left := sum(not self.ledger.has_ended(trial_id) for trial_id in asked):
                self.view.say(left_over(self.stopper, left, len(asked), kind.words))
                return False
            if not (trials := self._chosen(of, asked)):
                return True
            says = of.goes_on

    def _chosen(self, of: LaterPhase, asked: dict[str, TrialMessage]) -> list[TrialMessage]:
        """Returns what the rows choose of a phase beyond the trials that were asked for, and adds it to these; nothing
        if all are more seeds for which the study's limits leave no room."""
        plan, rows = self.study.plan, self.ledger.rows
        left = of.left(plan, self.ledger, self.context.manifest.tasks)
        new = [trial for trial in left if trial.trial_id not in asked]
        least = {each.trial_id for each in of.trials(plan.spec, plan.planned, list(rows.values()), None)}
        if new and not any(trial.trial_id in least or trial.trial_id in rows for trial in new):
            limits, ready = Budget.of(plan.spec.search), self.context.prepared.works
            need = needs_of(left, ready, self.ledger, self._rates(), self.forecast)
            new = [] if limits.used_up(self._spent(), need) else new
        asked |= {trial.trial_id: trial for trial in new}
        return new

    def _following(self, of: LaterPhase, asked: dict[str, TrialMessage]) -> Callable[[], list[TrialMessage]]:
        """Returns what asks the rows again when a trial has ended, or the request has changed."""
        asked_at, asked_of = -1, None

        def following() -> list[TrialMessage]:
            nonlocal asked_at, asked_of
            ended = len(self.ledger.rows) - len(self.ledger.running)
            if asked_at == ended and asked_of is self.study.plan:
                return []
            asked_at, asked_of = ended, self.study.plan
            if new := self._chosen(of, asked):
                more = [trial for trial in new if trial.trial_id not in self.ledger.rows]
                titles = dict.fromkeys(self.context.manifest.tasks[trial.task].title for trial in more)
                if more:
                    self.view.say(f"{of.goes_on}: {format_many(len(more), 'trial')} on {', '.join(titles)}.")
                self.view.expect(Counter(trial.task for trial in more))
            return new

        return following

    def _train_fully(self) -> None:
        """Trains the configuration on all examples, with those seeds that have not completed."""
        again = self.options.again
        assert again is not None, "nobody asked for a full training"
        phase = full_phase(self.context.plan, self.context.source.location, again, self.ledger, self.stopper)
        self.view.say(f"{again.of.trial_id} again on {again.text}: {len(phase.works[again.of.task].train):,}.")
        self._run(phase, "full training", len(PHASES) + 1)
        cut = [trial.trial_id for trial in again.trials(self.context.plan.spec.seed)]
        self._leave_out({again.of.task: sum(not self.ledger.has_ended(trial_id) for trial_id in cut)})

    def _run(self, phase: Phase, stage: Stage, number: int) -> None:
        """Runs a phase, the one of this number, to its end, or until the study is stopped."""
        self.stage = stage
        self.view.expect(phase.new)
        self.orders.serve(phase.searcher, number)
        await_slots(self.orders, phase.searcher, self.stopper)
        tune_trials(
            phase,
            self.loop,
            workplace=self.context.workplace(self.context.folder),
            slots=replace(self.context.slots, count=self.study.most),
            storage=self.context.folder.ray,
        )
        if not self.stopper.lost:
            self._end_cut_off()
            self._changed()
        self.orders.leave()

    def _end_cut_off(self) -> None:
        """Ends the trials that a stop has cut off: Tune tells of none, nor of a rung that one has reached meanwhile."""
        folder = self.context.folder
        away = self.stopper.lost or why_lost(folder.root)
        copies = RemoteCheckpoints(None if away else folder.remote_checkpoints)
        for trial_id in sorted(self.ledger.running):
            copies.bring(folder.checkpoints / trial_id)
            state = latest_checkpoint(folder.checkpoints / trial_id)
            if state and (report := checkpoint.last_report(state, self.ledger.rows[trial_id].fingerprint)):
                self.ledger.reported(report, str(state))
            self.ledger.ended(trial_id, Status.INTERRUPTED)

    # What the phases ask and tell

    def _most(self) -> int:
        """Returns how many trials may run at once. With a share, nodes that do not exist yet may bring slots too."""
        if self.options.start.share is None:
            return self.context.slots.count
        return self.context.plan.spec.resources.max_concurrent or OPEN

    def _spent(self) -> Amount:
        return spent(self.ledger.rows, self.clock.seconds())

    def _rates(self) -> Rates:
        return self.context.rates(self.study.allowed)

    def _seconds_left(self) -> float:
        assert self.forecast is not None, "without a forecast nobody asks"
        spec, rows, rates = self.study.plan.spec, self.ledger.rows.values(), self._rates()
        over = self.stage != "search" and not self.stopper.interrupted
        left = self.forecast.left(
            spec,
            rows,
            lambda trial_id: self._progress(trial_id).share,
            rates.slots,
            time.time(),
            running=self.ledger.running,
            search_over=over,
        )
        return min(left, self.stopper.limits.seconds_left(self._spent(), rates))

    def _progress(self, trial_id: str) -> TrialProgress:
        return progress_of(self.context.folder, trial_id)

    def _changed(self) -> None:
        """Renews the view after each event; halts the study if one could not be recorded. While one of its trials runs,
        something is left, a clone or a retried one perhaps, for which nobody had asked before."""
        if any(self.ledger.rows[trial_id].kind not in FULL_TRAININGS for trial_id in self.ledger.running):
            self.fulfilled = None
        if problem := self.sinks.unrecorded:
            self.stopper.halt(f"the records could not be kept: {problem}")
        self.view.changed()
        self.metrics.changed()

    def _tick(self) -> None:
        """Saves the clock and writes the driver's state from time to time, also while no trial has an event."""
        halt_if_overtaken(self.context.folder, self.stopper)
        self._save_clock()
        self.view.refresh()
        if time.monotonic() >= self.state_due:
            self._write_state()

    def _save_clock(self, *, now: bool = False) -> None:
        if not why_lost(self.context.folder.root):
            self.clock.save(now=now)

    def _write_state(self, end: End = "", reason: str = "", *, cut_short: bool = False) -> None:
        """Writes for those who watch how far the study is, or how the driver ended; foretells the time left, for the
        view too."""
        began = time.monotonic()
        self.foretold = self._seconds_left() if self.forecast else None
        ended, trials = self.view.counts()
        state = DriverState(
            stage=self.stage,
            search_over=self.search_over,
            trials=trials,
            ended=ended,
            later=self.later,
            seconds_left=self.foretold,
            slots=self.study.allowed,
            most=self.study.most,
            share=self.study.share,
            paused=self.study.paused,
            end=end,
            reason=reason,
            cut_short=cut_short,
            training=bool(self.options.again),
            fulfilled=self.fulfilled,
            at=time.time(),
        )
        if not why_lost(self.context.folder.root):
            write_driver_state(self.context.folder, state)
        now = time.monotonic()
        self.state_due = now + max(STATE_SECONDS, (now - began) / STATE_SHARE)

    # The end

    def _end(self, write_page: Callable[..., Path]) -> None:
        """Ends the trials that were running, writes what the study leaves, and ends the records."""
        self.stage, stopper, folder, again = "end", self.stopper, self.context.folder, self.options.again
        self._write_state()
        self.orders.close()
        self._end_cut_off()
        self._save_clock(now=True)
        if self.ledger.rows and not (stopper.halted or stopper.lost):  # a page without a trial is refused
            self.artifacts = write_artifacts(self.context, self.ledger, write_page, stopper.halt)
        self._close(cut_short=bool(stopper.lost))
        if not stopper.interrupted and not again:
            rows, spec, facts = list(self.ledger.rows.values()), self.study.plan.spec, self.context.manifest.tasks
            planned, keep = self.study.plan.planned, spec.resources.keep_checkpoints
            remove(folder, unneeded(folder, spec, planned, rows, facts, keep))

    def _close(self, *, cut_short: bool) -> None:
        """Decides how the driver ends, says so, and ends the records; at once if its end is `cut_short`."""
        stopper, folder = self.stopper, self.context.folder
        stopper.end_decided = True
        end, trouble = stopper.end
        self._write_state(end, trouble, cut_short=cut_short)
        self.sinks.notify_of_end(end, trouble, no_page=self.artifacts.no_page)
        kept = [folder.spec, folder.manifest, *self.artifacts.paths]
        self.records = "ending"
        self.sinks.end(kept, CLOSING_SECONDS if cut_short else None)
        self.records = "ended"

    def _outcome(self) -> Outcome:
        spec, again, stopper = self.context.plan.spec, self.options.again, self.stopper
        return Outcome(
            ledger=self.ledger,
            tasks=spec.tasks,
            search=self.study.plan.spec.search,
            trained=tuple(message.trial_id for message in again.trials(spec.seed)) if again else (),
            asked=bool(stopper.asked),
            halted=stopper.halted,
            lost=stopper.lost,
            lost_sinks=self.sinks.failures,
            lacking=self.artifacts.lacking,
            no_page=self.artifacts.no_page,
        )
