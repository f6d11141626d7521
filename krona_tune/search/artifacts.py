"""Writes what a study leaves at its end: each task's best adapter, those trained on all examples, and the page."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from krona_tune.adapters.adapter_card import SELECTED_IN_FINALS, AdapterCard, trial_in
from krona_tune.adapters.adapter_files import save_adapter
from krona_tune.backbones.geometry import Stack
from krona_tune.record.records import TaskChoice, write_choices
from krona_tune.record.trial_checkpoints import RemoteCheckpoints, rung_of, state_name
from krona_tune.refusal import told
from krona_tune.search.ledger import Ledger
from krona_tune.search.startup.begin_study import DriverContext
from krona_tune.study.chosen_finalist import choose
from krona_tune.study.finals import Finalist
from krona_tune.study.folder import WINNER, StudyFolder
from krona_tune.study.intervals import estimate
from krona_tune.study.kinds import facts_of
from krona_tune.study.request.metric_table import bounds_of
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import TrialResult, grouped
from krona_tune.study.standings import Standings
from krona_tune.study.verdicts import configuration_texts, trained_texts
from krona_tune.train import checkpoint
from krona_tune.train.backbone_source import package_of
from krona_tune.train.task_heads import in_units_of_labels

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """The adapters and the page that a study's end has written. `lacking` says which adapters have no state that they
    could be written from, `no_page` why the page could not be written."""

    paths: tuple[Path, ...] = ()
    lacking: tuple[str, ...] = ()
    no_page: str = ""


def write_artifacts(
    context: DriverContext,
    ledger: Ledger,
    write_page: Callable[[StudyFolder], Path],
    halt: Callable[[str], None],
) -> Artifacts:
    """Writes the adapters and the page. An error of the adapters halts the study, but keeps its records; one of the
    page is only told, because the page is drawn from the records at any time."""
    paths: list[Path] = []
    lacking: list[str] = []
    no_page = ""
    try:
        paths += save_best_adapters(context, ledger.standings, lacking.append)
        full = [row for row in ledger.rows.values() if row.fully_trained]
        paths += save_trained_adapters(context, full, lacking.append)
    except Exception as error:
        logger.exception("the adapters could not be written")
        halt(f"the adapters could not be written: {told(error)}")
    try:
        paths.append(write_page(context.folder))
    except Exception as error:
        logger.exception("the page could not be written")
        no_page = told(error)
    for each in lacking:
        logger.warning("not written: %s", each)
    return Artifacts(paths=tuple(paths), lacking=tuple(lacking), no_page=no_page)


@dataclass(frozen=True, kw_only=True)
class Selected:
    """A trial whose adapter is kept, by which rule it was selected, the rows of all seeds of its configuration, and
    sentences about these."""

    row: TrialResult
    rule: str
    seeds: Sequence[TrialResult]
    verdicts: tuple[str, ...]


def select(context: DriverContext, standings: Standings, task: str) -> tuple[Selected, Selected] | None:
    """Returns what is chosen of a task and what has won, the same one if that is chosen; None without a score."""
    facts = context.manifest.tasks[task]
    finals = standings.finals(task, facts)
    choice, winner = choose(finals), finals.winner
    if choice is None or winner is None:
        best = standings.best(task)
        if best is None:
            return None
        found = Selected(
            row=best,
            rule=standings.rule(task),
            seeds=[best],
            verdicts=configuration_texts(facts, [best], best_of=len(standings.searched(task))),
        )
        return found, found

    def of(finalist: Finalist, rule: str) -> Selected:
        said = configuration_texts(facts, finalist.rows, finalist)
        return Selected(row=finalist.best_row, rule=rule, seeds=finalist.rows, verdicts=said)

    found = of(choice.finalist, choice.reason if finals.compares else SELECTED_IN_FINALS)
    return found, found if choice.finalist is winner else of(winner, SELECTED_IN_FINALS)


def save_best_adapters(context: DriverContext, standings: Standings, lack: Callable[[str], None]) -> list[Path]:
    """Writes the adapter that is chosen of each task, with its card, from the state that its trial kept, and beside it
    the winner's if that is another one; and which these are.

    Args:
        lack: is told which adapter has no state that it could be written from.
    """
    left, choices = [], []
    for task in context.plan.spec.tasks:
        found = select(context, standings, task)
        chosen, won = found or (None, None)
        if chosen is won:
            shutil.rmtree(context.folder.adapter(f"{task}{WINNER}"), ignore_errors=True)
        if not (chosen and won):
            continue
        other = "" if chosen is won else won.row.trial_id
        left.append(_save(context, lack, chosen, task, winner=other))
        if other:
            left.append(_save(context, lack, won, f"{task}{WINNER}"))
        choices.append(TaskChoice(task=task, chosen=chosen.row.trial_id, winner=won.row.trial_id, reason=chosen.rule))
    write_choices(context.folder.results, choices)
    return [path for path in left if path]


def save_trained_adapters(
    context: DriverContext, rows: Sequence[TrialResult], lack: Callable[[str], None]
) -> list[Path]:
    """Writes the adapter of each of these trials under its own name; `lack` is told as by `save_best_adapters`."""
    left = []
    for again in grouped(rows, lambda row: (row.of, row.kind)).values():
        said = trained_texts(context.manifest.tasks[again[0].task], again)
        for row in again:
            found = Selected(row=row, rule=f"the configuration of {row.of}", seeds=again, verdicts=said)
            left.append(_save(context, lack, found, row.trial_id))
    return [path for path in left if path]


def _save(
    context: DriverContext, lack: Callable[[str], None], selected: Selected, name: str, winner: str = ""
) -> Path | None:
    """Writes one trial's adapter below `adapters/`; returns its folder, or None if the trial's state is gone or
    damaged.

    The adapter that is there then stays, and `lack` is told unless it is the trial's own.

    Args:
        winner: the trial that won, if this is another one.
    """
    row, folder, manifest, plan = selected.row, context.folder, context.manifest, context.plan
    task, shape, kept = plan.tasks[row.task], plan.geometry, _state(folder, row)
    if isinstance(kept, NoState):
        if (there := trial_in(folder.adapter(name))) != row.trial_id:
            lack(f"adapters/{name}: {kept.why}, so {f'it stays that of {there}' if there else 'there is none'}")
        return None
    recorded = {name: value for name, value in vars(row).items() if name in AdapterCard.model_fields}
    card = AdapterCard(
        **recorded,
        krona_tune_version=manifest.versions["krona_tune"],
        labels=task.candidates if shape.text_to_text else task.labels,
        text_to_text=shape.text_to_text,
        max_length=plan.spec.examples.max_length,
        cut_share=None if facts_of(row.kind).trained_on else manifest.tasks[row.task].cut_share,  # of the study's own
        precision=manifest.precision,
        adapter=check_trial(row.task, row.seed, row.params, row.kind).adapter,
        backbone=manifest.model.name,
        model_type=shape.model_type,
        backbone_width=shape.width,
        backbone_layers=sum(shape.depths.values()),
        backbone_fingerprint=kept.backbone_fingerprint,
        backbone_parts=kept.backbone_parts,
        vocabulary=manifest.model.vocabulary,
        splitting=manifest.model.splitting,
        backbone_config=manifest.model.config,
        test_interval=_test_interval(row),
        selected_by=selected.rule,
        verdicts=selected.verdicts,
        winner=winner,
        synthetic=manifest.tasks[row.task].synthetic,
        study=folder.name,
        seeds=tuple(each.seed for each in selected.seeds),
        command=manifest.command,
        trained_on=facts_of(row.kind).trained_on,
        roles=plan.spec.backbone.corrections,
        quantize=plan.spec.backbone.quantize,
        dequantised_by=plan.source.dequantised_by,
        pad_token_id=manifest.tasks[row.task].pad_token_id if shape.first_stack is Stack.DECODER else None,
        joined_texts=manifest.tasks[row.task].joined_texts,
        decoding=kept.decoding,
        own_task=replace(task, centre=0.0, spread=1.0) if row.task in plan.own_data else None,
    )
    tensors = in_units_of_labels(kept.tensors, task)
    save_adapter(folder.adapter(name), tensors, card, package=package_of(plan.source))
    return folder.adapter(name)


def _test_interval(row: TrialResult) -> tuple[float, float] | None:
    """Returns the 95 % interval of one adapter's test score over the test examples."""
    if row.test_score is None:
        return None
    return estimate([row.test_score], [row.test_resampled], row.test_examples).interval(bounds_of(row.test_metrics))


@dataclass(frozen=True)
class NoState:
    """Says why a trial has no state."""

    why: str


def _state(folder: StudyFolder, row: TrialResult) -> checkpoint.AdapterState | NoState:
    """Returns what a trial's last state in the study's folder holds; downloads the state if it is not there.

    The path that a row names is that of the folder at that time, where another study may be by now. The row of a trial
    that a killed driver left names no state, or an earlier one; then it is that of its last report.
    """
    trial = folder.checkpoints / row.trial_id
    last = [] if row.rung is None else [state_name(row.rung + 1)]
    named = [trial / name for name in (Path(row.checkpoint or "none").name, *last)]
    if not any(path.exists() for path in named):
        RemoteCheckpoints(folder.remote_checkpoints).bring(trial, max(map(rung_of, named)))
    here = next((path for path in named if path.exists()), None)
    if here is None:
        return NoState(f"the state of {row.trial_id} is gone")
    try:
        found = checkpoint.read_trained(here)
    except checkpoint.Unusable as error:
        return NoState(f"the state of {row.trial_id} is damaged: {error}")
    if found.fingerprint != row.fingerprint:
        return NoState(f"the state of {row.trial_id} is of another trial, {found.fingerprint}")
    return found
