"""Elements of frames ↔ attrs and coordinates of a DataArray ↔ the header of one frame.

What all frames share is an attribute; what varies is a coordinate on just the dims it varies over. Neither holds
sequences or private elements: these are in the file that the coordinate ``source`` names, and come back from there.
"""

from __future__ import annotations

from copy import copy
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from imagedata_xr.elements import Value, keyword, tag, to_element, to_value, unquoted, vr_of
from imagedata_xr.errors import MissingHeaderError, UnreadableFileError
from imagedata_xr.frame_headers import grouped_elements, of_one_frame
from imagedata_xr.keywords import is_keyword, keyword_meant
from imagedata_xr.names import GEOMETRY_KEYWORDS, PIXEL_KEYWORDS, SPATIAL_DIMS
from imagedata_xr.origins import origins
from imagedata_xr.streams import dcmread
from imagedata_xr.verbatim import make_readable

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    import xarray as xr
    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = [
    "are_mixed",
    "described_dataset",
    "get",
    "header",
    "header_values",
    "is_between",
    "is_mean",
    "source_dataset",
    "spread",
    "values_of_frames",
    "with_known_coords",
]

_OF_SEGMENTS = ("SegmentNumber", "SegmentLabel")
_NOT_DESCRIBED = PIXEL_KEYWORDS | (GEOMETRY_KEYWORDS - {"ImageOrientationPatient", "PixelSpacing"})


