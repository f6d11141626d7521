"""Holds `Study`: plans, runs, stops, reads and uses a study from Python, as the command line's commands do."""

import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from krona_tune.api.asked_request import AskedRequest
from krona_tune.api.asked_tasks import asked_tasks, no_task
from krona_tune.api.chosen_space import choose_space, is_own
from krona_tune.api.driver_process import DriverProcess, last_lines, one_at_a_time, start_driver, stop_driver
from krona_tune.api.exit_status import ENDED_WELL, STOPPED_ITSELF, raise_bad_end
from krona_tune.api.folders import (
    earlier_studies,
    in_storage,
    new_name,
    refuse_odd,
    refuse_taken,
    study_folder,
    with_name,
    with_whole_paths,
)
from krona_tune.api.global_state import keeping_global_state
from krona_tune.api.kept_inputs import (
    REQUEST,
    has_data,
    keep_text,
    kept_model,
    kept_tasks,
    naming_kept_data,
    note_described,
    note_started,
    note_used,
)
from krona_tune.api.plan_view import PlanView
from krona_tune.api.recommendation_view import RecommendationView
from krona_tune.api.recorded_study import RecordedStudy
from krona_tune.api.shipped_spaces import find_space
from krona_tune.api.study_arguments import StudyArguments, StudyKeywords, Tasks
from krona_tune.api.study_request import default_to_glue, resumed_spec, without_ordered
from krona_tune.api.study_run import run_and_report
from krona_tune.hub import home
from krona_tune.record.driver_state import state_since, written_at
from krona_tune.record.ownership import claim, is_locked
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.refused_calls import refusing_at_the_caller
from krona_tune.search.driver_options import DriverOptions
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.planning.recommendation import recommend_point
from krona_tune.search.signals import interrupted_by_signals
from krona_tune.search.start_options import StartOptions
from krona_tune.search.startup.cluster import leave_ray, refuse_no_start
from krona_tune.search.startup.slots import slots, this_machine
from krona_tune.search.terminal.cell_view import in_notebook, silence_widgets
from krona_tune.study.folder import STUDIES, StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.request.field_types import listed
from krona_tune.study.request.given_values import GivenValue, changing, given_by, refuse_name, with_whole_tasks
from krona_tune.study.request.loader import AUTO, dump_spec, load_spec, resolve_tasks, tasks_defined_in
from krona_tune.study.request.plain_yaml import dump_yaml, plain_values
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.validation_errors import refuse_key
from krona_tune.study.settings import SETTINGS

if in_notebook():
    silence_widgets()

if TYPE_CHECKING:
    from krona_tune.search.full_training import FullTraining
    from krona_tune.search.startup.slots import Slots

MADE = Path(AUTO)
"""Stands for the space that is made for a request."""
STOP_SECONDS = 60.0
"""How long `stop` waits for the study's end."""


