"""C-GET and C-MOVE: instances fetched from a PACS, all or none."""

from __future__ import annotations

import shutil
import socket
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

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
_WARNED: Final = 0xB000
"""Status of an end where sub-operations failed, or were done with a warning (PS3.4 C.4.3.1.4)."""
_ATTEMPTS: Final = 3
_LIMITED: Final = (
    "it may list no more than so many of a series, which its administrator can change. What has come is in the folder"
)
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
    and so is a study that turns out to be of several patients. Python warns of what came and nobody asked for.

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
        If some did not come, or were refused; or if the PACS says that it has more than it lists and sends. What has
        come stays in the folder; asked for again, the rest comes.
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
    wanted, count = _instances(peer, keys)
    foreign: set[str] = set()
    inbox = Inbox(folder, unwanted=_unwanted(keys, wanted, foreign), only_here=False)
    said, is_told = _Said(), False
    """The last answer, and whether it was said that all was sent, also what is not listed."""
    for attempt in range(_ATTEMPTS):
        missing = {uid: row for uid, row in wanted.items() if uid not in inbox.files}
        is_whole = is_told or len(inbox.files) >= count > 0
        if missing.keys() <= inbox.reasons.keys() and (is_whole or missing):
            break  # all is here, or what we refused once
        all_of_it = not missing or len(missing) == len(wanted)
        asked, refused = missing or wanted, inbox.refused
        try:
            if how != "move":
                try:
                    said = _get(peer, asked, keys, inbox, all_of_it=all_of_it, widely=attempt > 0)
                except NothingAcceptedError:
                    if how == "get":
                        raise
                    how = "move"
            if how == "move":
                said = _move(peer, asked, keys, inbox, (host, port, tls), count, all_of_it=all_of_it)
        except (NothingAcceptedError, NotListeningError):
            raise
        except NetworkError as err:
            said = _Said(str(err), None)
        except BaseException as err:
            err.add_note(f"{len(inbox.files)} of {len(wanted)} instances had come from {peer}")
            raise
        # What failed and is neither missing now nor was refused by us is what the PACS has and did not list.
        known = max(len(wanted.keys() - inbox.files.keys()), inbox.refused - refused)
        is_told = is_told or (all_of_it and said.failed is not None and said.failed <= known)
    _check_all(peer, wanted, inbox, foreign, said, count, is_told=is_told)
    # Some PACS list no more than so many, and send all.
    return [inbox.files[uid] for uid in dict.fromkeys([*wanted, *inbox.files])]


def _check_all(
    peer: Peer,
    wanted: Mapping[str, Any],
    inbox: Inbox,
    foreign: set[str],
    said: _Said,
    count: int,
    *,
    is_told: bool,
) -> None:
    """Raise NetworkError unless all is here, also what was not listed; warn of what nobody asked for."""
    came, problem = len(inbox.files), said.problem
    missing = [uid for uid in wanted if uid not in inbox.files]
    refused = {
        uid: why
        for uid, why in inbox.reasons.items()
        if uid not in foreign and (uid not in inbox.files or uid in inbox.disputed)
    }
    if here := next((uid for uid in missing if uid in inbox.reasons), None):
        raise NetworkError(
            f"{len(inbox.reasons.keys() & set(missing))} of {len(wanted)} instances came from {peer} and were not "
            f"taken, the first is SOPInstanceUID {here}: {inbox.reasons[here]}"
        )
    if missing:
        first = next(iter(inbox.reasons.values()), "")
        raise NetworkError(
            f"{len(missing)} of {len(wanted)} instances did not come from {peer}, the first is SOPInstanceUID "
            f"{missing[0]}{': ' if problem else ''}{problem}"
            + (f"; {len(inbox.reasons)} others came and were not taken, the first since {first}" if first else "")
        )
    if refused:
        uid, why = next(iter(refused.items()))
        raise NetworkError(
            f"{came} instances came from {peer}, all {len(wanted)} that it lists, and {len(refused)} came and were not "
            f"taken, the first is SOPInstanceUID {uid}: {why}"
        )
    if came < count:
        raise NetworkError(
            f"{came} instances came from {peer}, which says that it has {count} and lists {len(wanted)} of them"
            f"{': ' if problem else ''}{problem}; {_LIMITED}"
        )
    if not is_told and came != count:
        raise NetworkError(
            f"{came} instances came from {peer}, all {len(wanted)} that it lists, but it has not said that it has sent "
            f"all that it has: {problem}; {_LIMITED}"
        )
    if foreign:
        warnings.warn(
            f"{len(foreign)} instances came from {peer} that were not asked for, and were not taken, the first is "
            f"SOPInstanceUID {next(iter(foreign))}: {inbox.reasons.get(next(iter(foreign)), '')}",
            stacklevel=4,
        )


