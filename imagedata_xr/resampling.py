"""An image on the grid of another: its values in the patient, interpolated at the centres of the other's voxels.

Both are reached by numbers of slice, row and col, and an affine leads from those of the one to those of the other.
Interpolation is done in these numbers, where sheared, reversed and single slices are nothing special.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import xarray as xr

from imagedata_xr.errors import GeometryError, ValuesNotStorableError
from imagedata_xr.geometry import (
    COSINE_TOLERANCE,
    POSITION_TOLERANCE,
    affine_matrix,
    format_gaps,
    frame_difference,
    is_even,
    unit_vectors,
)
from imagedata_xr.names import SPATIAL_DIMS
from imagedata_xr.origins import assign_origins, origins
from imagedata_xr.placement import corners, frame, frame_names, place, positions_along, step
from imagedata_xr.positions import axes
from imagedata_xr.references import common_reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["resample_like"]

_REACH: Final = {"linear": 1, "nearest": 1, "bspline": 12}
"""How many voxels away from a point its value can depend on. A spline's weights go on, below single precision."""

_DIGITS: Final = 9
"""Of distances [mm], which cut the noise of the arithmetic."""

_MIDWAY: Final = 1e-6
"""Part of a voxel within which a point is midway between two, and "nearest" takes the later one."""

_ROUNDING_PART: Final = 0.02
"""Part of a voxel that may be rounding of positions, where voxels are so small that 1e-3 mm is much of one."""

_LEAST_WEIGHT: Final = 1e-9
"""Part of a value that is more than round-off."""

_OF_FRAMES: Final = (
    *("source", "source_frame", "SOPInstanceUID", "InstanceNumber", "InStackPositionNumber"),
    *("SliceLocation", "ImagePositionPatient"),
)
"""What is of single frames of the image, whether or not it varies; the frames of the result are others."""

_OF_DIRECTIONS: Final = ("InPlanePhaseEncodingDirection", "PatientOrientation", "GantryDetectorTilt")
"""Attributes that tell of directions, and are told by rows, columns and slices of the image's own grid."""


class _Grids(NamedTuple):
    """From numbers of slice, row, col of the new grid to those of the image: ``matrix @ numbers + start``."""

    matrix: NDArray[np.float64]
    start: NDArray[np.float64]
    shape: tuple[int, ...]
    """Slices, rows and columns of the new grid."""
    size: tuple[int, ...]
    """Those of the image."""
    slack: NDArray[np.float64]
    """Round-off of positions, in voxels of the image."""

    @property
    def is_selection(self) -> bool:
        """Whether every voxel of the new grid is one of the image's, or is outside."""
        return bool((self.matrix == self.matrix.round()).all() and (self.start == self.start.round()).all())

    def corners(self) -> NDArray[np.float64]:
        """Return the numbers in the image of the outermost voxels of the new grid, shape (8, 3)."""
        ends = np.meshgrid(*([0, size - 1] for size in self.shape), indexing="ij")
        found: NDArray[np.float64] = np.stack(ends, axis=-1).reshape(-1, 3) @ self.matrix.T + self.start
        return found

    def numbers(self, number: int) -> list[NDArray[np.float64]]:
        """Return the numbers in the image of a slice of the new grid, each of a shape that goes with (row, col)."""
        found = []
        for (across, down, right), start in zip(self.matrix, self.start, strict=True):
            numbers = np.full((1, 1), across * number + start)
            if down:
                numbers = numbers + down * np.arange(self.shape[1])[:, np.newaxis]
            if right:
                numbers = numbers + right * np.arange(self.shape[2])
            found.append(numbers)
        return found

    def inside(self, number: int) -> NDArray[np.bool_]:
        """Return which voxels of a slice of the new grid are in the image, shape (row, col)."""
        inside = np.ones((1, 1), bool)
        for numbers, size, slack in zip(self.numbers(number), self.size, self.slack, strict=True):
            inside = inside & (numbers >= -0.5 - slack) & (numbers <= size - 0.5 + slack)
        return np.broadcast_to(inside, self.shape[1:])


