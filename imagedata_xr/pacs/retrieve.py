"""C-GET and C-MOVE: instances fetched from a PACS, all or none."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from imagedata_xr.errors import NetworkError, NoDicomError
from imagedata_xr.files import removed_at_exit
from imagedata_xr.pacs.association import MAX_CONTEXTS, NothingAcceptedError, associate, context
from imagedata_xr.pacs.identity import UID, differing, exact
from imagedata_xr.pacs.inbox import Inbox
from imagedata_xr.pacs.peer import peer_of, split_address
from imagedata_xr.pacs.query import PENDING, find, located, uid_of
from imagedata_xr.pacs.receive import PORT, NotListeningError, Receiver, storage_contexts

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from pynetdicom.presentation import PresentationContext

    from imagedata_xr.pacs.peer import Peer

__all__ = ["fetched", "retrieve"]

_GET, _MOVE = "1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.5.1.4.1.2.2.2"
_ATTEMPTS: Final = 3
_COMPRESSED: Final = (
    *("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"),
    *("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203", "1.2.840.10008.1.2.5"),
)
"""Transfer syntaxes, besides the uncompressed ones, in which instances may come."""


def retrieve(
    place: str | Peer,
    folder: str | os.PathLike[str],
    *,
    study: str,
    series: str | None = None,
    patient: str | None = None,
    how: Literal["auto", "get", "move"] = "auto",
    host: str = "127.0.0.1",
    port: int = PORT,
    tls: ssl.SSLContext | None = None,
) -> list[Path]:
    """Return the files of a study or series that was fetched from a PACS into a folder.

    First the PACS is asked which instances there are; what does not come is asked for again, and if it does not come
    then either an error says so. What comes and is not of the study, series and patient that were asked for is refused,
    and so is a study that turns out to be of several patients.

    Parameters
    ----------
    place : str or Peer
        ``dicom://host:port/AETITLE``, or a `imagedata_xr.pacs.peer.Peer`.
    folder : path
        Where the files go; made if need be.
    study, series : str
        StudyInstanceUID, and SeriesInstanceUID of one series.
    patient : str, optional
        PatientID that all of it has to have.
    how : {"auto", "get", "move"}
        C-GET, on the connection that we make; or C-MOVE, for which the PACS makes one to us, and has to know our AE
        title, machine and port. ``"auto"``: the second where the PACS does not know the first.
    host, port, tls
        For C-MOVE: where we listen, see `imagedata_xr.pacs.receive.Receiver`.

    Raises
    ------
    NoDicomError
        If the PACS has no such instances.
    NetworkError
        If some did not come, or were refused. What has come stays in the folder; asked for again, the rest comes.
    ValueError
        If study, series or patient is empty, or a pattern.
    """
    keys = {"StudyInstanceUID": exact("StudyInstanceUID", study)}
    for name, value in (("SeriesInstanceUID", series), ("PatientID", patient)):
        if value is not None:
            keys[name] = exact(name, value)
    return _retrieved(peer_of(place), Path(folder), keys, how=how, host=host, port=port, tls=tls)


def _retrieved(
    peer: Peer,
    folder: Path,
    keys: dict[str, str],
    *,
    how: Literal["auto", "get", "move"] = "auto",
    host: str = "127.0.0.1",
    port: int = PORT,
    tls: ssl.SSLContext | None = None,
) -> list[Path]:
    """Return the files of what has these identifiers, see `retrieve`."""
    wanted = _instances(peer, keys)
    inbox = Inbox(folder, unwanted=_unwanted(keys, wanted))
    problem = ""
    for _ in range(_ATTEMPTS):
        missing = {uid: row for uid, row in wanted.items() if uid not in inbox.files}
        if missing.keys() <= inbox.reasons.keys():
            break  # all is here, or what we refused once
        try:
            if how != "move":
                try:
                    problem = _get(peer, missing, keys, inbox, all_of_it=len(missing) == len(wanted))
                except NothingAcceptedError:
                    if how == "get":
                        raise
                    how = "move"
            if how == "move":
                problem = _move(peer, missing, keys, inbox, (host, port, tls), all_of_it=len(missing) == len(wanted))
        except (NothingAcceptedError, NotListeningError):
            raise
        except NetworkError as err:
            problem = str(err)
    missing = {uid: row for uid, row in wanted.items() if uid not in inbox.files}
    if missing:
        uid = next((uid for uid in missing if uid in inbox.reasons), next(iter(missing)))
        refused = inbox.reasons.get(uid) or next(iter(inbox.reasons.values()), "")
        if uid in inbox.reasons:
            count = len(missing.keys() & inbox.reasons.keys())
            raise NetworkError(
                f"{count} of {len(wanted)} instances came from {peer} and were not taken, the first is SOPInstanceUID "
                f"{uid}: {refused}"
            )
        raise NetworkError(
            f"{len(missing)} of {len(wanted)} instances did not come from {peer}, the first is SOPInstanceUID "
            f"{uid}{': ' if problem else ''}{problem}"
            + (f"; {len(inbox.reasons)} others came and were not taken, the first since {refused}" if refused else "")
        )
    # Some PACS list no more than so many, and send all.
    return [inbox.files[uid] for uid in dict.fromkeys([*wanted, *inbox.files])]


def _unwanted(keys: Mapping[str, str], wanted: Mapping[str, Mapping[str, Any]]) -> Callable[[Mapping[str, str]], str]:
    """Return what tells why a data set is not of what was asked for, "" if it is."""
    patients: set[str] = set()

    def unwanted(found: Mapping[str, str]) -> str:
        # Of a study all series are wanted, also what the PACS did not list; but each instance in its own.
        row = wanted.get(found["SOPInstanceUID"], {})
        named = {**keys, **({"SeriesInstanceUID": row["SeriesInstanceUID"]} if row else {})}
        if name := differing(named, found):
            state = "another than was asked for" if found[name] else "empty"
            return f"its {name} is {state}"
        patients.add(found["PatientID"])
        if len(patients) > 1:
            patients.discard(found["PatientID"])
            return "its PatientID is another than that of the first instance of this study: name the patient"
        return ""

    return unwanted


def _instances(peer: Peer, keys: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return what is known of each instance of a study or series."""
    study = keys["StudyInstanceUID"]
    uids = [keys["SeriesInstanceUID"]] if "SeriesInstanceUID" in keys else None
    if uids is None:
        rows = find(peer, "series", {"StudyInstanceUID": study})
        uids = list(dict.fromkeys(uid_of(peer, row, "SeriesInstanceUID") for row in rows))
    found: dict[str, dict[str, Any]] = {}
    for series in uids:
        for row in find(peer, "image", {"StudyInstanceUID": study, "SeriesInstanceUID": series}):
            uid = uid_of(peer, row, "SOPInstanceUID")
            if not UID.fullmatch(uid):
                raise NetworkError(
                    f"{peer} has an instance with SOPInstanceUID {uid}, which is not taken: a UID is numbers without "
                    "leading zeros between dots (PS3.5 9.1). Files of such instances can be opened as they are"
                )
            found[uid] = {**row, "SeriesInstanceUID": series}
    if not found:
        raise NoDicomError(f"{peer} has no instances of that name; image_data query tells what it has")
    return found


