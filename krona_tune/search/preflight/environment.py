"""Lists the environment variables that krona_tune reads, and masks those that hold secrets."""

import os
from collections.abc import Mapping

from krona_tune.study.redact import redact

MASK = "***"
READ = (
    "CUDA_VISIBLE_DEVICES",
    "XDG_CACHE_HOME",
    "TMPDIR",
    "COLUMNS",
    "KRONA_TUNE_PERSON",
    "KRONA_TUNE_SERVICE",
    "KRONA_TUNE_TRACKING_URI",
    "MALLOC_TRIM_THRESHOLD_",
    "OMP_NUM_THREADS",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "RAY_ADDRESS",
    "RAY_TMPDIR",
    "RAY_AUTH_MODE",
    "MLFLOW_ALLOW_FILE_STORE",
    "MLFLOW_TRACKING_USERNAME",
    "WANDB_BASE_URL",
    "WANDB_ENTITY",
    "WANDB_MODE",
)
"""Variables whose values may be shown; passwords inside addresses are masked."""
SECRET = (
    "KRONA_TUNE_NOTIFY",
    "KRONA_TUNE_TOKEN",
    "HF_TOKEN",
    "RAY_AUTH_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "WANDB_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
"""Variables of which only is told that they are set."""


def variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the variables that are set and that krona_tune, or a package that it calls, reads."""
    there = os.environ if environment is None else environment
    shown = {name: redact(there[name]) for name in READ if name in there}
    return shown | {name: MASK for name in SECRET if name in there}