def resample_like(
    da: xr.DataArray,
    like: xr.DataArray,
    *,
    interpolation: str = "linear",
    fill_value: complex = np.nan,
    registered: bool = False,
) -> xr.DataArray:
    """Return an image on the grid of another: its values in the patient at the centres of the other's voxels.

    Grids may be turned, sheared, reversed or single slices. Nothing is computed now: the result is a dask array, and
    each of its volumes reads the slices of its own volume that it needs.

    Parameters
    ----------
    da : xarray.DataArray
        Image.
    like : xarray.DataArray
        Image whose slices, rows and columns the result has. Its values and tag dims do not matter, and are not read.
    interpolation : str
        "linear"; "nearest", of which every value is one that the image has, for labels and masks; or "bspline", cubic,
        which is smoother and can overshoot.
    fill_value : number
        For voxels outside the image, which ends half a voxel beyond the outermost centres. There "linear" and "nearest"
        go on with the outermost value, and "bspline" mirrors.
    registered : bool
        Whether you know that a place of the patient has the same x, y and z in both images, though they name different
        frames of reference, or one names none. The result then is in that of `like`.

    Returns
    -------
    xarray.DataArray
        With tag dims, labels, header and origins of the image, and the place of `like`. Coordinates along slice, row or
        col, and what is of single frames (SOPInstanceUID, source, times of slices), are left out, for its frames are
        others. Volumes keep their labels, such as ``time``; they are ``present`` where one of their slices was, and NaN
        where none was. SliceThickness stays that of the image, since resampling makes no slice thinner, and is left out
        where the slices of `like` are not parallel. Written, it is a derived series whose headers are those of
        attributes.

        Values are of the type of the image if that holds `fill_value`: integers with "nearest" and an integer, masks
        (bool) with "nearest" and False. Else they are float32, or float64 where that is too short.

    Raises
    ------
    ValueError
        If there is no such interpolation, or `fill_value` is none for it.
    GeometryError
        If the images are in different frames of reference, or only one of them names its own, and are not
        `registered`; two that name none are taken to be in one, unless they are of different patients or studies. If
        the place of one is not known, its slices are uneven, or no voxel of `like` is in the image.
    ValuesNotStorableError
        If values are no numbers; when computed, if some of a volume are not finite and it is to be a spline.

    Notes
    -----
    NaN spreads to all values that it would be a part of. "linear" of a mask is the part of a voxel that is inside, of
    colours the mean, as floats.

    Where voxels of `like` are more than twice as large as those of the image, most of its values are skipped, and noise
    and fine structures alias: coarsen it first, as in ``image.coarsen(row=2, col=2).mean()``.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folders = ixr.sample.write_patient(getfixture("tmp_path") / "phantom")
    >>> image, echoes = (ixr.open_series(folders / name) for name in ("dynamic_1", "multi_echo"))
    >>> moved = resample_like(image, echoes.isel(slice=slice(2, 6), row=slice(None, None, -1)))
    >>> dict(moved.sizes), moved.attrs["SeriesDescription"]
    ({'time': 6, 'slice': 4, 'row': 96, 'col': 80}, 'dynamic 1')
    """
    import dask.array

    if interpolation not in _REACH:
        msg = f"interpolation is {interpolation!r}; there are {', '.join(map(repr, _REACH))}"
        raise ValueError(msg)
    dtype = _result_type(da.dtype, interpolation, fill_value)
    grids = _grids(da, like)
    reference = common_reference(da, like, registered=registered)
    _check_overlap(grids, da, like)
    grids, needed = _cropped(grids, _REACH[interpolation])
    colours = ["rgb"] if "rgb" in da.dims else []
    tags = [dim for dim in da.dims if dim not in (*SPATIAL_DIMS, *colours)]
    part = da.variable.isel({dim: some for dim, some in needed.items() if dim in da.dims})
    # As dask before a dim is added, for which xarray would read the values.
    whole = part.chunk({dim: 1 if dim in tags else -1 for dim in part.dims})
    whole = whole.set_dims([*tags, *colours, *SPATIAL_DIMS])  # type: ignore[no-untyped-call] # of xarray
    whole = whole.transpose(*tags, *colours, *SPATIAL_DIMS)
    values = dask.array.map_blocks(  # type: ignore[no-untyped-call] # of dask
        _resampled,
        whole.data,
        grids=grids,
        interpolation=interpolation,
        result_type=dtype,
        fill_value=fill_value,
        chunks=(*whole.data.chunks[:-3], *((size,) for size in grids.shape)),
        dtype=dtype,
        meta=np.empty((0,) * whole.ndim, dtype),
    )
    ordered = xr.Variable(whole.dims, values).transpose(*tags, *SPATIAL_DIMS, ...)
    return _described(da, like, ordered, reference, interpolation)


