"""Geometry of an image: where its voxels are in the patient, from its coordinates and two attributes.

The coordinates of slice, row and col are positions [mm]; with ImageOrientationPatient and slice_shear in
attrs they are the whole geometry (see `imagedata_xr.geometry`). All here is worked out from them on demand,
so it is right after any selection, flip or average. The frame in the indexes confirms the attributes, and
stands in for them where operands that agree within rounding made xarray drop them.

Points and directions are in LPS+ [mm], numbers and matrices in the index order (slice, row, col). The names
are highdicom's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr
from xarray.indexes import PandasIndex

from imagedata_xr import geometry
from imagedata_xr.errors import GeometryError
from imagedata_xr.geometry import POSITION_TOLERANCE, format_numbers, make_frame
from imagedata_xr.indexes import PositionIndex, TagIndex
from imagedata_xr.names import SPATIAL_DIMS
from imagedata_xr.origins import assign_origins
from imagedata_xr.placement import (
    STEP_KEYWORDS,
    UNITS,
    check_order,
    edges_along,
    frame,
    place,
    positions_along,
    sign_along,
    step,
    two_positions,
    with_indexes,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from imagedata_xr.origins import Origin

__all__ = [
    "affine",
    "affine_ras",
    "assign_geometry",
    "assign_positions",
    "axes",
    "direction_cosines",
    "geometry_equal",
    "image_position",
    "index_positions",
    "is_evenly_spaced",
    "map_indices_to_reference",
    "map_reference_to_indices",
    "patient_coords",
    "patient_orientation",
    "sel_patient",
    "spacing",
]

_COPIED: Final = (*STEP_KEYWORDS, "FrameOfReferenceUID")


def assign_positions(
    da: xr.DataArray,
    positions: Mapping[str, ArrayLike],
    orientation: ArrayLike,
    shear: ArrayLike = (0.0, 0.0),
    *,
    origin: Origin,
) -> xr.DataArray:
    """Return the array as an image at these positions of a patient.

    Parameters
    ----------
    da : xarray.DataArray
        Array with some of the dims slice, row, col.
    positions : mapping of str to array_like
        Positions of slice, row and col [mm], from `imagedata_xr.geometry.stack_positions`; a single one for a
        dim that the array has not.
    orientation : array_like, shape (6,)
        ImageOrientationPatient, kept as given.
    shear : array_like, shape (2,)
        Shear of the stack, along down and along right.
    origin : Origin
        Series that the values come from.

    Returns
    -------
    xarray.DataArray
        With coordinates, indexes, the attrs ImageOrientationPatient and slice_shear, and the origin.

    Raises
    ------
    GeometryError
        If orientation or positions are not such, or do not have the array's size.

    Examples
    --------
    >>> from imagedata_xr.origins import Origin
    >>> plain = xr.DataArray(np.zeros((2, 2, 3)), dims=("slice", "row", "col"))
    >>> stack = geometry.stack_positions([[0, 0, 5], [0, 0, 8]], [1, 0, 0, 0, 1, 0], [2, 1], 2, 3)
    >>> da = assign_positions(plain, stack.positions, [1, 0, 0, 0, 1, 0], origin=Origin("p", "1", "2", "3"))
    >>> affine(da)
    array([[0., 0., 1., 0.],
           [0., 2., 0., 0.],
           [3., 0., 0., 5.],
           [0., 0., 0., 1.]])
    """
    return assign_origins(place(da, positions, make_frame(orientation, shear)), [origin])


def axes(da: xr.DataArray) -> NDArray[np.float64]:
    """Return the movement [mm, LPS+] of a voxel for each mm of slice, row, col position, shape (3, 3).

    One direction is one row of the result; see `imagedata_xr.geometry.axis_directions`.
    """
    return geometry.axis_directions(frame(da))


def affine(da: xr.DataArray) -> NDArray[np.float64]:
    """Return the matrix from (slice, row, col) numbers to the patient [mm, LPS+], shape (4, 4).

    Dims of size 1 take their step from PixelSpacing, SpacingBetweenSlices or SliceThickness in attrs.

    Raises
    ------
    GeometryError
        If slices, rows or columns are unevenly spaced, or a position, orientation or step is not known.
    """
    steps = [step(da, dim) for dim in SPATIAL_DIMS]
    return geometry.affine_matrix(axes(da), [positions_along(da, dim)[0] for dim in SPATIAL_DIMS], steps)


def affine_ras(da: xr.DataArray) -> NDArray[np.float64]:
    """Return the matrix from (slice, row, col) numbers to the patient [mm, RAS+], shape (4, 4).

    NIfTI's frame; NIfTI's index order is (col, row, slice). Raises as affine() does.
    """
    return geometry.lps_to_ras(affine(da))


def spacing(da: xr.DataArray) -> NDArray[np.float64]:
    """Return the distance [mm] from one voxel to the next along slice, row, col, shape (3,).

    Along a sheared stack this is the distance of voxels, more than that of the planes. Raises as affine() does.
    """
    return np.asarray(np.linalg.norm(affine(da)[:3, :3], axis=0))


def image_position(da: xr.DataArray) -> NDArray[np.float64]:
    """Return the centre of voxel (0, 0, 0) [mm, LPS+], shape (3,).

    This is highdicom's `position`, and ImagePositionPatient (PS3.3 C.7.6.2.1.1) if the image is one slice.

    Raises
    ------
    GeometryError
        If a position or the orientation is not known.
    """
    start = np.array([positions_along(da, dim)[0] for dim in SPATIAL_DIMS])
    return np.asarray(start @ axes(da) + 0.0)


def direction_cosines(da: xr.DataArray) -> NDArray[np.float64]:
    """Return the directions of growing col number and of growing row number [LPS+], shape (6,).

    These are those of ImageOrientationPatient (PS3.3 C.7.6.2.1.1), turned round for an axis that was flipped.

    Raises
    ------
    GeometryError
        If a position or the orientation is not known.
    """
    signs = [sign_along(da, "col")] * 3 + [sign_along(da, "row")] * 3
    return np.asarray(frame(da).orientation) * signs + 0.0


def patient_orientation(da: xr.DataArray) -> tuple[str, str, str]:
    """Return the letters of the directions in which slice, row and col numbers grow, as ("H", "P", "L").

    The letters are those of PatientOrientation (PS3.3 C.7.6.1.1.1): L, R, P, A, H, F.

    Raises
    ------
    GeometryError
        If a position or the orientation is not known.
    """
    signs = np.array([[sign_along(da, dim)] for dim in SPATIAL_DIMS])
    return geometry.patient_orientation(axes(da) * signs)


def is_evenly_spaced(da: xr.DataArray) -> bool:
    """Return whether slices, rows and columns are evenly spaced, so that one affine can place them.

    See `imagedata_xr.geometry.is_even` for what is even.

    Raises
    ------
    GeometryError
        If a position is not known.
    """
    return all(geometry.is_even(positions_along(da, dim)) for dim in SPATIAL_DIMS)


def patient_coords(da: xr.DataArray) -> xr.Dataset:
    """Return the x, y and z [mm, LPS+] of every voxel, each on the dims that its slice, row and col vary over.

    Those are its own dims, what they were stacked to, or the dim of voxels that were picked one by one. Worked out
    chunk by chunk if the image has chunks, and not meant to be stored: twelve times the memory of an int16 image.

    Raises
    ------
    GeometryError
        If a position or the orientation is not known.
    """
    directions = axes(da)
    parts = []
    for dim in SPATIAL_DIMS:
        if dim in da.coords and da.coords[dim].dims != (dim,):
            coord = da.coords[dim].variable
            part = xr.Variable(coord.dims, coord.values.astype(float))
        else:
            part = xr.Variable((dim,), positions_along(da, dim))
        chunks = {along: da.chunksizes[along] for along in part.dims if along in da.chunksizes}
        parts.append(part.chunk(chunks) if chunks else part)
    dims = dict.fromkeys(dim for part in parts for dim in part.dims)
    coords = da.coords.to_dataset()[[dim for dim in dims if dim in da.coords]].coords
    across, down, right = parts
    points = {}
    for xyz, name in enumerate("xyz"):
        along = directions[:, xyz]
        points[name] = across * along[0] + down * along[1] + right * along[2]
        points[name].attrs = dict(UNITS)
    return xr.Dataset(points, coords)


def sel_patient(da: xr.DataArray, point: ArrayLike, tolerance: float | None = None) -> xr.DataArray:
    """Return the image at the voxel whose centre is nearest to a point of the patient.

    Parameters
    ----------
    da : xarray.DataArray
        Image.
    point : array_like, shape (3,)
        Point (x, y, z) [mm, LPS+].
    tolerance : float, optional
        Largest distance [mm] of the voxel's centre from the point. By default the point has to be in the
        image: at most half a voxel beyond the centres of the outermost voxels.

    Returns
    -------
    xarray.DataArray
        Without the dims slice, row, col; other dims stay.

    Raises
    ------
    GeometryError
        If the point is outside the image or too far away, or the geometry is not known.
    """
    directions = axes(da)
    wanted = np.asarray(point, dtype=float)
    if wanted.shape != (3,) or not np.isfinite(wanted).all():
        raise GeometryError(f"point is {point!r}; three finite numbers (x, y, z) [mm, LPS+] are needed")
    for dim, position in zip(SPATIAL_DIMS, np.linalg.solve(directions.T, wanted), strict=True):
        low, high = edges_along(da, dim) if tolerance is None else (-np.inf, np.inf)
        if not low - POSITION_TOLERANCE <= position <= high + POSITION_TOLERANCE:
            raise GeometryError(
                f"point {format_numbers(wanted)} mm is outside the image: its {dim} position is {position:.3f} mm, the "
                f"image has {low:.3f}..{high:.3f} mm; give a tolerance [mm] for the nearest voxel all the same"
            )
    numbers, distance = _nearest(da, directions, wanted)
    if tolerance is not None and distance > tolerance:
        raise GeometryError(
            f"point {format_numbers(wanted)} mm is {distance:.3f} mm from the nearest voxel; {tolerance} was wanted"
        )
    return da.isel({dim: number for dim, number in numbers.items() if dim in da.dims})


def _nearest(
    da: xr.DataArray, directions: NDArray[np.float64], point: NDArray[np.float64]
) -> tuple[dict[str, int], float]:
    """Return the numbers of slice, row and col of the voxel nearest to a point, and its distance [mm]."""
    slices = positions_along(da, "slice")
    # In each slice first: where slices are sheared, the nearest row is another one in each.
    beside = point - np.outer(slices, directions[0])
    numbers = {}
    for dim, direction in zip(SPATIAL_DIMS[1:], directions[1:], strict=True):
        values = positions_along(da, dim)
        numbers[dim] = np.abs(np.subtract.outer(beside @ direction, values)).argmin(axis=1)
        beside = beside - np.outer(values[numbers[dim]], direction)
    distances = np.linalg.norm(beside, axis=1)
    nearest = int(distances.argmin())
    return {"slice": nearest, **{dim: int(found[nearest]) for dim, found in numbers.items()}}, float(distances[nearest])


def map_indices_to_reference(da: xr.DataArray, indices: ArrayLike) -> NDArray[np.float64]:
    """Return the points [mm, LPS+] at (slice, row, col) numbers, shape (n, 3).

    Uneven slices, too: between and beyond them numbers count evenly from each to the next.

    Parameters
    ----------
    da : xarray.DataArray
        Image.
    indices : array_like, shape (n, 3)
        Numbers of slice, row, col; parts of a voxel are fine.

    Raises
    ------
    GeometryError
        If the geometry is not known.
    """
    numbers = _triples(indices, "indices")
    positions = []
    for dim, wanted in zip(SPATIAL_DIMS, numbers.T, strict=True):
        values = two_positions(da, dim) if wanted.any() else positions_along(da, dim)
        below = np.floor(wanted).astype(int).clip(0, max(values.size - 2, 0))
        above = (below + 1).clip(0, values.size - 1)
        positions.append(values[below] + (wanted - below) * (values[above] - values[below]))
    return np.asarray(np.stack(positions, axis=-1) @ axes(da) + 0.0)


def map_reference_to_indices(da: xr.DataArray, points: ArrayLike) -> NDArray[np.float64]:
    """Return the (slice, row, col) numbers at points of the patient, with parts of a voxel, shape (n, 3).

    The inverse of map_indices_to_reference(); a number below 0 or above the last is outside the image.

    Parameters
    ----------
    da : xarray.DataArray
        Image.
    points : array_like, shape (n, 3)
        Points (x, y, z) [mm, LPS+].

    Raises
    ------
    GeometryError
        If the geometry is not known, or positions do not all go one way.
    """
    wanted = np.linalg.solve(axes(da).T, _triples(points, "points").T)
    numbers = []
    for dim, positions in zip(SPATIAL_DIMS, wanted, strict=True):
        values = two_positions(da, dim)
        sign = np.sign(values[1] - values[0])
        if (np.diff(values) * sign <= 0).any() or not sign:
            raise GeometryError(f"{dim} positions go to and fro; sort them first with da.sortby({dim!r})")
        below = (np.searchsorted(values * sign, positions * sign) - 1).clip(0, values.size - 2)
        numbers.append(below + (positions - values[below]) / (values[below + 1] - values[below]))
    return np.stack(numbers, axis=-1)


def geometry_equal(a: xr.DataArray, b: xr.DataArray, tolerance: float = POSITION_TOLERANCE) -> bool:
    """Return whether two images have the same voxels in space.

    Frames of reference are not compared, nor are other dims than slice, row and col.

    Parameters
    ----------
    a, b : xarray.DataArray
        Images.
    tolerance : float
        Largest distance [mm] of one voxel from its partner.

    Raises
    ------
    GeometryError
        If the geometry of one is not known.
    """
    away = image_position(a) - image_position(b)  # of the first voxels; the others may drift from there
    drift = 0.0
    for dim, along_a, along_b in zip(SPATIAL_DIMS, axes(a), axes(b), strict=True):
        here, there = positions_along(a, dim), positions_along(b, dim)
        if here.size != there.size:
            return False
        steps = np.outer(here - here[0], along_a) - np.outer(there - there[0], along_b)
        drift += float(np.linalg.norm(steps, axis=1).max(initial=0.0))
    return bool(np.linalg.norm(away) + drift <= tolerance)


def assign_geometry(da: xr.DataArray, like: xr.DataArray) -> xr.DataArray:
    """Return the array with the geometry of another image: positions, orientation, frame of reference.

    Parameters
    ----------
    da : xarray.DataArray
        Array with as many slices, rows and columns as `like`; what it had of a geometry is replaced.
    like : xarray.DataArray
        Image.

    Raises
    ------
    GeometryError
        If sizes differ, the geometry of `like` is not known, or the image has its voxels in another order.
    """
    positions = {dim: positions_along(like, dim) for dim in SPATIAL_DIMS}
    sizes = [tuple(image.sizes.get(dim, 1) for dim in SPATIAL_DIMS) for image in (da, like)]
    if sizes[0] != sizes[1]:
        raise GeometryError(
            f"image has {sizes[0]} slices, rows and columns, the one whose geometry it is to get {sizes[1]}; "
            "crop it, or resample it with image.dicom.resample_like(other)"
        )
    check_order(da, like)
    image = da.copy(deep=False)
    image.attrs = {name: value for name, value in da.attrs.items() if name not in _COPIED}
    image.attrs |= {name: like.attrs[name] for name in _COPIED if name in like.attrs}
    return place(image, positions, frame(like))


def index_positions(da: xr.DataArray) -> xr.DataArray:
    """Return the image with the indexes it had when it was opened.

    For use after reading from netCDF or Zarr, `interp`, `coarsen`, or `assign_coords`; see `imagedata_xr.indexes`.
    Indexes that are in place stay as they are.

    Raises
    ------
    GeometryError
        If the image has positions and its orientation is not known.
    """
    new: dict[Hashable, PandasIndex] = {}
    plain = [dim for dim in da.dims if type(da.xindexes.get(dim)) is PandasIndex]
    for dim in plain:
        labels = da.coords[dim].values
        if dim in SPATIAL_DIMS:
            new[dim] = PositionIndex(labels.astype(float), dim, frame=frame(da))
        else:
            new[dim] = TagIndex.for_dim(dim, labels)
    # As they were: of texts of a fixed width `interp` chooses one, which is of the header of another frame.
    fixed = {name: coord for name, coord in da.coords.variables.items() if coord.dtype.kind == "U" and coord.ndim}
    texts = {name: c.astype(np.dtypes.StringDType()) for name, c in fixed.items() if name not in da.xindexes}
    return with_indexes(da.assign_coords(texts) if texts else da, new)


def _triples(values: ArrayLike, name: str) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 2 or numbers.shape[1] != 3:
        raise GeometryError(f"{name} have the shape {numbers.shape}; (n, 3) is needed")
    gaps = ~np.isfinite(numbers).all(axis=1)
    if gaps.any():
        raise GeometryError(f"{gaps.sum()} of {len(gaps)} {name} are not finite: leave out what has no place")
    return numbers
