"""All slices of a volume in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from imagedata_xr.colours import colour_levels
from imagedata_xr.placement import step
from imagedata_xr.window import grey_levels

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["montage", "true_shape"]

_AS_LONG: Final = 0.01
"""Part by which spacings of rows and columns may differ and a voxel still be one pixel."""


def montage(
    da: xr.DataArray, *, columns: int | None = None, window: tuple[float, float] | Literal["auto"] | None = "auto"
) -> NDArray[np.uint8]:
    """Return all slices of a volume side by side, from left to right and down, shape (y, x) or (y, x, 3) for colours.

    Colours are shown as `imagedata_xr.colours.colour_levels` says: those of 8 bits as they are, of 16 bits the upper 8.
    A millimetre is as long either way: where spacings of rows and columns differ by more than 1 %, lines of the coarser
    ones are repeated, no value is made up. Without positions each voxel is one pixel.

    Parameters
    ----------
    da : DataArray
        One volume, dims slice (or none), row, col.
    columns : int, optional
        Slices in a row; by default as many as make the picture about square.
    window : (centre, width), "auto" or None
        The window; "auto" and None take that of the header, else of the values.

    Raises
    ------
    ValueError
        If there is more than one volume, `columns` is less than 1, or colours are neither uint8 nor uint16.
    GeometryError
        If rows or columns are unevenly spaced, or there is one of unknown size.
    """
    if columns is not None and columns < 1:
        msg = f"columns={columns}: at least 1 is wanted"
        raise ValueError(msg)
    rest = [dim for dim in da.dims if dim not in ("slice", "row", "col", "rgb")]
    if rest:
        msg = f"one volume is drawn; select one along {rest}"
        raise ValueError(msg)
    if "slice" not in da.dims:
        da = da.expand_dims("slice")
    slices = true_shape(_shown(da.transpose("slice", "row", "col", ...), window), da)
    count, height, breadth = slices.shape[:3]
    square = max(1, round(float(np.sqrt(count * height / breadth))))
    across = min(count, square) if columns is None else columns
    rows = -(-count // across)
    drawn = np.zeros((rows * across, *slices.shape[1:]), np.uint8)
    drawn[:count] = slices
    whole = drawn.reshape(rows, across, *slices.shape[1:]).swapaxes(1, 2)
    return whole.reshape(rows * height, across * breadth, *slices.shape[3:])


def _shown(da: xr.DataArray, wanted: tuple[float, float] | Literal["auto"] | None) -> NDArray[np.uint8]:
    """Return the levels of the slices."""
    if "rgb" in da.dims:
        return colour_levels(np.asarray(da.values))
    limits = () if wanted is None or wanted == "auto" else wanted
    return np.asarray(grey_levels(da, *limits).values)


def true_shape(pictures: NDArray[np.uint8], da: xr.DataArray) -> NDArray[np.uint8]:
    """Return pictures of an image, shape (n, row, col, ...), with rows or columns repeated for a true aspect.

    Raises
    ------
    GeometryError
        If rows or columns are unevenly spaced, or there is one of unknown size.
    """
    if "row" not in da.coords or "col" not in da.coords:
        return pictures
    steps = abs(step(da, "row")), abs(step(da, "col"))
    least = min(steps)
    if max(steps) <= (1 + _AS_LONG) * least:
        return pictures
    for axis, length in enumerate(steps, start=1):
        size = pictures.shape[axis]
        wanted = max(1, round(size * length / least))
        nearest = ((np.arange(wanted) + 0.5) * size / wanted).astype(np.intp)
        pictures = pictures.take(nearest, axis=axis)
    return pictures
