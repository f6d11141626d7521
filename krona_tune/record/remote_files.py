"""Reads and writes files below a URI with fsspec: object stores, servers, folders. Refuses what can't be reached."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from krona_tune.atomic_write import atomic_path
from krona_tune.refusal import Refusal, told, unknown
from krona_tune.study.redact import redact


@dataclass(frozen=True, kw_only=True)
class UriProtocol:
    """Holds what is true of one protocol.

    Attributes:
        extra: the extra of this package that it needs; empty: none.
        bucket: the first name is a bucket, which is not made here.
        local: its files are in folders of this machine.
        folders: a folder must exist before a file in it.
        renames: a file comes into place bit by bit, but a finished one can be renamed to it in one step.
    """

    extra: str = ""
    bucket: bool = False
    local: bool = False
    folders: bool = False
    renames: bool = False


PROTOCOLS: dict[str, UriProtocol] = {
    **dict.fromkeys(("s3", "s3a"), UriProtocol(extra="s3", bucket=True)),
    **dict.fromkeys(("gs", "gcs"), UriProtocol(extra="gs", bucket=True)),
    **dict.fromkeys(("file", "local"), UriProtocol(local=True)),
    **dict.fromkeys(("sftp", "ssh"), UriProtocol(folders=True, renames=True)),
    **dict.fromkeys(("ftp", "hdfs", "smb", "webhdfs"), UriProtocol(folders=True)),
    **dict.fromkeys(("abfs", "az"), UriProtocol()),
}
"""The protocols that are named to somebody who wrote an unknown one; fsspec knows more, each a plain one."""


def is_uri(place: str) -> bool:
    """Returns whether a place is a URI; else it is a path."""
    return "://" in place


def _is_cut_off(files: Any) -> bool:
    """Returns whether a file system that is kept for further use, as that of sftp, has lost its connection: it would
    never connect again."""
    transport = getattr(getattr(files, "client", None), "get_transport", lambda: files)()
    return transport is None or not getattr(transport, "is_active", lambda: True)()


class Store:
    """Files by their names below a URI or folder. Every thread should open its own.

    Raises:
        Refusal: the protocol is unknown, or needs a package that is not installed.
    """

    def __init__(self, uri: str) -> None:
        from fsspec import available_protocols
        from fsspec.core import url_to_fs

        self.uri = uri
        scheme = uri.partition("://")[0].lower() if is_uri(uri) else "file"
        if scheme not in available_protocols() and "::" not in uri:
            raise unknown("--storage", "protocol", scheme, PROTOCOLS)
        self._protocol = PROTOCOLS.get(scheme, UriProtocol())
        options = {"auto_mkdir": True} if self._protocol.local else {}
        try:
            self._files, path = url_to_fs(uri, **options)
            if _is_cut_off(self._files):
                type(self._files).clear_instance_cache()
                self._files, path = url_to_fs(uri, **options)
        except ImportError as error:
            extra = self._protocol.extra
            fix = f"pip install 'krona_tune[{extra}]'" if extra else str(error)
            raise Refusal("--storage", f"{redact(uri)} needs a package that is not installed", fix) from None
        except ValueError as error:
            raise Refusal("--storage", f"{redact(uri)}: {error}", "write protocol://place/folder") from None
        self._root = str(path).rstrip("/")

    def read(self, name: str) -> bytes:
        """Returns a file's content. Raises FileNotFoundError if there is none."""
        return bytes(self._files.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Writes the whole file at once, as far as the store can; in a folder it is the old file or the new one."""
        path = self._path(name)
        above, _, own = path.rpartition("/")
        if self._protocol.folders:
            self._files.makedirs(above, exist_ok=True)
        if self._protocol.renames:
            unfinished = f"{above}/.{own}.{uuid4().hex[:8]}.tmp"
            self._files.pipe_file(unfinished, content)
            self._files.mv(unfinished, path)
            return
        if not self._protocol.local:
            self._files.pipe_file(path, content)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(Path(path)) as temporary:
            temporary.write_bytes(content)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def remove_all(self, names: Iterable[str]) -> None:
        """Removes files, those that are there, with as few requests as the store can."""
        left = list(names)
        if left and not self._protocol.folders:
            with suppress(FileNotFoundError):  # somebody else removes them, too
                self._files.rm([self._path(name) for name in left])
                return
        for name in left:
            self.remove(name)

    def below(self) -> list[str]:
        """Returns the names of all files, also in folders, as `read` takes them."""
        self._files.invalidate_cache()
        return [str(path).removeprefix(f"{self._root}/") for path in self._files.find(self._root)]

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of all files by their names, also in folders."""
        self._files.invalidate_cache()
        found = self._files.find(self._root, detail=True)
        return {str(path).removeprefix(f"{self._root}/"): int(info["size"] or 0) for path, info in found.items()}

    def names(self, folder: str = "") -> list[str]:
        """Returns the names directly in a folder, sorted; empty if there is no folder."""
        self._files.invalidate_cache()
        try:
            paths = self._files.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in paths)

    def has_bucket(self) -> bool:
        """Returns whether the bucket is there; True if the protocol has no buckets, or the bucket can't be checked."""
        try:
            if self._protocol.bucket:
                self._files.info(self._root.partition("/")[0])
        except FileNotFoundError:
            return False
        except Exception:
            return True
        return True

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


class UnreachableStore(Refusal):
    """Refuses a request because a store does not answer as it should, now or with these credentials."""


OF_A_WRONG_URI = (ImportError, ValueError, TypeError)
"""The errors of a URI that no store can have."""


@contextmanager
def refusing_store_errors(uri: str) -> Iterator[None]:
    """Turns every error of the store in this context into a Refusal of `--storage`, as a rule an UnreachableStore."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        fix = "give credentials that may list, read and write there, or name another place"
        kind = Refusal if isinstance(error, OF_A_WRONG_URI) else UnreachableStore
        raise kind("--storage", redact(f"{uri}: {told(error)}"), fix) from None
