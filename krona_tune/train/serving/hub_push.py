"""Uploads an exported folder to the model hub. What may be refused is refused before the export. No torch."""

from dataclasses import dataclass
from pathlib import Path

from krona_tune.hub import settle_offline
from krona_tune.refusal import Refusal, refusing, told

MESSAGE = "Export an adapter with krona_tune"
"""The message of the commit."""
AT_HUB = "--push"


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A repository of the hub that an upload may go to."""

    repo: str
    public: bool


def find_destination(repo: str, *, public: bool) -> Destination:
    """Returns where to upload to; asks the hub whether this person and this repository are known, and changes nothing.

    Raises:
        Refusal: `repo` is no ORG/NAME, there is no token or the hub does not take it, the hub can't be reached, or the
            repository is there already and is seen by others than asked for.
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
            private = hub.model_info(repo).private
        except RepositoryNotFoundError:
            return Destination(repo=repo, public=public)
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
        seen = "" if to.public else " --private"
        fix = f"the export is whole in {folder}; upload it again with: hf upload {to.repo} {folder}{seen}"
        raise Refusal(AT_HUB, problem, fix) from error
    return str(address)
