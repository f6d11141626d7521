"""Checks whether a tracking store can be used, without MLflow and without credentials."""

import os
import socket
import sqlite3
import ssl
from contextlib import closing, suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import ProxyHandler, build_opener

from krona_tune.refusal import Refusal, refusing, unknown
from krona_tune.study.redact import redact

TRACKING = "KRONA_TUNE_TRACKING_URI"
"""The environment variable that may name the store."""
TIMEOUT_SECONDS = 2.0
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""The stores that are servers, and their default ports."""
WEB = {"http", "https"}
ARTIFACTS = "mlartifacts"
"""The folder of artifacts, beside a database or studies."""
CLIENTS = {"s3": "boto3", "gs": "google.cloud.storage"}
"""The stores at a URI where MLflow writes artifacts, and the package that it does so with."""
HOSTED = {"databricks", "databricks-uc", "uc"}


def refuse_no_store(tracking_uri: str | None) -> None:
    """Refuses a URI that no tracking store can have."""
    if tracking_uri is None:
        return
    with refusing("--tracking-uri", f"{redact(tracking_uri)!r} is no URI", "write http://host:port"):
        parts = urlsplit(tracking_uri)
        scheme, known = _scheme(tracking_uri, parts), {*PORTS, *HOSTED, "sqlite", *_plugins()}
        if scheme in {"", "file"}:
            _refuse_folder(tracking_uri)
        elif scheme not in known:
            raise unknown("--tracking-uri", "scheme", scheme, known)
        elif scheme == "sqlite" and _file(tracking_uri) in {"", ":memory:"}:
            raise Refusal("--tracking-uri", f"{tracking_uri!r} names no file", "write sqlite:////folder/mlflow.db")
        elif scheme in WEB and not parts.hostname:
            raise Refusal("--tracking-uri", f"{tracking_uri!r} names no host", "write http://host:port")
        _ = parts.port  # raises if it is not a port


def explain_unreachable(tracking_uri: str | None) -> str | None:
    """Returns why a study will run without its mirror for now; None if the store answers, or can't be checked.

    It is a warning and not a Refusal, because what is recorded meanwhile is sent when the store is back.
    """
    problem = find_trouble(tracking_uri, TIMEOUT_SECONDS) if tracking_uri else None
    return problem and f"{problem}; Parquet keeps everything, MLflow what reaches it"


def find_trouble(tracking_uri: str, timeout: float) -> str | None:
    """Returns what is wrong with a store, found within about `timeout` seconds; None if nothing is."""
    try:
        _try(tracking_uri, timeout)
    except Exception as error:  # whatever the clients of files, sockets and servers raise
        reason = error.reason if isinstance(error, URLError) else error
        problem = "can't be used" if tracking_uri.startswith("sqlite") else "does not answer"
        return redact(f"{tracking_uri} {problem} ({reason})")
    return None


def _try(uri: str, timeout: float) -> None:
    parts = urlsplit(uri)
    scheme = _scheme(uri, parts)
    if scheme == "sqlite":
        _write(_file(uri), timeout)
    elif scheme in WEB:
        _ask(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health", timeout)
    elif scheme in PORTS and parts.hostname:  # without a host, it is a socket on this machine
        socket.create_connection((parts.hostname, parts.port or PORTS[scheme]), timeout).close()


def _ask(url: str, timeout: float) -> None:
    """Accepts any answer, even a refused login or a certificate that MLflow's own settings may trust."""
    try:
        build_opener(ProxyHandler()).open(url, timeout=timeout).close()
    except HTTPError:
        pass
    except URLError as error:
        if not isinstance(error.reason, ssl.SSLCertVerificationError):
            raise


def _write(name: str, timeout: float) -> None:
    """Begins to write to a sqlite file but changes nothing; if there is none, checks that one could be made."""
    path = Path(name)
    if unquote(name) != name or "?" in name:
        raise OSError("MLflow reads '?' and '%' in a file's name as something else")
    if path.exists():
        with closing(
            sqlite3.connect(f"file:{quote(name)}?mode=rw", timeout=timeout, isolation_level=None, uri=True)
        ) as file:
            file.execute("BEGIN IMMEDIATE")
            return
    nearest = next(parent for parent in path.parents if parent.exists())
    with refusing(str(nearest), "is no folder that can be written"), TemporaryFile(dir=nearest):
        pass


def _scheme(uri: str, parts: SplitResult) -> str:
    return uri if uri in HOSTED else parts.scheme.partition("+")[0]


def artifact_location(tracking_uri: str, storage: str) -> str | None:
    """Returns where a store that is a database keeps artifacts: beside a file, and of a server beside the studies, if
    MLflow can write there; None leaves that to MLflow.

    For its own server that is right; else it takes the current folder of whoever makes the experiment.

    Args:
        storage: the folder of the studies, or its URI.
    """
    scheme = _scheme(tracking_uri, urlsplit(tracking_uri))
    if scheme == "sqlite":
        return (Path(_file(tracking_uri)).resolve().parent / ARTIFACTS).as_uri()
    if scheme not in PORTS or scheme in WEB:
        return None
    if "://" not in storage:
        return (Path(storage).resolve() / ARTIFACTS).as_uri()
    client, password = CLIENTS.get(storage.partition("://")[0], ""), redact(storage) != storage
    return f"{storage.rstrip('/')}/{ARTIFACTS}" if client and _is_there(client) and not password else None


def _is_there(package: str) -> bool:
    with suppress(ModuleNotFoundError):
        return find_spec(package) is not None
    return False


def _file(uri: str) -> str:
    """Returns the file of a sqlite store."""
    return uri.partition(":///")[2]


def _plugins() -> set[str]:
    """Returns the stores that other packages add."""
    return {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}


def _refuse_folder(uri: str) -> None:
    if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in {"true", "1"}:
        fix = "write http://host:port or sqlite:////folder/mlflow.db"
        raise Refusal("--tracking-uri", f"{uri!r} is a folder, which MLflow no longer writes to", fix)
