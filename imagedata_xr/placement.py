"""The parts of a geometry in a DataArray, read and set: positions along the dims, frame, steps.

The frame (orientation, shear) is in attrs, in the indexes, and, as evidence, in a scalar coordinate
``frame_<digest>`` that is set with the positions. Attributes that conflict are dropped, and `interp`, `coarsen` and
netCDF leave plain indexes, which join by numbers alone; but a scalar coordinate that only one operand has stays
through all of these (see `imagedata_xr.origins`). So an image names the frames of all that went into it.

What users call is in `imagedata_xr.positions`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from imagedata_xr.errors import GeometryError
from imagedata_xr.geometry import (
    Frame,
    axis_directions,
    facing,
    format_gaps,
    format_numbers,
    frame_difference,
    have_same_axes,
    is_even,
    make_frame,
)
from imagedata_xr.images import require_image
from imagedata_xr.indexes import RESAMPLE, TURN, PositionIndex
from imagedata_xr.names import SPATIAL_DIMS

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from numpy.typing import ArrayLike, NDArray
    from xarray.indexes import PandasIndex

__all__ = [
    "STEP_KEYWORDS",
    "UNITS",
    "check_frames",
    "check_order",
    "corners",
    "edges_along",
    "face_like",
    "frame",
    "frame_attrs",
    "frame_names",
    "has_geometry",
    "lone_step",
    "place",
    "position_coordinates",
    "positions_along",
    "same_place",
    "sign_along",
    "step",
    "two_positions",
    "with_frame_attrs",
    "with_indexes",
]

STEP_KEYWORDS: Final = ("PixelSpacing", "SpacingBetweenSlices", "SliceThickness")
"""Attributes that give the size of a voxel along dims of size 1."""

UNITS: Final = {"units": "mm"}

_SAME_PLACE: Final = 0.05
"""Distance [mm] within which voxels are at one place: single precision of NIfTI leaves some 1e-4 at 1 m, and the
standard's positions of 16 characters less; a misplaced volume is off by much more."""

_SAME_PART: Final = 0.25
"""Part of a voxel that is less where voxels are that small."""

_FRAME_NAME: Final = re.compile("frame_[0-9a-f]{12}")


def place(da: xr.DataArray, positions: Mapping[str, ArrayLike], known: Frame) -> xr.DataArray:
    """Return the array with these positions and this frame, and no others, in coordinates, indexes and attrs.

    Raises
    ------
    GeometryError
        If positions are absent, not finite, or not as many as the array has slices, rows or columns.
    """
    coordinates = position_coordinates(da.sizes, positions, known)
    bare = da.drop_vars([*SPATIAL_DIMS, *frame_names(da)], errors="ignore")
    return bare.assign_coords(coordinates).assign_attrs(frame_attrs(known))


def face_like(da: xr.DataArray, like: Frame) -> xr.DataArray:
    """Return the image with its positions counted in the directions of another frame, its voxels where they are."""
    known, signs = facing(frame(da), like)
    if (signs > 0).all():
        return da
    positions = {dim: sign * positions_along(da, dim) for dim, sign in zip(SPATIAL_DIMS, signs, strict=True)}
    return place(da, positions, known)


def check_order(da: xr.DataArray, like: xr.DataArray) -> None:
    """Raise GeometryError if an image has the voxels of another, but flipped or with dims exchanged.

    To give it the positions of the other would mirror it in the patient. An image that has no place, or says of
    itself that it has two, is no such image.
    """
    if not has_geometry(da):
        return
    theirs = corners(like)
    try:
        mine = corners(da)
    except GeometryError:  # it is at no one place, which is what another geometry mends
        return
    apart = np.linalg.norm(mine[:, None] - theirs, axis=-1)
    limit = same_place(like)
    if (apart.min(axis=1) <= limit).all() and (apart.diagonal() > limit).any():
        raise GeometryError(
            "the image has the same voxels as the one whose geometry it is to get, in another order, and would be "
            "mirrored: turn it with da.dicom.turn_like(other). If its values are to stand in that order, take its own "
            "place away first, da.drop_vars(['slice', 'row', 'col'])"
        )


