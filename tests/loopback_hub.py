"""A model hub on the loopback interface, for the real client: listings, files with ranges, gated repositories.

with LoopbackHub({"owner/model": {"config.json": b"{}"}}, large={"model.safetensors"}, gated=set()) as hub: ...
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_canaryCanaryCanaryCanary"


class LoopbackHub:
    """See the module.

    Attributes:
        repositories: files by repository.
        large: names of files of which the listing knows the checksum, as it does of those outside git.
        gated: repositories that are for those with the token.
        cut: how many bytes of a file are sent before the connection ends, by name, once.
        requests: what was asked: method, path, range.
    """

    def __init__(self, repositories: dict[str, dict[str, bytes]], large: set[str], gated: set[str]) -> None:
        self.repositories = repositories
        self.large = large
        self.gated = gated
        self.cut: dict[str, int] = {}
        self.requests: list[tuple[str, str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(self, repository: str) -> str:
        """The newest commit: of what is there now."""
        files = self.repositories[repository]
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()

    def fetched(self) -> list[str]:
        """Names of the files that were sent."""
        return [path.rsplit("/", 1)[1] for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 (`self` is the handler's)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer()

            def do_GET(self) -> None:
                self._answer()

            def _answer(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.requests.append((self.command, path, self.headers.get("Range", "")))
                parts = path.removeprefix("/api/models").strip("/").split("/")
                repository = "/".join(parts[:2])
                if repository not in hub.repositories:
                    return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
                commit = hub.commit(repository)
                if len(parts) > 3 and parts[3] not in ("main", commit):
                    return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                if path.startswith("/api/models"):
                    return self._json(self._listing(repository, commit, tree=parts[2:3] == ["tree"]))
                if repository in hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self._send(401, b"", {"X-Error-Code": "GatedRepo"})
                return self._file(repository, commit, "/".join(parts[4:]))

            def _listing(self, repository: str, commit: str, *, tree: bool) -> Any:
                if not tree:
                    return {"id": repository, "modelId": repository, "sha": commit, "siblings": [], "tags": []}
                entries = []
                for name, data in hub.repositories[repository].items():
                    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                    if name in hub.large:
                        checksum = hashlib.sha256(data).hexdigest()
                        entry["lfs"] = {"oid": checksum, "size": len(data), "pointerSize": 100}
                    entries.append(entry)
                return entries

            def _file(self, repository: str, commit: str, name: str) -> None:
                data = hub.repositories[repository].get(name)
                if data is None:
                    return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                digest = hashlib.sha256(data).hexdigest()
                headers = {"ETag": f'"{digest}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
                asked, status, whole = self.headers.get("Range", ""), 200, len(data)
                if asked:
                    start = int(asked.removeprefix("bytes=").partition("-")[0] or 0)
                    data, status = data[start:], 206
                    headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
                cut = hub.cut.pop(name, None) if self.command == "GET" else None
                return self._send(status, data, headers, cut)

            def _json(self, value: Any) -> None:
                self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

            def _send(self, status: int, data: bytes, headers: dict[str, str], cut: int | None = None) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data if cut is None else data[:cut])
                if cut is not None:
                    self.close_connection = True

        return Handler
