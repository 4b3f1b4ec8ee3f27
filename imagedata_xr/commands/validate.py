"""``image_data validate IN...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imagedata_xr.commands.opening import check_no_network
from imagedata_xr.commands.report import ALL_DONE, PARTLY, UNSORTABLE, print_json, print_table
from imagedata_xr.geometry import is_even, unit_vectors

if TYPE_CHECKING:
    import argparse

    from imagedata_xr.dicom.table import FrameTable

__all__ = ["run"]

_ONE_VALUE = ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID")
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID")


def run(arguments: argparse.Namespace) -> int:
    """Tell what is wrong with each series, and return the exit status."""
    from imagedata_xr.dicom.scan import scan

    check_no_network(*arguments.sources)
    found = [
        {"SeriesInstanceUID": uid, "SeriesNumber": table.first("SeriesNumber"), "frames": len(table)} | _look(table)
        for uid, table in scan(arguments.sources).items()
    ]
    if arguments.json:
        print_json("validate", series=found)
    else:
        rows = [
            [s["SeriesNumber"], s["frames"], kind, text]
            for s in found
            for kind, texts in (("error", s["errors"]), ("warning", s["warnings"]), ("", ["no complaints"]))
            for text in texts
            if kind or not (s["errors"] or s["warnings"])
        ]
        print_table(("SeriesNumber", "frames", "", "what"), rows)
    bad = sum(bool(series["errors"]) for series in found)
    return ALL_DONE if not bad else UNSORTABLE if bad == len(found) else PARTLY


def _look(table: FrameTable) -> dict[str, Any]:
    """Return errors and warnings of one series."""
    from imagedata_xr.dicom.sort import sort
    from imagedata_xr.dicom.stacks import split_stacks

    # How many there are, not which: a report is handed on.
    counts = {name: len({str(value or "") for value in table.values(name)}) for name in _ONE_VALUE}
    errors = [f"{count} different {name} in one series" for name, count in counts.items() if count > 1]
    needed = ("PatientID", "StudyInstanceUID", "SOPInstanceUID")
    errors += [f"{n} is absent or empty" for n in needed if any(value in (None, "") for value in table.values(n))]
    warnings: list[str] = []
    wrong = {
        name
        for name in _UIDS
        for value in set(map(str, table.values(name)))
        if value not in ("None", "") and not _is_uid(value)
    }
    warnings += [f"{name} is no valid UID" for name in sorted(wrong)]
    files: dict[str, set[str]] = {}
    for path, uid in zip(table.paths, table.values("SOPInstanceUID"), strict=True):
        files.setdefault(str(uid), set()).add(path)
    if twice := sum(len(paths) > 1 for paths in files.values()):
        warnings.append(f"{twice} instances are there in more than one file")
    try:
        stacks = split_stacks(table)
    except (ValueError, OSError) as err:
        return {"errors": [*errors, str(err).splitlines()[0]], "warnings": warnings}
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
            sort(stack, "auto")
        except (ValueError, OSError) as err:
            errors.append(str(err).splitlines()[0])
    return {"errors": errors, "warnings": warnings}


def _is_uid(value: str) -> bool:
    from pydicom.uid import UID

    return UID(value).is_valid
