"""What is in a heap: one row a stack, with the order that sorts it, or the reason why none does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from imagedata_xr.dicom.scan import scan
from imagedata_xr.dicom.select import lacking_parts, whose
from imagedata_xr.dicom.sort import sort
from imagedata_xr.dicom.stacks import split_stacks
from imagedata_xr.geometry import is_even, patient_orientation, unit_vectors

if TYPE_CHECKING:
    import os

    from imagedata_xr.dicom.stacks import Stack
    from imagedata_xr.dicom.table import FrameTable
    from imagedata_xr.sources import Source

__all__ = ["catalog"]

_SHOWN = ("PatientID", "StudyDate", "StudyDescription", "SeriesNumber", "SeriesDescription", "Modality")


def catalog(
    source: Source, *, errors: Literal["raise", "warn"] = "raise", index: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """Return the table of `imagedata_xr.scan`, which describes it."""
    rows = [row for uid, table in scan(source, errors=errors, index=index).items() for row in _rows(uid, table)]
    return pd.DataFrame(rows)


def _rows(uid: str, table: FrameTable) -> list[dict[str, Any]]:
    """Return the rows of one series."""
    try:
        stacks = split_stacks(table)
        rows = [_row(uid, stack, number, len(stacks)) for number, stack in enumerate(stacks)]
        lacking = lacking_parts(table)
        return [{**row, "problem": lacking} for row in rows] if lacking else rows
    except (ValueError, OSError) as err:
        # Its headers contradict themselves, which is no reason not to tell of the other series.
        row = {name: _legible(table, name) for name in _SHOWN}
        row |= {"stack": 0, "frames": len(table), "slices": 0, "rows": 0, "columns": 0, "orientation": ""}
        return [{**row, "spacing": None, "order": "", "shape": (), "problem": str(err), "SeriesInstanceUID": uid}]


def _legible(table: FrameTable, name: str) -> Any:
    try:
        return table.first(name)
    except OSError:
        return ""


def _row(uid: str, stack: Stack, number: int, of: int) -> dict[str, Any]:
    """Return one row of the table."""
    table = stack.table
    row: dict[str, Any] = {name: table.first(name) for name in _SHOWN}
    row["stack"] = number if of > 1 else 0
    row["frames"], row["slices"] = len(table), stack.count
    row["rows"], row["columns"] = table.first("Rows"), table.first("Columns")
    row["orientation"], row["spacing"] = _geometry(stack)
    try:
        whose(table)
        grid = sort(stack)
        row["order"], row["shape"], row["problem"] = ",".join(a.name for a in grid.axes) or "none", grid.rows.shape, ""
    except ValueError as err:
        row["order"], row["shape"], row["problem"] = "", (), str(err)
    if of > 1 and not row["problem"]:
        row["problem"] = f"one of {of} stacks of its series: open_study opens each"
    row["SeriesInstanceUID"] = uid
    return row


def _geometry(stack: Stack) -> tuple[str, tuple[float, ...] | None]:
    """Return the orientation letters, and the distances of slices, rows and columns where these are even."""
    spacing = stack.table.first("PixelSpacing")
    if stack.orientation is None or stack.positions is None or not isinstance(spacing, list):
        return "", None
    directions = unit_vectors(stack.orientation)
    letters = "".join(patient_orientation(directions))
    along = stack.positions @ directions[0]
    if len(along) < 2 or not is_even(along):
        return letters, None
    return letters, (round(float(np.ptp(along)) / (len(along) - 1), 4), *(float(s) for s in spacing))