def _asked(keys: dict[str, str], missing: dict[str, dict[str, Any]], *, all_of_it: bool) -> list[Any]:
    """Return the requests that name what is missing."""
    from pydicom import Dataset

    requests = []
    by_series: dict[str, list[str]] = {}
    for uid, row in missing.items():
        by_series.setdefault(row["SeriesInstanceUID"], []).append(uid)
    for series, uids in by_series.items():
        request = Dataset()
        request.QueryRetrieveLevel = "SERIES" if all_of_it else "IMAGE"
        request.StudyInstanceUID, request.SeriesInstanceUID = keys["StudyInstanceUID"], series
        if not all_of_it:
            request.SOPInstanceUID = uids
        requests.append(request)
    return requests


def _get(peer: Peer, missing: dict[str, dict[str, Any]], keys: dict[str, str], inbox: Inbox, *, all_of_it: bool) -> str:
    """Fetch by C-GET; return what the PACS said where not all came."""
    from pynetdicom import build_role, evt

    classes = list(dict.fromkeys(str(row.get("SOPClassUID") or "") for row in missing.values()))
    contexts = _contexts(classes)
    roles = [build_role(uid, scp_role=True) for uid in dict.fromkeys(str(c.abstract_syntax) for c in contexts)]
    with associate(peer, [context(_GET), *contexts], roles=roles, handlers=[(evt.EVT_C_STORE, inbox.take)]) as link:
        if not any(str(accepted.abstract_syntax) == _GET for accepted in link.accepted_contexts):
            raise NothingAcceptedError(f"{peer} does not know C-GET")
        return _followed(link.send_c_get(request, _GET) for request in _asked(keys, missing, all_of_it=all_of_it))


