"""A sorted stack of frames to an ``xarray.Dataset`` with the one variable ``image``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from imagedata_xr.dicom.frames import FrameArray, PixelFormat, pixel_format
from imagedata_xr.elements import Value, keyword, tag
from imagedata_xr.errors import MissingHeaderError, MixedSeriesError, UnreadableFileError
from imagedata_xr.geometry import stack_positions
from imagedata_xr.headers import spread
from imagedata_xr.indexes import Origin, TagIndex, assign_origins
from imagedata_xr.names import ORIGIN_KEYWORDS, PIXEL_KEYWORDS
from imagedata_xr.positions import assign_positions

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from imagedata_xr.dicom.scan import FrameTable
    from imagedata_xr.dicom.sort import Grid
    from imagedata_xr.dicom.stacks import Stack

__all__ = ["build"]

CHUNK_BYTES = 48 << 20
"""What a preferred chunk holds [bytes]: between the 16 and 64 MiB in which dask is at its fastest."""

_NOT_KEPT = PIXEL_KEYWORDS | {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"}


def build(stack: Stack, grid: Grid, *, rescale: bool = True, source: str = "") -> xr.Dataset:
    """Return the image of a sorted stack, read lazily.

    Parameters
    ----------
    stack : Stack
        Frames of one orientation and size.
    grid : Grid
        Where each of them goes.
    rescale : bool
        Whether values are in modality units; stored values if not.
    source : str
        What was opened; kept in the encoding.
    """
    table = stack.table
    form = pixel_format(table)
    _refuse(table, form)
    complete = bool((grid.rows >= 0).all())
    slope, intercept, dtype = _rescale(table, form) if rescale else (None, None, form.dtype)
    fill: float = 0
    if not complete and dtype.kind == "f":
        fill = np.nan
    array = FrameArray(table, grid.rows, form, dtype, slope, intercept, fill)
    dims: tuple[Hashable, ...] = (*(axis.name for axis in grid.axes), "slice")
    attrs, coords = _headers(table, grid, dims)
    for axis in grid.axes:
        coords[axis.name] = xr.Variable((axis.name,), axis.labels, axis.attrs)
    if grid.start is not None:
        coords["AcquisitionDateTime"] = xr.Variable((), grid.start.isoformat())
    if not complete:
        coords["present"] = xr.Variable(dims, grid.rows >= 0)
    data = indexing.LazilyIndexedArray(array)
    da = xr.DataArray(xr.Variable((*dims, "row", "col"), data, attrs), name="image")
    da = da.assign_coords(xr.Coordinates(coords, indexes={}))
    for axis in grid.axes:
        da = da.set_xindex(axis.name, TagIndex)
    da = _place(assign_origins(da, [_origin(table)]), stack, form)
    chunks = preferred_chunks(array.shape, array.dtype.itemsize, array.rows.ndim)
    da.encoding = _encoding(table, form, rescale=rescale, source=source)
    da.encoding["preferred_chunks"] = dict(zip(da.dims, chunks, strict=True))
    return da.to_dataset()


def _refuse(table: FrameTable, form: PixelFormat) -> None:
    """Raise for images of a kind that would come out wrong.

    Raises
    ------
    UnreadableFileError
        For colour, several frames in a file, Siemens mosaics, and values that only a lookup table tells.
    """
    found = ""
    frames = [v for v in table.values("NumberOfFrames") if isinstance(v, int) and v > 1]
    if form.samples != 1 or form.photometric == "PALETTE COLOR":
        found = f"colour images ({form.photometric}, {form.samples} samples a pixel)"
    elif frames:
        found = f"{frames[0]} frames in one file"
    elif any("MOSAIC" in v for v in table.values("ImageType") if isinstance(v, list)):
        found = "Siemens mosaics, many slices in one image"
    elif any("VFRAME" in v for v in table.values("ImageType") if isinstance(v, list)):
        found = "United Imaging grids, many slices in one image"
    elif (table.pixel_tags != tag("PixelData")).any():
        found = "floating point pixels"
    if found:
        msg = f"{table.paths[0]} holds {found}; only files of one grey-scale image each can be read"
        raise UnreadableFileError(msg)


def _place(da: xr.DataArray, stack: Stack, form: PixelFormat) -> xr.DataArray:
    """Return the image with its positions, where the frames tell them."""
    if stack.orientation is None or stack.positions is None:
        return da
    spacing = stack.table.values("PixelSpacing")[0]
    if not (isinstance(spacing, list) and len(spacing) == 2 and all(isinstance(s, float) and s > 0 for s in spacing)):
        msg = f"PixelSpacing is {spacing!r}; two positive numbers [mm] are wanted to place the pixels"
        raise MissingHeaderError(msg)
    positions, shear = stack_positions(stack.positions, stack.orientation, spacing, form.rows, form.columns)
    da = da.assign_attrs(PixelSpacing=list(spacing))
    return assign_positions(da, positions, stack.orientation, shear, origin=_origin(stack.table))


def _origin(table: FrameTable) -> Origin:
    """Return whose image it is.

    Raises
    ------
    MixedSeriesError
        If the frames of the series do not agree on it.
    """
    found = []
    for name in ORIGIN_KEYWORDS:
        values = {str(v or "") for v in table.values(name)}
        if len(values) > 1:
            msg = f"the frames of one series have {len(values)} values of {name}; open those of each as a list of files"
            raise MixedSeriesError(msg)
        found.append(values.pop())
    return Origin(*found)


def _headers(
    table: FrameTable, grid: Grid, dims: tuple[Hashable, ...]
) -> tuple[dict[str, Value], dict[Hashable, xr.Variable]]:
    """Return the elements that all frames share, and those that vary as coordinates."""
    attrs: dict[str, Value] = {}
    coords: dict[Hashable, xr.Variable] = {}
    single = len(table) == 1
    for number in sorted([*table.common, *table.varying]):
        name = keyword(number)
        if not name or name in _NOT_KEPT or number < 0x00080000:
            continue
        if number in table.common:
            value = table.value(number)
            if value is None:
                continue
            if not (single and name == "SOPInstanceUID"):
                attrs[name] = value
                continue
        left, data = spread(table.values(number), grid.rows, dims)
        coords[name] = xr.Variable(left, data)
    left, data = spread(list(table.paths), grid.rows, dims)
    coords["source"] = xr.Variable(left, data)
    return attrs, coords


def _scalars(table: FrameTable, name: str, default: float) -> NDArray[np.float64]:
    """Return one number a frame; the default where the element is absent or empty."""
    values = table.values(name)
    for v in values:
        if v is not None and v != "" and not isinstance(v, int | float):
            msg = f"{name} is {v!r}; one number is wanted. Open with rescale=False for stored values"
            raise MissingHeaderError(msg)
    return np.asarray([float(v) if isinstance(v, int | float) else default for v in values])


def _rescale(
    table: FrameTable, form: PixelFormat
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, np.dtype[Any]]:
    """Return slope and intercept of each frame (None where they change nothing), and the type that holds the values.

    Modality LUT, PS3.3 C.11.1: value = RescaleSlope × stored + RescaleIntercept.
    """
    if any(raw is not None for raw in table.column(tag("ModalityLUTSequence"))):
        msg = f"{table.paths[0]} has a ModalityLUTSequence, which cannot be applied; rescale=False gives stored values"
        raise UnreadableFileError(msg)
    slope, intercept = _scalars(table, "RescaleSlope", 1.0), _scalars(table, "RescaleIntercept", 0.0)
    if (slope == 0).any() or not (np.isfinite(slope) & np.isfinite(intercept)).all():
        msg = f"RescaleSlope is {slope[slope == 0][:1] if (slope == 0).any() else slope}; open with rescale=False"
        raise MissingHeaderError(msg)
    low, high = form.range
    if (slope == slope.round()).all() and (intercept == intercept.round()).all():
        ends = np.stack([slope * low + intercept, slope * high + intercept])
        plain = bool((slope == 1).all() and (intercept == 0).all())
        for name in ("int16", "uint16", "int32", "uint32", "int64"):
            info = np.iinfo(name)
            if info.min <= ends.min() and ends.max() <= info.max:
                dtype = np.dtype(name)
                return (None, None, dtype) if plain else (slope, intercept, dtype)
    # A float32 keeps 24 bits.
    return slope, intercept, np.dtype(np.float32 if form.bits_stored <= 24 else np.float64)


def _encoding(table: FrameTable, form: PixelFormat, *, rescale: bool, source: str) -> dict[str, Any]:
    """Return how the values were stored."""
    encoding: dict[str, Any] = {
        "BitsAllocated": form.bits_allocated,
        "BitsStored": form.bits_stored,
        "HighBit": form.high_bit,
        "PixelRepresentation": int(form.signed),
        "PhotometricInterpretation": form.photometric,
        "SamplesPerPixel": form.samples,
        "TransferSyntaxUID": "\\".join(sorted(set(table.syntaxes))),
        "stored_dtype": str(form.dtype),
        "rescaled": rescale,
        "source": source,
    }
    for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        values = [default if v in (None, "") else v for v in table.values(name)]
        if isinstance(values[0], int | float) and all(v == values[0] for v in values):
            encoding[name] = float(values[0])
    return encoding


def preferred_chunks(shape: tuple[int, ...], itemsize: int, lead: int) -> tuple[int, ...]:
    """Return the size of a chunk along each axis: whole frames, about 48 MiB, the last of the `lead` axes filled first.

    Examples
    --------
    >>> preferred_chunks((60, 40, 256, 256), 2, 2)
    (9, 40, 256, 256)
    """
    chunks = list(shape)
    size = itemsize * int(np.prod(shape[lead:]))
    for axis in range(lead - 1, -1, -1):
        chunks[axis] = max(1, min(shape[axis], CHUNK_BYTES // max(size, 1)))
        size *= chunks[axis]
    return tuple(chunks)


def one_stack(stacks: list[Stack], describe: str) -> Stack:
    """Return the only stack.

    Raises
    ------
    MixedSeriesError
        If there are several; the error lists them.
    """
    if len(stacks) > 1:
        msg = (
            f"the series has {len(stacks)} stacks, where one was wanted:\n{describe}\n"
            "Open them one by one with open_study(source), or give the files of one as a list"
        )
        raise MixedSeriesError(msg)
    return stacks[0]
