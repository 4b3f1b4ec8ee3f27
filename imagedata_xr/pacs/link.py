"""Associations as pynetdicom makes them, mended and made safe: nothing else here knows its inner parts.

- pynetdicom 3.0.4 loses responses when requests follow each other fast: its reactor thread, just released, can take the
  response that the sender waits for. `_Gate` makes release and pause exclude each other.
- It reads a PDU of whatever length the peer tells, and collects a message without end. Here both have limits.
- A peer may take for ever over one PDU. Here a PDU has to be complete in time.
- It logs headers of queries, answers and messages, which hold patients' names. Here it does not.
- A release overtakes the answer to what the peer has asked for, and reports of events, which are answered in threads of
  their own, say of the reactor thread whether it is paused. Here a release waits, and they do not.
- Its thread ends with an error, and leaves the connection open, where it is asked for what its end has overtaken.
- It takes for late what is still coming, and for sent what only the kernel has. Here time counts from the last piece.
- It waits for a response 40 ms longer than need be where the peer sends it in two pieces: TCP acknowledges late.
"""

from __future__ import annotations

import logging
import queue
import socket
import ssl
import struct
import sys
import threading
import time
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.transport import AssociationSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.dimse_messages import DIMSEMessage
    from pynetdicom.pdu_primitives import P_DATA
    from pynetdicom.transport import T_CONNECT, AddressInformation

__all__ = ["LARGEST_PDU", "Budget", "Link", "LinkSocket", "without_log_handlers"]

_LOGGER = logging.getLogger(__name__)
LARGEST_PDU: Final = 1 << 18
"""Bytes of a PDU that are read at most; peers are told half of it."""
_QUICK_ACK: Final = getattr(socket, "TCP_QUICKACK", None)
_QUEUED: Final = 8
_ASKED: Final = ("Evt9", "Evt11", "Evt14", "Evt15")
"""Events of our own: data, a release, the answer to one, or an abort are to be sent (PS3.8 9.2.2)."""
_ENDING: Final = "Sta13"
"""The state of a connection that is about to be closed."""
_PATIENCE: Final = 0.2
"""Seconds after which who waits for a response looks whether the connection is still there."""

# Patients' names and whatever else is asked for; for all of the process, as pynetdicom knows no other way.
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False

_BINDING: Final = threading.Lock()


@contextmanager
def without_log_handlers() -> Iterator[None]:
    """Keep pynetdicom from binding handlers that log: one thread at a time, as its setting is of the process."""
    with _BINDING:
        level, _config.LOG_HANDLER_LEVEL = _config.LOG_HANDLER_LEVEL, "none"
        try:
            yield
        finally:
            _config.LOG_HANDLER_LEVEL = level


class Budget:
    """Bytes that messages may take while they come in, each and all together."""

    def __init__(self, each: int, together: int) -> None:
        self._each, self._together, self._taken, self._lock = each, together, 0, threading.Lock()

    @property
    def limit(self) -> str:
        """What a message that may take no more is, in words."""
        return f"a message of more than {self._each} bytes, or all at a time more than {self._together}"

    def take(self, size: int, already: int) -> bool:
        """Return whether a message that has taken some bytes already may take more."""
        with self._lock:
            if already + size > self._each or self._taken + size > self._together:
                return False
            self._taken += size
            return True

    def give_back(self, size: int) -> None:
        """Let others have what a message has taken."""
        with self._lock:
            self._taken -= size


class _Gate(threading.Event):
    """An event whose end of waiting and `clear` exclude each other."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link, self._lock = link, threading.Lock()
        self.set()

    def clear(self) -> None:
        with self._lock:
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        while True:
            super().wait(timeout)
            with self._lock:
                if self.is_set() or timeout is not None:
                    self._link._paused = False
                    return self.is_set()


class _Messages(DIMSEServiceProvider):
    """Messages as they come in, within a budget."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._link, self._taken, self._came = link, 0, 0.0
        self.message: DIMSEMessage | None

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message, waiting as long as pieces of it come: a large one may take longer than an answer."""
        limit = self.dimse_timeout
        if not block or limit is None:
            return super().get_msg(block)
        until = time.monotonic() + limit
        while (left := max(until, self._came + limit) - time.monotonic()) > 0:
            with suppress(queue.Empty):
                return self.msg_queue.get(timeout=left)
        return None, None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a piece of a message, or end the association if it becomes too large."""
        size = sum(len(data) for _, data in primitive.presentation_data_value_list)
        self._came = time.monotonic()
        budget = self._link.budget
        # Who asks before it has its answer fills the queue; answers to a query may come faster than they are taken.
        flooded = self._link.is_acceptor and self.msg_queue.qsize() >= _QUEUED
        too_large = not flooded and budget is not None and not budget.take(size, self._taken)
        if flooded or too_large:
            self._give_back()
            self.message = None
            self._link.refused = budget.limit if budget is not None and too_large else "too many messages at a time"
            self.dul.event_queue.put("Evt19")
            return
        self._taken += size
        super().receive_primitive(primitive)
        if self.message is None:
            self._give_back()

    def _give_back(self) -> None:
        if self._link.budget is not None:
            self._link.budget.give_back(self._taken)
        self._taken = 0


