"""Refuses a request that can't be met: as it is written, on its backbone, with its space and with its tasks."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec

from krona_tune.adapters.method_table import TrainedModelPart, is_peft, method_named
from krona_tune.adapters.placement import refuse_whole_blocks
from krona_tune.backbones.geometry import Geometry
from krona_tune.data.tasks import TAKEN_NAMES, TASKS, Task
from krona_tune.refusal import Refusal, lacking_package, refuse_unknown
from krona_tune.search.planning.earlier_study import BY_LOSS, EarlierStudy
from krona_tune.search.planning.space import Space
from krona_tune.study.request.metric_table import bounds_of
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import PLACES
from krona_tune.train.backbone_source import FEWER_BITS, BackboneSource

QUANTIZING = ("bitsandbytes", "accelerate")
"""The packages that quantise a backbone as it is loaded."""


def check_request(spec: StudySpec, place: str) -> None:
    """Refuses what can be refused without the backbone and the data. `place` is the file that the request was read
    from."""
    _check_tasks(spec, place)
    _check_methods(spec, place)
    _check_search(spec)
    _check_quantized(spec, place)
    _check_named(spec, place)


def on_backbone(spec: StudySpec, source: BackboneSource, place: str) -> Geometry:
    """Returns the geometry of the backbone for the request's tasks. Refuses what the backbone can't do."""
    geometry = source.geometry
    if spec.backbone.quantize and source.config.get(FEWER_BITS) is not None:
        problem = f"{source.name}'s weights are kept in fewer bits already"
        raise Refusal(f"{place}: backbone.quantize", problem, "leave it out, or give the model that it was made of")
    if geometry.positions is not None and spec.examples.max_length > geometry.positions:
        problem = f"{spec.examples.max_length} tokens, {source.name} reads {geometry.positions}"
        raise Refusal(f"{place}: examples.max_length", problem, f"write {geometry.positions} or less")
    written = [task for task in spec.tasks if task in spec.own_tasks and spec.own_tasks[task].target]
    if written:
        return _writing(spec, geometry, written, source.name)
    if source.config.get("is_decoder") and geometry.reads_first_token:
        problem = "a head reads the first token, which sees no other in a decoder"
        raise Refusal(f"{source.name}: config.json: is_decoder", problem, 'write "is_decoder": false into it')
    return geometry


def check_space(spec: StudySpec, space: Space, place: str, *, new: bool) -> None:
    """Refuses places that an adapter can't have. A study that has begun, so is not `new`, goes on with whole blocks."""
    for knobs in space.knobs.values() if new else ():
        for roles in knobs["roles"].ends() if "roles" in knobs else ():
            refuse_whole_blocks(str(roles), f"{place}: adapter.roles")
    _refuse_parts_of_codes(spec, space, place)


def check_scores(spec: StudySpec, tasks: Mapping[str, Task], learned_from: Iterable[EarlierStudy]) -> None:
    """Refuses scores that can't be compared: of several tasks, of a least gain, of what the study learns from."""
    _check_shared_scores(spec, tasks)
    _check_least_gain(spec, tasks)
    _refuse_other_metrics(learned_from, tasks)


def _writing(spec: StudySpec, geometry: Geometry, written: Sequence[str], model: str) -> Geometry:
    """Returns the geometry of a backbone that writes. Refuses one that can't, or has no room for the answers."""
    if geometry.is_encoder:
        fix = "take a decoder or an encoder-decoder, or give the task a label"
        raise Refusal(f"tasks.{written[0]}.target", f"{model} is an encoder, which writes no text", fix)
    labelled = [task for task in spec.tasks if task not in written]
    if labelled and not geometry.text_to_text:
        problem = f"{model} is a decoder: it answers {written[0]} with text, {labelled[0]} with a head"
        raise Refusal("tasks", problem, "make two studies of them")
    for task in written:
        most = spec.own_tasks[task].max_new_tokens
        read = 0 if geometry.is_encoder_decoder else spec.examples.max_length
        if geometry.positions is not None and read + most > geometry.positions:
            whole = f"{most} tokens after {read} of examples.max_length" if read else f"{most} tokens"
            problem, fix = f"{whole}, {model} has room for {geometry.positions}", "write less of them"
            raise Refusal(f"tasks.{task}.max_new_tokens", problem, fix)
    return geometry.writing()


