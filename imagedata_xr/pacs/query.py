"""C-FIND: what a PACS has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

from imagedata_xr.errors import MixedSeriesError, NetworkError, NoDicomError
from imagedata_xr.pacs.association import associate, context
from imagedata_xr.pacs.identity import UID, answers, exact
from imagedata_xr.pacs.peer import peer_of
from imagedata_xr.pacs.web import MOST_ROWS, NARROWER, is_web, plain_value, search
from imagedata_xr.quiet import without_validation

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from imagedata_xr.pacs.peer import Peer

__all__ = ["PENDING", "Level", "find", "is_uid", "located", "query", "uid_of"]

Level = Literal["patient", "study", "series", "image"]
_PATIENT_ROOT, _STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
PENDING: Final = (0xFF00, 0xFF01)
"""Statuses after which more follows (PS3.4 C.4)."""
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "patient": ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "NumberOfPatientRelatedStudies"),
    "study": (
        *("PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber", "StudyID"),
        *("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
    ),
    "series": (
        *("StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality", "SeriesDescription"),
        "NumberOfSeriesRelatedInstances",
    ),
    "image": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "InstanceNumber"),
}
"""Elements that are asked for at each level."""
_OF_STUDY: Final = frozenset(
    {*_KEYS["patient"], *_KEYS["study"], "ReferringPhysicianName", "PatientBirthTime", "OtherPatientIDs"}
)
_OF_SERIES: Final = frozenset({*_KEYS["series"], "SeriesDate", "SeriesTime", "BodyPartExamined", "ProtocolName"})
_UNIQUE: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_ONE: Final = re.compile(r"[0-9A-Za-z.]{1,64}")
"""What is taken for a UID where a PACS tells it: those with leading zeros and letters are in use."""


def is_uid(text: str) -> bool:
    """Return whether a text is to be taken as a UID, and not as an accession number or a series number.

    Examples
    --------
    >>> is_uid("1.2.840.113619.2"), is_uid("1004"), is_uid("A-17")
    (True, False, False)
    """
    return text.count(".") >= 2 and UID.fullmatch(text) is not None


def query(place: str | Peer, level: Level = "study", keys: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return a table of what a PACS has, one row a patient, study, series or image.

    Parameters
    ----------
    place : str or Peer
        ``dicom://host:port/AETITLE``, a `imagedata_xr.pacs.peer.Peer`, or the URL of a DICOMweb service.
    level : {"patient", "study", "series", "image"}
        What the rows are.
    keys : mapping, optional
        DICOM keyword to the value that is looked for; ``*`` and ``?`` stand for any letters, ``20260101-20260131`` for
        a range of dates, a list for any of several UIDs, "" asks for a further element. Those of studies may be given
        at lower levels, too: then the studies are found first. Rows with another PatientID, AccessionNumber,
        SeriesNumber or UID than was asked for are dropped: some PACS ignore what they do not know.

    Raises
    ------
    NetworkError
        If it cannot be reached, refuses, breaks off, leaves out the UID of something below which is looked, or finds
        more than 100 000 rows.
    MixedSeriesError
        If a study below which is looked is of several patients, of whom one was asked for.
    ValueError
        If a level or keyword is not known.
    """
    import pandas as pd

    if level not in _KEYS:
        msg = f"level={level!r}: patient, study, series or image is wanted"
        raise ValueError(msg)
    if isinstance(place, str) and is_web(place):
        rows = search(place, level, dict(keys or {}), _KEYS[level])
    else:
        rows = find(peer_of(place), level, dict(keys or {}))
    columns = list(dict.fromkeys([*_KEYS[level], *(keys or {})]))
    return pd.DataFrame([[row.get(name, "") for name in columns] for row in rows], columns=columns)


