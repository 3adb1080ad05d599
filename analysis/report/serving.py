"""The report served on this machine while a study runs: made anew when there are new records, for a browser that asks.

Only this machine can reach it (127.0.0.1), and only under that name: a page of elsewhere that had its own name resolved to this address
is refused.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from analysis.errors import AnalysisError
from analysis.records.fragments import finished_files
from analysis.records.mlflow import MLFLOW
from analysis.records.store import open_store

HOST = "127.0.0.1"
_ASKED_EVERY = 60.0
"""Seconds between two looks at what cannot be asked for news cheaply: MLflow, exports."""
_LEAST, _SHARE = 5.0, 5.0
"""Seconds that a page stands at least, and how many times as long as it took to make: the study has the machine to itself meanwhile."""
_WAITING = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="color-scheme" content="light dark"><title>gaplab</title></head><body><p>{sentence}</p></body></html>"""


def version_of(source: str, *, listed: bool = True) -> str:
    """Which records there are by now: another text when there are others. It lists files, and reads none.

    Args:
        source: as for `analysis.load`.
        listed: whether the source is a study's folder; MLflow and exports have another version every minute.
    """
    if not listed or source.startswith(MLFLOW):
        return str(int(time.time() // _ASKED_EVERY))
    filesystem, path = open_store(source)
    files = [(info.path, info.size, info.mtime_ns) for info in finished_files(filesystem, f"{path}/records")]
    return sha256(repr(files).encode()).hexdigest()[:16]


class ReportServer(ThreadingHTTPServer):
    """Serves a report at ``http://127.0.0.1:PORT/`` until it is closed.

    Args:
        make: the page of a version; what it raises as `AnalysisError` is shown in the page's place.
        version: the version that there is by now.
        port: 0 for any that is free.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, make: Callable[[str], str], version: Callable[[], str], port: int = 0) -> None:
        self._make = make
        self._version = version
        self._made: tuple[str, str] | None = None
        self._making = threading.Lock()
        self._due = 0.0
        super().__init__((HOST, port), _ReportHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing is said of a browser that is gone before it has the whole page; the next one asks anew."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def version(self) -> str:
        """The version that a page is made of now: of a run in which something ends every second not each one is."""
        made = self._made
        return made[0] if made and time.monotonic() < self._due else self._version()

    def page(self) -> str:
        """The page of the present version, made once."""
        with self._making:  # who asks meanwhile waits for the same page
            version = self.version()
            if self._made is None or self._made[0] != version:
                start = time.monotonic()
                try:
                    self._made = (version, self._make(version))
                except AnalysisError as error:  # such as no records yet
                    return _WAITING.format(sentence=escape(f"{error}. This page looks again every five seconds."))
                end = time.monotonic()
                self._due = end + max(_LEAST, _SHARE * (end - start))
            return self._made[1]


class _ReportHandler(BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        names = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        if self.headers.get("Host") not in names:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", f"this report is served as {self.server.address} alone")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, "text/html", self.server.page())
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, "text/plain", self.server.version())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there are / and /version")

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        for name, value in (headers | {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed: a terminal would fill with one line every five seconds."""