class Study(RecordedStudy):
    """Plans, runs and reads one study: a request, its folder, and what is recorded there.

    Everything is read when it is asked for::

        study = krona_tune.Study(
            model="sentence-transformers/all-MiniLM-L6-v2",
            tasks={"reviews": {"data": frame, "text": "body", "label": "stars"}},
            name="reviews",
        )
        study.plan()
        study.run()
        study.predict("reviews", ["A fine book."])

    Raises:
        Refusal: from the constructor and from every method, before anything starts, with the place, the value and what
            to do.
    """

    _state_before: float | None = None
    """When the driver before that of `run(wait=False)` wrote last; None if none had."""

    @refusing_at_the_caller
    def __init__(
        self,
        *,
        tasks: Tasks = None,
        model: Any = None,
        tokenizer: Any = None,
        space: str | PathLike[str] | Mapping[str, Any] | None = None,
        name: str | None = None,
        storage: str | PathLike[str] = STUDIES,
        settings: Mapping[str, Any] | None = None,
        **keywords: Unpack[StudyKeywords],
    ) -> None:
        """Describes a study; nothing runs before `run`.

        Args:
            tasks: `glue`, names, a YAML file, or a mapping of names to tasks as YAML describes them, in which `data`
                may also be a pandas frame, a `datasets.DatasetDict`, or a mapping of train, validation and test to
                frames.
            model: a hub name, a folder, or a model of transformers in memory.
            tokenizer: that of a model in memory; a named model has its own.
            space: a search space: a YAML file, the name of one that is shipped, or the same as a mapping. Without it
                krona_tune picks one, or makes one for a model, data or tasks of your own.
            name: the study's name; without it, the space and the time. A study of this name that was begun with the
                same request is resumed.
            storage: a folder or a URI; the study is kept in a folder of it.
            settings: further keys of the YAML, such as `{"schedule.epochs": 4}`.
            keywords: further settings, and options of each start, each as the flag of the command line with its name.
        """
        refuse_odd(name)
        known = ("space", *StudyArguments.__annotations__)
        for odd in sorted(keywords.keys() - {*known}):
            refuse_key("Study", odd, "keyword", lambda key: f"settings={{{key!r}: VALUE}}")
        refuse_unknown("Study", "keyword", known, *sorted(keywords))
        self._start = StartOptions.among(keywords)
        tasks = fspath(tasks) if isinstance(tasks, PathLike) else tasks
        by_key = plain_values(settings or {}, "settings")
        self._picked = space is None
        refuse_name(by_key, "settings: name")
        if space is None:
            words = {"model": model, "data": keywords.get("data"), "tasks": _named(tasks)}
            own = is_own([*_by_key(by_key), *_by_key(_given(words))])
            space = MADE if own else choose_space((), self._start.address, dry_run=True).place
        elif not isinstance(space, Mapping):
            space = find_space(Path(space), "space")
        kept_at = storage_at(str(storage))
        self.folder = kept_at.brought(name or new_name(space)).anchored()
        self._space: Path | Mapping[str, Any] | None = space
        self._tasks, self._model, self._tokenizer = tasks, model, tokenizer
        by_keyword = {name: plain_values(value, name) for name, value in keywords.items() if name in SETTINGS}
        teachers = listed(by_keyword.get("warm_start"))
        if isinstance(teachers, list) and all(isinstance(each, str) for each in teachers):
            begun = self.folder.spec.exists()
            by_keyword["warm_start"] = list(earlier_studies(kept_at, teachers, begun=begun))
        set_to = [with_whole_tasks(each, Path.cwd()) for each in _by_key(by_key)]
        self._given = [*set_to, *given_by(by_keyword)]
        self._request: tuple[bool, StudySpec] | None = None
        self._child: DriverProcess | None = None
        self._joins = self._has_run = False
        by_name = model is None or isinstance(model, str | Path)
        if by_name and tokenizer is not None:
            raise Refusal("tokenizer", "it goes with a model in memory", "leave it out: a named model has its own")
        self._in_memory = not by_name or (isinstance(tasks, Mapping) and any(map(has_data, tasks.values())))
        if not self._in_memory:
            _ = self.request  # bad input is refused at once; data in memory are not written before they are needed

    @classmethod
    @refusing_at_the_caller
    def from_yaml(cls, path: str | PathLike[str], **keywords: Unpack[StudyArguments]) -> "Study":
        """Returns the study that a search space describes.

        Args:
            path: a YAML file, or the name of a space that is shipped.
            keywords: the other arguments of `Study`.
        """
        if "space" in keywords:
            raise Refusal("space", "the path names a space already", "leave space out")
        return cls(space=path, **keywords)

    @classmethod
    @refusing_at_the_caller
    def in_folder(cls, folder: StudyFolder) -> "Study":
        """Returns a study that has begun.

        Args:
            folder: the study's folder; `open_study` finds it by a name or a path.

        Raises:
            Refusal: the folder holds no study.
        """
        read_manifest(folder.manifest)
        study = cls.__new__(cls)
        study.folder, study._start = folder.anchored(), StartOptions()
        study._space, study._request, study._child, study._given, study._seen = None, None, None, [], True
        study._picked = study._joins = study._in_memory = False
        study._has_run = True
        return study

    @property
    @refusing_at_the_caller
    def request(self) -> StudySpec:
        """Returns the whole request; data and a model in memory are written to the study's folder for it, and removed
        if the study has not begun when this process ends."""
        begun = self.folder.spec.exists()
        if self._space is None or (begun and self._has_run):
            return default_to_glue(load_spec(self.folder.spec))
        if self._request is None or self._request[0] != begun:  # another driver may have begun a study of this name
            self._request = begun, self._made_request()
        return self._request[1]

    @refusing_at_the_caller
    def plan(self) -> "PlanView":
        """Checks the request and returns what it will run; nothing is started."""
        refuse_no_start(self._start.address)
        return PlanView(self._plan(), self.folder, self._slots_here)

    @refusing_at_the_caller
    def recommend(self, *, probe: bool = False) -> "RecommendationView":
        """Returns a configuration to use without any search, and which score to expect of it.

        Args:
            probe: train it here for a third of its steps on each task first, and foretell its score from that.
        """
        view = RecommendationView(recommend_point(self._plan()), self._slots_here)
        return view.probed() if probe else view

    @refusing_at_the_caller
    def run(
        self,
        *,
        trials: int | str | None = None,
        time_budget: str | float | None = None,
        wait: bool = True,
        quiet: bool = False,
    ) -> "Study":
        """Runs the study, or resumes it where it was stopped, and shows its progress here.

        Args:
            trials: another number of trials a task; "+8" adds 8 to those of a study that has begun.
            time_budget: another limit in seconds, or a text such as "30m".
            wait: False starts the study in a process of its own and returns; `stop` ends it.
            quiet: print only the results.

        Raises:
            Refusal: the study can't begin or go on as it is asked for, or is being run.
            KeyboardInterrupt: the study was stopped by Ctrl-C, and nothing is lost; `run` resumes it, after a second
                Ctrl-C in a new process.
            RuntimeError: Ray ended during the study, or the study stopped itself, as on a full disk; the message says
                why, and `run` resumes it, after Ray's end in a new process.
        """
        described, kept = without_ordered(self.folder, [] if self._has_run else self._given)
        given = [*described, *given_by({"trials": trials, "time_budget": time_budget})]
        spec = self._spec_to_run(given)
        print(*kept, sep="\n", end="\n" * bool(kept))
        if self.folder.spec.exists() and not self.running and self._is_finished(spec):
            print(f"The study {self.folder.name} is finished. run(trials='+8') adds 8 trials a task.")
            return self
        if wait:
            keys = [each.key for each in changing(given)]
            self._run(lambda: self._spec_to_run(given, spec), quiet=quiet, keys=keys)
        else:
            self._run_apart(spec, given)
        return self

    @refusing_at_the_caller
    def stop(self, seconds: float = STOP_SECONDS) -> "Study":
        """Stops the study where it runs, as Ctrl-C does, and waits for its end; `run` resumes it.

        Args:
            seconds: how long to wait.

        Raises:
            Refusal: no process runs the study, it is on another machine, or it does not end in that time.
        """
        stop_driver(self.folder, self._child if self.running else None, seconds)
        return self

    @property
    def running(self) -> bool:
        """Returns whether a process has the study, here or elsewhere, or one that `run(wait=False)` started begins."""
        return super().running or self._begins

    @property
    def _begins(self) -> bool:
        """Returns whether a process that was started here lives and has not written yet how far the study is."""
        lives = self._child is not None and self._child.poll() is None
        return lives and written_at(self.folder) == self._state_before

    @refusing_at_the_caller
    def wait(self) -> "Study":
        """Waits for the end of a study that `run(wait=False)` started.

        Raises:
            RuntimeError: it ended with an error, or stopped itself; the message holds its last lines, or says why.
        """
        waited, child = self._child is not None or self.running, self._child
        self._child = None
        if child and (status := child.wait()) not in {*ENDED_WELL, -signal.SIGINT}:  # it was stopped as it began
            raise RuntimeError(f"the study's process ended with status {status}:\n{last_lines(self._output)}")
        while self.running:
            time.sleep(0.2)
        state = state_since(self.folder, self._state_before)
        if waited and state and state.reason:
            raise RuntimeError(STOPPED_ITSELF.format(state.reason))
        if waited and state and not state.end and not self.folder.remote:  # of a copy the last state may not be here
            raise RuntimeError("the study's process was killed; .run() resumes the study")
        return self

    @refusing_at_the_caller
    def train(
        self, task: str | None = None, *, trial: str | None = None, all_data: bool = False, seeds: int = 1
    ) -> "Study":
        """Trains what is chosen of a task, or a trial's configuration, again on all training examples or on all data.

        Args:
            task: the task whose chosen configuration is trained; a study of one task needs none.
            trial: the id of a trial whose configuration is trained instead.
            all_data: train on the validation and the test half, too; then no score can be measured.
            seeds: how many times it is trained, each with a seed of its own.

        Raises:
            Refusal: the study has not begun, has no such task, trial or winner, or several tasks and none is named.
        """
        if not self.folder.spec.exists():
            raise Refusal("train", f"the study {self.folder.name!r} has not begun", "run it first")

        def asked(plan: "Plan") -> "FullTraining":
            from krona_tune.search.full_training import FullTraining, configuration

            return FullTraining(
                of=configuration(self._records().trials, plan.spec, self.manifest.tasks, task, trial),
                seeds=seeds,
                everything=all_data,
            )

        resources = [each for each in changing(self._given) if each.key.startswith("resources.")]
        self._run(lambda: resumed_spec(self.folder, resources), quiet=False, asked=asked)
        return self

    def _made_request(self, more: Sequence[GivenValue] = ()) -> StudySpec:
        """Makes the request anew, with `more` values than the constructor was given."""
        if not self.folder.spec.exists():
            refuse_taken(self.folder, self.folder.name)
            if is_locked(self.folder):  # its driver reads the data that would be written anew here
                raise Refusal("name", f"a run of the study {self.folder.name!r} begins", "wait for it, or name another")
            note_described(self.folder)
        path = self._space
        assert path is not None, "a study that was opened has its request"
        if self._picked and self.folder.spec.exists():
            path = self.folder.spec  # it keeps the space that was picked or made for it
        elif self._picked and path is not MADE and self._joins:
            path = choose_space((), self._start.address).place
        if isinstance(path, Mapping):
            space = plain_values(path, "space")
            if isinstance(tasks := space.get("tasks"), dict):
                space["tasks"] = resolve_tasks(tasks, Path.cwd(), "space: tasks")
            path = keep_text(self.folder, "space.yaml", dump_yaml(space))
        asked = self._asked_tasks(path)
        model = None if self._model is None else kept_model(self._model, self._tokenizer, self.folder)
        given, _ = without_ordered(self.folder, self._given)
        given += [*more, *_by_key(_given({"tasks": asked, "model": model}))]
        if self.folder.spec.exists():
            return resumed_spec(self.folder, given, path, adds=False)
        request = AskedRequest(space=None if path is MADE else path, given=given)
        with naming_kept_data(self.folder):
            chosen = request.chosen(self._start.address, dry_run=not self._joins)
        return with_whole_paths(request.spec(chosen, self.folder.name))

    def _asked_tasks(self, space: Path) -> Any:
        if self._tasks is None:
            return None
        defined = {} if space is MADE else tasks_defined_in(space)
        if not isinstance(self._tasks, Mapping):
            words = self._tasks if isinstance(self._tasks, str) else ",".join(self._tasks)
            return asked_tasks(words, defined)
        if not self._tasks:
            raise no_task(self._tasks, defined)
        return resolve_tasks(kept_tasks(self._tasks, self.folder), Path.cwd(), "tasks")

    @property
    def _slots_here(self) -> "Slots | None":
        """Returns what trials run on, here; None where a study joins a cluster. Raises a Refusal if none can run."""
        return None if self._start.address else slots(this_machine(), self.request.resources)

    def _plan(self) -> "Plan":
        _ = self._slots_here
        begun = read_manifest(self.folder.manifest) if self.folder.manifest.exists() else None
        with naming_kept_data(self.folder):
            return make_plan(with_whole_paths(self.request), str(self._place), begun)

    @property
    def _place(self) -> Path:
        """Returns the file that the request was read from."""
        return self._space if isinstance(self._space, Path) and not self.folder.spec.exists() else self.folder.spec

    @property
    def _output(self) -> Path:
        return self.folder.inputs / "output.txt"

    def _spec_to_run(self, given: Sequence[GivenValue], made: StudySpec | None = None) -> StudySpec:
        """Returns the request with the given values that may change in a study that has begun; of a new one `made`, if
        that is given, and nobody else has begun it meanwhile."""
        if self.folder.spec.exists():
            _ = self.request
            return resumed_spec(self.folder, changing(given))
        if made:
            return made
        more = [each for each in changing(given) if each not in self._given]
        if not (self._picked and self._start.address):
            if self._in_memory:
                self._request = None  # a study of its name may have written other data since
            return self._made_request(more) if more else self.request
        had_ray = "ray" in sys.modules and sys.modules["ray"].is_initialized()
        self._joins = True  # what fits the cluster is known once it is joined
        try:
            return self._made_request(more)
        finally:
            self._joins = False
            if not had_ray:
                leave_ray(lost=False)  # the driver, which may be another process, joins it itself

    def _run(
        self,
        read_spec: Callable[[], StudySpec],
        *,
        quiet: bool,
        keys: Iterable[str] = (),
        asked: "Callable[[Plan], FullTraining] | None" = None,
    ) -> None:
        """Runs the study here. Its request is read when no other driver can change it any more."""
        begun = self.folder.spec.exists()
        with (
            one_at_a_time(),
            keeping_global_state(),
            interrupted_by_signals(),
            naming_kept_data(self.folder),
            claim(self.folder) as waited,
        ):
            if not begun:
                refuse_taken(self.folder, self.folder.name)  # another driver may have begun it meanwhile
            spec = read_spec()
            note_used(dump_spec(spec))
            told = DriverOptions(
                command=f"krona_tune.Study(name={self.folder.name!r}).run()",
                resumed_by=".run()",
                start=replace(self._start, quiet=quiet),
                keys=keys,
                waited=waited,
            )
            why = "the study is resumed" if begun else ""
            outcome = run_and_report(spec, str(self._place), why, self.folder, told, asked=asked)
            self._has_run |= asked is None  # a full training takes nothing of what was described
        if outcome:
            raise_bad_end(outcome)

    def _run_apart(self, spec: StudySpec, given: Sequence[GivenValue]) -> None:
        """Starts the command line's own driver in a process that outlives this one."""
        if self.running:
            raise Refusal("run", f"the study {self.folder.name!r} is being run", "wait for it")
        self.plan()  # refuses here what the process would refuse unseen
        if self.folder.spec.exists():
            words = ["resume", self.folder.name, *(word for each in changing(given) for word in each.words)]
        else:
            request = keep_text(self.folder, REQUEST, dump_spec(spec))
            words = ["run", "--space", str(request), "--name", self.folder.name]
        words += ["--storage", self.folder.storage, *replace(self._start, quiet=True).words()]
        self._state_before = written_at(self.folder)
        note_started(self.folder)
        note_used(dump_spec(spec))
        self._has_run = True
        self._child = start_driver(words, self._output, environment=self._start.environment())


def _by_key(values: Mapping[str, Any]) -> list[GivenValue]:
    """Returns the values that a session gives by their keys."""
    return [GivenValue(key, value, key) for key, value in values.items()]


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that a session gives; None gives none."""
    return {name: value for name, value in values.items() if value is not None}


def _named(tasks: Any) -> Any:
    """Returns tasks as they are, but those that words name, of which files hold tasks of one's own."""
    if isinstance(tasks, Mapping) or not tasks:
        return tasks
    return asked_tasks(tasks if isinstance(tasks, str) else ",".join(tasks), {})


@refusing_at_the_caller
def open_study(study: str | PathLike[str], storage: str | PathLike[str] = STUDIES) -> Study:
    """Opens a study that has begun; it may still run.

    Args:
        study: its name, or its folder such as `studies/NAME`.
        storage: the folder or URI where a study of that name is kept. Where it is given, a name without `/` is no
            folder's.

    Raises:
        Refusal: there is no such study.
    """
    place, kept_at = StudyFolder(with_name(home(Path(study)))), storage_at(str(storage))
    if in_storage(kept_at, str(study)) or (not place.manifest.exists() and len(Path(study).parts) == 1):
        place = study_folder(kept_at, str(study))
    return Study.in_folder(place)