def _check_tasks(spec: StudySpec, place: str) -> None:
    for task in spec.own_tasks:
        if task.lower() in TAKEN_NAMES:
            fix = "choose another name" + f", or write {task}: glue for GLUE's" * (task.lower() in TASKS)
            raise Refusal(f"{place}: tasks.{task}", "this name has a meaning already", fix)
    known = {*TASKS, *spec.own_tasks}
    refuse_unknown(f"{place}: tasks", "task", known, *spec.tasks)
    for section in ("schedule", "examples"):
        for name, setting in vars(getattr(spec, section)).items():
            named = setting if isinstance(setting, dict) else ()
            refuse_unknown(f"{place}: {section}.{name}", "task", {*known, "default"}, *named)


def _check_methods(spec: StudySpec, place: str) -> None:
    for section, names in (("adapter.method", spec.domains()["method"].ends()), ("methods", spec.methods)):
        for name in names:
            package = method_named(str(name), f"{place}: {section}").needs
            if package and find_spec(package) is None:
                fix = f"pip install 'krona_tune[{package}]'"
                raise Refusal(f"{place}: {section}", f"{name} needs the package {package}", fix)


def _check_named(spec: StudySpec, place: str) -> None:
    """Refuses a placement beside the maps that a person has named."""
    if spec.backbone.target_modules is None:
        return
    for section, knobs in (
        ("adapter", spec.adapter),
        *((f"methods.{name}", own) for name, own in spec.methods.items()),
    ):
        if asked := next((name for name in PLACES if name in knobs), None):
            problem = "backbone.target_modules fixes the maps that carry an adapter, so that nothing is left to place"
            raise Refusal(f"{place}: {section}.{asked}", problem, "leave one of them out; null leaves this one out")


def _check_quantized(spec: StudySpec, place: str) -> None:
    """Refuses quantised weights where a package for them is missing, or a method would train them."""
    if spec.backbone.quantize is None:
        return
    where = f"{place}: backbone.quantize"
    for package in QUANTIZING:
        if find_spec(package) is None:
            raise lacking_package(where, package, "quantize")
    trained = [
        name for name in spec.domains()["method"].ends() if method_named(str(name)).trained_part is TrainedModelPart.ALL
    ]
    if trained:
        raise Refusal(where, f"{trained[0]} trains the weights, which are quantised", "leave the method or this out")
    for name in filter(is_peft, map(str, spec.domains()["method"].ends())):
        from krona_tune.adapters.peft_class import ON_QUANTIZED, plain_name, variants_in

        odd = next((each for each in variants_in(name, spec.domains(name)) if each not in ON_QUANTIZED), None)
        if plain_name(name) not in ON_QUANTIZED or odd:
            known = ", ".join(f"peft:{each}" for each in sorted(ON_QUANTIZED))
            said = f"{name} with the fields of {odd}" if odd else name
            raise Refusal(where, f"{said} is not known to work on quantised weights", f"take one of {known}")


def _refuse_parts_of_codes(spec: StudySpec, space: Space, place: str) -> None:
    """Refuses a method of peft on a part of a quantised map, or on a transposed one: it would read their codes."""
    ours = [name for name in filter(is_peft, space.methods) if spec.backbone.quantize]
    odd = next((site for site in space.geometry.sites if site.rows or site.transposed), None)
    if ours and odd:
        problem = f"{odd.key} is a part of a map, or a transposed one, which {ours[0]} can't adapt in few bits"
        raise Refusal(f"{place}: backbone.quantize", problem, "take krona or lora, or leave this out")