class _States(StateMachine):
    """States of a connection (PS3.8 9.2), where what is asked of it may come when its end is under way."""

    def do_action(self, event: str) -> None:
        if event in _ASKED and self.current_state == _ENDING:
            self.dul.to_provider_queue.get(block=False)
            self.dul.to_user_queue.put(A_P_ABORT())  # who asked may wait for an answer
            return
        super().do_action(event)


class Link(Association):
    """An association that loses no response and logs no header."""

    def __init__(self, ae: ApplicationEntity, mode: str, budget: Budget | None = None) -> None:
        self._paused = False
        self._serving = threading.RLock()
        self._beside: threading.Thread | None = None
        super().__init__(ae, mode)
        self.budget = budget
        self.refused = ""
        """Why we ended the association, if we did."""
        self._is_told = False
        self.dimse = _Messages(self)
        self.dul.state_machine = _States(self.dul)
        self._reactor_checkpoint = _Gate(self)

    @property
    def _is_paused(self) -> bool:
        # A thread that has ended takes nothing away from the sender either, who would wait for ever.
        return self._paused or (self.ident is not None and not self.is_alive())

    @_is_paused.setter
    def _is_paused(self, value: bool) -> None:
        if self._beside is not threading.current_thread():
            self._paused = value

    def _serve_request(self, msg: Any, context_id: int) -> None:
        current = threading.current_thread()
        with self._serving:
            self._beside = None if current is self else current
            try:
                super()._serve_request(msg, context_id)
            finally:
                self._beside = None

    def release(self) -> None:
        """Release the association, once what the peer has asked for is answered."""
        with self._serving:
            pass
        super().release()

    def _bind_defaults(self) -> None:
        with without_log_handlers():
            super()._bind_defaults()

    def kill(self) -> None:
        """End the association, and give back what a message that was under way has taken."""
        super().kill()
        if isinstance(self.dimse, _Messages):
            self.dimse._give_back()
        if self.is_acceptor and self.refused and not self._is_told:
            # Who is refused is told no reason by the protocol, and whoever runs the receiver would wait for ever.
            self._is_told = True
            _LOGGER.warning("an association was ended: its peer sent %s", self.refused)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the reactor thread from taking messages while the block runs."""
        self._reactor_checkpoint.clear()
        while not self._is_paused:
            time.sleep(0.0001)
        try:
            yield
        finally:
            self._reactor_checkpoint.set()

    def store(self, sop_class: str, uid: str, context: int, data: bytes, number: int) -> int | None:
        """Return the status of an instance sent as it is encoded; None where it is not confirmed. Within `paused` only.

        A response to another request confirms nothing, and ends the association: the next may be to another, too.

        Parameters
        ----------
        sop_class, uid : str
            SOPClassUID and SOPInstanceUID.
        context : int
            ID of the presentation context, whose transfer syntax is that of `data`.
        data : bytes
            The data set.
        number : int
            Message ID.
        """
        request = C_STORE()
        request.MessageID = number % 65536
        request.Priority = 2
        request.AffectedSOPClassUID = sop_class
        request.AffectedSOPInstanceUID = uid
        if not self.is_established:
            return None
        self._send(request, context, data)
        response = self._response()
        if response is None:
            self._handle_no_response()
            return None
        if not _is_answer(response, request):
            self.refused = "an answer that names another request or another SOPInstanceUID, which confirms nothing"
            self.abort()
            return None
        status = self._check_received_status(response)
        return int(status.Status) if "Status" in status else None

    def _send(self, request: C_STORE, context: int, data: bytes) -> None:
        """Send a request and its data set."""
        connection = self.dul.socket.socket if self.dul.socket is not None else None
        if connection is None or isinstance(connection, ssl.SSLSocket):
            # The thread that reads is the only one that may touch a connection with TLS.
            request.DataSet = BytesIO(data)
            self.dimse.send_msg(request, context)
            return
        # From here, in one piece: by pynetdicom's queue it takes as long again.
        request.DataSet = BytesIO(b"\0\0")  # that there is one is part of the command
        message = C_STORE_RQ()
        message.primitive_to_message(request)
        command = encode(message.command_set, True, True)
        assert command is not None
        most = (self.dimse.maximum_pdu_size or LARGEST_PDU // 2) - 6
        view = memoryview(data)
        pieces = [_p_data(context, 3, command)]
        pieces += [
            _p_data(context, 2 if start + most >= len(view) else 0, view[start : start + most])
            for start in range(0, len(view), most)
        ]
        rest = memoryview(b"".join(pieces))
        with suppress(OSError):  # then no response comes
            while rest:
                # Not `sendall`, whose time is for all of it: a slow wire needs more for a large instance.
                rest = rest[connection.send(rest) :]

    def _response(self) -> C_STORE | None:
        """Return the next message, None where none comes in time or can come any more."""
        until, left = time.monotonic() + (self.dimse_timeout or 0), self._on_its_way()
        while time.monotonic() < until:
            # With TLS the request may still be in a queue of ours; what the kernel has taken has not left, either.
            before, left = left, self._on_its_way()
            if not self.dul.to_provider_queue.empty() or left != before:
                until = time.monotonic() + (self.dimse_timeout or 0)
            is_over = not self.dul.is_alive() or self.dul.state_machine.current_state == "Sta1"
            with suppress(queue.Empty):
                found = self.dimse.msg_queue.get(block=not is_over, timeout=_PATIENCE)[1]
                return found if isinstance(found, C_STORE) else None
            if is_over:
                break
        return None

    def _on_its_way(self) -> int:
        """Return how many bytes the kernel has that the other side has not received; 0 where it does not tell."""
        connection = self.dul.socket.socket if self.dul.socket is not None else None
        if connection is None or sys.platform == "win32":
            return 0
        import fcntl
        import termios

        try:
            told: bytes = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):
            return 0  # it is closed, or the system knows no such thing of connections
        return int.from_bytes(told, sys.byteorder)


def _is_answer(response: C_STORE, request: C_STORE) -> bool:
    """Whether a response is that to a request (PS3.7 9.3.1.2); it need not repeat the UID, but names no other."""
    told = str(response.AffectedSOPInstanceUID or "").rstrip("\0 ")
    return response.MessageIDBeingRespondedTo == request.MessageID and told in ("", request.AffectedSOPInstanceUID)


def _p_data(context: int, control: int, data: bytes | memoryview) -> bytes:
    """Return a P-DATA-TF PDU with one presentation data value (PS3.8 9.3.5)."""
    length = len(data) + 2
    return b"".join((struct.pack(">BxIIBB", 4, length + 4, length, context, control), data))


class LinkSocket(AssociationSocket):
    """A socket that takes PDUs of a limited length in a limited time, and sends at once."""

    def __init__(
        self,
        link: Link,
        client_socket: socket.socket | None = None,
        address: AddressInformation | None = None,
        *,
        patience: float,
    ) -> None:
        super().__init__(link, client_socket, address)
        self._patience = patience
        self._link = link
        self.failure: OSError | None = None
        """Why no connection was made."""
        if client_socket is not None:
            self._prepare()

    def _prepare(self) -> None:
        if self.socket is not None:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(self._patience)

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect, and keep the reason where that fails."""
        assert self.socket is not None
        try:
            self.socket.settimeout(self._patience)
            self.socket.connect(primitive.address_info.as_tuple)
            if self.tls_args:
                context, name = self.tls_args
                self.socket = context.wrap_socket(self.socket, server_hostname=name)
            self._prepare()
            self._is_connected = True
            primitive.result = "Evt2"
        except OSError as err:
            self.failure = err
            self._shutdown_socket()
            self.socket = None
            primitive.result = "Evt17"
        finally:
            self.provider_queue.put(primitive)
            self._ready.set()

    def _shutdown_socket(self) -> None:
        # pynetdicom leaves a connection open that the other side has closed.
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()

    @property
    def ready(self) -> bool:
        """Whether there is something to read: never where there is no connection any more."""
        return self._link.dul.state_machine.current_state != "Sta1" and super().ready

    def recv(self, nr_bytes: int) -> bytearray:
        """Return as many bytes, or fewer at the end of the connection.

        Raises
        ------
        ConnectionAbortedError
            If more is asked for than a PDU may have; the connection is closed.
        TimeoutError
            If they do not come in time; the connection is closed.
        """
        connection = self.socket
        if connection is None:
            raise ConnectionAbortedError("the connection is closed")
        if nr_bytes > LARGEST_PDU:
            self._link.refused = f"a PDU of {nr_bytes} bytes, where {LARGEST_PDU} are allowed"
            self._shutdown_socket()
            raise ConnectionAbortedError(self._link.refused)
        data, until = bytearray(), time.monotonic() + self._patience
        try:
            while len(data) < nr_bytes:
                connection.settimeout(max(0.001, until - time.monotonic()))
                piece = connection.recv(min(nr_bytes - len(data), 1 << 16))
                if not piece:
                    return data
                data += piece
        except TimeoutError:
            self._link.refused = f"a PDU that took longer than {self._patience:g} s"
            self._shutdown_socket()
            raise
        connection.settimeout(self._patience)
        if _QUICK_ACK is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        return data