def _result_type(dtype: np.dtype[Any], interpolation: str, fill_value: complex) -> np.dtype[Any]:
    """Return the type of resampled values.

    Raises
    ------
    ValuesNotStorableError
        If values are no numbers.
    ValueError
        If there is no type for them and the fill value.
    """
    if dtype.kind not in "biufc":
        msg = f"values are of type {dtype}; numbers are wanted"
        raise ValuesNotStorableError(msg)
    fill = np.asarray(fill_value)
    if fill.shape or fill.dtype.kind not in "biufc" or (fill.dtype.kind == "c" and dtype.kind != "c"):
        msg = f"fill_value is {fill_value!r}; a number is wanted that goes with values of type {dtype}"
        raise ValueError(msg)
    if dtype.kind in "fc":
        return dtype
    if interpolation != "nearest" or (dtype.kind != "b" and fill != fill):
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    if dtype.kind == "b" and fill.dtype.kind != "b":
        msg = (
            f"the image is a mask, and fill_value is {fill_value!r}: give fill_value=False to call all outside of it "
            "not in the mask; or interpolation='linear', which gives parts of voxels, NaN where nothing is known"
        )
        raise ValueError(msg)
    if dtype.kind != "b" and not (np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max and fill == fill.round()):
        msg = f"fill_value is {fill_value!r}, which {dtype} has not: give one that it has, or image.astype(...) first"
        raise ValueError(msg)
    return dtype


def _grids(da: xr.DataArray, like: xr.DataArray) -> _Grids:
    """Return how the grid of `like` lies in that of the image.

    Raises
    ------
    GeometryError
        If no affine places one of them.
    """
    shape, size = (tuple(positions_along(image, dim).size for dim in SPATIAL_DIMS) for image in (like, da))
    if not all((*shape, *size)):
        msg = f"the image has {size} slices, rows and columns, the other {shape}: select some"
        raise GeometryError(msg)
    steps = np.array([_even_step(da, dim, "the image") for dim in SPATIAL_DIMS])
    # The only slice, row or col of the new grid has the number 0, whatever its size.
    others = [
        _even_step(like, dim, "the other image") if n > 1 else 1.0 for dim, n in zip(SPATIAL_DIMS, shape, strict=True)
    ]
    here, there = (
        affine_matrix(axes(image), [positions_along(image, dim)[0] for dim in SPATIAL_DIMS], sizes)
        for image, sizes in ((da, steps), (like, others))
    )
    whole = np.linalg.solve(here, there).astype(np.float64)
    matrix, start = whole[:3, :3], whole[:3, 3]
    matrix[:, [n == 1 for n in shape]] = 0.0
    rounding = np.minimum(POSITION_TOLERANCE, _ROUNDING_PART * np.abs(steps))
    slack = (rounding + [_unevenness(da, dim) for dim in SPATIAL_DIMS]) / np.abs(steps)
    found = _Grids(matrix, start, shape, size, slack)
    # What is a voxel of the image but for round-off is that voxel: the same value, and no NaN from beside it.
    nearest = found._replace(matrix=np.rint(matrix), start=np.rint(start))
    is_same = np.abs(nearest.corners() - found.corners()).max(axis=0) <= slack
    matrix[is_same], start[is_same] = nearest.matrix[is_same], nearest.start[is_same]
    return found


def _unevenness(da: xr.DataArray, dim: str) -> float:
    """Return how far [mm] positions are from even ones, which they are taken for."""
    values = positions_along(da, dim)
    return float(np.abs(values - np.linspace(values[0], values[-1], values.size)).max())


def _even_step(da: xr.DataArray, dim: str, which: str) -> float:
    """Return the distance [mm] from one slice, row or col to the next, or the size of the only one.

    Raises
    ------
    GeometryError
        If it is uneven or not known.
    """
    values = positions_along(da, dim)
    if not is_even(values):
        msg = (
            f"{which} has {values.size} {dim}s {format_gaps(values)}; grids of even ones are resampled: give it such "
            f"first, image.interp({dim}=...).dicom.index_positions()"
        )
        raise GeometryError(msg)
    return step(da, dim)