def spread(
    codes: NDArray[np.intp], values: Sequence[Value | None], rows: NDArray[np.intp], dims: Sequence[Hashable]
) -> tuple[tuple[Hashable, ...], NDArray[Any]]:
    """Return an element's values as an array on just the dims they vary over.

    Parameters
    ----------
    codes : ndarray of int, shape (frame,)
        Which of `values` each frame has.
    values : sequence
        The values; None where the element is absent.
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
    keys = _all_joined(values) if {list, type(None)} & set(map(type, values)) else values
    distinct = list(dict.fromkeys(keys))
    if len(distinct) < len(keys):
        numbers = {key: number for number, key in enumerate(distinct)}
        codes = np.asarray([numbers[key] for key in keys], np.intp)[codes]
    grid = codes[rows]
    complete = bool((rows >= 0).all())
    if not complete:
        grid[rows < 0] = -1
    left = list(dims)
    for axis in range(grid.ndim - 1, -1, -1):
        # The value that all would have along the axis; where frames are absent, as where they are there.
        first = grid.take([0], axis=axis) if complete else grid.max(axis=axis, keepdims=True)
        if (grid == first).all() if complete else ((grid == first) | (grid < 0)).all():
            grid = first.squeeze(axis)
            del left[axis]
    table: NDArray[Any]
    kinds = set(map(type, distinct))
    if kinds <= {int} and (grid >= 0).all():
        table = np.asarray(distinct)
    elif kinds <= {int, float} or all(isinstance(v, int | float) or v == "" for v in distinct):
        table = np.asarray([np.nan if v == "" else v for v in distinct] + [np.nan], float)
    else:
        # Not of a fixed width: xarray's `interp` drops these as it should, where it would pick one of fixed ones.
        table = np.asarray([*(distinct if kinds == {str} else map(str, distinct)), ""], object)
        return tuple(left), np.asarray(table[grid], np.dtypes.StringDType())
    return tuple(left), table[grid]


def values_of_frames(da: xr.DataArray, name: str) -> NDArray[Any]:
    """Return a coordinate for every frame of an image, with the dims of the image but for row, col and rgb."""
    sizes = {dim: size for dim, size in da.sizes.items() if dim not in ("row", "col", "rgb")}
    values: NDArray[Any] = da.coords[name].variable.set_dims(sizes).transpose(*sizes).values
    return values


def _joined(value: Value | None) -> Value:
    """Return a value as one that can stand in an array: lists joined by backslashes, as DICOM stores them."""
    return _all_joined([value])[0]


def _all_joined(values: Sequence[Value | None]) -> list[Value]:
    """Return values as `_joined` does each."""
    joined: list[Value] = []
    forms: dict[int, str] = {}
    for value in values:
        if isinstance(value, list):
            form = forms.get(len(value))
            if form is None:
                form = forms[len(value)] = "\\".join(["%s"] * len(value))
            joined.append(form % tuple(value))
        else:
            joined.append("" if value is None else value)
    return joined


def header_values(da: xr.DataArray) -> dict[str, Value]:
    """Return the elements that attrs and scalar coordinates of an image tell: keyword to value.

    Coordinates win, since they belong to the frame; both win over nothing. Elements that describe pixels or places
    are left out: these follow from the array.
    """
    found: dict[str, Value] = {}
    for name, value in da.attrs.items():
        if is_keyword(name):
            found[str(name)] = value
    for name, coord in da.coords.variables.items():  # each as an array would cost more than all else
        # In ISO form (with a T, which no DT has) AcquisitionDateTime is the start of the image, not of the frame.
        is_start = name == "AcquisitionDateTime" and "T" in str(coord.values)
        if coord.ndim == 0 and is_keyword(name) and not is_start:
            scalar = coord.values.item()
            if isinstance(scalar, float) and np.isnan(scalar):
                continue
            found[str(name)] = scalar
    return {name: v for name, v in found.items() if name not in _NOT_DESCRIBED}


def is_between(name: Hashable, coord: xr.Variable) -> bool:
    """Return whether a coordinate of an integer element lies between two of them, as ``interp`` leaves it."""
    if coord.ndim or coord.dtype.kind != "f" or float(coord.values).is_integer() or not is_keyword(name):
        return False
    return vr_of(tag(str(name))) in ("IS", "US", "SS", "UL", "SL")


def are_mixed(da: xr.DataArray) -> bool:
    """Return whether frames are of several, as `coarsen` and `interp` leave them.

    They average coordinates as they do values, InstanceNumber among them, which then is no whole number any more; not
    so where it is only absent from some frames, or frames still name their instances.
    """
    number = da.coords.variables.get("InstanceNumber")
    uids = da.coords["SOPInstanceUID"].values if "SOPInstanceUID" in da.coords else np.zeros(0, str)
    return number is not None and is_mean(number) and not bool((uids != "").any())


def is_mean(whole: xr.Variable) -> bool:
    """Return whether whole numbers are floats, and not since some are absent."""
    return whole.dtype.kind == "f" and not bool(np.isnan(whole.values).any())


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
    proof = "SOPInstanceUID"
    if "source" not in frame.coords or not (proof in frame.coords or proof in frame.attrs):
        return None
    if len({origin.SeriesInstanceUID for origin in origins(frame)}) > 1:
        return None
    path = str(frame.coords["source"].item())
    if not path:
        return None
    uid = str(frame.coords[proof].item() if proof in frame.coords else frame.attrs[proof])
    try:
        dataset = dcmread(path, stop_before_pixels=True, force=True)
    except OSError as err:
        msg = f"the file that a frame came from cannot be read: {path}: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    if str(dataset.get("SOPInstanceUID", "")) != uid:
        msg = f"{path} holds another instance than when it was opened; open the series again"
        raise UnreadableFileError(msg)
    return of_one_frame(dataset, frame, path)


def overlay(dataset: Dataset, frame: xr.DataArray) -> Dataset:
    """Return the header with the values that attrs and scalar coordinates of the frame give otherwise.

    What functional groups hold is changed there.
    """
    grouped = grouped_elements(dataset)
    # Looked at in one go: entering `unquoted` costs more than to compare an element.
    with unquoted():
        changed = {n: v for n, v in header_values(frame).items() if _differs(dataset, grouped, n, v)}
        for name in changed.keys() & grouped.keys():
            holder, own = grouped[name]
            holder[own].value = to_element(own, changed.pop(name)).value
    for name, value in changed.items():
        element = to_element(name, value)
        dataset[element.tag] = element
    return dataset


def _differs(dataset: Dataset, grouped: Mapping[str, tuple[Dataset, str]], name: str, value: Value) -> bool:
    """Whether a header says otherwise than a value, or lacks what the value tells."""
    holder, own = grouped.get(name, (dataset, name))
    if own in holder:
        return not _same(to_value(holder[own]), value)
    return value != "" and not (name in _OF_SEGMENTS and "SegmentSequence" in dataset)


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
    IndexError, TypeError
        If there is no such frame, or what is given is no number of one.
    """
    unknown = [name for name in indexers if name not in da.dims or name in ("row", "col", "rgb")]
    if unknown:
        msg = f"{unknown[0]!r} is no dim of frames of this image; it has {_frame_dims(da)}"
        raise ValueError(msg)
    for name, number in indexers.items():
        given: object = number
        size = da.sizes[name]
        is_number = isinstance(given, Integral)
        if not is_number or not -size <= number < size:
            msg = f"{name}={number!r}: the number of a frame is wanted, 0 to {size - 1} along {name}"
            raise (IndexError if is_number else TypeError)(msg)
    open_dims = [d for d in _frame_dims(da) if d not in indexers and da.sizes[d] > 1]
    if open_dims:
        wanted = ", ".join(f"{d}=0..{da.sizes[d] - 1}" for d in open_dims)
        msg = f"a header belongs to one frame: say which, {wanted}"
        raise ValueError(msg)
    return da.isel({d: indexers.get(str(d), 0) for d in _frame_dims(da)})