def same_place(da: xr.DataArray) -> float:
    """Return within which distance [mm] a voxel of another image is at the place of one of this image."""
    along = (positions_along(da, dim) for dim in SPATIAL_DIMS)
    steps = [np.ptp(values) / (values.size - 1) for values in along if values.size > 1]
    return min([_SAME_PLACE, *(_SAME_PART * float(step) for step in steps if step > 0)])


def corners(da: xr.DataArray) -> NDArray[np.float64]:
    """Return where the outermost voxels are [mm, LPS+], shape (8, 3), in the order of their numbers."""
    ends = np.meshgrid(*(positions_along(da, dim)[[0, -1]] for dim in SPATIAL_DIMS), indexing="ij")
    return np.stack(ends, axis=-1).reshape(-1, 3) @ axis_directions(frame(da))


def frame_attrs(known: Frame) -> dict[str, list[float]]:
    """Return the attributes that tell a frame."""
    return {"ImageOrientationPatient": list(known.orientation), "slice_shear": list(known.shear)}


def with_frame_attrs(da: xr.DataArray) -> xr.DataArray:
    """Return the image with its frame in attrs, where xarray dropped these and coordinates tell it.

    Raises
    ------
    GeometryError
        As `frame`.
    """
    is_complete = all(name in da.attrs for name in ("ImageOrientationPatient", "slice_shear"))
    return da if is_complete or not has_geometry(da) else da.assign_attrs(frame_attrs(frame(da)))


def position_coordinates(
    sizes: Mapping[Hashable, int], positions: Mapping[str, ArrayLike], known: Frame
) -> xr.Coordinates:
    """Return coordinates with indexes for the spatial dims of an array of some sizes, and the one of the frame.

    A dim that the array has not gets a scalar.

    Raises
    ------
    GeometryError
        As `place`.
    """
    indexes: dict[Hashable, PandasIndex] = {}
    variables: dict[Hashable, xr.Variable] = {}
    for dim in SPATIAL_DIMS:
        if dim not in positions:
            raise GeometryError(f"no {dim} positions were given; slice, row and col all have at least one")
        values = np.atleast_1d(np.asarray(positions[dim], dtype=float))
        if values.shape != (sizes.get(dim, 1),) or not np.isfinite(values).all():
            raise GeometryError(
                f"{values.size} {dim} positions {format_numbers(values[:4])} mm were given; the image needs "
                f"{sizes.get(dim, 1)} finite ones"
            )
        if dim in sizes:
            index = indexes[dim] = PositionIndex(values, dim, frame=known)
            variables.update(index.create_variables({dim: xr.Variable((dim,), index.index, UNITS)}))
        else:
            variables[dim] = xr.Variable((), values[0], UNITS)
    text = "\\".join(repr(float(number) + 0.0) for number in (*known.orientation, *known.shear))
    name = f"frame_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return xr.Coordinates({**variables, name: xr.Variable((), text, frame_attrs(known))}, indexes)


def frame_names(da: xr.DataArray) -> list[Hashable]:
    """Return the names of the coordinates that tell in which frames the images were that an image was made of."""
    return [name for name in da.coords if isinstance(name, str) and _FRAME_NAME.fullmatch(name)]


_NO_PLACE: Final = (
    "image has no place in the patient: there are no slice, row and col positions, as of ultrasound, secondary "
    "captures and plain arrays. DICOM, netCDF, Zarr and pictures hold it as it is. An image of the same voxels gives "
    "its place with assign_geometry(da, like=other). If none is known and any will do: "
    "da.assign_coords(slice=[0.0], row=..., col=...) [mm], assign_attrs(ImageOrientationPatient=[1, 0, 0, 0, 1, 0], "
    "slice_shear=[0, 0], SliceThickness=...), and dicom.index_positions()"
)


