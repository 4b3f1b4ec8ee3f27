"""Regions of interest: outlines on slices, the voxels inside them, and what is measured there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr

from imagedata_xr.errors import GeometryError
from imagedata_xr.files import file_here, output_files, place_here
from imagedata_xr.indexes import TagIndex, format_labels
from imagedata_xr.names import POLARITY, SPATIAL_DIMS
from imagedata_xr.origins import origins
from imagedata_xr.viewer.panel import frame_of_reference, place_of, tag_dims

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from imagedata_xr.viewer.panel import Place

__all__ = ["Roi", "changed_rois", "checked_rois", "load_rois", "roi_mask", "roi_statistics", "save_rois"]

_FORMAT: Final = "imagedata_xr.roi"
_VERSION: Final = 2
_DIGITS: Final = 5
"""Of a row or column number, to which it comes back from millimetres: at the centre of a pixel the last ones decide."""
_OFF_SLICE: Final = 0.25
"""Part of a slice distance by which an outline may lie off a slice, and still be on it."""
_MEASURES: Final = ("mean", "std", "min", "max")


@dataclass(frozen=True)
class Roi:
    """An outline on one slice.

    Attributes
    ----------
    name : str
        Outlines of one name are one region: of several slices, or of parts.
    slice : int
        Number of the slice.
    vertices : tuple of (row, col)
        Numbers of rows and columns, 0 in the centre of the first voxel. Of an ellipse: its centre, then an end of each
        of two axes.
    kind : {"polygon", "ellipse"}
        What the vertices are of; a polygon is closed.
    tags : tuple of int, optional
        Number along each tag dim where it holds; by default for all.

    Examples
    --------
    >>> Roi("lesion", 2, ((1, 1), (1, 5), (5, 5))).inside((8, 8)).sum().item()
    10
    """

    name: str
    slice: int
    vertices: tuple[tuple[float, float], ...]
    kind: Literal["polygon", "ellipse"] = "polygon"
    tags: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("polygon", "ellipse") or len(self.vertices) < 3:
            count = len(self.vertices)
            msg = (
                f"ROI {self.name!r} is a {self.kind} with {count} vertices; polygon or ellipse with 3 or more is wanted"
            )
            raise ValueError(msg)
        if not np.isfinite(np.asarray(self.vertices, float)).all():
            msg = f"ROI {self.name!r} has a vertex that is not a number"
            raise ValueError(msg)

    def inside(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixel centres of a slice of (rows, cols) are inside; a polygon's by the even-odd rule."""
        points = np.asarray(self.vertices, float)
        rows, cols = np.ogrid[: shape[0], : shape[1]]
        if self.kind == "ellipse":
            across = np.stack([points[1] - points[0], points[2] - points[0]], axis=1)
            if abs(np.linalg.det(across)) < 1e-9:  # a line
                return np.zeros(shape, bool)
            back = np.linalg.inv(across)
            row, col = rows - points[0, 0], cols - points[0, 1]
            within: NDArray[np.bool_] = (back[0, 0] * row + back[0, 1] * col) ** 2 + (
                back[1, 0] * row + back[1, 1] * col
            ) ** 2 < 1
            return within
        inside = np.zeros(shape, bool)
        for (row0, col0), (row1, col1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if row0 != row1:
                crossed = np.flatnonzero((row0 > rows) != (row1 > rows))
                inside[crossed] ^= cols < (col1 - col0) * (rows[crossed] - row0) / (row1 - row0) + col0
        return inside

    def to_dict(self) -> dict[str, Any]:
        """Return it as numbers, texts and lists."""
        return {
            "name": self.name,
            "slice": int(self.slice),
            "vertices": [list(map(float, vertex)) for vertex in self.vertices],
            "kind": self.kind,
            "tags": None if self.tags is None else list(map(int, self.tags)),
        }

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Roi:
        """Return what `to_dict` told."""
        vertices = tuple((float(row), float(col)) for row, col in told["vertices"])
        tags = None if told.get("tags") is None else tuple(map(int, told["tags"]))
        return cls(str(told["name"]), int(told["slice"]), vertices, told["kind"], tags)


def changed_rois(kept: Sequence[Roi], gone: Sequence[Roi], come: Sequence[Roi]) -> list[Roi]:
    """Return outlines without those that are gone, and with those that have come: in their places, as far as these go.

    Examples
    --------
    >>> a, b, c = (Roi(name, 0, ((1, 1), (1, 5), (5, 5))) for name in "abc")
    >>> [roi.name for roi in changed_rois([a, b], [a], [c])]
    ['c', 'b']
    """
    found = list(kept)
    for old, new in zip_longest(gone, come):
        # Those of a page have lists for tuples and floats for whole numbers.
        same = [n for n, roi in enumerate(found) if old is not None and roi.to_dict() == old.to_dict()]
        at = slice(same[0], same[0] + 1) if same else slice(len(found), None)
        found[at] = [] if new is None else [new]
    return found


def checked_rois(da: xr.DataArray, rois: Iterable[Roi]) -> list[Roi]:
    """Return outlines as a list, if all of them are on frames of an image.

    Raises
    ------
    TypeError
        For what is no outline, or no list of them.
    ValueError
        For one that is on no frame of the image.
    """
    given: object = rois
    sizes = [da.sizes[dim] for dim in tag_dims(da)]
    if isinstance(given, Roi) or not isinstance(given, Iterable):
        what = "one" if isinstance(given, Roi) else f"of type {type(given).__name__}"
        msg = f"a list of outlines is wanted, this is {what}: [roi]"
        raise TypeError(msg)
    found = list(rois)
    for roi in found:
        if not isinstance(roi, Roi):
            msg = (
                f"an outline is a Roi, not {type(roi).__name__}: draw it in a viewer (viewer.rois), load_rois(path, "
                "image), or make it, imagedata_xr.viewer.roi.Roi(name, slice, ((row, col), ...))"
            )
            raise TypeError(msg)
        if not 0 <= roi.slice < da.sizes.get("slice", 1):
            msg = f"ROI {roi.name!r} is on slice {roi.slice}; the image has {da.sizes.get('slice', 1)}"
            raise ValueError(msg)
        if roi.tags is not None and (
            len(roi.tags) != len(sizes) or not all(0 <= n < size for n, size in zip(roi.tags, sizes, strict=True))
        ):
            msg = f"ROI {roi.name!r} is at {roi.tags} along {list(tag_dims(da))}; the image has {sizes}"
            raise ValueError(msg)
    return found


def roi_mask(da: xr.DataArray, rois: Sequence[Roi]) -> xr.DataArray:
    """Return which voxels are inside any outline, as a boolean image at the same place.

    Parameters
    ----------
    da : DataArray
        Image; its values are not read.
    rois : sequence of Roi
        Outlines. Where one holds for some tags only, the result has the tag dims of the image; else slice, row, col.

    Raises
    ------
    ValueError
        If an outline is on no frame of the image.

    Examples
    --------
    >>> image = xr.DataArray(np.zeros((2, 4, 4)), dims=("slice", "row", "col"))
    >>> roi_mask(image, [Roi("a", 1, ((0.5, 0.5), (0.5, 2.5), (2.5, 2.5), (2.5, 0.5)))]).sum("col").values
    array([[0, 0, 0, 0],
           [0, 2, 2, 0]])
    """
    rois = checked_rois(da, rois)
    tags = tag_dims(da) if any(roi.tags is not None for roi in rois) else ()
    dims = (*tags, *(dim for dim in SPATIAL_DIMS if dim in da.dims))
    mask = np.zeros([da.sizes[dim] for dim in dims], bool)
    for roi in rois:
        place = (*((slice(None),) * len(tags) if roi.tags is None else roi.tags), *_slice(da, roi))
        mask[place] |= roi.inside((da.sizes["row"], da.sizes["col"]))
    coords = {name: coord for name, coord in da.coords.items() if set(coord.dims) <= set(dims)}
    indexes = {name: index for name, index in da.xindexes.items() if name in coords}
    attrs = {**da.attrs, POLARITY: "MONOCHROME2"}  # what is inside is white
    return xr.DataArray(
        mask, xr.Coordinates({n: c.variable for n, c in coords.items()}, indexes), dims, name="roi", attrs=attrs
    )


def _slice(da: xr.DataArray, roi: Roi) -> tuple[int, ...]:
    return (roi.slice,) if "slice" in da.dims else ()


def roi_statistics(da: xr.DataArray, rois: Sequence[Roi]) -> xr.Dataset:
    """Return what is measured in each region: count, mean, std, min, max, and volume [mm³] where it is known.

    Parameters
    ----------
    da : DataArray
        Image; the slices of the outlines are read, and no others. Of complex values the magnitude is measured, which
        pictures show, too.
    rois : sequence of Roi
        Outlines; those of one name are one region.

    Returns
    -------
    Dataset
        With dim ``roi`` (names), then the tag dims of the image; what is measured of colours has the dim ``rgb``, too.
        NaN are not counted. A region that does not hold for some tags has NaN there.

    Raises
    ------
    ValueError
        If there is no outline, or one is on no frame of the image.

    Examples
    --------
    >>> image = xr.DataArray(np.arange(32.0).reshape(2, 4, 4), dims=("time", "row", "col"))
    >>> square = Roi("a", 0, ((0.5, 0.5), (0.5, 2.5), (2.5, 2.5), (2.5, 0.5)))
    >>> roi_statistics(image, [square])["mean"].values
    array([[ 7.5, 23.5]])
    """
    if not rois:
        msg = "there are no regions of interest; draw some, or load_rois(path, image)"
        raise ValueError(msg)
    rois = checked_rois(da, rois)
    tags = tag_dims(da)
    names = list(dict.fromkeys(roi.name for roi in rois))
    sizes = [da.sizes[dim] for dim in tags]
    # Whatever the order of its dims: that of the mask.
    ordered = da.transpose(*tags, *SPATIAL_DIMS, ..., missing_dims="ignore")
    colours = [dim for dim in ordered.dims if dim == "rgb"]
    per_colour = [da.sizes[dim] for dim in colours]
    count = np.zeros((len(names), *sizes), np.int64)
    table = np.full((len(_MEASURES), len(names), *sizes, *per_colour), np.nan)
    for number, name in enumerate(names):
        mine = [roi for roi in rois if roi.name == name]
        slices = sorted({roi.slice for roi in mine})
        part = ordered.isel(slice=slices) if "slice" in da.dims else ordered
        moved = [Roi(r.name, slices.index(r.slice), r.vertices, r.kind, r.tags) for r in mine]
        mask = roi_mask(part, moved)
        values = np.abs(part.values) if part.dtype.kind == "c" else part.values
        for at in np.ndindex(*sizes):
            wanted = mask.values[at] if mask.dims[: len(tags)] == tags else mask.values
            inside = values[at][wanted].astype(np.float64)  # one voxel a row, of colours one colour a column
            inside = inside[np.isfinite(inside).all(axis=tuple(range(1, inside.ndim)))]
            count[(number, *at)] = len(inside)
            if len(inside):
                table[(slice(None), number, *at)] = [getattr(inside, key)(axis=0) for key in _MEASURES]
    coords: dict[str, Any] = {dim: da.coords[dim].variable for dim in (*tags, *colours) if dim in da.coords}
    dims = ("roi", *tags)
    found = xr.Dataset(
        {"count": (dims, count), **{key: ((*dims, *colours), table[n]) for n, key in enumerate(_MEASURES)}},
        {**coords, "roi": names},
    )
    units = {key: da.attrs[key] for key in ("units", "RescaleType") if key in da.attrs}
    for key in _MEASURES:
        found[key].attrs.update(units)
    place = place_of(da)
    if place.directions is not None and place.is_even:
        volume = float(np.prod(place.steps)) * abs(float(np.linalg.det(place.directions)))
        found["volume"] = (dims, found["count"].values * volume, {"units": "mm3"})
    return found


def save_rois(rois: Sequence[Roi], da: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return the JSON file with the outlines of an image, in patient coordinates [mm, LPS+].

    Those that hold for some tags only are kept with the labels of these.

    Raises
    ------
    GeometryError
        If the image has no place in a patient, or no frame of reference that says of which patient it is.
    ValueError
        If an outline is on no frame of the image, or at a tag without a label of its own.
    FileExistsError
        If the file is there, and `overwrite` is not set.
    """
    rois = checked_rois(da, rois)
    place = place_of(da)
    told = []
    for roi in rois:
        index = np.array([(roi.slice, row, col) for row, col in roi.vertices], float)
        at = None if roi.tags is None else zip(tag_dims(da), roi.tags, strict=True)
        labels = None if at is None else {dim: _label(da, roi.name, dim, number) for dim, number in at}
        told.append({"name": roi.name, "kind": roi.kind, "points": place.points(index).tolist(), "tags": labels})
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "FrameOfReferenceUID": _reference(da),
        "rois": told,
    }
    out = file_here(path, (".json",))
    with output_files(out, (".json",), overwrite=overwrite) as file:
        file.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return out


def _reference(da: xr.DataArray) -> str:
    """Return the frame of reference of an image.

    Raises
    ------
    GeometryError
        If it has none, or was made of images of several.
    """
    found = frame_of_reference(da)
    if not found:
        made_of = sorted({origin.FrameOfReferenceUID or "none" for origin in origins(da)})
        raise GeometryError(
            f"the image has not one frame of reference that says in which patient its positions are: its attribute "
            f"FrameOfReferenceUID is {da.attrs.get('FrameOfReferenceUID')}, that of what it was made of "
            f"{', '.join(made_of)}. Take it from an image of the same place, "
            "imagedata_xr.templates.copy_geometry(da, like=other), or, if there is none at all, set one that only "
            "images of this place have, da.assign_attrs(FrameOfReferenceUID=...)"
        )
    return found


def _label(da: xr.DataArray, name: str, dim: str, number: int) -> dict[str, Any]:
    """Return the label of a tag, and by how much another may differ from it and still be the same.

    Raises
    ------
    ValueError
        If there is none, or others are the same.
    """
    if dim in da.coords:
        label = da.coords[dim].values[number]
        is_number = da.coords[dim].dtype.kind in "iuf"
        told = {"label": label.item() if is_number else str(label), "tolerance": _tolerance(da, dim)}
        if _numbers(da, dim, told) == [number]:
            return told
    msg = (
        f"ROI {name!r} holds for number {number} along {dim} only, which has no label of its own there to find it "
        f"by again; set labels with da.assign_coords({dim}=...)"
    )
    raise ValueError(msg)


def _tolerance(da: xr.DataArray, dim: str) -> float:
    index, labels = da.xindexes.get(dim), da.coords[dim].values
    if isinstance(index, TagIndex):
        return index.tolerance
    return TagIndex.for_dim(dim, labels).tolerance if labels.dtype.kind in "iuf" else 0.0


def _numbers(da: xr.DataArray, dim: str, told: dict[str, Any]) -> list[int]:
    """Return the numbers along a dim whose label is the one that is told."""
    labels, label = da.coords[dim].values, told["label"]
    if labels.dtype.kind in "iuf" and isinstance(label, int | float):
        off = np.abs(labels.astype(float) - label)
        return [int(n) for n in np.flatnonzero(off <= min(told["tolerance"], _tolerance(da, dim)))]
    return [n for n, one in enumerate(labels) if str(one) == label]


def load_rois(path: str | os.PathLike[str], da: xr.DataArray) -> list[Roi]:
    """Return the outlines in a JSON file, on the slices of an image.

    Parameters
    ----------
    path : path
        File of `save_rois`.
    da : DataArray
        Image of the same frame of reference: not necessarily that on which they were drawn. Outlines that hold for some
        tags only are at the same labels, within the tolerance with which images join.

    Raises
    ------
    ValueError
        If the file is of another kind, was edited so that it tells no outlines, is of another frame of reference, or
        has tags that the image does not have.
    GeometryError
        If an outline is on no slice of the image, or the image or the file has no frame of reference.
    """
    try:
        document = json.loads(place_here(path).read_text(encoding="utf-8"))
        if document["format"] != _FORMAT or document["version"] > _VERSION:
            raise ValueError
        rois = list(document["rois"])
    except (KeyError, TypeError, ValueError) as err:
        msg = f"{path} has no regions of interest of version {_VERSION} or before"
        raise ValueError(msg) from err
    drawn_in, here = str(document.get("FrameOfReferenceUID", "")), _reference(da)
    if not drawn_in:
        raise GeometryError(
            f"{path} has no FrameOfReferenceUID, so nothing says in which patient its positions are; save the outlines "
            "again with the image on which they were drawn, after da.assign_attrs(FrameOfReferenceUID=...)"
        )
    if drawn_in != here:
        msg = f"{path} is of frame of reference {drawn_in}, the image of {here}; positions do not correspond"
        raise ValueError(msg)
    place = place_of(da)
    return [_placed(told, f"{path}, outline {number} of {len(rois)}", place, da) for number, told in enumerate(rois, 1)]


def _points(told: Any, where: str) -> NDArray[np.float64]:
    """Return the points of an outline of a file, which somebody may have edited.

    Raises
    ------
    ValueError
        If it is not as `save_rois` writes it.
    """
    wanted = "it was edited, or is of another program; save_rois writes files that can be read"
    missing = sorted({"name", "kind", "points"} - set(told)) if isinstance(told, dict) else ["name, kind, points"]
    if missing:
        msg = f"{where}, has no {', '.join(missing)}: {wanted}"
        raise ValueError(msg)
    try:
        points = np.asarray(told["points"], float)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        msg = f"{where}, {told['name']!r}: points are lists of x, y and z [mm], and these are others: {wanted}"
        raise ValueError(msg)
    for dim, label in (told.get("tags") or {}).items():
        if isinstance(label, dict) and not {"label", "tolerance"} <= label.keys():
            msg = f"{where}, {told['name']!r}: what is told along {dim} has no label or no tolerance: {wanted}"
            raise ValueError(msg)
    return points


def _placed(told: dict[str, Any], where: str, place: Place, da: xr.DataArray) -> Roi:
    """Return an outline of a file on a slice of an image."""
    index = place.index(_points(told, where))
    name, slices = str(told["name"]), da.sizes.get("slice", 1)
    number = round(float(index[:, 0].mean()))
    off = float(np.abs(index[:, 0] - number).max())
    if off > _OFF_SLICE or not 0 <= number < slices:
        raise GeometryError(
            f"ROI {name!r} lies {off * place.steps[0]:.2f} mm off the nearest slice, number {number} of {slices}; "
            "load it with an image whose slices it is drawn on"
        )
    return Roi.from_dict(
        {
            "name": name,
            "kind": told["kind"],
            "slice": number,
            "vertices": index[:, 1:].round(_DIGITS),
            "tags": _tags(told.get("tags"), name, da),
        }
    )


def _tags(labels: dict[str, Any] | None, name: str, da: xr.DataArray) -> list[int] | None:
    """Return the number along each tag dim of the image that labels in a file stand for; None for all.

    Raises
    ------
    ValueError
        If the image has not exactly one of each.
    """
    if labels is None:
        return None
    tags = tag_dims(da)
    if set(labels) != set(tags):
        msg = f"ROI {name!r} holds for some of {sorted(labels)} only; the image has the tag dims {list(tags)}"
        raise ValueError(msg)
    found = []
    for dim in tags:
        told = labels[dim]
        if not isinstance(told, dict):
            msg = (
                f"ROI {name!r} holds for number {told} along {dim}, as files of version 1 have it, and that may be "
                "another volume here; save it again with the image on which it was drawn"
            )
            raise ValueError(msg)
        numbers = _numbers(da, dim, told) if dim in da.coords else []
        if len(numbers) != 1:
            have = format_labels(da.get_index(dim)) if dim in da.coords else "no labels"
            msg = (
                f"ROI {name!r} holds for {dim} {told['label']}, which the image has {len(numbers)} times: it has {have}"
            )
            raise ValueError(msg)
        found += numbers
    return found