def _check_overlap(grids: _Grids, da: xr.DataArray, like: xr.DataArray) -> None:
    """Raise GeometryError if no voxel of the new grid is in the image: nothing but a fill value would come out."""
    corners = grids.corners()
    beside = (corners.max(axis=0) < -0.5 - grids.slack) | (
        corners.min(axis=0) > np.array(grids.size) - 0.5 + grids.slack
    )
    middle_first = sorted(range(grids.shape[0]), key=lambda number: abs(2 * number + 1 - grids.shape[0]))
    if beside.any() or not any(grids.inside(number).any() for number in middle_first):
        msg = (
            f"no voxel centre of the other image is in the image: that one is at {_extent(like)}, the image at "
            f"{_extent(da)}. Nothing but the fill value would come out: look whether these are images of one part of "
            "the body, and of one examination"
        )
        raise GeometryError(msg)


def _extent(da: xr.DataArray) -> str:
    """Return between which x, y and z the voxel centres of an image are, for messages."""
    points = corners(da)
    spans = zip("xyz", points.min(axis=0), points.max(axis=0), strict=True)
    return ", ".join(f"{name} {low:.1f}..{high:.1f}" for name, low, high in spans) + " mm"


def _cropped(grids: _Grids, reach: int) -> tuple[_Grids, dict[str, slice]]:
    """Return the grids with only the part of the image that the new one needs, and which that is."""
    corners, size = grids.corners(), np.array(grids.size)
    first = (np.floor(corners.min(axis=0)).astype(int) - reach).clip(0, size - 1)
    last = (np.ceil(corners.max(axis=0)).astype(int) + reach).clip(0, size - 1)
    needed = {dim: slice(int(a), int(b) + 1) for dim, a, b in zip(SPATIAL_DIMS, first, last, strict=True)}
    return grids._replace(start=grids.start - first, size=tuple((last - first + 1).tolist())), needed


def _resampled(
    block: NDArray[Any], *, grids: _Grids, interpolation: str, result_type: np.dtype[Any], fill_value: complex
) -> NDArray[Any]:
    """Return volumes (..., slice, row, col) of the image on the new grid."""
    volumes = block.reshape(-1, *grids.size)
    found = np.empty((len(volumes), *grids.shape), result_type)
    for volume, new in zip(volumes, found, strict=True):
        if interpolation != "nearest" and not grids.is_selection:
            new[...] = _interpolated(volume, grids, interpolation)
        for number in range(grids.shape[0]):
            if interpolation == "nearest" or grids.is_selection:
                # Midway between two voxels round-off would choose now the one, now the other.
                numbers = (np.floor(one + (0.5 + _MIDWAY)).astype(np.intp) for one in grids.numbers(number))
                nearest = [one.clip(0, size - 1) for one, size in zip(numbers, grids.size, strict=True)]
                new[number] = volume[tuple(nearest)]
            new[number][~grids.inside(number)] = fill_value
    return found.reshape(*block.shape[:-3], *grids.shape)


def _interpolated(volume: NDArray[Any], grids: _Grids, interpolation: str) -> NDArray[Any]:
    """Return a volume on the new grid, NaN where values that are not finite have a part.

    Raises
    ------
    ValuesNotStorableError
        If some are not finite, and a spline goes through all.
    """
    if volume.dtype.kind == "c":
        found = np.empty(grids.shape, volume.dtype)
        found.real, found.imag = (_interpolated(part, grids, interpolation) for part in (volume.real, volume.imag))
        return found
    gaps = ~np.isfinite(volume) if volume.dtype.kind == "f" else np.zeros(1, bool)
    if not gaps.any():
        return _by_simpleitk(volume, grids, interpolation)
    if gaps.all():
        return np.full(grids.shape, np.nan, volume.dtype)
    if interpolation == "bspline":
        msg = (
            f"{gaps.sum()} of {gaps.size} values are not finite, and each value of a spline depends on all: "
            "take interpolation='linear', where NaN spreads to the next voxels only"
        )
        raise ValuesNotStorableError(msg)
    # A weight of round-off makes NaN of the whole, so it is the weights of what is no number that say where that is.
    found = _by_simpleitk(np.where(gaps, 0, volume), grids, interpolation)
    found[_by_simpleitk(gaps, grids, interpolation) > _LEAST_WEIGHT] = np.nan
    return found


