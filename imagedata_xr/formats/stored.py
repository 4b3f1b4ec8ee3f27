"""A whole image as plain values, for formats that can carry anything: attributes, coordinates, origins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.formats.labels import tag_dims
from imagedata_xr.headers import with_known_coords
from imagedata_xr.indexes import TagIndex
from imagedata_xr.placement import check_frames, has_geometry
from imagedata_xr.positions import index_positions

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["described", "described_dims", "indexed", "restored"]

VERSION = 1


def described(da: xr.DataArray) -> str:
    """Return all of an image but its values as JSON: dims, attributes, coordinates with their attributes.

    Raises
    ------
    GeometryError
        If it was made of images in different frames.
    """
    check_frames(da)
    da = with_known_coords(da)
    coords = {
        str(name): {
            "dims": [str(dim) for dim in coord.dims],
            "type": "text" if coord.dtype.kind in "UTSO" else coord.dtype.str,
            "values": _listed(coord.values),
            "attrs": _plain(coord.attrs),
        }
        for name, coord in da.coords.items()
    }
    document = {"version": VERSION, "dims": [str(d) for d in da.dims], "attrs": _plain(da.attrs), "coords": coords}
    return json.dumps(document, allow_nan=True)


def _listed(values: NDArray[Any]) -> list[Any]:
    flat = values.ravel()
    if flat.dtype.kind in "mM":
        flat = flat.view(np.int64)  # of which some units would come as objects
    return [str(v) for v in flat] if flat.dtype.kind in "UTSO" else flat.tolist()


def _plain(attrs: Any) -> dict[str, Any]:
    return {str(n): v.tolist() if isinstance(v, np.ndarray | np.generic) else v for n, v in attrs.items()}


def described_dims(text: str, path: str) -> list[str]:
    """Return the dims of an image that `described` told.

    Raises
    ------
    UnreadableFileError
        If the text is none of `described`.
    """
    try:
        return [str(dim) for dim in json.loads(text)["dims"]]
    except (ValueError, KeyError, TypeError) as err:
        msg = f"{path}: the description of the image is not what imagedata_xr writes"
        raise UnreadableFileError(msg) from err


def restored(values: Any, text: str, path: str) -> xr.DataArray:
    """Return the image of values and the JSON that `described` made.

    Parameters
    ----------
    values : array_like
        With the dims that were described, in that order.
    text : str
        The description.
    path : str
        Where it comes from, for errors.

    Raises
    ------
    UnreadableFileError
        If values and description do not belong together.
    """
    try:
        told = json.loads(text)
        dims = tuple(told["dims"])
        sizes = dict(zip(dims, values.shape, strict=True))
        coords = {}
        for name, coord in told["coords"].items():
            dtype = np.dtypes.StringDType() if coord["type"] == "text" else np.dtype(coord["type"])
            shape = [sizes[dim] for dim in coord["dims"]]
            data = np.asarray(coord["values"], dtype).reshape(shape)
            coords[name] = xr.Variable(coord["dims"], data, coord["attrs"])
        da = xr.DataArray(xr.Variable(dims, values), name="image", attrs=told["attrs"])
        da = da.assign_coords(xr.Coordinates(coords, indexes={}))
        for dim in dims:
            da = da.set_xindex(dim) if dim in coords else da
        return indexed(da)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        msg = f"{path}: values and their description do not belong together ({type(err).__name__})"
        raise UnreadableFileError(msg) from err


def indexed(da: xr.DataArray) -> xr.DataArray:
    """Return an image with the tolerant indexes of its tag dims and positions, which files do not keep."""
    text = {
        name: coord.variable.copy(data=np.asarray(coord.values, np.dtypes.StringDType()))
        for name, coord in da.coords.items()
        if coord.dtype.kind in "UO" and name not in da.dims and coord.dims and not str(name).startswith("origin_")
    }
    # Not of a fixed width, so that `interp` drops what names files.
    da = da.assign_coords(text)
    for dim in tag_dims(da):
        if dim in da.coords:
            da = da.drop_indexes(dim) if dim in da.xindexes else da
            da = da.set_xindex(dim, TagIndex)
    return index_positions(da) if has_geometry(da) else da
