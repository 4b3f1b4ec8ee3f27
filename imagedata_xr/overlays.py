"""Overlays: drawings of one bit a pixel that a file keeps beside its image (PS3.3 C.9.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.headers import header
from imagedata_xr.verbatim import turn_words

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

__all__ = ["overlays"]

_GROUPS: Final = range(0x6000, 0x6020, 2)


def overlays(da: xr.DataArray, **indexers: int) -> xr.DataArray:
    """Return the overlays of one frame, bool, dims (overlay, row, col); none where it has none.

    Parameters
    ----------
    da : DataArray
        An image as it was opened: rows and columns all there.
    **indexers : int
        Which frame, as for `imagedata_xr.headers.header`.

    Returns
    -------
    DataArray
        With the image's positions of rows and columns; the coordinate ``overlay`` has their labels, or
        numbers of their groups (``"6000"``).

    Raises
    ------
    UnreadableFileError
        If one is cut short, lies in the pixel data, or is of another size than the image.
    ValueError, MissingHeaderError
        If the numbers do not name one frame, or nothing is known of it, as for `imagedata_xr.headers.header`.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folders = ixr.sample.write_patient(getfixture("tmp_path") / "phantom")
    >>> overlays(ixr.open_series(folders / "dynamic_1", "time"), time=0, slice=3).sizes["overlay"]
    0
    """
    dataset = header(da, **indexers)
    turn_words(dataset)
    shape = da.sizes["row"], da.sizes["col"]
    frame = int(da.coords["source_frame"].min()) - 1 if "source_frame" in da.coords else 0
    groups = [group for group in _GROUPS if (group, 0x0010) in dataset]
    planes = [_plane(dataset, group, shape, frame) for group in groups]
    labels = [str(dataset[group, 0x1500].value if (group, 0x1500) in dataset else f"{group:04X}") for group in groups]
    values = np.stack(planes) if planes else np.zeros((0, *shape), bool)
    coords = {name: da.coords[name] for name in ("row", "col") if name in da.coords}
    return xr.DataArray(values, {"overlay": labels, **coords}, ("overlay", "row", "col"), "overlays")


def _plane(dataset: Dataset, group: int, shape: tuple[int, int], frame: int) -> NDArray[np.bool_]:
    """Return one overlay, as large as the image."""

    def number(element: int, default: int) -> int:
        value = dataset[group, element].value if (group, element) in dataset else None
        return default if value is None else int(value)

    rows, columns = number(0x0010, 0), number(0x0011, 0)
    named = f"overlay {group:04X} of {rows}×{columns}"
    if (group, 0x3000) not in dataset:
        msg = f"{named} has no OverlayData: it lies in unused bits of the pixel data, which is not read"
        raise UnreadableFileError(msg)
    data = bytes(dataset[group, 0x3000].value or b"")
    first, count = number(0x0051, 1) - 1, number(0x0015, 1)
    own = frame - first if count > 1 else 0
    bits = np.zeros(rows * columns, np.uint8)
    if 0 <= own < count:
        if 8 * len(data) < (own + 1) * bits.size:
            msg = f"{named} is cut short: {len(data)} bytes of OverlayData are there"
            raise UnreadableFileError(msg)
        start = own * bits.size
        unpacked = np.unpackbits(np.frombuffer(data[start // 8 :], np.uint8), bitorder="little")
        bits = unpacked[start % 8 :][: bits.size]
    origin = dataset[group, 0x0050].value if (group, 0x0050) in dataset else [1, 1]
    top, left = (int(v) - 1 for v in origin)
    if (rows, columns) != (dataset.Rows, dataset.Columns) and (top < 0 or left < 0):
        msg = f"{named} begins at {top + 1}\\{left + 1}, outside the image"
        raise UnreadableFileError(msg)
    if shape != (dataset.Rows, dataset.Columns) or top + rows > shape[0] or left + columns > shape[1]:
        msg = f"{named} at {top + 1}\\{left + 1} does not fit on the {shape[0]}×{shape[1]} pixels; take the whole image"
        raise UnreadableFileError(msg)
    plane = np.zeros(shape, bool)
    plane[top : top + rows, left : left + columns] = bits.reshape(rows, columns)
    return plane
