"""Whose image it is and where: the header of a template and the geometry of another image put on an array.

A template gives what is not in the values: patient, study, descriptive elements, and of each of its frames that
corresponds to one of the image the coordinates by which the frame's whole header is found again. The image is first
turned to the template's axes; frames then correspond by their place and by the labels of their volumes. So what is
written starts from the template's files, exactly as for an image that was computed from the template itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr

from imagedata_xr import geometry as numbers
from imagedata_xr.errors import GeometryError, MissingHeaderError
from imagedata_xr.formats.labels import tag_dims
from imagedata_xr.geometry import format_numbers
from imagedata_xr.images import require_image
from imagedata_xr.indexes import TagIndex
from imagedata_xr.names import POLARITY, SPATIAL_DIMS
from imagedata_xr.origins import ORIGIN_PREFIX, assign_origins, origins
from imagedata_xr.pairing import DIFFUSION, named_volumes, partners
from imagedata_xr.placement import (
    STEP_KEYWORDS,
    face_like,
    frame,
    frame_names,
    has_geometry,
    place,
    positions_along,
    same_place,
    sign_along,
)
from imagedata_xr.positions import map_indices_to_reference, map_reference_to_indices, spacing
from imagedata_xr.turning import to_patient_orientation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["apply", "copy_geometry", "copy_headers", "turn_like"]

_PARALLEL: Final = 0.9998
"""Cosine of axes that are one: 1 degree is a shift of 2 mm at the edge of an image."""

_OF_GEOMETRY: Final = ("ImageOrientationPatient", "slice_shear", *STEP_KEYWORDS)


def apply(
    da: xr.DataArray,
    *,
    template: xr.DataArray | None = None,
    geometry: xr.DataArray | Literal["image"] | None = None,
    extend: bool = False,
) -> xr.DataArray:
    """Return an array with the place and tag values of one image and the header of another; see `copy_headers`."""
    if isinstance(geometry, xr.DataArray):
        da = copy_geometry(da, geometry, extend=extend)
    if template is None:
        return da
    return copy_headers(da, template, extend=extend, elsewhere=geometry is not None)


def turn_like(da: xr.DataArray, like: xr.DataArray) -> xr.DataArray:
    """Return an image with dims exchanged and flipped so that they run as those of another; no voxel moves.

    Positions are counted as in the other, so that the two combine where their voxels are the same.

    Raises
    ------
    GeometryError
        If its axes are not those of the other.
    """
    mine, theirs = _axes(da), _axes(like)
    cosines = theirs @ mine.T
    nearest = np.abs(cosines).argmax(axis=1)
    if sorted(nearest) != [0, 1, 2] or np.abs(cosines)[range(3), nearest].min() < _PARALLEL:
        msg = (
            f"the image's axes are not the template's: slice, row and col run along {_show(mine)}, in the template "
            f"along {_show(theirs)}. Resample it, image.dicom.resample_like(template), or keep its own place: "
            "geometry='image' of open_series, elsewhere=True of copy_headers"
        )
        raise GeometryError(msg)
    if "slice" not in da.dims:
        da = da.expand_dims("slice", axis=da.get_axis_num("row"))
    letters = numbers.patient_orientation(mine)
    opposite = dict(zip("LRAPHF", "RLPAFH", strict=True))
    wanted = [
        letters[old] if cosines[new, old] > 0 else opposite[letters[old]] for new, old in enumerate(nearest.tolist())
    ]
    turned = da if tuple(wanted) == letters else to_patient_orientation(da, wanted)
    # In the frame of the other, too: positions that fall in one frame and rise in the opposite one do not join.
    return face_like(turned, frame(like))


def _axes(da: xr.DataArray) -> NDArray[np.float64]:
    """Return the directions in which slice, row and col numbers grow, shape (3, 3)."""
    directions = numbers.axis_directions(frame(da))
    signs = [sign_along(da, dim) for dim in SPATIAL_DIMS]
    found: NDArray[np.float64] = directions / np.linalg.norm(directions, axis=1, keepdims=True) * np.c_[signs]
    return found


def _show(axes: NDArray[np.float64]) -> str:
    return ", ".join(f"({format_numbers(axis.round(3) + 0.0)})" for axis in axes)


def copy_geometry(da: xr.DataArray, like: xr.DataArray, *, extend: bool = False) -> xr.DataArray:
    """Return an array at the place of another image, with its frame of reference and tag values.

    An array that has a place is turned to the axes of the other first, if they are the same ones.

    Parameters
    ----------
    da : DataArray
        Array with the dims slice, row, col and any tag dims.
    like : DataArray
        Image of as many slices, rows and columns.
    extend : bool
        Whether more slices, and more volumes along a tag dim, go on at the last distance.

    Raises
    ------
    GeometryError
        If sizes differ, or `like` has no place.
    PairingError
        If volumes do not correspond.
    """
    if not has_geometry(like):
        msg = "geometry= is an image without a place in the patient; give one that has positions"
        raise GeometryError(msg)
    like = _with_slices(like)
    if "slice" not in da.dims:
        da = da.expand_dims("slice", axis=da.get_axis_num("row"))
    if has_geometry(da):
        da = turn_like(da, like)
    positions = {dim: positions_along(like, dim) for dim in SPATIAL_DIMS}
    more = da.sizes["slice"] - positions["slice"].size
    if extend and more > 0:
        step = spacing(like)[0] * sign_along(like, "slice")
        positions["slice"] = np.r_[positions["slice"], positions["slice"][-1] + step * np.arange(1, more + 1)]
    mine, theirs = ([image.sizes[dim] for dim in SPATIAL_DIMS] for image in (da, like))
    if [positions[dim].size for dim in SPATIAL_DIMS] != mine:
        advice = (
            " More slices go on at the last distance with extend=True." if more > 0 and mine[1:] == theirs[1:] else ""
        )
        msg = f"the image has {mine} slices, rows and columns, geometry= has {theirs}; they have to agree.{advice}"
        raise GeometryError(msg)
    image = da.copy(deep=False)
    image.attrs = {name: value for name, value in da.attrs.items() if name not in _OF_GEOMETRY}
    image.attrs |= {name: like.attrs[name] for name in _OF_GEOMETRY if name in like.attrs}
    image = named_volumes(image, like, extend=extend)
    image = place(image, positions, frame(like))
    reference = like.attrs.get("FrameOfReferenceUID", "")
    if reference:
        image = image.assign_attrs(FrameOfReferenceUID=reference)
    # The codes of a NIfTI file are of the place that it had.
    dropped = ("TransferSyntaxUID", "sform_code", "qform_code")
    image.encoding = {name: v for name, v in da.encoding.items() if name not in dropped}
    return assign_origins(image, {origin._replace(FrameOfReferenceUID=reference) for origin in origins(image)})


def copy_headers(
    da: xr.DataArray, like: xr.DataArray, *, extend: bool = False, elsewhere: bool = False
) -> xr.DataArray:
    """Return an image with the header of another: patient, study, description, and frame by frame all elements.

    Values and place are the image's own; what it had of a header is replaced. Written to DICOM, each frame starts from
    the file of the template's frame that corresponds to it.

    Parameters
    ----------
    da : DataArray
        Image. If it has a place it is turned to the axes of the template, and has to lie on its voxels: all of
        them, or fewer slices, rows or columns.
    like : DataArray
        The template. Volumes correspond by the labels of their tag dims; a dim ``volume`` takes the name and labels of
        the template's dim of its size. Along a dim that only the image has, the header serves all; along one that only
        the template has, its frames keep what they agree on.
    extend : bool
        Whether the image may have more slices or volumes than the template. Along such a dim it gets what the frames of
        the template agree on, and labels at the last distance.
    elsewhere : bool
        Whether the image's place may be another than the template's; slices then do not correspond.

    Raises
    ------
    MissingHeaderError
        If the template has no header.
    GeometryError
        If the image does not lie on the template's voxels; says where both are.
    PairingError
        If volumes do not correspond.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> image = ixr.open_series(ixr.sample.write_patient(getfixture("tmp_path") / "phantom") / "ct")
    >>> bare = xr.DataArray(image.values * 2, dims=image.dims)
    >>> copy_headers(copy_geometry(bare, image), image).attrs["PatientID"] == image.attrs["PatientID"]
    True
    """
    require_image(like, "the template")
    if not {"PatientID", "StudyInstanceUID"} & like.attrs.keys() and not any(map(any, origins(like))):
        msg = "the template has no header: it names no patient and no study. Give a DICOM series"
        raise MissingHeaderError(msg)
    if has_geometry(like) and not has_geometry(da):
        msg = (
            "the image has no place in the patient, and a template gives none: give geometry=, which may be the "
            "template if the image was made from it"
        )
        raise GeometryError(msg)
    references = [str(image.attrs.get("FrameOfReferenceUID", "")) for image in (da, like)]
    if all(references) and references[0] != references[1] and not elsewhere:
        msg = (
            f"the image is in the frame of reference {references[0]}, the template in {references[1]}: give "
            "geometry='image' (elsewhere=True of copy_headers) to keep the one, geometry=template to take the other"
        )
        raise GeometryError(msg)
    like = _with_slices(like)
    if "slice" not in da.dims:
        da = da.expand_dims("slice", axis=da.get_axis_num("row"))
    da = named_volumes(da, like, extend=extend)
    matches: dict[str, NDArray[np.intp] | None] = {}
    if has_geometry(da) and has_geometry(like):
        try:
            da, matches["slice"] = _placed(da, like, extend=extend)
        except GeometryError:
            if not elsewhere:
                raise
            matches["slice"] = None
    else:
        same = da.sizes["slice"] == like.sizes["slice"] and not has_geometry(da)
        matches["slice"] = np.arange(da.sizes["slice"]) if same else None
    for dim in tag_dims(like):
        matches[dim] = partners(da, like, dim, extend=extend) if dim in da.dims else None
    return _with_header(da, like, matches)


def _with_slices(like: xr.DataArray) -> xr.DataArray:
    """Return an image with a dim slice; what is of the one slice goes along it."""
    return like if "slice" in like.dims else like.expand_dims("slice", axis=like.get_axis_num("row"))


def _placed(da: xr.DataArray, like: xr.DataArray, *, extend: bool) -> tuple[xr.DataArray, NDArray[np.intp] | None]:
    """Return the image turned to the template's axes, its positions those of the template, and the slices it has there.

    Raises
    ------
    GeometryError
        If it lies elsewhere.
    """
    da = turn_like(da, like)
    sizes = [da.sizes[dim] for dim in SPATIAL_DIMS]
    corners = np.stack(np.meshgrid(range(sizes[0]), *([0, n - 1] for n in sizes[1:]), indexing="ij"), axis=-1)
    points = map_indices_to_reference(da, corners.reshape(-1, 3)).reshape(*corners.shape)
    indices = map_reference_to_indices(like, points.reshape(-1, 3)).reshape(corners.shape)
    nearest = indices.round()
    start = nearest[0, 0, 0]
    wanted = corners + start
    wanted[..., 0] = nearest[:, :1, :1, 0]
    inside = _inside(wanted, like, slices=not extend)
    there = map_indices_to_reference(like, wanted.clip(0).reshape(-1, 3)).reshape(points.shape) if inside else points
    if extend and inside:
        there = _extrapolated(like, wanted)
    off = float(np.linalg.norm(there - points, axis=-1).max()) if inside else np.inf
    if off > same_place(like) or (np.diff(wanted[:, 0, 0, 0]) < 1).any():
        raise GeometryError(_elsewhere(da, like))
    chosen = wanted[:, 0, 0, 0].astype(int)
    grid = {dim: positions_along(like, dim) for dim in SPATIAL_DIMS}
    beyond = bool((chosen < 0).any() or (chosen >= like.sizes["slice"]).any())
    positions = {
        dim: grid[dim][int(first) : int(first) + size]
        for dim, first, size in zip(("row", "col"), start[1:], sizes[1:], strict=True)
    }
    if beyond:
        step = spacing(like)[0] * sign_along(like, "slice")
        positions["slice"] = grid["slice"][0] + step * chosen
    else:
        positions["slice"] = grid["slice"][chosen]
    image = da.copy(deep=False)
    image.attrs = {name: value for name, value in da.attrs.items() if name not in STEP_KEYWORDS}
    image.attrs |= {name: like.attrs[name] for name in STEP_KEYWORDS if name in like.attrs}
    return place(image, positions, frame(like)), None if beyond else chosen


def _inside(wanted: NDArray[Any], like: xr.DataArray, *, slices: bool) -> bool:
    """Return whether all indices are in the template; along the slices only if these count."""
    first = 0 if slices else 1
    sizes = [like.sizes[dim] for dim in SPATIAL_DIMS]
    return all(wanted[..., n].min() >= 0 and wanted[..., n].max() < sizes[n] for n in range(first, 3))


def _extrapolated(like: xr.DataArray, wanted: NDArray[Any]) -> NDArray[np.float64]:
    """Return where indices are, also beyond the slices of an evenly spaced image."""
    from imagedata_xr.positions import affine

    matrix = affine(like)
    found: NDArray[np.float64] = wanted @ matrix[:3, :3].T + matrix[:3, 3]
    return found


def _elsewhere(da: xr.DataArray, like: xr.DataArray) -> str:
    """Return an error that states where image and template are."""

    def where(image: xr.DataArray) -> str:
        sizes = " x ".join(str(image.sizes[dim]) for dim in SPATIAL_DIMS)
        ends = map_indices_to_reference(image, [[0, 0, 0], [image.sizes[dim] - 1 for dim in SPATIAL_DIMS]])
        letters = "".join(numbers.patient_orientation(_axes(image)))
        first, last = (format_numbers(end.round(3)) for end in ends)
        return f"{sizes} voxels ({letters}) from ({first}) to ({last}) mm"

    return (
        f"the image does not lie on the template's voxels: it has {where(da)}, the template {where(like)}. Give the "
        "template that it was made from, geometry='image' (elsewhere=True of copy_headers) if it was resampled on "
        "purpose, or extend=True if it has more slices"
    )


def _with_header(da: xr.DataArray, like: xr.DataArray, matches: Mapping[str, NDArray[np.intp] | None]) -> xr.DataArray:
    """Return the image with attributes, coordinates and origins of the template, of the frames that correspond."""
    chosen = {dim: rows for dim, rows in matches.items() if rows is not None and dim in like.dims}
    # What both tell of the gradients agrees, and the template's is not rounded.
    both = [name for name in DIFFUSION if name in da.coords and name in like.coords]
    checked = [
        n for n in both if da.coords[n].dims == like.coords[n].dims and set() < {*da.coords[n].dims} <= chosen.keys()
    ]
    kept = (*SPATIAL_DIMS, *frame_names(da), *tag_dims(da), "present", *(n for n in DIFFUSION if n not in checked))
    own = [name for name in da.coords if name not in kept or str(name).startswith(ORIGIN_PREFIX)]
    others = [name for name in like.coords if name in like.dims or str(name).startswith(ORIGIN_PREFIX)]
    frames = like.coords.to_dataset().drop_vars([*others, *frame_names(like)])
    frames = frames.drop_vars(
        [
            name
            for name, coord in frames.variables.items()
            if name == "present" or any(dim not in chosen for dim in coord.dims)
        ]
    ).isel({dim: xr.Variable((dim,), rows) for dim, rows in chosen.items()}, missing_dims="ignore")
    image = da.drop_vars(own)
    coords = {
        name: coord for name, coord in frames.variables.items() if name not in image.coords and name not in image.dims
    }
    image = image.assign_coords(xr.Coordinates(coords, indexes={}))
    for dim, rows in chosen.items():
        # Labels that agree within the tolerance become those of the template, so that the two join.
        if dim != "slice" and dim in like.coords and dim in image.coords:
            labels = xr.Variable((dim,), like.coords[dim].values[rows], like.coords[dim].attrs)
            image = image.drop_vars(dim).assign_coords({dim: labels}).drop_indexes(dim).set_xindex(dim, TagIndex)
    mine = {name: value for name, value in da.attrs.items() if name in (*_OF_GEOMETRY, POLARITY)}
    image.attrs = {name: value for name, value in like.attrs.items() if name not in _OF_GEOMETRY} | mine
    reference = da.attrs.get("FrameOfReferenceUID")
    known = origins(like)
    if reference:
        image.attrs["FrameOfReferenceUID"] = reference
        known = frozenset(origin._replace(FrameOfReferenceUID=reference) for origin in known)
    image.encoding = {name: v for name, v in da.encoding.items() if name != "TransferSyntaxUID"}
    return assign_origins(image, known)