def find(peer: Peer, level: Level, keys: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a PACS has, see `query`."""
    above: tuple[tuple[Level, frozenset[str], str], ...] = ()
    if level in ("series", "image"):
        above = (("study", _OF_STUDY, "StudyInstanceUID"),)
    if level == "image":
        above = (*above, ("series", _OF_STUDY | _OF_SERIES, "SeriesInstanceUID"))
    for upper, own, unique in above:
        if keys.get(unique):
            continue
        # A query names what is above by its UID (PS3.4 C.4.1.1.3); so this is found first.
        upper_keys = {name: value for name, value in keys.items() if name in own}
        rest = {name: value for name, value in keys.items() if name not in upper_keys}
        found = find(peer, upper, upper_keys)
        asked = dict.fromkeys(upper_keys, "")
        rows: list[dict[str, Any]] = []
        for one in found:
            below = {name: uid_of(peer, one, name) for name in _UNIQUE[: _UNIQUE.index(unique) + 1]}
            if upper == "study" and upper_keys.get("PatientID"):
                _check_patient(peer, below["StudyInstanceUID"])
            told = {name: one[name] for name in asked if name in one}
            rows += [{**asked, **told, **row} for row in find(peer, level, {**below, **rest})]
            if len(rows) > MOST_ROWS:
                raise NetworkError(f"{peer} has more than {MOST_ROWS} answers: {NARROWER}")
        return rows
    if level != "patient":
        # What is not of this level is not looked for there; the UIDs say it all.
        not_here = _OF_STUDY - {"StudyInstanceUID"} if level != "study" else frozenset()
        not_here |= _OF_SERIES - {"StudyInstanceUID", "SeriesInstanceUID"} if level == "image" else frozenset()
        if extra := {name: value for name, value in keys.items() if name in not_here and value}:
            upper = "study" if extra.keys() & _OF_STUDY else "series"
            if not find(peer, upper, {name: value for name, value in keys.items() if name in _OF_STUDY | _OF_SERIES}):
                return []
            keys = {name: value for name, value in keys.items() if name not in extra}
    return _ask(peer, level, keys)


def uid_of(peer: Peer, row: dict[str, Any], name: str) -> str:
    """Return a UID that a PACS told.

    Raises
    ------
    NetworkError
        If it left it out, or what it told does not name one thing.
    """
    uid = row.get(name)
    if isinstance(uid, str) and _ONE.fullmatch(uid):
        return uid
    found = "is no UID" if uid else "is left out"
    raise NetworkError(f"{name} {found} in an answer of {peer} to C-FIND, so that what is below cannot be asked for")


def _check_patient(peer: Peer, study: str) -> None:
    """Raise MixedSeriesError if several patients have a study: series are asked for by its UID alone."""
    patients = {str(row.get("PatientID", "")) for row in _ask(peer, "study", {"StudyInstanceUID": study})}
    if len(patients) > 1:
        msg = (
            f"study {study} of {peer} is of {len(patients)} patients, and its series do not say of which: "
            "leave out PatientID and name StudyInstanceUID for those of all"
        )
        raise MixedSeriesError(msg)


def _ask(peer: Peer, level: Level, keys: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answers to one query."""
    from pydicom import Dataset
    from pydicom.datadict import tag_for_keyword

    root = _PATIENT_ROOT if level == "patient" else _STUDY_ROOT
    asked = Dataset()
    with without_validation():
        asked.QueryRetrieveLevel = level.upper()
        for name, value in {**dict.fromkeys(_KEYS[level], ""), **keys}.items():
            if tag_for_keyword(name) is None:
                msg = f"{name!r} is no DICOM keyword; PatientID, StudyDate or AccessionNumber are"
                raise ValueError(msg)
            setattr(asked, name, value)
        if any(not str(value).isascii() for value in keys.values()):
            asked.SpecificCharacterSet = "ISO_IR 192"
        rows: list[dict[str, Any]] = []
        with associate(peer, [context(root)]) as link:
            for status, answer in link.send_c_find(asked, root):
                code = status.get("Status")
                if code in PENDING:
                    if answer is None:
                        raise NetworkError(f"{peer} sent an answer to C-FIND that cannot be read, after {len(rows)}")
                    rows.append(_row(answer, keys))
                    if len(rows) > MOST_ROWS:
                        raise NetworkError(f"{peer} has more than {MOST_ROWS} answers: {NARROWER}")
                elif code is None:
                    raise NetworkError(f"{peer} broke off its answers to C-FIND after {len(rows)}")
                elif code:
                    # What came is a part, and nothing in it says so.
                    raise NetworkError(
                        f"{peer} ended its answers to C-FIND after {len(rows)} with status 0x{code:04X}; it may list "
                        f"no more than so many, which its administrator can change: {NARROWER}"
                        if rows
                        else f"{peer} refused C-FIND with status 0x{code:04X}"
                    )
    return [row for row in rows if answers(keys, row)]


def _row(answer: Any, keys: dict[str, Any]) -> dict[str, Any]:
    """Return the values of an answer, and the UIDs that were asked for where it leaves them out."""
    row: dict[str, Any] = {}
    for tag in answer.keys():  # noqa: SIM118, a Dataset gives elements, and fails at the first that it cannot read
        try:
            element = answer[tag]
            value = plain_value(element.value)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
            continue  # what would be said has the value in it
        if element.keyword:
            row[element.keyword] = value
    for name in _UNIQUE:
        wanted = keys.get(name)
        if not row.get(name) and isinstance(wanted, str) and _ONE.fullmatch(wanted):
            row[name] = wanted
    return row


def located(peer: Peer, parts: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the identifiers of what a URL names: those in it, StudyInstanceUID, and SeriesInstanceUID of a series.

    Parameters
    ----------
    peer : Peer
        The PACS.
    parts : tuple of str
        PatientID, which may be empty; study: UID, or accession number; series: UID, or series number. Each names one:
        patterns are for `query`.

    Raises
    ------
    ValueError
        If neither patient nor study are named, or by a pattern.
    NoDicomError
        If nothing of that name is there.
    MixedSeriesError
        If several studies have the accession number, several patients the study, or several series the number.
    """
    patient, study, series = (*parts, "", "", "")[:3]
    if len(parts) > 3 or not (patient or study):
        msg = (
            "dicom://host:port/AETITLE/PATIENT/STUDY/SERIES is wanted; series, study, or the patient of a study may be "
            "left out"
        )
        raise ValueError(msg)
    named = {}
    for name, text in (
        ("PatientID", patient),
        ("StudyInstanceUID" if is_uid(study) else "AccessionNumber", study),
        ("SeriesInstanceUID" if is_uid(series) else "SeriesNumber", series),
    ):
        if text:
            named[name] = exact(name, text)
    of_study = {name: text for name, text in named.items() if not name.startswith("Series")}
    found: dict[str, set[str]] = {}
    for row in find(peer, "study", of_study):
        found.setdefault(uid_of(peer, row, "StudyInstanceUID"), set()).add(str(row.get("PatientID", "")))
    if not found:
        raise NoDicomError(f"{peer} has no study that is named so; image_data query tells what it has")
    if study and len(found) > 1:
        raise MixedSeriesError(f"{len(found)} studies of {peer} have that accession number; name one by its UID")
    if study and len(patients := set.union(*found.values())) > 1:
        msg = f"that study of {peer} is of {len(patients)} patients; name one: .../AETITLE/PATIENT/STUDY"
        raise MixedSeriesError(msg)
    if not series:
        return [{**named, "StudyInstanceUID": uid} for uid in found]
    of_series = {name: text for name, text in named.items() if name.startswith("Series")}
    places = {
        uid_of(peer, row, "SeriesInstanceUID"): uid
        for uid in found
        for row in find(peer, "series", {"StudyInstanceUID": uid, **of_series})
    }
    if not places:
        raise NoDicomError(f"{peer} has no series {series} in that study; image_data query tells what it has")
    if len(places) > 1:
        msg = f"{len(places)} series of {peer} have the number {series}; name one by its UID"
        raise MixedSeriesError(msg)
    ((series_uid, study_uid),) = places.items()
    return [{**named, "StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}]
