"""A server of one viewer: for this machine, and for who knows its token."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import tempfile
import threading
import webbrowser
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import pathname2url

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Serving", "check_port"]

_HOST: Final = "127.0.0.1"
_LIFETIME: Final = 1500
"""Milliseconds that a session outlives its page, which may be loaded again."""


def check_port(port: Any) -> None:
    """Raise ValueError for what is no port; None, a free one, is."""
    if port is not None and (not isinstance(port, Integral) or not 0 <= int(port) <= 65535):
        msg = f"port is {port!r}; a whole number up to 65535 is wanted, or None, which takes one that is free"
        raise ValueError(msg)


class Serving:
    """A server in a thread of its own, that ends when the last page is closed, or by `stop`.

    Bokeh's servers listen on all addresses and let everybody in unless told otherwise. This one listens on 127.0.0.1
    only, takes websockets only from its own pages, and makes no session without a signed id, which is in `url`.

    Parameters
    ----------
    app : function
        Gets the document of a new session, and fills it.
    port : int, optional
        By default one that is free.

    Raises
    ------
    OSError
        If the port is taken.
    ValueError
        If there is no such port.
    """

    def __init__(self, app: Callable[[Any], None], port: int | None = None) -> None:
        check_port(port)
        self._app, self._wanted = app, port
        self._secret = secrets.token_bytes(32)
        self._is_up = threading.Event()
        self._error: Exception | None = None
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._redirect: Path | None = None
        self.url = ""
        self._thread = threading.Thread(target=self._run, name="imagedata_xr-viewer")
        self._thread.start()
        self._is_up.wait()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        from bokeh.application import Application
        from bokeh.application.handlers.function import FunctionHandler

        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        try:
            http, server, port = self._made(application := Application(FunctionHandler(self._app)))
        except Exception as err:  # raised where the server was asked for, which waits for it
            self._error = err
            self._is_up.set()
            return
        from bokeh.util.token import generate_session_id

        token = generate_session_id(secret_key=self._secret, signed=True)
        self.url = f"http://{_HOST}:{port}/?bokeh-session-id={token}"
        server.start()
        self._is_up.set()
        had_pages = False
        while not self._end.is_set():
            has_pages = bool(server.get_sessions())
            if had_pages and not has_pages:
                break
            had_pages = has_pages
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), 0.2)
        server.stop()
        await http.close_all_connections()
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # websockets among them
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        # A page that was open would keep its threads and frames for ever: nothing else sees it go any more.
        for session in server.get_sessions():
            await application.on_session_destroyed(session.document.session_context)
            session.destroy()
        if self._redirect is not None:
            self._redirect.unlink(missing_ok=True)

    def _made(self, application: Any) -> tuple[Any, Any, int]:
        """Return servers of HTTP and of bokeh, and the port.

        Raises
        ------
        OSError
            If there is no free port, or the one wanted is taken.
        """
        from bokeh.server.server import BaseServer
        from bokeh.server.tornado import BokehTornado
        from tornado.httpserver import HTTPServer
        from tornado.ioloop import IOLoop

        try:
            listening = socket.create_server((_HOST, self._wanted or 0))
        except OSError as err:
            msg = f"no viewer can be served on port {self._wanted} of {_HOST}: {err.strerror}"
            raise OSError(err.errno, msg) from err
        listening.setblocking(False)
        port = listening.getsockname()[1]
        app = BokehTornado(
            {"/": application},
            extra_websocket_origins=[f"{_HOST}:{port}"],
            sign_sessions=True,
            secret_key=self._secret,
            generate_session_ids=False,
            check_unused_sessions_milliseconds=500,
            unused_session_lifetime_milliseconds=_LIFETIME,
        )
        http = HTTPServer(app)
        http.add_sockets([listening])
        return http, BaseServer(IOLoop.current(), app, http), port

    def open_browser(self) -> bool:
        """Open the page in the user's browser; return whether there is one."""
        # By way of a file that nobody else can read: arguments of a program are seen by all users of a machine.
        if self._redirect is None:
            handle, name = tempfile.mkstemp(prefix="imagedata_xr-", suffix=".html")
            self._redirect = Path(name)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={self.url}">')
        return webbrowser.open(f"file://{pathname2url(str(self._redirect))}")

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop, and wait until it has."""
        with contextlib.suppress(RuntimeError):  # it has just ended
            self._loop.call_soon_threadsafe(self._end.set)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def wait(self) -> None:
        """Wait until the last page is closed; Ctrl-C stops the server."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.2)  # a join without end cannot be interrupted everywhere
        except KeyboardInterrupt:
            self.stop()
            raise
