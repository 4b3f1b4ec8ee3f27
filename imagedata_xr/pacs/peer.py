"""Which DICOM application is spoken to, and how: its address, our AE title, TLS, and how long it may take."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

from imagedata_xr.pacs.tls import client_context

if TYPE_CHECKING:
    import ssl

__all__ = ["SCHEMES", "TIMEOUT", "Peer", "is_pacs", "our_title", "peer_of", "split_address"]

SCHEMES: Final = ("dicom", "dicom+tls")
PORTS: Final = {"dicom": 104, "dicom+tls": 2762}
"""Ports that are registered for DICOM, without and with TLS (PS3.8 9.1, PS3.15 B.1)."""
AET: Final = "IMAGEDATA"
TIMEOUT: Final = 30.0
"""Seconds that a peer may take, if nothing else is said."""
_TITLE: Final = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")


def our_title() -> str:
    """Return the AE title that we call ourselves, unless one is given."""
    return os.environ.get("IMAGEDATA_XR_AET", AET)


@dataclass(frozen=True)
class Peer:
    """A DICOM application: address and AE title, and how to speak with it.

    An AE title proves nothing about who is there, and names the sender no better: only TLS with certificates does.

    Parameters
    ----------
    host : str
        Name or address of the machine. With TLS it must be a name in the certificate.
    port : int
        TCP port.
    aet : str
        AE title of the application.
    calling_aet : str
        AE title that we call ourselves: by default that in the environment variable ``IMAGEDATA_XR_AET``, else
        IMAGEDATA.
    tls : ssl.SSLContext, optional
        How the connection is encrypted and the peer verified, see `imagedata_xr.pacs.tls.client_context`. None: plain.
    timeout : float
        Seconds that the peer may take to connect, to answer, or to go on with what it has begun.

    Examples
    --------
    >>> Peer("pacs.example", 104, "ARCHIVE").url
    'dicom://pacs.example:104/ARCHIVE'
    """

    host: str
    port: int
    aet: str
    calling_aet: str = field(default_factory=our_title)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        for title in (self.aet, self.calling_aet):
            if not _TITLE.fullmatch(title) or not title.strip():
                msg = f"{title!r} is no AE title: 1 to 16 letters of ASCII without a backslash are wanted"
                raise ValueError(msg)
        if not self.host or not 0 < self.port < 65536:
            msg = f"host {self.host!r}, port {self.port}: the name of a machine and a port below 65536 are wanted"
            raise ValueError(msg)
        if not self.timeout > 0:
            msg = f"timeout={self.timeout!r}: a number of seconds above 0 is wanted"
            raise ValueError(msg)

    @property
    def url(self) -> str:
        """The address as a URL."""
        return f"dicom{'+tls' if self.tls else ''}://{self._address}/{quote(self.aet, safe='')}"

    @property
    def _address(self) -> str:
        # Of IPv6 in brackets, or the port would be taken for a part of it (RFC 3986 3.2.2).
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.aet} at {self._address}"


def is_pacs(place: object) -> bool:
    """Return whether a place is that of a PACS that speaks DIMSE.

    Examples
    --------
    >>> is_pacs("dicom://pacs:104/ARCHIVE"), is_pacs("/data/dicom")
    (True, False)
    """
    return isinstance(place, str) and place.lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def split_address(url: str) -> tuple[Peer, tuple[str, ...]]:
    """Return the peer that a URL names, and what follows its AE title: patient, study, series.

    Parameters
    ----------
    url : str
        ``dicom://host:port/AET``, or ``dicom+tls://...``; further parts may be percent-encoded. The AE title of our
        own and the files for TLS are taken from the environment, see `Peer` and
        `imagedata_xr.pacs.tls.client_context`.

    Raises
    ------
    ValueError
        If it is no such URL, or has a user or password in it.

    Examples
    --------
    >>> peer, parts = split_address("dicom://pacs.example:11112/ARCHIVE/P%2F1/1.2.840.1/4")
    >>> peer.aet, peer.port, parts
    ('ARCHIVE', 11112, ('P/1', '1.2.840.1', '4'))
    """
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError as err:
        msg = f"{url.partition('@')[2] or url}: {err}; {_FORM}"
        raise ValueError(msg) from err
    if found.username is not None or found.password is not None:
        msg = f"the {found.scheme} URL has a user in it, and URLs are shown; {_FORM}"
        raise ValueError(msg)
    parts = [unquote(part) for part in found.path.split("/")[1:]]
    if found.scheme not in SCHEMES or not found.hostname or not parts or not parts[0] or found.query or found.fragment:
        msg = f"{url!r} does not name a PACS; {_FORM}"
        raise ValueError(msg)
    while parts[-1] == "":
        parts.pop()
    tls = client_context() if found.scheme == "dicom+tls" else None
    return Peer(found.hostname, port or PORTS[found.scheme], parts[0], tls=tls), tuple(parts[1:])


_FORM: Final = "dicom://host:port/AETITLE is wanted, or dicom+tls://host:port/AETITLE"


def peer_of(place: str | Peer) -> Peer:
    """Return the peer that a URL names, or the peer.

    Raises
    ------
    ValueError
        If the URL names a patient, too.
    """
    if isinstance(place, Peer):
        return place
    peer, parts = split_address(place)
    if parts:
        msg = f"{peer.url} is followed by more than the AE title; {_FORM}"
        raise ValueError(msg)
    return peer
