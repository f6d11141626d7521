"""Holds what a person asks of a new study with flags, reads each value once, and makes the request of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from krona_tune.api.asked_tasks import asked_tasks
from krona_tune.api.chosen_space import ChosenSpace, choose_space
from krona_tune.api.folders import earlier_studies
from krona_tune.api.shipped_spaces import find_space
from krona_tune.api.study_request import spec_of
from krona_tune.record.storage import Storage
from krona_tune.study.request.given_values import GivenValue, given_by, read_settings, with_whole_tasks
from krona_tune.study.request.loader import tasks_defined_in
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.settings import flag_of


@dataclass(frozen=True, kw_only=True)
class AskedRequest:
    """Holds what a person asks of a study.

    Attributes:
        space: the file of the space that is named; None: one is picked or made.
        given: the values of all keys, those of `--set` first.
    """

    space: Path | None
    given: Sequence[GivenValue]

    @classmethod
    def of(
        cls,
        *,
        space: Path | None = None,
        place: str = "--space",
        tasks: str | None = None,
        model: str | None,
        settings: Sequence[str] | None,
        keywords: Mapping[str, Any],
    ) -> Self:
        """Returns what a person asks.

        Args:
            space: a file, or the name of a shipped space.
            place: what gave the space, for messages.
            tasks: names and files, separated by commas.
            settings: texts such as `adapter.scale=2`.
            keywords: the other settings by their keywords.

        Raises:
            Refusal: there is no such space or task, or a value can't be read.
        """
        path = find_space(space, place) if space else None
        named = asked_tasks(tasks, tasks_defined_in(path) if path else {}) if tasks else None
        by_flag = given_by({"tasks": named, "model": model, **keywords})
        set_to = (with_whole_tasks(each, Path.cwd()) for each in read_settings(settings or ()))
        return cls(space=path, given=[*set_to, *by_flag])

    def with_earlier(self, storage: Storage, *, begun: bool = False) -> Self:
        """Returns the same with whole paths of the studies that it learns from, which it may name. Raises a Refusal if
        one is not there, unless the study has `begun`."""

        def whole(each: GivenValue) -> GivenValue:
            named = each.by == flag_of("warm_start")
            return each._replace(value=list(earlier_studies(storage, each.value, begun=begun))) if named else each

        return replace(self, given=list(map(whole, self.given)))

    def chosen(self, address: str | None = None, *, dry_run: bool = False) -> ChosenSpace:
        """Returns the space that is named, or what `choose_space` chooses."""
        return ChosenSpace(source=self.space) if self.space else choose_space(self.given, address, dry_run=dry_run)

    def spec(self, chosen: ChosenSpace, name: str) -> StudySpec:
        """Returns the request of a study of this name in a space. Raises a Refusal if a value does not fit."""
        return spec_of(chosen.source, [*self.given, GivenValue("name", name, "name")]).settled()
