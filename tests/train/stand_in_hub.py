"""Stands in for the model hub on this machine: it answers what huggingface_hub asks for an upload, and keeps it."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "known" * 4


@dataclass
class Hub:
    """What the hub has: repositories by name, private or not, their files and the messages of their commits.

    `licences` are those of models by name. A request whose path contains `breaks_at` loses its connection.
    """

    address: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    licences: dict[str, str] = field(default_factory=dict)
    breaks_at: str = "nothing"
    asked: list[str] = field(default_factory=list)

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/api/whoami-v2":
            return 200, {"type": "user", "name": "me", "orgs": []}
        name = path.removeprefix("/api/models/").partition("/revision/")[0]
        if name in self.licences:
            return 200, {"id": name, "private": False, "cardData": {"license": self.licences[name]}, "siblings": []}
        if name in self.private:
            files = [{"rfilename": file} for file in self.files.get(name, ())]
            return 200, {"id": name, "private": self.private[name], "sha": "0" * 40, "siblings": files}
        return 404, {"error": "Repository not found"}

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        name, _, verb = path.removeprefix("/api/models/").rpartition("/main")[0].rpartition("/")
        if verb == "preupload":
            asked = [each["path"] for each in json.loads(body)["files"]]
            return 200, {"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in asked]}
        assert verb == "commit", path
        return self._commit(name, [json.loads(line) for line in body.splitlines()])

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.address}/{name}"}
        if name in self.private:
            return 409, url | {"error": "You already created this model repo"}
        self.private[name] = asked.get("visibility") == "private" or asked.get("private") is True
        self.files[name] = {}
        return 200, url

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        for line in lines:
            if line["key"] == "header":
                self.messages.append(line["value"]["summary"])
            else:
                self.files[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return 200, {"success": True, "commitOid": "1" * 40, "commitUrl": f"{self.address}/{name}/commit/{'1' * 40}"}


@contextmanager
def standing_in() -> Iterator[Hub]:
    """Serves a hub on a free port of this machine until the context ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(lambda path, _: hub.get(path))

        def do_POST(self) -> None:
            self._answer(hub.post)

        def _answer(self, answer: Any) -> None:
            path = self.path.partition("?")[0]
            body = self._body()
            hub.asked.append(path)
            if hub.breaks_at in path:
                self.close_connection = True
                return
            allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            status, said = answer(path, body) if allowed else (401, {"error": "Invalid credentials"})
            sent = json.dumps(said).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
