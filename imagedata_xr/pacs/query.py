"""C-FIND: what a PACS has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from imagedata_xr.errors import MixedSeriesError, NetworkError, NoDicomError
from imagedata_xr.pacs.association import associate, context
from imagedata_xr.pacs.identity import UID
from imagedata_xr.pacs.peer import peer_of
from imagedata_xr.pacs.web import is_web, plain_value, search

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from imagedata_xr.pacs.peer import Peer

__all__ = ["Level", "find", "is_uid", "located", "query"]

Level = Literal["patient", "study", "series", "image"]
_PATIENT_ROOT, _STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
_PENDING: Final = (0xFF00, 0xFF01)
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
        at lower levels, too: then the studies are found first.

    Raises
    ------
    NetworkError
        If it cannot be reached, refuses, or breaks off.
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
        return [
            {**asked, **{name: one[name] for name in asked if name in one}, **row}
            for one in found
            for row in find(peer, level, {**_unique(one), **rest})
        ]
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


def _unique(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("StudyInstanceUID", "SeriesInstanceUID") if row.get(name)}


def _ask(peer: Peer, level: Level, keys: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answers to one query."""
    from pydicom import Dataset
    from pydicom.config import disable_value_validation
    from pydicom.datadict import tag_for_keyword

    root = _PATIENT_ROOT if level == "patient" else _STUDY_ROOT
    asked = Dataset()
    with disable_value_validation():
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
                if code in _PENDING:
                    if answer is not None:
                        rows.append({e.keyword: plain_value(e.value) for e in answer if e.keyword})
                elif code is None:
                    raise NetworkError(f"{peer} broke off its answers to C-FIND after {len(rows)}")
                elif code:
                    raise NetworkError(f"{peer} refused C-FIND with status 0x{code:04X}")
    return rows


def located(peer: Peer, parts: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return StudyInstanceUID, and SeriesInstanceUID where one series is named, of what a URL names.

    Parameters
    ----------
    peer : Peer
        The PACS.
    parts : tuple of str
        PatientID, which may be empty; study: UID, or accession number; series: UID, or series number.

    Raises
    ------
    NoDicomError
        If nothing of that name is there.
    MixedSeriesError
        If several studies have the accession number, or several series the number.
    """
    if not parts or len(parts) > 3 or not any(parts):
        msg = "dicom://host:port/AETITLE/PATIENT/STUDY/SERIES is wanted; study and series may be left out"
        raise ValueError(msg)
    patient, study, series = (*parts, "", "")[:3]
    keys = {"PatientID": patient} if patient else {}
    if study:
        keys["StudyInstanceUID" if is_uid(study) else "AccessionNumber"] = study
    studies = find(peer, "study", keys)
    if not studies:
        raise NoDicomError(f"{peer} has no study that is named so; image_data query tells what it has")
    if study and len(studies) > 1:
        raise MixedSeriesError(f"{len(studies)} studies of {peer} have that accession number; name one by its UID")
    if not series:
        return [{"StudyInstanceUID": row["StudyInstanceUID"]} for row in studies]
    wanted = {"SeriesInstanceUID" if is_uid(series) else "SeriesNumber": series}
    found = [
        row for one in studies for row in find(peer, "series", {"StudyInstanceUID": one["StudyInstanceUID"], **wanted})
    ]
    if not found:
        raise NoDicomError(f"{peer} has no series {series} in that study; image_data query tells what it has")
    if len(found) > 1:
        msg = f"{len(found)} series of {peer} have the number {series}; name one by its UID"
        raise MixedSeriesError(msg)
    return [{name: found[0][name] for name in ("StudyInstanceUID", "SeriesInstanceUID")}]
