"""A receiver of instances: what a PACS sends to us."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final, Self

from imagedata_xr.errors import NetworkError
from imagedata_xr.files import place_here
from imagedata_xr.pacs.inbox import KEEP_FREE, Inbox
from imagedata_xr.pacs.peer import TIMEOUT, Peer, our_title
from imagedata_xr.pacs.whole import DEFLATED

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from pynetdicom.presentation import PresentationContext

__all__ = ["PORT", "NotListeningError", "Receiver", "storage_contexts"]

PORT: Final = 11112
_ASSOCIATIONS: Final = 10
_LARGEST: Final = 512 << 20
"""Bytes of an instance."""
_FIRST: Final = (
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"),
    *("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"),
    *("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202"),
)
"""Transfer syntaxes that keep all values, explicit VR first: implicit VR loses what private elements are."""


def storage_contexts() -> list[PresentationContext]:
    """Return all kinds of instances that are known, in all transfer syntaxes, but those that inflate without limit.

    Of several that a sender can encode an instance in, the first of ours is taken.
    """
    from pynetdicom import AllStoragePresentationContexts
    from pynetdicom._globals import ALL_TRANSFER_SYNTAXES

    from imagedata_xr.pacs.association import context

    syntaxes = [syntax for syntax in dict.fromkeys((*_FIRST, *ALL_TRANSFER_SYNTAXES)) if syntax not in DEFLATED]
    return [context(str(known.abstract_syntax), syntaxes) for known in AllStoragePresentationContexts]


class NotListeningError(NetworkError):
    """An address of this machine cannot be listened on: another program does, or it may not be."""


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
    turned_away : callable, optional
        Called likewise with the SOPInstanceUID of each instance that is refused, as its sender named it, and why.

    Raises
    ------
    NotListeningError
        If the address cannot be listened on.
    ValueError
        If the address is reachable from other machines, and anybody may call; or a number makes no sense.
    BaseException
        What `arrived` or `turned_away` raised, at the end.

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
        associations: int = _ASSOCIATIONS,
        largest_instance: int = _LARGEST,
        largest_total: int | None = None,
        keep_free: int = KEEP_FREE,
        timeout: float = TIMEOUT,
        arrived: Callable[[Path], None] | None = None,
        turned_away: Callable[[str, str], None] | None = None,
    ) -> None:
        if (
            not 0 <= port < 65536
            or associations < 1
            or not timeout > 0
            or (largest_total is not None and largest_total < 1)
        ):
            msg = (
                f"port={port}, associations={associations}, timeout={timeout}, largest_total={largest_total}: a port "
                "below 65536 is wanted, at least one association, and a time and bytes above 0"
            )
            raise ValueError(msg)
        if not _is_here(host) and not calling:
            msg = f"a receiver on {host} can be reached from other machines: give calling=, the AE titles that may call"
            raise ValueError(msg)
        inbox = Inbox(
            place_here(folder),
            largest_total=largest_total,
            keep_free=keep_free,
            arrived=arrived,
            turned_away=turned_away,
        )
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
        how: dict[str, Any] = {"associations": _ASSOCIATIONS, "timeout": TIMEOUT, "largest_instance": _LARGEST}
        made._listen(inbox, host, port, aet, calling, tls, **how)
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
        try:
            self._server = Server(
                (host, port),
                aet,
                [*storage_contexts(), context(VERIFICATION)],
                [(evt.EVT_C_STORE, inbox.take)],
                calling=calling,
                associations=associations,
                timeout=timeout,
                tls=tls,
                budget=Budget(largest_instance, 2 * largest_instance),
            )
        except OSError as err:
            reason = (err.strerror or str(err)).lower()
            raise NotListeningError(
                f"cannot listen on {host}, port {port}: {reason}; give another port or host"
            ) from err
        self.host = host
        self.port: int = self._server.server_address[1]

    @property
    def files(self) -> list[Path]:
        """The files that have come, in this order."""
        return list(self._inbox.files.values())

    @property
    def refused(self) -> int:
        """How many instances were refused."""
        return self._inbox.refused

    @property
    def peer(self) -> Peer:
        """The receiver as others on this machine see it, without TLS."""
        return Peer(self.host, self.port, self._aet)

    def wait(self, count: int, timeout: float | None = None) -> bool:
        """Return whether so many instances have come, after waiting for them no longer than `timeout` [s].

        What `arrived` or `turned_away` raised ends the waiting, and is raised.
        """
        return self._inbox.wait(count, timeout)

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Listen no more, and end all associations; raise what `arrived` or `turned_away` raised.

        What is under way is given a second to come to its end: a sender that has sent all releases its association.
        """
        self._server.stop()
        try:
            self._inbox.raise_errors()
        except BaseException as err:
            if error is None:
                raise
            error.add_note(f"besides, arrived= or turned_away= raised {type(err).__name__}: {err}")


def _is_here(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
