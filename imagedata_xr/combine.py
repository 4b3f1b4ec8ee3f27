"""Images put together along a dim, with each header element and place that of the image it comes from.

`xarray.concat` keeps the attributes of the first image for all, and fills up places that differ with missing
values.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from imagedata_xr.errors import GeometryError, MissingHeaderError, PairingError
from imagedata_xr.geometry import POSITION_TOLERANCE, frame_difference
from imagedata_xr.images import require_image
from imagedata_xr.indexes import format_labels
from imagedata_xr.names import SPATIAL_DIMS, TAG_DIMS
from imagedata_xr.origins import ORIGIN_PREFIX, assign_origins, origins
from imagedata_xr.placement import frame, frame_names, positions_along
from imagedata_xr.positions import index_positions

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["concat"]

_LABELS: Final = {
    "te": ("EchoTime", 1.0),
    "fa": ("FlipAngle", 1.0),
    "b": ("DiffusionBValue", 1.0),
    "triggertime": ("TriggerTime", 1e-3),  # ms, the dim is in s
}
_GEOMETRY: Final = ("ImageOrientationPatient", "slice_shear", "PixelSpacing")
_START: Final = "AcquisitionDateTime"
_ABSENT: Final = object()


def concat(arrays: Iterable[xr.DataArray], dim: str | pd.Index[Any] | xr.Variable | xr.DataArray) -> xr.DataArray:
    """Return several images as one, along a dim that they have or a new one.

    All have to be at the same place, save along `dim`, and their other volumes have to pair. A header element
    that differs becomes a coordinate along `dim`, with "" or NaN where an image has none.

    Parameters
    ----------
    arrays : iterable of xarray.DataArray
        Images, in the order in which they are to follow each other.
    dim : str or pandas.Index or xarray.Variable or xarray.DataArray
        Dim to put them together along. Labels of a new dim come from the scalar coordinate of that name, else
        from the header (te: EchoTime, fa: FlipAngle, b: DiffusionBValue, triggertime: TriggerTime, any other
        keyword: itself), or are given with it: ``pandas.Index(["M", "P"], name="image_type")``. Times count
        from the start of the first image, where AcquisitionDateTime tells when each of them started.

    Returns
    -------
    xarray.DataArray
        With a new dim as the first, and all origins.

    Raises
    ------
    GeometryError
        If the images are at different places.
    PairingError
        If volumes along another dim do not pair, or dims differ; if one start is in UTC and another is not.
    MissingHeaderError
        If the labels of a new tag dim are neither in coordinates nor in the header, nor given.
    TypeError
        If `arrays` is no list of images, or `dim` neither a name nor labels.
    ValueError
        If there is no image.

    Examples
    --------
    >>> echoes = [xr.DataArray([te * 2], dims="row", attrs={"EchoTime": te}) for te in (5.0, 10.0)]
    >>> concat(echoes, "te").te.values
    array([ 5., 10.])
    """
    given: object = arrays
    if not isinstance(given, Iterable) or isinstance(given, xr.DataArray | xr.Dataset | str):
        msg = f"a list of images is wanted, this is of type {type(given).__name__}: concat([a, b], dim)"
        raise TypeError(msg)
    if not isinstance(dim, str | pd.Index | xr.Variable | xr.DataArray):
        msg = f"dim is {dim!r}: a name is wanted, or labels with a name, pandas.Index([1, 2], name='echo')"
        raise TypeError(msg)
    listed = list(given)
    for number, image in enumerate(listed):
        require_image(image, f"number {number} of the list")
    images = [index_positions(image) for image in listed]
    if not images:
        raise ValueError("no images were given; concat needs at least one")
    name = dim if isinstance(dim, str) else str(dim.dims[0] if isinstance(dim, xr.Variable) else dim.name)
    images = _same_dims(images, name)
    _check_places(images, name)
    _check_pairs(images, name)
    images = _same_labels(images, name)
    images = _one_zone(images)
    if name == "time":
        images = _one_clock(images)
    if isinstance(dim, str) and name not in images[0].dims and name not in images[0].coords:
        dim = _header_labels(images, name)
    sources = {source for image in images for source in origins(image) if _has_origins(image)}
    frames = {name: image.coords[name].variable for image in images for name in frame_names(image)}
    images, attrs = _split_header([assign_origins(image.drop_vars(frame_names(image)), []) for image in images])
    joined = xr.concat(images, dim, coords="different", compat="equals", join="exact", combine_attrs="drop_conflicts")
    joined.attrs = attrs
    joined.encoding = _common_encoding(images)
    return index_positions(assign_origins(joined, sources).assign_coords(frames))


def _same_dims(images: Sequence[xr.DataArray], name: str) -> list[xr.DataArray]:
    """Return the images with dims in one order; a single volume gets the dim that others have."""
    first = max(images, key=lambda image: image.ndim)
    out = []
    for number, image in enumerate(images):
        if name in first.dims and name not in image.dims and name in image.coords:
            image = image.expand_dims(name)
        if set(image.dims) != set(first.dims):
            raise PairingError(
                f"image {number} has the dims {image.dims}, another {first.dims}; add or select dims until they "
                "are the same"
            )
        out.append(image.transpose(*first.dims))
    return out


def _same_labels(images: Sequence[xr.DataArray], name: str) -> list[xr.DataArray]:
    """Return the images with the labels of the first where they agree within tolerance; xarray wants them equal."""
    first = images[0]
    shared = {dim: index for dim, index in first.xindexes.items() if dim != name}
    lone = [dim for dim in SPATIAL_DIMS if dim in first.coords and dim not in (*first.dims, name)]
    scalars = {dim: first.coords[dim].variable for dim in lone}
    labels = xr.Coordinates({dim: first.coords[dim].variable for dim in shared}, shared)
    return [image.assign_coords(labels).assign_coords(scalars) for image in images]


def _check_places(images: Sequence[xr.DataArray], name: str) -> None:
    """Raise GeometryError if images are not at the place of the first, except along the dim."""
    first, *others = images
    dims = [d for d in SPATIAL_DIMS if d != name and any(d in image.coords for image in images)]
    for number, image in enumerate(others, start=1):
        if not dims:
            continue
        reach = np.abs(positions_along(first, "slice")).max() if "slice" in dims else 0.0
        difference = frame_difference(frame(first), frame(image), float(reach))
        for dim in dims:
            here, there = positions_along(first, dim), positions_along(image, dim)
            if here.size != there.size or np.abs(here - there).max(initial=0) > POSITION_TOLERANCE:
                difference = difference or (
                    f"{dim} positions are {here[0]:.3f}..{here[-1]:.3f} mm ({here.size}) against "
                    f"{there[0]:.3f}..{there[-1]:.3f} mm ({there.size})"
                )
        if difference:
            raise GeometryError(
                f"image {number} is not at the place of image 0: {difference}; crop it, or resample it with "
                "image.dicom.resample_like(other)"
            )


def _check_pairs(images: Sequence[xr.DataArray], name: str) -> None:
    """Raise PairingError if labels of the other dims differ from those of the first image."""
    first, *others = images
    for dim in (d for d in first.dims if d != name and d not in SPATIAL_DIMS):
        for number, image in enumerate(others, start=1):
            labels = [dim in i.xindexes for i in (first, image)]
            same = first.xindexes[dim].equals(image.xindexes[dim]) if all(labels) else not any(labels)
            if not same or first.sizes[dim] != image.sizes[dim]:
                raise PairingError(
                    f"image {number} has the {dim} labels {_labels(image, dim)}, image 0 "
                    f"{_labels(first, dim)}; say which belong together with assign_coords({dim}=...) or isel"
                )


def _one_zone(images: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """Return the images with starts in one clock: in UTC they have the time zone of the first."""
    if not all(_START in image.coords for image in images):
        return list(images)
    in_utc = ["timezone" in image.coords[_START].attrs for image in images]
    if len(set(in_utc)) > 1:
        local, other = in_utc.index(False), in_utc.index(True)
        raise PairingError(
            f"{_START} of image {local} is {_first_start(images[local])} in the clock of a scanner that names no time "
            f"zone, of image {other} {_first_start(images[other])} in UTC: nothing tells how long the one is after the "
            f"other. Give both in one clock, image.assign_coords({_START}=...)"
        )
    zone = {"timezone": images[0].coords[_START].attrs["timezone"]} if all(in_utc) else {}
    starts = [image.coords[_START].variable for image in images]
    return [
        image.assign_coords({_START: start._replace(attrs={**start.attrs, **zone})})
        for image, start in zip(images, starts, strict=True)
    ]


def _one_clock(images: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """Return the images with all times counted from the start of the first."""
    if not all("time" in image.coords and _START in image.coords for image in images):
        return list(images)
    out = []
    for number, image in enumerate(images):
        moments = [_moments(one) for one in (image, images[0])]
        later = {there - here for there, here in zip(*moments, strict=False)}
        if len(later) > 1 or len(moments[0]) != len(moments[1]):
            raise PairingError(
                f"times of image {number} count from {len(moments[0])} starts, {_first_start(image)} the first, and of "
                f"image 0 from {len(moments[1])}, {_first_start(images[0])} the first, so that no label is right for "
                f"all volumes: give each image one start, image.assign_coords({_START}=..., time=...)"
            )
        time = image.coords["time"].variable
        shifted = time.copy(data=time.values + later.pop().total_seconds())
        out.append(image.assign_coords({"time": shifted, _START: images[0].coords[_START]}))
    return [index_positions(image) for image in out]


def _moments(image: xr.DataArray) -> list[datetime]:
    """Return the starts of an image: one, or those of the volumes that have been put together along another dim."""
    return [datetime.fromisoformat(str(text)) for text in image.coords[_START].values.ravel()]


def _first_start(image: xr.DataArray) -> datetime:
    return min(_moments(image))


def _header_labels(images: Sequence[xr.DataArray], name: str) -> str | pd.Index[Any]:
    """Return the labels of a new dim from the header, or its name alone if it has no meaning of its own."""
    keyword, unit = _LABELS.get(name, (name, 1.0))
    values = [_header_value(image, keyword) for image in images]
    unfit = [number for number, value in enumerate(values) if value is _ABSENT or np.ndim(value)]
    if not unfit:
        labels = np.array([np.asarray(value).item() for value in values])
        return pd.Index(labels * unit if labels.dtype.kind == "f" else labels, name=name)
    if name in TAG_DIMS:
        raise MissingHeaderError(
            f"image {unfit[0]} has no single {keyword} to label it along {name}; give the labels with "
            f"concat(arrays, pandas.Index([...], name={name!r}))"
        )
    return name


def _header_value(image: xr.DataArray, keyword: str) -> Any:
    return image.coords[keyword].values if keyword in image.coords else image.attrs.get(keyword, _ABSENT)


def _split_header(images: Sequence[xr.DataArray]) -> tuple[list[xr.DataArray], dict[str, Any]]:
    """Return the images with the same coordinates each, and the attrs that they have in common."""
    common: dict[str, Any] = {}
    added: list[dict[str, Any]] = [{} for _ in images]
    # _check_places has compared the frames, attrs keep the first one's; without a place nothing was compared.
    compared = _GEOMETRY if all("ImageOrientationPatient" in image.attrs for image in images) else ()
    for keyword in dict.fromkeys(str(name) for image in images for name in (*image.attrs, *image.coords)):
        values = [_header_value(image, keyword) for image in images]
        in_coords = [keyword in image.coords for image in images]
        if not any(in_coords) and _agree(values, within_rounding=keyword in compared):
            common[keyword] = values[0]
            continue
        filler = _filler(values)
        for new, value, there in zip(added, values, in_coords, strict=True):
            if not there:
                new[keyword] = filler if value is _ABSENT else _scalar(value, as_text=isinstance(filler, str))
    return [image.assign_coords(new) for image, new in zip(images, added, strict=True)], common


def _agree(values: Sequence[Any], *, within_rounding: bool) -> bool:
    """Return whether all images have the same value of an element."""
    if any(value is _ABSENT for value in values):
        return False
    if within_rounding:
        return all(np.allclose(values[0], value, rtol=0, atol=POSITION_TOLERANCE) for value in values)
    return all(np.array_equal(values[0], value) for value in values)


def _filler(values: Sequence[Any]) -> str | float | bool:
    """Return what stands for an element where an image has none, of a kind with the values of the others."""
    kinds = {np.asarray(value).dtype.kind for value in values if value is not _ABSENT}
    if kinds == {"b"}:
        return True  # `present`, which an image without missing frames has not
    several = any(isinstance(value, list | tuple) for value in values)
    return np.nan if kinds <= set("iufb") and not several else ""


def _scalar(value: Any, *, as_text: bool) -> Any:
    """Return one value for a coordinate: as DICOM writes it, several are joined by a backslash."""
    if np.ndim(value):
        return "\\".join(str(part) for part in value)
    return str(value) if as_text else value


def _common_encoding(images: Sequence[xr.DataArray]) -> dict[str, Any]:
    """Return what all images were stored alike; nothing if the values of one had to be converted."""
    first, *others = images
    if any(image.dtype != first.dtype for image in others):
        return {}
    return {
        key: value
        for key, value in first.encoding.items()
        if key != "preferred_chunks" and all(image.encoding.get(key, _ABSENT) == value for image in others)
    }


def _has_origins(image: xr.DataArray) -> bool:
    return any(str(name).startswith(ORIGIN_PREFIX) for name in image.coords)


def _labels(image: xr.DataArray, dim: Hashable) -> str:
    return format_labels(image.indexes[dim]) if dim in image.indexes else f"none ({image.sizes[dim]})"