def _unwanted(
    keys: Mapping[str, str], wanted: Mapping[str, Mapping[str, Any]], foreign: set[str]
) -> Callable[[Mapping[str, str]], str]:
    """Return what tells why a data set is not of what was asked for, "" if it is; foreign ones are noted."""
    patients: set[str] = set()

    def unwanted(found: Mapping[str, str]) -> str:
        # Of a study all series are wanted, also what the PACS did not list; but each instance in its own.
        row = wanted.get(found["SOPInstanceUID"], {})
        named = {**keys, **({"SeriesInstanceUID": row["SeriesInstanceUID"]} if row else {})}
        if name := differing(named, found):
            if not row:
                foreign.add(found["SOPInstanceUID"])
            state = "another than was asked for" if found[name] else "empty"
            return f"its {name} is {state}"
        patients.add(found["PatientID"])
        if len(patients) > 1:
            patients.discard(found["PatientID"])
            return "its PatientID is another than that of the first instance of this study: name the patient"
        return ""

    return unwanted


def _instances(peer: Peer, keys: dict[str, str]) -> tuple[dict[str, dict[str, Any]], int]:
    """Return what is known of each instance of a study or series, and how many the PACS says that there are."""
    study = keys["StudyInstanceUID"]
    rows = find(
        peer, "series", {name: keys[name] for name in ("StudyInstanceUID", "SeriesInstanceUID") if name in keys}
    )
    counts: dict[str, int] = {}
    for row in rows:
        uid = uid_of(peer, row, "SeriesInstanceUID")
        counts[uid] = max(counts.get(uid, 0), _count(row, "NumberOfSeriesRelatedInstances"))
    of_study = 0
    if "SeriesInstanceUID" not in keys:
        asked = {name: keys[name] for name in keys if name in ("StudyInstanceUID", "PatientID")}
        of_study = max((_count(row, "NumberOfStudyRelatedInstances") for row in find(peer, "study", asked)), default=0)
    found: dict[str, dict[str, Any]] = {}
    for series in [keys["SeriesInstanceUID"]] if "SeriesInstanceUID" in keys else counts:
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
    return found, max(of_study, sum(counts.values()))


def _count(row: Mapping[str, Any], name: str) -> int:
    """Return a number that a PACS told, 0 where it did not."""
    try:
        return int(row.get(name) or 0)
    except (TypeError, ValueError):
        return 0


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


def _get(
    peer: Peer,
    missing: dict[str, dict[str, Any]],
    keys: dict[str, str],
    inbox: Inbox,
    *,
    all_of_it: bool,
    widely: bool,
) -> _Said:
    """Fetch by C-GET; return what the PACS said in the end. Once more it may be of kinds that are not listed."""
    from pynetdicom import build_role, evt

    classes = list(dict.fromkeys(str(row.get("SOPClassUID") or "") for row in missing.values()))
    contexts = _contexts(classes, widely=widely)
    roles = [build_role(uid, scp_role=True) for uid in dict.fromkeys(str(c.abstract_syntax) for c in contexts)]
    with associate(peer, [context(_GET), *contexts], roles=roles, handlers=[(evt.EVT_C_STORE, inbox.take)]) as link:
        if not any(str(accepted.abstract_syntax) == _GET for accepted in link.accepted_contexts):
            raise NothingAcceptedError(f"{peer} does not know C-GET")
        return _followed(link.send_c_get(request, _GET) for request in _asked(keys, missing, all_of_it=all_of_it))