def _contexts(classes: Sequence[str]) -> list[PresentationContext]:
    """Return the presentation contexts for some SOP classes, or for the common ones where these are not told."""
    room = MAX_CONTEXTS - 1
    if not all(classes) or len(classes) * 2 > room:
        return storage_contexts()[:room]
    found = [context(sop_class) for sop_class in classes]
    # One for each, so that the PACS need not transcode what it has.
    found += [context(sop_class, [syntax]) for sop_class in classes for syntax in _COMPRESSED]
    return found[:room]


def _move(
    peer: Peer,
    missing: dict[str, dict[str, Any]],
    keys: dict[str, str],
    inbox: Inbox,
    listen: tuple[str, int, ssl.SSLContext | None],
    *,
    all_of_it: bool,
) -> str:
    """Fetch by C-MOVE; return what the PACS said where not all came."""
    host, port, tls = listen
    count = len(inbox.files) + len(missing)
    with Receiver.into(inbox, host=host, port=port, tls=tls, aet=peer.calling_aet, calling=[peer.aet]) as receiver:
        with associate(peer, [context(_MOVE)]) as link:
            requests = _asked(keys, missing, all_of_it=all_of_it)
            problem = _followed(link.send_c_move(request, peer.calling_aet, _MOVE) for request in requests)
        # The association has ended: what is idle for as long as this may wait would be aborted meanwhile.
        if not problem:
            if inbox.wait(count, peer.timeout):
                return ""
            problem = f"it said that all were sent, and for {peer.timeout:g} s no more came"
    # What is wrong with the destination comes as a status of which nobody can tell that.
    return (
        f"{problem}. By C-MOVE it sends to who it knows as AE title {peer.calling_aet}: check that this is, in its "
        f"configuration, {_reached_at(receiver)}{'' if tls is None else ' with TLS'}, and that it can connect to there"
    )


def _reached_at(receiver: Receiver) -> str:
    """Return where a PACS has to send what we receive."""
    if receiver.host in ("", "0.0.0.0", "::"):
        return f"this machine ({socket.gethostname()}), port {receiver.port}"
    return f"host {receiver.host}, port {receiver.port}"


def _followed(operations: Any) -> str:
    """Return what a PACS said at the end of operations, "" if all went well."""
    problem = ""
    for answers in operations:
        for status, _ in answers:
            code = status.get("Status")
            if code is None:
                return "it broke off"
            if code not in PENDING and code:
                failed = status.get("NumberOfFailedSuboperations")
                comment = str(status.get("ErrorComment") or "").strip()
                problem = f"status 0x{code:04X}" + (f", {failed} failed" if failed else "")
                problem += f", {comment!r}" if comment else ""
    return problem


def fetched(url: str, **options: Any) -> str:
    """Return a folder with what a URL names, fetched from the PACS; it is gone when the process ends.

    Parameters
    ----------
    url : str
        ``dicom://host:port/AETITLE/PATIENT/STUDY/SERIES``: study by its UID or accession number, series by its UID or
        number; series, study, or the patient of a study may be left out. Each names one; what comes has to be of all
        of them.
    **options
        `how`, `host`, `port` and `tls` of `retrieve`.

    Raises
    ------
    NoDicomError, MixedSeriesError
        If nothing of that name is there, or several of it.
    NetworkError
        As `retrieve`.
    """
    peer, parts = split_address(url)
    named = located(peer, parts)
    folder = tempfile.mkdtemp(prefix="imagedata_xr-")
    removed_at_exit(folder)
    try:
        for number, keys in enumerate(named):
            _retrieved(peer, Path(folder, str(number)), keys, **options)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder
