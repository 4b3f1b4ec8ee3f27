"""Whether a PACS has what it said it stored: storage commitment, or else a count by C-FIND."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.errors import NetworkError
from imagedata_xr.pacs.association import NothingAcceptedError, associate, context
from imagedata_xr.pacs.query import find
from imagedata_xr.pacs.receive import PORT
from imagedata_xr.pacs.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

    from imagedata_xr.pacs.instances import FileInstance
    from imagedata_xr.pacs.peer import Peer

__all__ = ["uncommitted"]

_COMMITMENT, _WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
_MIB: Final = 1 << 20


def uncommitted(peer: Peer, files: Sequence[FileInstance], *, port: int = PORT) -> dict[str, str]:
    """Return the SOPInstanceUIDs that a PACS does not commit itself to keep, each with the reason.

    It is asked for storage commitment (PS3.4 J), and tells the result on the same association, or on one that it makes
    to our AE title, if it knows where we are. Where it does not know storage commitment, or does not tell the result in
    time, it is asked by C-FIND which instances it has.

    Parameters
    ----------
    peer : Peer
        The PACS.
    files : sequence of FileInstance
        What it said it stored.
    port : int
        Where we listen for the result, on this machine.

    Raises
    ------
    NetworkError
        If it tells neither.
    """
    try:
        told = _committed(peer, files, port)
    except NetworkError:
        told = None
    return _missing(peer, files) if told is None else told


def _committed(peer: Peer, files: Sequence[FileInstance], port: int) -> dict[str, str] | None:
    """Return what is not committed, None where the PACS does not say."""
    from pydicom.uid import generate_uid
    from pynetdicom import build_role, evt

    from imagedata_xr.pacs.link import Budget
    from imagedata_xr.pacs.server import Server

    transaction, told, answered = str(generate_uid()), dict[str, str](), threading.Event()

    def on_report(event: Any) -> tuple[int, None]:
        result = event.event_information
        if str(result.get("TransactionUID", "")) != transaction:
            return 0x0110, None
        told.update(_not_kept(result, files))
        answered.set()
        return 0x0000, None

    # The one who commits itself calls, but is the provider of the service: so the roles are turned round.
    wanted = context(_COMMITMENT)
    turned = context(_COMMITMENT)
    turned.scu_role = turned.scp_role = True
    server = None
    try:
        server = Server(
            ("127.0.0.1", port),
            peer.calling_aet,
            [turned],
            [(evt.EVT_N_EVENT_REPORT, on_report)],
            calling=[peer.aet],
            associations=4,
            timeout=peer.timeout,
            tls=None if peer.tls is None else server_context(),
            budget=Budget(64 * _MIB, 128 * _MIB),
        )
        server.start()
    except (OSError, ValueError):
        # Someone else listens there, or there is no certificate; the result may come on the same association.
        server = None
    try:
        with associate(
            peer, [wanted], handlers=[(evt.EVT_N_EVENT_REPORT, on_report)], roles=[build_role(_COMMITMENT, True, True)]
        ) as link:
            status, _ = link.send_n_action(_request(files, transaction), 1, _COMMITMENT, _WELL_KNOWN)
            if status.get("Status") != 0:
                return None
            answered.wait(peer.timeout)
    except NothingAcceptedError:
        return None
    finally:
        if server is not None:
            server.stop()
    return told if answered.is_set() else None


def _request(files: Sequence[FileInstance], transaction: str) -> Dataset:
    """Return the request to commit to some files."""
    from pydicom import Dataset

    request = Dataset()
    request.TransactionUID = transaction
    request.ReferencedSOPSequence = []
    for file in files:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = file.sop_class, file.uid
        request.ReferencedSOPSequence.append(item)
    return request


def _not_kept(result: Dataset, files: Sequence[FileInstance]) -> dict[str, str]:
    """Return the SOPInstanceUIDs that a result does not name as committed, each with the reason."""
    kept = {str(item.get("ReferencedSOPInstanceUID")) for item in result.get("ReferencedSOPSequence") or []}
    reasons = {
        str(item.get("ReferencedSOPInstanceUID")): f"not committed (0x{int(item.get('FailureReason') or 0):04X})"
        for item in result.get("FailedSOPSequence") or []
    }
    # One that is named as kept and as failed is not to be relied on.
    kept -= reasons.keys()
    return {file.uid: reasons.get(file.uid, "not committed") for file in files if file.uid not in kept}


def _missing(peer: Peer, files: Sequence[FileInstance]) -> dict[str, str]:
    """Return what a PACS does not have, by C-FIND."""
    by_series: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        by_series[file.study, file.series].append(file.uid)
    missing: dict[str, str] = {}
    for (study, series), uids in by_series.items():
        rows = find(peer, "image", {"StudyInstanceUID": study, "SeriesInstanceUID": series})
        there = {str(row.get("SOPInstanceUID")) for row in rows}
        missing.update({uid: "C-FIND does not find it" for uid in uids if uid not in there})
    return missing
