"""Peers to test with: a PACS made of pynetdicom alone, and a wire that breaks."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.transport import AssociationSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLASSES = (MRImageStorage, CTImageStorage, SecondaryCaptureImageStorage)
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless)
VERIFICATION = "1.2.840.10008.1.1"


def _close(self: AssociationSocket) -> None:
    if self.socket is not None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


# pynetdicom leaves a connection open that the other side has closed, and Python warns.
AssociationSocket._shutdown_socket = _close  # type: ignore[method-assign]


class Archive:
    """What a PACS has: the data set of each instance, as it came, and its transfer syntax."""

    def __init__(self) -> None:
        self.instances: dict[str, tuple[str, bytes]] = {}
        self.received: list[str] = []
        self.port = 0
        self.server: Any = None

    @property
    def url(self) -> str:
        return f"dicom://127.0.0.1:{self.port}/ARCHIVE"


@contextmanager
def archive(
    answer: Callable[[str, int], int] = lambda uid, number: 0,
    *,
    classes: Sequence[str] = CLASSES,
    syntaxes: Sequence[str] = SYNTAXES,
    before_answer: Callable[[Any], None] = lambda event: None,
    **settings: Any,
) -> Iterator[Archive]:
    """Give a PACS on a free port; `answer` tells the status of an instance from its UID and how many there were."""
    found = Archive()
    lock = threading.Lock()

    def on_store(event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        with lock:
            found.received.append(uid)
            number = len(found.received)
        status = answer(uid, number)
        if status == 0 or status & 0xF000 == 0xB000:
            found.instances[uid] = (str(event.context.transfer_syntax), event.request.DataSet.getvalue())
        before_answer(event)
        return status

    ae = AE("ARCHIVE")
    ae.maximum_associations = 20
    ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = 20
    for name, value in settings.items():
        setattr(ae, name, value)
    for sop_class in classes:
        ae.add_supported_context(sop_class, list(syntaxes))
    ae.add_supported_context(VERIFICATION)
    found.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    found.port = found.server.socket.getsockname()[1]
    try:
        yield found
    finally:
        ae.shutdown()


class Wire:
    """A wire to a port of this machine that breaks, each time it is used, after a number of bytes.

    One that is slow carries 4 KiB in so many seconds.
    """

    def __init__(self, port: int, breaks_after: Callable[[], int], slow: float = 0) -> None:
        self.target, self.breaks_after, self.slow = port, breaks_after, slow
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        if slow:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self.port = self.listener.getsockname()[1]
        self.is_cut = False
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self) -> str:
        return f"dicom://127.0.0.1:{self.port}/ARCHIVE"

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self.listener.accept()
                if self.is_cut:
                    here.close()
                    continue
                there = socket.create_connection(("127.0.0.1", self.target))
                left = [self.breaks_after()]
                for end in (here, there):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=self._carry, args=(source, sink, left), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, left: list[int]) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                left[0] -= len(data)
                if left[0] < 0 or self.is_cut:
                    self.cuts += 1
                    break
                sink.sendall(data)
                if self.slow:
                    time.sleep(self.slow)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@contextmanager
def slow_wire(port: int, seconds: float) -> Iterator[Wire]:
    """Give a wire that carries 4 KiB in so many seconds, and does not break."""
    found = Wire(port, lambda: 1 << 60, seconds)
    try:
        yield found
    finally:
        found.close()


@contextmanager
def wire(port: int, seed: int, least: int, most: int) -> Iterator[Wire]:
    """Give a wire that breaks after a random number of bytes."""
    rng = random.Random(seed)
    found = Wire(port, lambda: rng.randint(least, most))
    try:
        yield found
    finally:
        found.close()
