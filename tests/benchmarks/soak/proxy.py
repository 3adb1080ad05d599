"""An HTTP server in front of another, which passes requests on until it is told to fail."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOST, REFUSED, CUT = "answer lost", "503", "connection cut"
"""What becomes of a request: it acts and its answer is lost, it is answered with 503, or its connection ends before it acts."""
_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}
_OF_CHUNKS = {"content-encoding", "x-amz-trailer", "x-amz-decoded-content-length", "x-amz-sdk-checksum-algorithm"}
_REFUSAL = b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "slow down"}'


class Proxy:
    """Stands before the server at a port of loopback, and fails as many requests as it is told to.

    Args:
        target: that port.
        only: the part of a path that a request must have to be failed; all have the empty one.
    """

    def __init__(self, target: int, only: str = "") -> None:
        self._fates: deque[str] = deque()
        self._only, self._passed = only, threading.Event()
        self.target, self.failed = target, 0
        self._server = _Server(("127.0.0.1", 0), _Handler, self)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fail(self, fate: str, requests: int) -> None:
        """The next so many requests have this fate."""
        self._fates.extend([fate] * requests)

    def calm(self) -> None:
        """No further request fails."""
        self._fates.clear()

    def write_passes(self, seconds: float) -> bool:
        """Wait until a request that writes is passed on; whether one was."""
        self._passed.clear()
        return self._passed.wait(seconds)

    def close(self) -> None:
        self._server.shutdown()

    def fate_of(self, method: str, path: str) -> str | None:
        if method in ("POST", "PUT") and "search" not in path:
            self._passed.set()
        if self._only not in path or path.endswith("/health"):
            return None
        with suppress(IndexError):
            fate = self._fates.popleft()
            self.failed += 1
            return fate
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], proxy: Proxy) -> None:
        super().__init__(address, handler)
        self.proxy = proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever was killed has left a connection behind: no word about that."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _pass_on(self) -> None:
        body = self._body()
        fate = self.server.proxy.fate_of(self.command, self.path)
        if fate == CUT:
            self.close_connection = True
            return
        if fate == REFUSED:
            self._answer(503, [("Content-Type", "application/json")], _REFUSAL)
            return
        dropped = _HOP | (_OF_CHUNKS if "Transfer-Encoding" in self.headers else set())
        there = http.client.HTTPConnection("127.0.0.1", self.server.proxy.target, timeout=120)
        try:
            headers = {name: text for name, text in self.headers.items() if name.lower() not in dropped}
            there.request(self.command, self.path, body, headers)
            answer = there.getresponse()
            data = answer.read()
        except OSError:  # the server is down: so is this
            self.close_connection = True
            return
        finally:
            there.close()
        if fate == LOST:
            self.close_connection = True
            return
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self._answer(answer.status, [pair for pair in answer.getheaders() if pair[0].lower() not in _HOP], data, length)

    def _body(self) -> bytes | None:
        """The body of the request: also one in chunks, as AWS's clients send it."""
        if "Transfer-Encoding" not in self.headers:
            length = self.headers.get("Content-Length")
            return None if length is None else self.rfile.read(int(length))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # a checksum
        return b"".join(parts)

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _pass_on  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        pass