def _by_simpleitk(volume: NDArray[Any], grids: _Grids, interpolation: str) -> NDArray[Any]:
    """Return a volume of finite numbers on the new grid, in single precision where that holds them."""
    import SimpleITK as sitk

    reach = _REACH[interpolation]
    short = volume.dtype.itemsize <= (4 if volume.dtype.kind == "f" else 2)
    # So that half a voxel around the outermost centres is inside for SimpleITK, and a little more.
    padded = np.pad(volume, reach, mode="reflect" if interpolation == "bspline" else "edge")
    image = sitk.GetImageFromArray(padded.astype(np.float32 if short else np.float64, copy=False))
    del padded
    image.SetOrigin([-float(reach)] * 3)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(grids.matrix[::-1, ::-1].ravel().tolist())
    transform.SetTranslation(grids.start[::-1].tolist())
    found: NDArray[Any] = sitk.GetArrayFromImage(
        sitk.Resample(
            image,
            grids.shape[::-1],
            transform,
            {"linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline}[interpolation],
            [0.0] * 3,
            [1.0] * 3,
            np.eye(3).ravel().tolist(),
            0.0,
            image.GetPixelID(),
        )
    )
    return found


def _present_volumes(da: xr.DataArray) -> xr.Variable | None:
    """Return of which volumes any slice is present; None if all are, as far as is told."""
    if "present" not in da.coords:
        return None
    there = da.coords["present"].variable == 1
    there = there.any([dim for dim in SPATIAL_DIMS if dim in there.dims])
    return there if there.dims else None


def _described(
    da: xr.DataArray, like: xr.DataArray, values: xr.Variable, reference: str, interpolation: str
) -> xr.DataArray:
    """Return resampled values as an image at the place of `like`, with what of the header is still true of it."""
    mine, theirs = frame(da), frame(like)
    gone = {*_OF_FRAMES, "PixelSpacing", "SpacingBetweenSlices"}
    reach = max(float(np.abs(positions_along(image, "slice")).max()) for image in (da, like))
    if frame_difference(mine, theirs, reach):
        gone |= {*_OF_DIRECTIONS}
    across, wanted = (unit_vectors(known.orientation)[0] for known in (mine, theirs))
    if abs(across @ wanted) < 1 - COSINE_TOLERANCE:
        gone |= {"SliceThickness"}
    attrs = {name: value for name, value in da.attrs.items() if name not in gone}
    # Of one slice, row or col they are all that tells its size.
    with suppress(GeometryError):
        attrs["SpacingBetweenSlices"] = round(abs(step(like, "slice")), _DIGITS)
    with suppress(GeometryError):
        attrs["PixelSpacing"] = [round(abs(step(like, dim)), _DIGITS) for dim in SPATIAL_DIMS[1:]]
    if reference:
        attrs["FrameOfReferenceUID"] = reference
    before, how = attrs.get("DerivationDescription"), f"resampled ({interpolation}) to the grid of another image"
    attrs["DerivationDescription"] = f"{before}; {how}"[-1024:] if before else how
    along = [name for name, coord in da.coords.variables.items() if {*SPATIAL_DIMS} & {*coord.dims}]
    bare = da.drop_vars([*along, *SPATIAL_DIMS, *gone, *frame_names(da), "present"], errors="ignore")
    there = _present_volumes(da)
    image = xr.DataArray(values, bare.coords, name=da.name).isel(
        {dim: 0 for dim in SPATIAL_DIMS if dim not in like.dims}
    )
    if there is not None:
        image = image.assign_coords(present=there)
        # What was never acquired has no outside either; integers that are absent are 0, as empty segments are.
        image = image.where(image.present) if da.dtype.kind in "fc" else image
    image.attrs = attrs
    if reference:
        known = {origin._replace(FrameOfReferenceUID=reference) for origin in origins(da)}
        image = assign_origins(image, known)
    return place(image, {dim: positions_along(like, dim) for dim in SPATIAL_DIMS}, theirs)