def _check_search(spec: StudySpec) -> None:
    search = spec.search
    if search.shared and (search.per_method or search.pareto):
        problem = "one configuration for all tasks has no methods and no sizes of its own"
        raise Refusal("--shared", problem, "leave out search.per_method and --objective pareto")
    if search.shared and spec.finalists.top > 1:
        raise Refusal("--shared", f"finalists.top {spec.finalists.top}: one configuration wins for all", "write 1")
    if search.shared and not search.early_stopping:
        problem = "search.early_stopping is false: configurations for all tasks are stopped between tasks"
        raise Refusal("--shared", problem, "leave it out")
    sampler = f"sampler {search.sampler}"
    if search.first_point and not search.sampled.in_order:
        problem = f"{search.sampler} has no point number {search.first_point}"
        raise Refusal("search.first_point", problem, "leave it out, or write search.sampler: sobol")
    several = {"search.per_method": search.per_method, "--shared": search.shared, "pareto": search.pareto}
    asked = bool(spec.finalists.default or spec.finalists.budget)
    _refuse_beside("finalists", "default and budget choose one configuration of each task", asked, several)
    others = {"search.objective pareto": search.pareto, "search.warm_start": search.learns_from}
    _refuse_beside("search.sampler", f"{search.sampler} takes its own points in order", search.sampled.in_order, others)
    if search.front and not search.pareto:
        problem = "it says how the best score at every size is looked for"
        raise Refusal("search.front", problem, "write search.objective: pareto, or search.front: null")
    others = {"search.per_method": search.per_method, sampler: not search.sampled.learns}
    _refuse_beside("search.front", "the model of the study proposes", search.front is not None, others)
    others = {
        "search.warm_start": search.learns_from,
        "search.per_method": search.per_method,
        "--shared": search.shared,
        sampler: search.sampled.in_order or search.sampled.of_all_tasks,
    }
    _refuse_beside("search.taught", "the recorded curves say which points come first", bool(search.taught), others)


def _refuse_beside(place: str, why: str, asked: bool, others: Mapping[str, object]) -> None:
    """Refuses a setting, if it is asked for beside another one that chooses the points too."""
    if asked and (other := next((key for key, on in others.items() if on), None)):
        raise Refusal(place, f"{why}, and {other} says it too", "leave one out")


def _refuse_other_metrics(studies: Iterable[EarlierStudy], tasks: Mapping[str, Task]) -> None:
    """Refuses curves of a task of the same name that is scored in another way."""
    for study in studies:
        for name in study.metrics.keys() & tasks.keys():
            own = BY_LOSS if tasks[name].tested_by_other_scores else tasks[name].metrics
            theirs, ours = (" and ".join(each) for each in (study.metrics[name], own))
            if theirs != ours:
                problem = f"{name} is scored by {theirs} in {study.name}, by {ours} here"
                raise Refusal("--warm-start", problem, "leave it out, or give the task another name")


def _check_shared_scores(spec: StudySpec, tasks: Mapping[str, Task]) -> None:
    """Refuses a mean over tasks of losses and of other scores."""
    by_loss = [name for name, task in tasks.items() if task.judged_by_loss]
    if spec.search.shared and 0 < len(by_loss) < len(tasks):
        problem = f"{by_loss[0]} is compared by the loss of its targets, which has no mean with other scores"
        raise Refusal("--shared", problem, "write evaluate: generate, or leave it out")


def _check_least_gain(spec: StudySpec, tasks: Mapping[str, Task]) -> None:
    """Refuses to end searches by a gain that nobody has written, where a score may have any unit."""
    if not spec.search.stop or "least_gain" in spec.search.model_fields_set:
        return
    for name, task in tasks.items():
        if task.judged_by_loss or not bounds_of(task.metrics):
            gain = f"a gain of {spec.search.least_gain:g} may be much or nothing"
            problem = f"the score of {name} ({' and '.join(task.metrics)}) has no known bounds, so that {gain}"
            raise Refusal("search.stop", problem, "write search.least_gain too, in the unit of the score")
