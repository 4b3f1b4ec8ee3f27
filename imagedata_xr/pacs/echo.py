"""C-ECHO: whether a PACS answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from imagedata_xr.errors import NetworkError
from imagedata_xr.pacs.association import associate, context
from imagedata_xr.pacs.peer import peer_of

if TYPE_CHECKING:
    from imagedata_xr.pacs.peer import Peer

__all__ = ["VERIFICATION", "echo"]

VERIFICATION: Final = "1.2.840.10008.1.1"


def echo(place: str | Peer) -> float:
    """Return the seconds that a PACS took to answer.

    Parameters
    ----------
    place : str or Peer
        ``dicom://host:port/AETITLE``, or a `imagedata_xr.pacs.peer.Peer`.

    Raises
    ------
    NetworkError
        If it does not answer, or refuses.
    """
    peer = peer_of(place)
    with associate(peer, [context(VERIFICATION)]) as link:
        start = time.monotonic()
        status = link.send_c_echo()
        if "Status" not in status:
            raise NetworkError(f"{peer} did not answer C-ECHO within {peer.timeout:g} s")
        if status.Status:
            raise NetworkError(f"{peer} refused C-ECHO with status 0x{status.Status:04X}")
        return time.monotonic() - start
