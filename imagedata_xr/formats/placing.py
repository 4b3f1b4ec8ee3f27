"""The affine of a file ↔ positions of an image, for formats that have an affine in place of DICOM's elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from imagedata_xr.errors import GeometryError
from imagedata_xr.geometry import format_gaps, format_numbers, is_even
from imagedata_xr.names import SPATIAL_DIMS
from imagedata_xr.origins import Origin
from imagedata_xr.placement import positions_along
from imagedata_xr.positions import assign_positions

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import ArrayLike

__all__ = ["NO_ORIGIN", "evenly_spaced", "place_by_affine"]

NO_ORIGIN: Final = Origin("", "", "", "")
"""Of values whose file does not say whose they are."""

_ALONG: Final = 0.9
"""Cosine from which an axis lies along another."""

_PERPENDICULAR: Final = 1e-4
"""Largest cosine between the directions of row and col; single precision leaves some 1e-7."""


def place_by_affine(da: xr.DataArray, affine: ArrayLike, *, orientation: ArrayLike | None = None) -> xr.DataArray:
    """Return an array as an image of nobody known at the place that an affine says, turned as pictures are shown.

    Columns grow to the left or back of the patient and rows to the back or feet, as in DICOM pictures of the three
    planes; slices ascend along right × down. So some dims come out reversed; no voxel moves in the patient.

    Parameters
    ----------
    da : DataArray
        Array with the dims slice, row and col.
    affine : array_like, shape (4, 4)
        From (slice, row, col) to the patient [mm, LPS+].
    orientation : array_like, shape (6,), optional
        ImageOrientationPatient that rows and columns are to be turned to, if they lie along it.

    Raises
    ------
    GeometryError
        If the affine is singular, not finite, or rows and columns are not perpendicular.
    """
    matrix = np.asarray(affine, float)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        msg = f"an affine of 4 x 4 finite numbers is wanted; this one is {format_numbers(matrix.ravel()[:16])}"
        raise GeometryError(msg)
    start, steps = matrix[:3, 3].copy(), matrix[:3, :3].T.copy()  # one step a dim: slice, row, col
    sizes = np.linalg.norm(steps, axis=1)
    if not (sizes > 0).all() or abs(np.linalg.det(steps / sizes[:, None])) < 1e-3:
        msg = f"the affine is singular: slice, row and col step by {format_numbers(steps.ravel())} mm"
        raise GeometryError(msg)
    flips = {}
    wanted = np.zeros((2, 3)) if orientation is None else np.asarray(orientation, float).reshape(2, 3)[::-1]
    along = [steps[axis] @ wanted[axis - 1] / sizes[axis] for axis in (1, 2)]
    for axis in (1, 2):
        if min(map(abs, along)) > _ALONG:
            flips[axis] = along[axis - 1] < 0
            continue
        # Letters in which pictures grow are L, P and F: +x, +y, -z.
        xyz = int(np.argmax(np.abs(steps[axis])))
        flips[axis] = bool(steps[axis, xyz] * (1, 1, -1)[xyz] < 0)
    signs = np.where([False, flips[1], flips[2]], -1, 1)
    flips[0] = bool(np.linalg.det(steps[[2, 1, 0]] * signs[[2, 1, 0], None]) < 0)
    for axis, flipped in flips.items():
        if flipped:
            start += steps[axis] * (da.sizes[SPATIAL_DIMS[axis]] - 1)
            steps[axis] *= -1
    da = da.isel({SPATIAL_DIMS[axis]: slice(None, None, -1) for axis, flipped in flips.items() if flipped})
    right, down = steps[2] / sizes[2], steps[1] / sizes[1]
    if abs(right @ down) > _PERPENDICULAR:
        msg = (
            f"rows and columns of the affine meet at {np.degrees(np.arccos(right @ down)):.2f} degrees; an image has "
            "perpendicular ones. Resample it first"
        )
        raise GeometryError(msg)
    # Rounded to single precision they are not quite perpendicular; half of the difference goes to each.
    half = (right @ down) / 2
    right, down = right - half * down, down - half * right
    right, down = right / np.linalg.norm(right), down / np.linalg.norm(down)
    normal = np.cross(right, down)
    rise = steps[0] @ normal
    shear = np.array([steps[0] @ down, steps[0] @ right]) / rise
    shear[np.abs(shear) < 1e-6] = 0.0
    first = start @ normal
    positions = {
        "slice": first + rise * np.arange(da.sizes["slice"]),
        "row": (start - first * shear[0] * down) @ down + sizes[1] * np.arange(da.sizes["row"]),
        "col": (start - first * shear[1] * right) @ right + sizes[2] * np.arange(da.sizes["col"]),
    }
    da = da.assign_attrs(PixelSpacing=[float(sizes[1]), float(sizes[2])], SpacingBetweenSlices=float(rise))
    return assign_positions(da, positions, [*right.tolist(), *down.tolist()], shear, origin=NO_ORIGIN)


def evenly_spaced(da: xr.DataArray, *, resample: bool = False) -> xr.DataArray:
    """Return an image whose positions are even along every dim, so that one affine tells them.

    Parameters
    ----------
    da : DataArray
        Image.
    resample : bool
        Whether uneven slices are interpolated linearly to the smallest distance that they have.

    Raises
    ------
    GeometryError
        If distances are uneven, and `resample` is False; or if rows or columns are.
    """
    for dim in SPATIAL_DIMS:
        values = positions_along(da, dim)
        if values.size < 2 or is_even(values):
            continue
        if dim != "slice" or not resample:
            msg = f"image has {values.size} {dim}s {format_gaps(values)}; this format has even ones only. " + (
                "Write with resample=True to interpolate" if dim == "slice" else "Resample it"
            )
            raise GeometryError(msg)
        low, high = values.min(), values.max()
        even = np.linspace(low, high, round((high - low) / np.abs(np.diff(values)).min()) + 1)
        da = da.interp(slice=even if values[-1] > values[0] else even[::-1])
    return da
