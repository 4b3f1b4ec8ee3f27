"""What is in a heap: one row a stack, with the order that sorts it, or the reason why none does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from imagedata_xr.dicom.scan import scan
from imagedata_xr.dicom.sort import sort
from imagedata_xr.dicom.stacks import split_stacks
from imagedata_xr.geometry import is_even, patient_orientation, unit_vectors

if TYPE_CHECKING:
    from imagedata_xr.dicom.scan import FrameTable, Source
    from imagedata_xr.dicom.stacks import Stack

__all__ = ["catalog"]

_SHOWN = ("PatientID", "StudyDate", "StudyDescription", "SeriesNumber", "SeriesDescription", "Modality")


def catalog(source: Source, *, errors: Literal["raise", "warn"] = "raise") -> pd.DataFrame:
    """Return a table of what a source holds, one row a stack; reads headers only.

    Parameters
    ----------
    source : path or list of paths
        Folders (with all below them) and files.
    errors : {"raise", "warn"}
        What a damaged file does: raise, or be left out with a warning that names it.

    Returns
    -------
    pandas.DataFrame
        The elements PatientID, StudyDate, StudyDescription, SeriesNumber, SeriesDescription, Modality and
        SeriesInstanceUID; the numbers ``stack``, ``frames``, ``slices``, ``rows`` and ``columns``; ``orientation``,
        letters of where slice, row and col lead; ``spacing``, distance of slices, rows, columns [mm], None for uneven
        slices; ``order``, the tag dims that fill the grid, as `imagedata_xr.open_series` takes them; ``shape``, sizes
        of the tag dims and slices; ``problem``, why no order is found, else "".

    Raises
    ------
    FileNotFoundError, NoDicomError
        If nothing is there, or no DICOM image.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> table = ixr.scan(ixr.sample.write_patient(getfixture("tmp_path") / "phantom"))
    >>> table.set_index("SeriesDescription").loc["dynamic 1", "order"]
    'time'
    """
    rows = [
        _row(uid, stack, number, len(stacks))
        for uid, table in scan(source, errors=errors).items()
        for stacks in [split_stacks(table)]
        for number, stack in enumerate(stacks)
    ]
    return pd.DataFrame(rows)


def _row(uid: str, stack: Stack, number: int, of: int) -> dict[str, Any]:
    """Return one row of the table."""
    table = stack.table
    row: dict[str, Any] = {name: _first(table, name) for name in _SHOWN}
    row["stack"] = number if of > 1 else 0
    row["frames"], row["slices"] = len(table), stack.count
    row["rows"], row["columns"] = _first(table, "Rows"), _first(table, "Columns")
    row["orientation"], row["spacing"] = _geometry(stack)
    try:
        grid = sort(stack)
        row["order"], row["shape"], row["problem"] = ",".join(a.name for a in grid.axes) or "none", grid.rows.shape, ""
    except ValueError as err:
        row["order"], row["shape"], row["problem"] = "", (), str(err)
    if of > 1 and not row["problem"]:
        row["problem"] = f"one of {of} stacks of its series: open_study opens each"
    row["SeriesInstanceUID"] = uid
    return row


def _first(table: FrameTable, name: str) -> Any:
    value = table.values(name)[0]
    return "" if value is None else value


def _geometry(stack: Stack) -> tuple[str, tuple[float, ...] | None]:
    """Return the orientation letters, and the distances of slices, rows and columns where these are even."""
    spacing = _first(stack.table, "PixelSpacing")
    if stack.orientation is None or stack.positions is None or not isinstance(spacing, list):
        return "", None
    directions = unit_vectors(stack.orientation)
    letters = "".join(patient_orientation(directions))
    along = stack.positions @ directions[0]
    if len(along) < 2 or not is_even(along):
        return letters, None
    return letters, (round(float(np.ptp(along)) / (len(along) - 1), 4), *(float(s) for s in spacing))
