"""A receiver of instances: what a PACS sends to us."""

from __future__ import annotations

import ipaddress
import threading
from typing import TYPE_CHECKING, Any, Final, Self

from imagedata_xr.files import place_here
from imagedata_xr.pacs.inbox import Inbox
from imagedata_xr.pacs.peer import Peer, our_title
from imagedata_xr.pacs.whole import DamagedError, identity_of

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from pynetdicom.presentation import PresentationContext

__all__ = ["PORT", "Receiver", "storage_contexts"]

PORT: Final = 11112
_MIB: Final = 1 << 20
_STORED, _DOES_NOT_MATCH, _CANNOT_UNDERSTAND = 0x0000, 0xA900, 0xC000


def storage_contexts() -> list[PresentationContext]:
    """Return all kinds of instances that are known, in all transfer syntaxes, but those that inflate without limit."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian
    from pynetdicom import AllStoragePresentationContexts
    from pynetdicom._globals import ALL_TRANSFER_SYNTAXES

    from imagedata_xr.pacs.association import context

    syntaxes = [syntax for syntax in ALL_TRANSFER_SYNTAXES if syntax != DeflatedExplicitVRLittleEndian]
    return [context(str(known.abstract_syntax), syntaxes) for known in AllStoragePresentationContexts]


class Receiver:
    """Receives instances into a folder while a ``with`` block runs.

    Each is a whole file as soon as it has a name, and the name is our own: nothing that was received is part of a path.
    An instance that comes again is kept once; another of the same SOPInstanceUID is refused, and so is a data set that
    is damaged, cut short, or of another instance than it is said to be. AE titles are no authentication: any program
    can call itself anything. Only certificates are, see `tls`.

    Parameters
    ----------
    folder : path
        Where the files go; made if need be.
    port : int
        TCP port; 0 is one that is free.
    host : str
        Address on which it listens. Other than of this machine alone, AE titles that may call have to be given.
    aet : str, optional
        AE title that has to be called; see `imagedata_xr.pacs.peer.Peer` for the default.
    calling : sequence of str
        AE titles that may call; none: any.
    tls : ssl.SSLContext, optional
        How connections are encrypted and clients verified, see `imagedata_xr.pacs.tls.server_context`. None: plain.
    associations : int
        How many at a time.
    largest_instance : int
        Bytes that one may have; all that come in at a time may have twice as many.
    largest_total : int, optional
        Bytes that all may have; None: as many as the disk holds.
    keep_free : int
        Bytes of the disk that are left free.
    timeout : float
        Seconds that a peer may take to go on.
    arrived : callable, optional
        Called with each file that has come, in a thread of its association. Whatever it raises, the file is kept and
        confirmed to its sender; `wait` raises the error, or else the end of the ``with`` block does.

    Raises
    ------
    OSError
        If the address cannot be listened on.
    ValueError
        If the address is reachable from other machines, and anybody may call.
    BaseException
        What `arrived` raised, at the end.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> from imagedata_xr.pacs.send import send
    >>> folder = getfixture("tmp_path")
    >>> phantom = ixr.sample.write_patient(folder / "phantom")
    >>> with Receiver(folder / "in", port=0) as receiver:
    ...     report = send(phantom / "ct", receiver.peer)
    >>> report.summary, len(receiver.files)
    ('12 stored', 12)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        port: int = PORT,
        host: str = "127.0.0.1",
        aet: str | None = None,
        calling: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        associations: int = 10,
        largest_instance: int = 512 * _MIB,
        largest_total: int | None = None,
        keep_free: int = 256 * _MIB,
        timeout: float = 30.0,
        arrived: Callable[[Path], None] | None = None,
    ) -> None:
        if not _is_here(host) and not calling:
            msg = f"a receiver on {host} can be reached from other machines: give calling=, the AE titles that may call"
            raise ValueError(msg)
        inbox = Inbox(place_here(folder), largest_total=largest_total, keep_free=keep_free, arrived=arrived)
        self._listen(
            inbox,
            host,
            port,
            aet or our_title(),
            calling,
            tls,
            associations=associations,
            timeout=timeout,
            largest_instance=largest_instance,
        )

    @classmethod
    def into(
        cls,
        inbox: Inbox,
        *,
        host: str,
        port: int,
        aet: str,
        calling: Sequence[str],
        tls: ssl.SSLContext | None,
    ) -> Self:
        """Return a receiver that puts what comes into an inbox that is there."""
        made = cls.__new__(cls)
        made._listen(inbox, host, port, aet, calling, tls, associations=10, timeout=30.0, largest_instance=512 * _MIB)
        return made

    def _listen(
        self,
        inbox: Inbox,
        host: str,
        port: int,
        aet: str,
        calling: Sequence[str],
        tls: ssl.SSLContext | None,
        *,
        associations: int,
        timeout: float,
        largest_instance: int,
    ) -> None:
        from pynetdicom import evt

        from imagedata_xr.pacs.association import context
        from imagedata_xr.pacs.echo import VERIFICATION
        from imagedata_xr.pacs.link import Budget
        from imagedata_xr.pacs.server import Server

        self._inbox, self._aet = inbox, aet
        self._damaged, self._lock = 0, threading.Lock()
        self._server = Server(
            (host, port),
            aet,
            [*storage_contexts(), context(VERIFICATION)],
            [(evt.EVT_C_STORE, self._take)],
            calling=calling,
            associations=associations,
            timeout=timeout,
            tls=tls,
            budget=Budget(largest_instance, 2 * largest_instance),
        )
        self.host = host
        self.port: int = self._server.server_address[1]

    def _take(self, event: Any) -> int:
        """Keep an instance that is whole and the one that it is said to be, and return the status to answer with."""
        status = _judged(event)
        if status == _STORED:
            return self._inbox.take(event)
        with self._lock:
            self._damaged += 1
        return status

    @property
    def files(self) -> list[Path]:
        """The files that have come, in this order."""
        return list(self._inbox.files.values())

    @property
    def refused(self) -> int:
        """How many instances were refused."""
        return self._inbox.refused + self._damaged

    @property
    def peer(self) -> Peer:
        """The receiver as others on this machine see it, without TLS."""
        return Peer(self.host, self.port, self._aet)

    def wait(self, count: int, timeout: float | None = None) -> bool:
        """Return whether so many instances have come, after waiting for them no longer than `timeout` [s].

        What `arrived` raised ends the waiting, and is raised.
        """
        return self._inbox.wait(count, timeout)

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all associations, and listen no more; raise what `arrived` raised."""
        self._server.stop()
        try:
            self._inbox.raise_errors()
        except BaseException as err:
            if error is None:
                raise
            error.add_note(f"besides, arrived= raised {type(err).__name__}: {err}")


def _judged(event: Any) -> int:
    """Return the status of a C-STORE request by what its data set is (PS3.4 B.2.3)."""
    request = event.request
    if request.DataSet is None:
        return _CANNOT_UNDERSTAND
    try:
        found = identity_of(request.DataSet.getbuffer(), str(event.context.transfer_syntax))
    except DamagedError:
        return _CANNOT_UNDERSTAND
    wanted = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
    return _STORED if found == wanted else _DOES_NOT_MATCH


def _is_here(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
