"""Uploads an exported folder to the model hub, with the licence of its backbone. No torch.

What may be refused is refused before the export.
"""

import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from krona_tune.adapters.export_forms import Form, Licence
from krona_tune.adapters.model_card import HUB_NAME, README
from krona_tune.hub import refuse_unreadable, settle_offline
from krona_tune.refusal import Refusal, refusing, told
from krona_tune.train.backbone_source import find_backbone

logger = logging.getLogger(__name__)

KEYS = ("license", "license_name", "license_link")
"""What the header of a card says of a licence; the last two are of one that the hub has no word for."""


def find_licence(backbone: str, model: str | None = None) -> Licence:
    """Returns what the backbone's card says of its licence, by the keys of the hub.

    Args:
        backbone: the hub name or folder that the adapter's card names.
        model: where the same backbone is now, if not there.

    Raises:
        Refusal: no card can be found, or it names none.
    """
    for header in _headers([model, backbone] if model else [backbone]):
        if found := _licence_in(header):
            return found
    problem = f"the licence of {backbone} is unknown"
    raise Refusal("--license", problem, "name it as the hub does, for example --license apache-2.0")


def licence_beside(folder: str | None) -> Licence:
    """Returns what a card in a backbone's folder says of its licence; nothing if there is none. Asks nobody else."""
    return _licence_in(_local_header(Path(folder) / README)) if folder else {}


def _licence_in(header: Mapping[str, Any]) -> Licence:
    found = {key: header[key] for key in KEYS if isinstance(header.get(key), str)}
    if not found.get("license"):
        return {}
    if not found.get("license_link", "https://").startswith("https://"):
        del found["license_link"]  # of a file that is beside the backbone only
    return found


def _headers(names: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yields the header of each card that can be read, the local ones first."""
    for name in names:
        with suppress(Refusal):
            if folder := find_backbone(name).folder:
                yield _local_header(Path(folder) / README)
    for name in names:
        if HUB_NAME.fullmatch(name):
            yield _header_on_hub(name)


def _local_header(path: Path) -> Mapping[str, Any]:
    settle_offline()
    from huggingface_hub import metadata_load

    refuse_unreadable(path)
    with suppress(Exception):  # whatever a file that others wrote makes YAML raise
        return metadata_load(path) or {}
    return {}


def _header_on_hub(name: str) -> Mapping[str, Any]:
    settle_offline()
    from huggingface_hub import HfApi

    try:
        card = HfApi().model_info(name).card_data
    except Exception:  # no network, no such model, no right to see it
        logger.info("the card of %s could not be read", name, exc_info=True)
        return {}
    return card.to_dict() if card else {}


MESSAGE = "Export an adapter with krona_tune"
"""The message of the commit."""
AT_HUB = "--push"


OTHER_MARKS = {form: sorted({each.facts.mark for each in Form} - {form.facts.mark}) for form in Form}
"""The files that an upload of each form would leave beside it, and that may be loaded in its place. Those of peft have
the same one, so that the last one stays."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A repository of the hub that an upload may go to."""

    repo: str
    public: bool


def find_destination(repo: str, form: Form, *, public: bool) -> Destination:
    """Returns where to upload to; asks the hub whether this person and this repository are known, and changes nothing.

    Raises:
        Refusal: `repo` is no ORG/NAME, there is no token or the hub does not take it, the hub can't be reached, or the
            repository is there already and is seen by others than asked for, or holds an export of another form.
    """
    settle_offline()
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    name_it = "write ORG/NAME, for example --push mine/cola-krona"
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise Refusal(AT_HUB, f"{repo!r} is no name on the hub", name_it) from None
    if repo.count("/") != 1:
        raise Refusal(AT_HUB, f"{repo!r} is no name on the hub", name_it)
    if constants.HF_HUB_OFFLINE:
        problem = "the hub can't be reached, or HF_HUB_OFFLINE is set"
        raise Refusal(AT_HUB, problem, "export without --push, and upload the folder later")
    if get_token() is None:
        raise Refusal(AT_HUB, "no token of the hub is known", "set HF_TOKEN, or run `hf auth login`")
    hub = HfApi()
    with refusing(AT_HUB, "the hub can't be asked", "try again, or export without --push and upload the folder later"):
        try:
            hub.whoami()
        except HfHubHTTPError as error:
            if error.response.status_code not in {401, 403}:
                raise
            fix = "make one that may write at the hub's settings, and set HF_TOKEN to it"
            raise Refusal(AT_HUB, "the hub does not take the token", fix) from None
        try:
            found = hub.model_info(repo)
        except RepositoryNotFoundError:
            return Destination(repo=repo, public=public)
    private, files = found.private, [file.rfilename for file in found.siblings or ()]
    if other := next((file for file in files for mark in OTHER_MARKS[form] if fnmatch(file, mark)), None):
        problem = f"{repo} holds {other}, by which another form than {form} is loaded"
        raise Refusal(AT_HUB, problem, "choose another name, or delete that export there")
    if private == public:
        seen, fix = ("private", "leave --public out") if private else ("public", "add --public")
        raise Refusal(AT_HUB, f"{repo} is there already and is {seen}", f"{fix}, or choose another name")
    return Destination(repo=repo, public=public)


def push(to: Destination, folder: Path) -> str:
    """Uploads all files of a folder; returns their address. Files of other names that are there already stay.

    Raises:
        Refusal: the hub did not confirm that it has everything.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        address = hub.create_repo(to.repo, private=not to.public, exist_ok=True)
        hub.upload_folder(repo_id=to.repo, folder_path=folder, commit_message=MESSAGE)
    except Exception as error:  # whatever the hub, the network and their clients raise
        problem = f"the hub did not confirm the upload to {to.repo} ({told(error)})"
        words = ["hf", "upload", to.repo, str(folder), *([] if to.public else ["--private"])]
        fix = f"the export is whole in {folder}; upload it again with: {shlex.join(words)}"
        raise Refusal(AT_HUB, problem, fix) from error
    return str(address)
