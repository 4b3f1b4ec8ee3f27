"""A web server of a folder on this machine that answers ranges and writes down what it sent."""

from __future__ import annotations

import http.server
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

S = TypeVar("S", bound=http.server.ThreadingHTTPServer)


class Sent(NamedTuple):
    """A request, and how many bytes of the file were the answer."""

    command: str
    name: str
    count: int


class Server(http.server.ThreadingHTTPServer):
    """The server; `ranges` says whether it knows them, `tells_times` whether it says when a file was changed.

    For names in `overloaded` it has no time; of those in `cut_off` it sends half of what it announces, and of those in
    `stalled` nothing for some seconds. For those in `pages` it sends that page, as one does that wants a password.
    """

    daemon_threads = True

    def __init__(self, root: Path, *, ranges: bool = True, tells_times: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.ranges, self.tells_times = root, ranges, tells_times
        self.sent: list[Sent] = []
        self.overloaded: set[str] = set()
        self.cut_off: set[str] = set()
        self.stalled: set[str] = set()
        self.pages: dict[str, bytes] = {}

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over clients that go away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.server.root / self.path.lstrip("/")
        if path.name in self.server.overloaded or not path.is_file():
            self.send_error(503 if path.name in self.server.overloaded else 404)
            return
        data = path.read_bytes()
        start, stop = 0, len(data)
        if with_body:
            data = self.server.pages.get(path.name, data)
            stop = len(data)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and self.server.ranges and path.name not in self.server.pages:
            start, stop = int(wanted[1]), min(int(wanted[2] or len(data)) + 1, len(data))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        else:
            self.send_response(200)
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if self.server.tells_times:
            self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        self.send_header("Content-Length", str(stop - start))
        # Before the client can ask again, whom another thread answers.
        self.server.sent.append(Sent(self.command, path.name, stop - start if with_body else 0))
        self.end_headers()
        if with_body:
            if path.name in self.server.cut_off:
                stop, self.close_connection = (start + stop) // 2, True
            elif path.name in self.server.stalled:
                time.sleep(3)
            self.wfile.write(data[start:stop])


@contextmanager
def running(server: S) -> Iterator[S]:
    """Give a server that answers in threads of its own."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def served(root: Path, *, ranges: bool = True, tells_times: bool = True) -> Iterator[Server]:
    """Give a server of a folder."""
    with running(Server(root, ranges=ranges, tells_times=tells_times)) as server:
        yield server