def _contexts(classes: Sequence[str], *, widely: bool) -> list[PresentationContext]:
    """Return the presentation contexts for some SOP classes, or for the common ones where these are not told."""
    room = MAX_CONTEXTS - 1
    if not all(classes) or len(classes) * 2 > room:
        return storage_contexts()[:room]
    found = [context(sop_class) for sop_class in classes]
    # One for each, so that the PACS need not transcode what it has.
    found += [context(sop_class, [syntax]) for sop_class in classes for syntax in _COMPRESSED]
    if widely:
        found += [other for other in storage_contexts() if other.abstract_syntax not in classes]
    return found[:room]


def _move(
    peer: Peer,
    missing: dict[str, dict[str, Any]],
    keys: dict[str, str],
    inbox: Inbox,
    listen: tuple[str, int, ssl.SSLContext | None],
    count: int,
    *,
    all_of_it: bool,
) -> _Said:
    """Fetch by C-MOVE; return what the PACS said in the end."""
    host, port, tls = listen
    with Receiver.into(inbox, host=host, port=port, tls=tls, aet=peer.calling_aet, calling=[peer.aet]) as receiver:
        with associate(peer, [context(_MOVE)]) as link:
            requests = _asked(keys, missing, all_of_it=all_of_it)
            said = _followed(link.send_c_move(request, peer.calling_aet, _MOVE) for request in requests)
        # The association has ended: what is idle for as long as this may wait would be aborted meanwhile.
        if not said.problem:
            # Some say so before all is sent.
            if inbox.wait(max(count, len(inbox.files.keys() | missing.keys())), peer.timeout):
                return said
            said = _Said(f"it said that all were sent, and for {peer.timeout:g} s no more came", None)
    # What is wrong with the destination comes as a status of which nobody can tell that.
    return said._replace(
        problem=f"{said.problem}. By C-MOVE it sends to who it knows as AE title {peer.calling_aet}: check that this "
        f"is, in its configuration, {_reached_at(receiver)}{'' if tls is None else ' with TLS'}, and that it can "
        "connect to there"
    )


def _reached_at(receiver: Receiver) -> str:
    """Return where a PACS has to send what we receive."""
    if receiver.host in ("", "0.0.0.0", "::"):
        return f"this machine ({socket.gethostname()}), port {receiver.port}"
    return f"host {receiver.host}, port {receiver.port}"


class _Said(NamedTuple):
    """What a PACS said at the end of operations."""

    problem: str = ""
    """What went wrong, "" if nothing did."""
    failed: int | None = 0
    """How many instances it could not send, None where it did not say."""


def _followed(operations: Any) -> _Said:
    """Return what a PACS said at the end of operations."""
    problem, failures = "", list[int | None]()
    for answers in operations:
        for status, _ in answers:
            code = status.get("Status")
            if code is None:
                return _Said("it broke off", None)
            if code in PENDING:
                continue
            # Some say of success that a number failed. What it was stopped before is not sent, either.
            told = [status.get(f"NumberOf{what}Suboperations") for what in ("Failed", "Remaining")]
            failed = sum(number or 0 for number in told)
            failures.append(failed if failed or not code or (told[0] == 0 and code == _WARNED) else None)
            if code or failed:
                comment = str(status.get("ErrorComment") or "").strip()
                problem = f"status 0x{code:04X}" + (f", {failed} failed" if failed else "")
                problem += f", {comment!r}" if comment else ""
    return _Said(problem, None if None in failures else sum(number or 0 for number in failures))


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
