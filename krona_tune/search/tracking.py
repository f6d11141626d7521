"""Whether a tracking server answers, asked without MLflow and without credentials."""

import socket
from contextlib import suppress
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from krona_tune.study.masked import masked

TIMEOUT_SECONDS = 2.0
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def unreachable(tracking_uri: str | None) -> str | None:
    """Why a study will run without its mirror for now; None where the server answers, or the store is a file.

    A warning and no refusal: what is recorded meanwhile is sent when the server comes back.
    """
    if tracking_uri is None:
        return None
    parts = urlsplit(tracking_uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme not in PORTS or not parts.hostname:
        return None
    try:
        if scheme in {"http", "https"}:
            _ask(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health")
        else:
            socket.create_connection((parts.hostname, parts.port or PORTS[scheme]), TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        return f"{masked(tracking_uri)} does not answer ({reason}); Parquet keeps everything, MLflow what comes through"
    return None


def _ask(url: str) -> None:
    """Any answer will do, a refused login too."""
    with suppress(HTTPError):
        build_opener(ProxyHandler()).open(url, timeout=TIMEOUT_SECONDS).close()