def has_geometry(da: xr.DataArray) -> bool:
    """Return whether an image has positions in the patient."""
    require_image(da)
    return ("ImageOrientationPatient" in da.attrs or bool(frame_names(da))) and all(
        dim in da.coords for dim in SPATIAL_DIMS
    )


def with_indexes(
    da: xr.DataArray, indexes: Mapping[Hashable, PandasIndex], attrs: Mapping[str, str] | None = None
) -> xr.DataArray:
    """Return the array with these indexes, their coordinates with `attrs`, by default those they had."""
    variables = {}
    for dim, index in indexes.items():
        old = {dim: xr.Variable((dim,), index.index, attrs) if attrs is not None else da.coords[dim].variable}
        variables.update(index.create_variables(old))
    return da.assign_coords(xr.Coordinates(variables, dict(indexes))) if indexes else da


def frame(da: xr.DataArray) -> Frame:
    """Return the orientation and shear of an image.

    Raises
    ------
    GeometryError
        If nothing tells them, attrs and indexes contradict each other, or the image was made of images in
        different frames.
    """
    require_image(da)
    variables = da.coords.variables
    made_of = [_frame_in(variables[name]) for name in frame_names(da)]
    indexed = [index.frame for index in da.xindexes.values() if isinstance(index, PositionIndex)][:1]
    orientation, shear = da.attrs.get("ImageOrientationPatient"), da.attrs.get("slice_shear")
    for known in (*indexed, *made_of)[:1]:
        orientation = known.orientation if orientation is None else orientation
        shear = known.shear if shear is None else shear
    if orientation is None or shear is None:
        missing = "ImageOrientationPatient" if orientation is None else "slice_shear"
        raise GeometryError(
            f"image has no {missing} in attrs, so its place in the patient is not known; take it from an image of "
            "the same place with assign_geometry(da, like=other)"
        )
    found = make_frame(orientation, shear)
    reach = float(np.abs(variables["slice"].values).max(initial=0.0)) if "slice" in variables else 0.0
    for known in (*indexed, *made_of):
        difference = frame_difference(found, known, reach)
        if difference is None:
            continue
        if len(made_of) > 1:
            advice = f"{TURN}, before they are combined" if have_same_axes(found, known) else RESAMPLE
            raise GeometryError(
                f"the image was made of images in different frames: {difference}; {advice}. If the place of one was "
                "wrong, or only a mean of one went in, say where the result is with assign_geometry(da, like=other)"
            )
        raise GeometryError(
            f"attrs and coordinates contradict each other: {difference}; set a new geometry with "
            "assign_geometry(da, like=other)"
        )
    return found


def _frame_in(variable: xr.Variable) -> Frame:
    """Return the frame that a coordinate tells: in its attrs, or, where those were dropped, in its value."""
    attrs = variable.attrs
    if "ImageOrientationPatient" in attrs and "slice_shear" in attrs:
        # map_blocks makes every scalar a task that computes a block of the image; attrs cost nothing
        numbers = [*attrs["ImageOrientationPatient"], *attrs["slice_shear"]]
    else:
        numbers = str(np.ravel(variable.values)[0]).split("\\")
    return Frame(tuple(map(float, numbers[:6])), tuple(map(float, numbers[6:])))


def check_frames(da: xr.DataArray) -> None:
    """Raise GeometryError if an image with positions was made of images in different frames."""
    if has_geometry(da) and frame_names(da):
        frame(da)


