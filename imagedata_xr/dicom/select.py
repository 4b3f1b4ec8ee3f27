"""Which frames of a source are opened: those that a filter passes, of one series or of several read as one; whose."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from imagedata_xr.arguments import ask_header
from imagedata_xr.dicom.stacks import split_stacks
from imagedata_xr.dicom.table import joined
from imagedata_xr.errors import MixedSeriesError, NoDicomError
from imagedata_xr.names import ORIGIN_KEYWORDS
from imagedata_xr.origins import Origin, names_apart, told_values
from imagedata_xr.streams import dcmread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydicom import Dataset

    from imagedata_xr.dicom.table import FrameTable

__all__ = ["chosen", "filtered", "lacking_parts", "merged", "whose"]

_SHARED = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")
"""What frames have to share to be one image."""


def filtered(tables: Mapping[str, FrameTable], where: Callable[[Dataset], bool]) -> dict[str, FrameTable]:
    """Return the tables of the frames whose file a function of its header passes.

    Parameters
    ----------
    tables : mapping of str to FrameTable
        SeriesInstanceUID to frames.
    where : callable
        Gets the header of each file, without pixel data.

    Raises
    ------
    NoDicomError
        If nothing is left.
    TypeError
        If `where` is no function.
    """
    if not callable(where):
        msg = f"where={where!r}: a function of a header is wanted, such as lambda header: header.EchoNumbers == 1"
        raise TypeError(msg)
    left: dict[str, FrameTable] = {}
    for uid, table in tables.items():
        passed: dict[str, bool] = {}
        for path in table.paths:
            if path not in passed:
                passed[path] = bool(ask_header(where, dcmread(path, stop_before_pixels=True, force=True), path))
        rows = [row for row, path in enumerate(table.paths) if passed[path]]
        if rows:
            left[uid] = table if len(rows) == len(table) else table.take(rows)
    if not left:
        msg = f"where= passes none of the {sum(map(len, tables.values()))} frames that are there"
        raise NoDicomError(msg)
    return left


def chosen(tables: Mapping[str, FrameTable], series: str | int | None, *, merge: bool = False) -> FrameTable:
    """Return the frames of the one series that is there, or that is asked for; of several with `merge`.

    Parameters
    ----------
    tables : mapping of str to FrameTable
        SeriesInstanceUID to frames.
    series : str or int, optional
        SeriesInstanceUID, SeriesNumber or SeriesDescription.
    merge : bool
        Whether several series that answer to `series` are read as one.

    Raises
    ------
    MixedSeriesError
        If it is not one; the error lists them.
    """
    # A table of a heap that was kept as CSV has its numbers as floats where one series has none.
    given: Any = series
    wanted = str(int(given)) if isinstance(given, float) and given.is_integer() else str(given)
    fits = [
        table
        for uid, table in tables.items()
        if series is None
        or wanted in (uid, str(table.first("SeriesNumber")))
        or series == table.first("SeriesDescription")
    ]
    if len(fits) == 1:
        return fits[0]
    if fits and merge:
        return merged(fits)
    listed = "\n".join(_describe(uid, table) for uid, table in tables.items())
    if series is None:
        found = f"{len(tables)} series are there, where one was wanted"
    elif fits:
        found = f"{len(fits)} series answer to {series!r}, where one was wanted"
    else:
        found = f"no series answers to {series!r}"
    all_of_them = "open all with open_study(source)"
    if all(len(_values(fits or list(tables.values()), name)) == 1 for name in _SHARED):
        further = f"{all_of_them}, or read them as one with merge=True"
    else:
        further = f"or {all_of_them}"
    msg = f"{found}:\n{listed}\nChoose with series= (UID, number or description), {further}"
    raise MixedSeriesError(msg)


def _values(tables: Sequence[FrameTable], name: str) -> list[str]:
    """Return the values of an element, "" of frames without one."""
    return list(dict.fromkeys(str(value or "") for table in tables for value in table.distinct(name)))


def _describe(uid: str, table: FrameTable) -> str:
    named = uid or "no SeriesInstanceUID"
    try:
        stacks = split_stacks(table)
        shape = f"{len(stacks)} stacks" if len(stacks) > 1 else f"{stacks[0].count} slices"
        number, description, modality = map(table.first, ("SeriesNumber", "SeriesDescription", "Modality"))
    except (ValueError, OSError) as err:  # what is wrong with one is not what is wrong with the choice
        return f"        {len(table)} frames, {named}: {err}"
    return f"  {number!s:>5} {description!r}: {modality}, {len(table)} frames, {shape}, {named}"


def merged(tables: Sequence[FrameTable]) -> FrameTable:
    """Return the frames of several series as those of one.

    Raises
    ------
    MixedSeriesError
        If the series are not of one patient, study and frame of reference.
    """
    for name in _SHARED:
        values = _values(tables, name)
        if len(values) > 1:
            msg = (
                f"{len(tables)} series have {_told(tables, name, values)}: they cannot be one image. Choose some of "
                "them with series= or where="
            )
            raise MixedSeriesError(msg)
    return joined(tables)


def lacking_parts(table: FrameTable) -> str:
    """Return which parts of images that were split over several files (PS3.3 C.7.6.16.2.2.4) are not there; "" if none.

    A part has whole volumes or slices, so that nothing else tells that others lack.
    """
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    names = ("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber")
    if table.distinct(names[0]) == [None]:
        return ""
    for uid, number, total in dict.fromkeys(zip(*map(table.values, names), strict=True)):
        if uid and isinstance(number, int):
            parts.setdefault(str(uid), set()).add(number)
            totals[str(uid)] = max(number, total if isinstance(total, int) else 0, totals.get(str(uid), 0))
    for uid, found in parts.items():
        lacking = sorted(set(range(1, totals[uid] + 1)) - found)
        if lacking:
            named = ", ".join(map(str, lacking[:6])) + " ..." * (len(lacking) > 6)
            return (
                f"{len(lacking)} of the {totals[uid]} files over which the image was split are not there: "
                f"InConcatenationNumber {named} of ConcatenationUID {uid}. Get the whole, or open what is there with "
                "missing='fill'"
            )
    return ""


def whose(table: FrameTable) -> list[Origin]:
    """Return whose image it is: one origin for each series that was merged, and each spelling of PatientName.

    Raises
    ------
    MixedSeriesError
        If the frames do not agree on patient, study or frame of reference. A patient without a PatientID is told by
        name, and two birth dates, or hospitals that gave one ID, are of two patients in any case.
    """
    columns = []
    for name in (*ORIGIN_KEYWORDS, "PatientName"):
        codes, values = table.codes(name)
        texts = [str(v or "") for v in values]
        found = list(dict.fromkeys(texts))
        if len(found) > 1 and name not in ("SeriesInstanceUID", "PatientName"):
            raise _mixed(table, name, found)
        columns.append((codes.tolist(), texts))
    born = {str(v).replace(".", ""): str(v) for v in table.distinct("PatientBirthDate") if v}
    if len(born) > 1:
        raise _mixed(table, "PatientBirthDate", list(born.values()))
    # A PatientID is that of one patient within one hospital (PS3.3 C.7.1.1).
    issuers = list(dict.fromkeys(str(v) for v in table.distinct("IssuerOfPatientID") if v))
    if len(issuers) > 1:
        raise _mixed(table, "IssuerOfPatientID", issuers)
    named = names_apart(sorted(str(v or "") for v in table.distinct("PatientName")))
    has_id = bool(columns[0][1][0])
    if len(named) > 1 and not has_id:
        raise _mixed(table, "PatientName", named)
    if len(named) > 1:
        several = _told([table], "PatientName", named)
        msg = f"the frames have {several} and one PatientID: see whose they are, image.dicom.get('PatientName')"
        warnings.warn(msg, stacklevel=7)
    birth, issuer = next(iter(born), ""), next(iter(issuers), "")
    origins: dict[Origin, None] = {}
    for row in (0,) if all(len(texts) == 1 for _, texts in columns) else range(len(table)):
        known = Origin(*(texts[codes[row]] for codes, texts in columns))
        origins[known._replace(PatientBirthDate=birth, IssuerOfPatientID=issuer)] = None
    return list(origins)


def _mixed(table: FrameTable, name: str, values: Sequence[str]) -> MixedSeriesError:
    return MixedSeriesError(
        f"the frames of one series have {_told([table], name, values)}: they cannot be one image. Open those of each "
        f"as a list of files, or with where=lambda header: header.get({name!r}) == ..."
    )


def _told(tables: Iterable[FrameTable], name: str, values: Sequence[str]) -> str:
    """Return how many values of an element there are, and which, or of a patient's in which files they are first."""
    first: dict[str, str] = {}
    for table in tables:
        for path, value in zip(table.paths, table.values(name), strict=True):
            first.setdefault(str(value or ""), path)
    return told_values(name, values, f"as in {', '.join(first[value] for value in values[:4])}")
