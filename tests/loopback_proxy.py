"""A proxy on this machine in front of an HTTP server that answers late, badly or not at all.

with LoopbackProxy(server.url, judge=lambda request: Answer(503) if request.method == "POST" else None) as proxy:
    ...  # talk to proxy.url
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

_LIMIT = 2**26


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    """The server is not asked; this is the answer."""

    status: int


@dataclass(frozen=True)
class Silence:
    """The server is not asked, and no answer comes for so long."""

    seconds: float


@dataclass(frozen=True)
class BrokenRequest:
    """The connection breaks before the server has the request."""


@dataclass(frozen=True)
class LostAnswer:
    """The server does what it is asked to, and the connection breaks before its answer."""


@dataclass(frozen=True)
class CutAnswer:
    """The connection breaks after so many bytes of the answer's body."""

    size: int


Fault = Answer | Silence | BrokenRequest | LostAnswer | CutAnswer


class LoopbackProxy:
    """Runs in a thread of its own.

    Args:
        upstream: `http://host:port` of the server.
        judge: what goes wrong with a request; None to pass it on.
        delay: seconds added to every request.
    """

    def __init__(
        self, upstream: str, judge: Callable[[Request], Fault | None] = lambda request: None, delay: float = 0.0
    ) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname and parts.port
        self._upstream = (parts.hostname, parts.port)
        self.judge = judge
        self._delay = delay
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loopback-proxy", daemon=True)
        self.url = ""

    def __enter__(self) -> LoopbackProxy:
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self.serve(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def serve(self) -> str:
        """Begin to serve in the running loop; the proxy's URL."""
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=_LIMIT)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _end(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above = await asyncio.open_connection(*self._upstream, limit=_LIMIT)
        try:
            with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
                while await self._exchange(reader, writer, *above):
                    pass
        finally:
            for one in (writer, above[1]):
                one.close()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        above_reader: asyncio.StreamReader,
        above_writer: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        body = await _read_body(reader, head)
        method, target, _ = head.decode("latin-1").split(" ", 2)
        fault = self.judge(Request(method, target, body))
        if self._delay:
            await asyncio.sleep(self._delay)
        if isinstance(fault, Answer):
            text = b'{"error": {"code": %d, "message": "made up by the proxy"}}' % fault.status
            kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text)
            writer.write(b"HTTP/1.1 %d Fault\r\n%s%s" % (fault.status, kind, text))
            await writer.drain()
            return True
        if isinstance(fault, Silence):
            await asyncio.sleep(fault.seconds)
            return False
        if isinstance(fault, BrokenRequest):
            return False
        above_writer.write(head + body)
        answer = await above_reader.readuntil(b"\r\n\r\n")
        has_body = method != "HEAD" and answer.split(b" ", 2)[1] not in (b"204", b"304")
        content = await _read_body(above_reader, answer) if has_body else b""
        if isinstance(fault, LostAnswer):
            return False
        if isinstance(fault, CutAnswer):
            writer.write(answer + content[: fault.size])
            await writer.drain()
            return False
        writer.write(answer + content)
        await writer.drain()
        return True


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """A body as it comes over the wire."""
    fields = head.lower()
    if b"\r\ntransfer-encoding: chunked" in fields:
        pieces = []
        while True:
            line = await reader.readuntil(b"\r\n")
            piece = await reader.readexactly(int(line.split(b";")[0], 16) + 2)
            pieces += [line, piece]
            if len(piece) == 2:
                return b"".join(pieces)
    _, found, rest = fields.partition(b"\r\ncontent-length:")
    return await reader.readexactly(int(rest.split(b"\r\n", 1)[0])) if found else b""
