"""A server of associations that does not wait for one peer while others knock, and takes no more than it can bear."""

from __future__ import annotations

import logging
import select
import threading
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from imagedata_xr.pacs.link import LARGEST_PDU, Budget, Link, LinkSocket, without_log_handlers

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence

    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

__all__ = ["Server"]

_GRACE = 1.0
"""Seconds that associations have to come to their end by themselves."""
_ENDING = 5.0
"""Seconds that the threads of those that are aborted may take to leave nothing half done."""
_LOGGER = logging.getLogger(__name__)
_WAITING = 4
"""Connections for each association that there may be: some wait to be let in, or do not mean to be."""


class _Application(ApplicationEntity):
    """An application that counts only who was let in."""

    @property
    def active_associations(self) -> list[Association]:
        found = super().active_associations
        return [link for link in found if link.is_established or link is threading.current_thread()]


class Server(ThreadedAssociationServer):
    """Listens on an address until `stop`.

    Parameters
    ----------
    address : (str, int)
        Where it listens.
    aet : str
        Its AE title; who calls another is rejected.
    contexts : sequence of PresentationContext
        What it takes.
    handlers : sequence of (event, callable)
        What it does.
    calling : sequence of str
        AE titles that may call; none: any.
    associations : int
        How many at a time.
    timeout : float
        Seconds that a peer may take.
    tls : ssl.SSLContext, optional
        How connections are encrypted.
    budget : Budget
        Bytes that messages may take while they come in.
    """

    daemon_threads = True
    request_queue_size = 128
    block_on_close = False

    def __init__(
        self,
        address: tuple[str, int],
        aet: str,
        contexts: Sequence[PresentationContext],
        handlers: Sequence[tuple[Any, Callable[[Any], Any]]],
        *,
        calling: Sequence[str] = (),
        associations: int,
        timeout: float,
        tls: ssl.SSLContext | None,
        budget: Budget,
    ) -> None:
        ae = _Application(aet)
        ae.require_called_aet, ae.require_calling_aet = True, list(calling)
        ae.maximum_associations, ae.maximum_pdu_size = associations, LARGEST_PDU // 2
        ae.network_timeout = ae.dimse_timeout = timeout
        ae.acse_timeout = min(timeout, 5.0)
        self.budget, self.patience, self.tls = budget, timeout, tls
        self.waiting = 0
        """Connections on which nothing has come yet."""
        self.lock = threading.Lock()
        self._most = associations * _WAITING
        super().__init__(ae, address, aet, list(contexts), None, list(handlers), request_handler=_Handler)
        ae._servers.append(self)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="DICOM receiver", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more, and end all associations, those last of which the peers do so themselves."""
        self.shutdown()
        self._thread.join()
        # An abort between the last answer and the release tells a sender that it failed, and may overtake the answer.
        until = time.monotonic() + _GRACE
        while self.active_associations and time.monotonic() < until:
            time.sleep(0.01)
        ended = self.active_associations
        for link in ended:
            link.abort()
        until = time.monotonic() + _ENDING
        for link in ended:
            link.join(max(0.0, until - time.monotonic()))

    def _bind_defaults(self) -> None:
        with without_log_handlers():
            super()._bind_defaults()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether one more connection can be borne."""
        with self.lock:
            return self.waiting + len(self.active_associations) < self._most

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection failed, and nothing of what was in it."""
        _LOGGER.info("a connection failed before there was an association")


class _Handler(RequestHandler):
    """Makes an association of a connection."""

    server: Server

    def _wait(self) -> socket.socket:
        """Return the connection when something has come; an association that waits costs much more than a thread."""
        connection: socket.socket = self.request
        timeout = self.server.ae.acse_timeout
        connection.settimeout(timeout)
        if self.server.tls is not None:
            # Here and not where connections are taken, which would wait for a peer that says nothing.
            connection = self.server.tls.wrap_socket(connection, server_side=True)
        if not select.select([connection], [], [], timeout)[0]:
            connection.close()
            raise TimeoutError("nothing came")
        return connection

    def _create_association(self) -> Association:
        with self.server.lock:
            self.server.waiting += 1
        try:
            connection = self._wait()
        finally:
            with self.server.lock:
                self.server.waiting -= 1
        link = Link(self.ae, "acceptor", self.server.budget)
        link._server = self.server
        link.daemon = link.dul.daemon = True
        link.name = f"AcceptorThread@{id(link)}"  # pynetdicom finds associations by it
        link.set_socket(LinkSocket(link, client_socket=connection, patience=self.server.patience))
        link.acceptor.maximum_length = self.ae.maximum_pdu_size
        link.acceptor.ae_title = self.server.ae_title
        link.acceptor.address_info = self.local
        link.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        link.acceptor.implementation_version_name = self.ae.implementation_version_name
        link.acceptor.supported_contexts = deepcopy(self.server.contexts)
        link.requestor.address_info = self.remote
        for event, bound in self.server._handlers.items():
            for handler, arguments in [bound] if isinstance(bound, tuple) else bound:
                if handler is not None:
                    link.bind(event, handler, arguments)
        return link
