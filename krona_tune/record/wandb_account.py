"""Checks before a study begins whether its trials can be sent to W&B, without asking anybody to type a key."""

import re

from krona_tune.refusal import Refusal, refusing

PROJECT = re.compile(r"(?:[^/\\#?%:\s]+/)?[^/\\#?%:]{1,128}")
OFFLINE = ("offline", "dryrun")
"""The words of WANDB_MODE for runs that are only written to disk."""


def refuse_no_account(project: str | None) -> None:
    """Refuses a project that can't be sent to; None passes. The server is not asked: it may come back meanwhile.

    Raises:
        Refusal: wandb is not installed or switched off, the name is none, or no key is known and W&B is not offline.
    """
    if project is None:
        return
    if not PROJECT.fullmatch(project):
        raise Refusal("--wandb", f"{project!r} is no project of W&B", "write PROJECT or TEAM/PROJECT")
    try:
        import wandb
    except ImportError:
        problem = "the package wandb is not installed"
        raise Refusal("--wandb", problem, "pip install 'krona_tune[wandb]'") from None
    with refusing("--wandb", "wandb can't be set up", "fix its settings, or leave --wandb out"):
        mode = wandb.setup().settings.mode
        if mode == "disabled":
            raise Refusal("--wandb", "WANDB_MODE is disabled", "unset it, or leave --wandb out")
        if mode not in OFFLINE and not wandb.login(prompt=False, verify=False):
            fix = "run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline to write to disk only"
            raise Refusal("--wandb", "no key of W&B is known", fix)


def is_offline() -> bool:
    """Returns whether runs are only written to disk."""
    import wandb

    return wandb.setup().settings.mode in OFFLINE
