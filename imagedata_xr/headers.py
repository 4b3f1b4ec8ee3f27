"""Elements of frames ↔ attrs and coordinates of a DataArray ↔ the header of one frame.

What all frames share is an attribute; what varies is a coordinate on just the dims it varies over. Neither holds
sequences or private elements: these are in the file that the coordinate ``source`` names, and come back from there.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from imagedata_xr.elements import Value, keyword, tag, to_element, to_value, unquoted
from imagedata_xr.errors import MissingHeaderError, UnreadableFileError
from imagedata_xr.names import GEOMETRY_KEYWORDS, PIXEL_KEYWORDS, SPATIAL_DIMS
from imagedata_xr.origins import origins

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    import xarray as xr
    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["described_dataset", "get", "header", "header_values", "source_dataset", "spread"]

_NOT_DESCRIBED = PIXEL_KEYWORDS | (GEOMETRY_KEYWORDS - {"ImageOrientationPatient", "PixelSpacing"})


def spread(
    values: Sequence[Value | None], rows: NDArray[np.intp], dims: Sequence[Hashable]
) -> tuple[tuple[Hashable, ...], NDArray[Any]]:
    """Return an element's values as an array on just the dims they vary over.

    Parameters
    ----------
    values : sequence
        One value a frame; None where the element is absent.
    rows : ndarray of int, shape as `dims`
        The frame at each place; -1 where there is none.
    dims : sequence of str
        The dims of `rows`.

    Returns
    -------
    dims : tuple of str
        Those that are left.
    data : ndarray
        Of int, float or str. Where frames lack the element: NaN, or "". Lists are joined by backslashes.
    """
    numbers: dict[Value, int] = {}
    keys = [_joined(v) for v in values]
    codes = np.asarray([numbers.setdefault(k, len(numbers)) for k in keys] or [0], np.intp)
    grid = np.where(rows < 0, -1, codes[rows])
    left = list(dims)
    for axis in range(grid.ndim - 1, -1, -1):
        there = grid >= 0
        first = np.where(there, grid, grid.max(axis=axis, keepdims=True))
        if (first == first.max(axis=axis, keepdims=True)).all():
            grid = grid.max(axis=axis)
            del left[axis]
    distinct = list(numbers)
    table: NDArray[Any]
    if all(isinstance(v, int) for v in distinct) and (grid >= 0).all():
        table = np.asarray(distinct)
    elif all(isinstance(v, int | float) or v == "" for v in distinct):
        table = np.asarray([np.nan if v == "" else v for v in distinct] + [np.nan], float)
    else:
        # Not of a fixed width: xarray's `interp` drops these as it should, where it would pick one of fixed ones.
        table = np.asarray([str(v) for v in distinct] + [""], np.dtypes.StringDType())
    return tuple(left), table[grid]


def _joined(value: Value | None) -> Value:
    """Return a value as one that can stand in an array: lists joined by backslashes, as DICOM stores them."""
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, list) else value


def header_values(da: xr.DataArray) -> dict[str, Value]:
    """Return the elements that attrs and scalar coordinates of an image tell: keyword to value.

    Coordinates win, since they belong to the frame; both win over nothing. Elements that describe pixels or places
    are left out: these follow from the array.
    """
    found: dict[str, Value] = {}
    for name, value in da.attrs.items():
        if _is_element(name):
            found[str(name)] = value
    for name, coord in da.coords.items():
        # In ISO form (with a T, which no DT has) AcquisitionDateTime is the start of the image, not of the frame.
        is_start = name == "AcquisitionDateTime" and "T" in str(coord.values)
        if coord.ndim == 0 and _is_element(name) and not is_start:
            scalar = coord.item()
            if isinstance(scalar, float) and np.isnan(scalar):
                continue
            found[str(name)] = scalar
    return {name: v for name, v in found.items() if name not in _NOT_DESCRIBED}


def _is_element(name: Hashable) -> bool:
    """Whether a name is the keyword of a DICOM element."""
    if not isinstance(name, str) or not name[:1].isupper():
        return False
    try:
        return keyword(tag(name)) == name
    except ValueError:
        return False


def described_dataset(frame: xr.DataArray) -> Dataset:
    """Return the header that attrs and scalar coordinates alone tell, without sequences or private elements.

    Parameters
    ----------
    frame : DataArray
        One frame: no dims but row and col.
    """
    from pydicom import Dataset

    dataset = Dataset()
    for name, value in header_values(frame).items():
        dataset.add(to_element(name, value))
    return dataset


def source_dataset(frame: xr.DataArray) -> Dataset | None:
    """Return the header in the file that one frame came from, without pixel data; None where no one file is named.

    A frame made of several series has none, even where its coordinates still name one: xarray brings back the
    coordinates of the last operand.

    Raises
    ------
    UnreadableFileError
        If the file is gone, or holds another instance by now.
    """
    import pydicom

    if "source" not in frame.coords or "SOPInstanceUID" not in _names(frame):
        return None
    if len({origin.SeriesInstanceUID for origin in origins(frame)}) > 1:
        return None
    path, uid = str(frame.coords["source"].item()), _one(frame, "SOPInstanceUID")
    if not path:
        return None
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except OSError as err:
        msg = f"the file that a frame came from cannot be read: {path}: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    if str(dataset.get("SOPInstanceUID", "")) != uid:
        msg = f"{path} holds another instance than when it was opened; open the series again"
        raise UnreadableFileError(msg)
    return dataset


def _names(frame: xr.DataArray) -> set[Hashable]:
    return {*frame.attrs, *frame.coords}


def _one(frame: xr.DataArray, name: str) -> str:
    return str(frame.coords[name].item() if name in frame.coords else frame.attrs[name])


def overlay(dataset: Dataset, frame: xr.DataArray) -> Dataset:
    """Return the header with the values that attrs and scalar coordinates of the frame give otherwise."""
    with unquoted():
        changed = {
            name: value
            for name, value in header_values(frame).items()
            if (not _same(to_value(dataset[name]), value) if name in dataset else value != "")
        }
    for name, value in changed.items():
        element = to_element(name, value)
        dataset[element.tag] = element
    return dataset


def _same(mine: Value | None, theirs: Value) -> bool:
    """Whether two values are the same, in the list or the joined form."""
    if mine is None:
        return False
    if isinstance(theirs, np.ndarray):
        theirs = theirs.tolist()
    # NaN is the same as NaN here: nobody changed it.
    return mine == theirs or _joined(mine) == _joined(theirs) or repr(mine) == repr(theirs)


def frame_of(da: xr.DataArray, indexers: Mapping[str, int]) -> xr.DataArray:
    """Return one frame of an image, by numbers along its dims; dims of one frame need no number.

    Raises
    ------
    ValueError
        If a dim is unknown, or has several frames and no number.
    """
    unknown = [name for name in indexers if name not in da.dims or name in ("row", "col", "rgb")]
    if unknown:
        msg = f"{unknown[0]!r} is no dim of frames of this image; it has {_frame_dims(da)}"
        raise ValueError(msg)
    open_dims = [d for d in _frame_dims(da) if d not in indexers and da.sizes[d] > 1]
    if open_dims:
        wanted = ", ".join(f"{d}=0..{da.sizes[d] - 1}" for d in open_dims)
        msg = f"a header belongs to one frame: say which, {wanted}"
        raise ValueError(msg)
    return da.isel({d: indexers.get(str(d), 0) for d in _frame_dims(da)})


def _frame_dims(da: xr.DataArray) -> list[Hashable]:
    return [d for d in da.dims if d not in (*SPATIAL_DIMS[1:], "rgb")]


def get(da: xr.DataArray, keyword: str) -> Value | xr.DataArray | None:
    """Return an element of an image: its value, a DataArray where it varies, None where it is absent.

    Parameters
    ----------
    da : DataArray
        An image.
    keyword : str
        Keyword of the element.

    Examples
    --------
    >>> import xarray as xr
    >>> get(xr.DataArray([1, 2], attrs={"Modality": "MR"}), "Modality")
    'MR'
    """
    if keyword in da.coords:
        coord: xr.DataArray = da.coords[keyword]
        return coord if coord.ndim else cast("Value", coord.item())
    # A copy: what is done to a list must not reach the image.
    return cast("Value | None", copy(da.attrs.get(keyword)))


def header(da: xr.DataArray, **indexers: int) -> Dataset:
    """Return the whole header of one frame, private elements and sequences included, without pixel data.

    It is read from the file that the frame came from; attributes and coordinates that were changed since are in it.
    An image that no longer names its files (made of two series, or reloaded where they are not) has the header that
    its attributes and coordinates tell.

    Parameters
    ----------
    da : DataArray
        An image.
    **indexers : int
        Which frame: a number for every dim but row and col, such as ``time=0, slice=3``.

    Returns
    -------
    pydicom.Dataset
        A new one; changing it changes nothing else.

    Raises
    ------
    ValueError
        If the numbers do not name one frame.
    MissingHeaderError
        If nothing at all is known of the frame.
    UnreadableFileError
        If its file is gone.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folders = ixr.sample.write_patient(getfixture("tmp_path") / "phantom")
    >>> image = ixr.open_series(folders / "dynamic_1", "time")
    >>> header(image, time=0, slice=3).Modality
    'MR'
    """
    frame = frame_of(da, indexers)
    if "present" in frame.coords and not bool(frame.coords["present"]):
        msg = f"there is no frame at {', '.join(f'{k}={v}' for k, v in indexers.items())}: its values are filled in"
        raise MissingHeaderError(msg)
    dataset = source_dataset(frame)
    if dataset is not None:
        return overlay(dataset, frame)
    dataset = described_dataset(frame)
    if not len(dataset):
        msg = "the image has no header: neither attributes nor coordinates are DICOM elements"
        raise MissingHeaderError(msg)
    return dataset