def with_known_coords(da: xr.DataArray) -> xr.DataArray:
    """Return the image with the coordinates that its frames have, whatever xarray made of them.

    Those that ``map_blocks`` leaves to dask are computed, all at once, since each of them is a task that computes
    blocks of the image. Where outer joins, `unstack` or `pad` put NaN, text is "" and ``present`` False. What varies
    within a frame, as where each voxel was taken from a volume of its own, is of no frame and left out.
    """
    lazy = [name for name, coord in da.coords.items() if coord.chunks is not None]
    if lazy:
        known = da.coords.to_dataset()[lazy].compute()
        da = da.assign_coords({name: known[name].variable for name in lazy})
    mended: dict[Hashable, xr.Variable] = {}
    within = []
    for name, coord in da.coords.variables.items():
        if name in da.xindexes:
            continue
        if {"row", "col"} & set(coord.dims) and name not in SPATIAL_DIMS:
            within.append(name)
        elif name == "present" and coord.dtype != bool:
            mended[name] = coord.copy(data=coord.values == 1)
        elif coord.dtype.kind == "O":
            mended[name] = coord.copy(data=_without_nan(coord.values))
    return da.drop_vars(within).assign_coords(mended) if within or mended else da


def _without_nan(values: NDArray[Any]) -> NDArray[Any]:
    """Return objects with "" in place of NaN."""
    found = values.copy()
    found[np.asarray(values != values, bool)] = ""
    return found


def _frame_dims(da: xr.DataArray) -> list[Hashable]:
    return [d for d in da.dims if d not in (*SPATIAL_DIMS[1:], "rgb")]


def get(da: xr.DataArray, name: str | int) -> Value | xr.DataArray | None:
    """Return an element of an image: its value, a DataArray where it varies, None where it is absent.

    Parameters
    ----------
    da : DataArray
        An image.
    name : str or int
        Keyword or tag of the element, as ``"EchoTime"``, ``"0018,0081"`` or ``0x00180081``; or the name of another
        attribute or coordinate that the image has.

    Raises
    ------
    KeyError
        If that is no public element, and the image has nothing of this name; or if it is a sequence, which only the
        header of a frame has.
    TypeError
        If the name is neither.

    Examples
    --------
    >>> import xarray as xr
    >>> image = xr.DataArray([1, 2], attrs={"Modality": "MR"})
    >>> get(image, "Modality"), get(image, "0008,0060"), get(image, "EchoTime")
    ('MR', 'MR', None)
    """
    if not isinstance(name, str | int):
        msg = f"{name!r} names no element: give a keyword or a tag"
        raise TypeError(msg)
    if name not in da.coords and name not in da.attrs:
        name = _known_element(name)
    if name in da.coords:
        coord: xr.DataArray = da.coords[name]
        return coord if coord.ndim else cast("Value", coord.item())
    # A copy: what is done to a list must not reach the image.
    return cast("Value | None", copy(da.attrs.get(name)))


def _known_element(name: str | int) -> str:
    """Return the keyword of an element that attributes or coordinates could hold.

    Raises
    ------
    KeyError
        If there is none.
    """
    try:
        known = keyword(tag(name))
    except (ValueError, OverflowError):
        meant = keyword_meant(str(name))
        advice = f"{meant} is" if meant else "and the image has nothing of this name"
        msg = f"{name!r} is no DICOM element; {advice}"
        raise KeyError(msg) from None
    shown = known or f"{tag(name):08X}"
    if not known or vr_of(tag(name)) == "SQ":
        what = "a sequence" if known else "a private element, or an unknown one"
        msg = f"{shown} is {what}, which only the header of a frame has: image.dicom.header(slice=0)"
        raise KeyError(msg)
    return known


def header(da: xr.DataArray, **indexers: int) -> Dataset:
    """Return the whole header of one frame, private elements and sequences included, without pixel data.

    It is read from the file that the frame came from; attributes and coordinates that were changed since are in it.
    An image that no longer names its files (made of two series, or reloaded where they are not) has the header that
    its attributes and coordinates tell. Values that cannot be of their VR, such as a private number of a wrong length,
    are there as bytes, of unknown VR (UN).

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
    frame = with_known_coords(frame_of(da, indexers))
    frame = frame.drop_vars([name for name, coord in frame.coords.variables.items() if is_between(name, coord)])
    if "present" in frame.coords and not bool(frame.coords["present"]):
        msg = f"there is no frame at {', '.join(f'{k}={v}' for k, v in indexers.items())}: its values are filled in"
        raise MissingHeaderError(msg)
    dataset = source_dataset(frame)
    if dataset is not None:
        make_readable(dataset)
        return overlay(dataset, frame)
    dataset = described_dataset(frame)
    if not len(dataset):
        msg = "the image has no header: neither attributes nor coordinates are DICOM elements"
        raise MissingHeaderError(msg)
    return dataset
