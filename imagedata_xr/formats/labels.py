"""Tag dims of an image and their labels as plain values, which a file of another format can carry as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from imagedata_xr.errors import OrderError
from imagedata_xr.indexes import TagIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "COUNTED_FROM_FIRST",
    "Labels",
    "are_counted_from_first",
    "dim_names",
    "label_coords",
    "labels_in",
    "labels_of",
    "tag_dims",
    "with_labels",
]

Labels = dict[str, tuple[str, list[Any], dict[str, str]]]
"""Name of a coordinate to its dim, values and attributes."""

COUNTED_FROM_FIRST: Final = {"counted_from": "first volume of the file"}
"""Attribute of labels that a file does not tell, so that its volumes were counted, or their times by one step.

The file may hold a part of a series, and the labels do not say which: nothing may be paired by them.
"""

_ATTRS: Final = ("units", *COUNTED_FROM_FIRST)
"""Attributes of labels that are kept with them."""


def tag_dims(da: xr.DataArray) -> list[str]:
    """Return the dims of an image but slice, row, col and rgb."""
    return [str(dim) for dim in da.dims if dim not in ("slice", "row", "col", "rgb")]


def dim_names(order: Any) -> list[str]:
    """Return the names of dims in an order such as ``"time,te"``; none for ``"none"``.

    Raises
    ------
    OrderError
        If it is not of names: where there are no headers, no tag or function can be read.
    """
    parts = [] if order == "none" else order.split(",") if isinstance(order, str) else list(order)
    if not all(isinstance(part, str) and "=" not in part for part in parts):
        msg = f"order={order!r}: the format has no headers that a tag or function could read; name its dims"
        raise OrderError(msg)
    return [part.strip() for part in parts]


def labels_of(da: xr.DataArray) -> dict[str, Any]:
    """Return the tag dims of an image and the coordinates along them that are no header elements, ready for JSON."""
    dims = tag_dims(da)
    coords: dict[str, Any] = {}
    for name, coord in da.coords.items():
        is_label = name in dims or not (str(name)[:1].isupper() or str(name).startswith("source"))
        if is_label and len(coord.dims) == 1 and coord.dims[0] in dims:
            coords[str(name)] = {"dim": str(coord.dims[0]), "values": _plain(coord.values)} | {
                attr: str(coord.attrs[attr]) for attr in _ATTRS if coord.attrs.get(attr)
            }
    return {"dims": dims, "coords": coords}


def _plain(values: NDArray[Any]) -> list[Any]:
    """Return values that JSON has: NaN becomes null."""
    if values.dtype.kind == "f":
        return [None if np.isnan(v) else float(v) for v in values]
    if values.dtype.kind in "iub":
        found: list[Any] = values.tolist()
        return found
    return [str(v) for v in values]


def labels_in(told: Any, sizes: list[int]) -> tuple[list[str], Labels]:
    """Return the tag dims and coordinates that `labels_of` told, if they are of these sizes; else nothing.

    Parameters
    ----------
    told : object
        What was read; anything may be in it.
    sizes : list of int
        Sizes of the tag dims, outermost first.
    """
    if not isinstance(told, dict) or not isinstance(told.get("dims"), list) or not isinstance(told.get("coords"), dict):
        return [], {}
    dims = [str(dim) for dim in told["dims"]]
    if len(dims) != len(sizes) or len(set(dims)) < len(dims) or {"slice", "row", "col", "rgb"} & set(dims):
        return [], {}
    lengths = dict(zip(dims, sizes, strict=True))
    coords = {
        str(name): (str(c["dim"]), list(c["values"]), {attr: str(c[attr]) for attr in _ATTRS if c.get(attr)})
        for name, c in told["coords"].items()
        if isinstance(c, dict) and isinstance(c.get("values"), list) and c.get("dim") in dims
    }
    fits = all(len(values) == lengths[dim] for dim, values, _ in coords.values())
    return (dims, coords) if fits else ([], {})


def are_counted_from_first(labels: xr.DataArray) -> bool:
    """Return whether labels say nothing but the order of the volumes, see `COUNTED_FROM_FIRST`."""
    return COUNTED_FROM_FIRST.keys() <= labels.attrs.keys()


def label_coords(coords: Labels, dims: dict[str, int]) -> dict[str, xr.Variable]:
    """Return coordinates along tag dims, given with their sizes; dims without one are numbered."""
    known = {name: xr.Variable((dim,), _label_array(values), attrs) for name, (dim, values, attrs) in coords.items()}
    for dim, size in dims.items():
        known.setdefault(dim, xr.Variable((dim,), np.arange(size), COUNTED_FROM_FIRST))
    return known


def _label_array(values: list[Any]) -> NDArray[Any]:
    """Return labels as an array: of numbers, with NaN for null, or of text."""
    if all(isinstance(v, int) for v in values):
        return np.asarray(values)
    if all(v is None or isinstance(v, int | float) for v in values):
        return np.asarray([np.nan if v is None else v for v in values], float)
    return np.asarray([str(v) for v in values], np.dtypes.StringDType())


def with_labels(da: xr.DataArray, coords: Labels) -> xr.DataArray:
    """Return an array with coordinates along its tag dims; dims without one are numbered."""
    known = label_coords(coords, {dim: da.sizes[dim] for dim in tag_dims(da)})
    da = da.assign_coords(xr.Coordinates(known, indexes={}))
    for dim in tag_dims(da):
        da = da.set_xindex(dim, TagIndex)
    return da