def positions_along(da: xr.DataArray, dim: str) -> NDArray[np.float64]:
    """Return the positions [mm] along a dim, one if the image has a single slice, row or col.

    Raises
    ------
    GeometryError
        If the image has no such positions, or some are not finite.
    """
    require_image(da)
    if not any(name in da.coords for name in SPATIAL_DIMS):
        raise GeometryError(_NO_PLACE)
    if dim not in da.coords:
        kept = dim in da.dims
        advice = (
            f"say where they are with da.assign_coords({dim}=...) [mm], or take them from another image with "
            "assign_geometry(da, like=other)"
            if kept
            else f"if {dim} was averaged, say where the result is with da.assign_coords({dim}=...) [mm]"
        )
        raise GeometryError(f"image has no {dim} positions; {advice}")
    coord = da.coords[dim]
    if coord.dims not in ((), (dim,)):
        raise GeometryError(
            f"the {dim} positions vary along {', '.join(map(str, coord.dims))}, since voxels were picked one by one: "
            "there is no row of them. Use patient_coords() for their places"
        )
    if not coord.size:
        raise GeometryError(f"image is empty along {dim}, and has no place: select something")
    values = np.atleast_1d(coord.values.astype(float))
    if not np.isfinite(values).all():
        raise GeometryError(
            f"{np.sum(~np.isfinite(values))} of {values.size} {dim} positions are not finite, as pad leaves them; say "
            f"where they are with da.assign_coords({dim}=...) [mm]"
        )
    return values


def step(da: xr.DataArray, dim: str) -> float:
    """Return the distance [mm] from one slice, row or col to the next, negative along a flipped axis.

    Raises
    ------
    GeometryError
        If distances are uneven, or a single position does not tell one.
    """
    values = positions_along(da, dim)
    if values.size == 1:
        return lone_step(da, dim)
    if not is_even(values):
        raise GeometryError(
            f"image has {values.size} {dim}s {format_gaps(values)}; no single affine or spacing exists. Use "
            f"patient_coords(), or the positions da[{dim!r}] [mm] themselves"
        )
    return float((values[-1] - values[0]) / (values.size - 1))


def lone_step(da: xr.DataArray, dim: str) -> float:
    """Return the size [mm] of the only slice, row or col, which positions do not tell.

    Raises
    ------
    GeometryError
        If no attribute tells it.
    """
    keywords = STEP_KEYWORDS[1:] if dim == "slice" else STEP_KEYWORDS[:1]
    for keyword in keywords:
        value = da.attrs.get(keyword, da.coords[keyword].values if keyword in da.coords else np.nan)
        numbers = _as_numbers(value)
        number = abs(numbers[-1 if dim == "col" else 0])
        if number > 0 and np.isfinite(number):
            return float(number)
    raise GeometryError(
        f"image has one {dim} and no {' or '.join(keywords)} in attrs, so its size is not known; set one [mm] with "
        "da.assign_attrs"
    )


def _as_numbers(value: object) -> NDArray[np.float64]:
    """Return the numbers of an attribute or coordinate, NaN where it is empty or text."""
    try:
        numbers = np.ravel(np.asarray(value, dtype=float))
    except ValueError:
        numbers = np.array([])
    return numbers if numbers.size else np.array([np.nan])


def sign_along(da: xr.DataArray, dim: str) -> int:
    """Return -1 for an axis along which positions fall, else 1."""
    values = positions_along(da, dim)
    return -1 if values[-1] < values[0] else 1


def two_positions(da: xr.DataArray, dim: str) -> NDArray[np.float64]:
    """Return the positions along a dim, with the next one if there is but one."""
    values = positions_along(da, dim)
    return values if values.size > 1 else values[0] + np.array([0.0, lone_step(da, dim)])


def edges_along(da: xr.DataArray, dim: str) -> tuple[float, float]:
    """Return where the image begins and ends along a dim [mm], half a voxel beyond the outermost centres."""
    values = np.sort(two_positions(da, dim))
    if da.coords[dim].size == 1:
        half = (values[1] - values[0]) / 2
        return float(values[0] - half), float(values[0] + half)
    return float(1.5 * values[0] - 0.5 * values[1]), float(1.5 * values[-1] - 0.5 * values[-2])
