"""``image_data validate IN...``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.commands.opening import check_no_network, images_of
from imagedata_xr.commands.report import ALL_DONE, PARTLY, UNSORTABLE, print_json, print_table, told_damaged
from imagedata_xr.dicom.frames import pixel_format
from imagedata_xr.dicom.series import build
from imagedata_xr.dicom.sort import sort
from imagedata_xr.dicom.stacks import split_stacks
from imagedata_xr.dicom.stored import Place, Reader, Tile
from imagedata_xr.elements import keyword
from imagedata_xr.geometry import is_even, unit_vectors

if TYPE_CHECKING:
    import argparse

    from imagedata_xr.dicom.stacks import Stack
    from imagedata_xr.dicom.table import FrameTable
    from imagedata_xr.elements import Raw

__all__ = ["run"]

_ONE_VALUE = ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID", "Modality")
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID")

_NUMBER: Final = {"DS": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"), "IS": re.compile(r"[+-]?\d+")}
"""PS3.5 6.2."""


def run(arguments: argparse.Namespace) -> int:
    """Tell what is wrong with each series and file, and return the exit status."""
    check_no_network(*arguments.sources)
    tables, damaged = images_of(arguments.sources)
    found = [
        {"SeriesInstanceUID": uid, "SeriesNumber": _number(table), "frames": len(table)} | _look(table)
        for uid, table in tables.items()
    ]
    if arguments.json:
        print_json("validate", series=found, damaged=told_damaged(damaged))
    else:
        rows = [
            [s["SeriesNumber"], s["frames"], kind, text]
            for s in found
            for kind, texts in (("error", s["errors"]), ("warning", s["warnings"]), ("", ["no complaints"]))
            for text in texts
            if kind or not (s["errors"] or s["warnings"])
        ]
        rows += [["", "", "error", f"{path}: {reason}"] for path, reason in damaged]
        print_table(("SeriesNumber", "frames", "", "what"), rows)
    bad = sum(bool(series["errors"]) for series in found)
    if not bad and not damaged:
        return ALL_DONE
    return UNSORTABLE if bad == len(found) else PARTLY


def _number(table: FrameTable) -> Any:
    try:
        return table.first("SeriesNumber")
    except OSError:
        return ""


def _look(table: FrameTable) -> dict[str, list[str]]:
    """Return errors and warnings of one series."""
    errors, warnings = _values(table)
    for look in (_identity, _places):
        try:
            more = look(table)
        except (ValueError, OSError) as err:
            more = [_line(err)], []
        errors += [text for text in more[0] if text not in errors]
        warnings += more[1]
    return {"errors": errors, "warnings": warnings}


def _line(err: Exception) -> str:
    return str(err).splitlines()[0]


def _values(table: FrameTable) -> tuple[list[str], list[str]]:
    """Return errors and warnings of elements whose values are not of their kind."""
    errors, warnings = [], []
    for number in sorted({*table.common, *table.varying}):
        name = keyword(number) or f"{number:08x}"
        try:
            table.distinct(number)
        except OSError as err:
            errors.append(_line(err))
        if not all(raw is None or _is_numbers(raw) for raw in table.distinct_raws(number)):
            warnings.append(f"{name} is no number")
    return errors, warnings


def _is_numbers(raw: Raw) -> bool:
    """Return whether a value that is to be text of numbers is."""
    pattern = _NUMBER.get(raw.vr)
    parts = raw.value.decode("latin-1").strip(" \0").split("\\") if pattern else []
    return all(pattern is None or not part.strip() or pattern.fullmatch(part.strip()) for part in parts)


def _identity(table: FrameTable) -> tuple[list[str], list[str]]:
    """Return errors and warnings of what the frames are and whose."""
    # How many there are, not which: a report is handed on.
    counts = {name: len({str(value or "") for value in table.values(name)}) for name in _ONE_VALUE}
    errors = [f"{count} different {name} in one series" for name, count in counts.items() if count > 1]
    needed = ("PatientID", "StudyInstanceUID", "SOPInstanceUID")
    errors += [f"{n} is absent or empty" for n in needed if any(value in (None, "") for value in table.values(n))]
    wrong = {
        name
        for name in _UIDS
        for value in set(map(str, table.values(name)))
        if value not in ("None", "") and not _is_uid(value)
    }
    warnings = [f"{name} is no valid UID" for name in sorted(wrong)]
    files: dict[str, set[str]] = {}
    for path, uid in zip(table.paths, table.values("SOPInstanceUID"), strict=True):
        files.setdefault(str(uid), set()).add(path)
    if twice := sum(len(paths) > 1 for paths in files.values()):
        warnings.append(f"{twice} instances are there in more than one file")
    return errors, warnings


def _places(table: FrameTable) -> tuple[list[str], list[str]]:
    """Return errors and warnings of where the frames are, and of their pixels."""
    errors: list[str] = []
    warnings: list[str] = []
    stacks = split_stacks(table)
    if len(stacks) > 1:
        warnings.append(f"{len(stacks)} stacks of slices in one series")
    for stack in stacks:
        if stack.positions is None:
            warnings.append("no place in the patient")
        elif stack.orientation is not None and stack.count > 2:
            along = stack.positions @ unit_vectors(stack.orientation)[0]
            if not is_even(along):
                steps = np.diff(along)
                warnings.append(f"{stack.count} slices at uneven distances, {steps.min():.3g} to {steps.max():.3g} mm")
        try:
            build(stack, sort(stack, "auto"))
        except (ValueError, OSError) as err:
            errors.append(_line(err))
        errors += _pixels(stack)
    return errors, warnings


def _pixels(stack: Stack) -> list[str]:
    """Return an error where compressed frames cannot be decoded; those that lie plainly were measured by the scan."""
    table = stack.table
    try:
        form = pixel_format(table)
    except ValueError:
        return []  # as `build` said
    reader, reasons = Reader(), []
    for row in np.flatnonzero(table.offsets < 0).tolist():
        version = int(table.sizes[row]), int(table.mtimes[row])
        tile = Tile(*table.tiles[row].tolist())
        try:
            reader.read(Place(table.paths[row], -1, 0, int(table.frames[row]), tile, version), form)
        except (OSError, ValueError) as err:
            reasons.append(_line(err))
    return [f"{len(reasons)} of {len(table)} frames cannot be decoded, first: {reasons[0]}"] if reasons else []


def _is_uid(value: str) -> bool:
    from pydicom.uid import UID

    return UID(value).is_valid
