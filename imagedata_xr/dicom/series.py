"""A sorted stack of frames to an ``xarray.Dataset`` with the one variable ``image``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from imagedata_xr.dates import parse_time
from imagedata_xr.dicom.column import coded
from imagedata_xr.dicom.damage import DAMAGE, read_elements
from imagedata_xr.dicom.frames import FrameArray, pixel_format
from imagedata_xr.dicom.mixtures import warn_of_mixtures
from imagedata_xr.dicom.select import whose
from imagedata_xr.dicom.stacks import PART_OF_STEP, is_segmentation, turns, unreadable_place
from imagedata_xr.dicom.tags import has_segments, zone_of
from imagedata_xr.elements import Value, keyword, tag
from imagedata_xr.errors import DuplicateFramesError, MissingHeaderError, MissingSlicesWarning, UnreadableFileError
from imagedata_xr.geometry import Frame, make_frame, stack_positions
from imagedata_xr.headers import spread
from imagedata_xr.indexes import TagIndex
from imagedata_xr.names import PIXEL_KEYWORDS, POLARITY, RT_DOSE, TAG_UNITS, WINDOW_KEYWORDS
from imagedata_xr.origins import OF_UNITS, origin_coordinates, pixel_distance, unit_told
from imagedata_xr.placement import frame_attrs, position_coordinates
from imagedata_xr.streams import dcmread
from imagedata_xr.times import AS_READ

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from numpy.typing import NDArray

    from imagedata_xr.dicom.sort import Grid
    from imagedata_xr.dicom.stacks import Stack
    from imagedata_xr.dicom.stored import PixelFormat
    from imagedata_xr.dicom.table import FrameTable

__all__ = ["build", "preferred_chunks"]

CHUNK_BYTES = 48 << 20
"""What a preferred chunk holds [bytes]: between the 16 and 64 MiB in which dask is at its fastest."""

_PAIRS_AT_ONCE = 16
"""Copies that are read together, to be compared."""

_HALF_A_DAY = 43_200
"""What no step of a series lasts [s]: a time of day that is earlier by more is that of the next day."""

_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"

_NOT_KEPT = PIXEL_KEYWORDS | {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"}


def build(stack: Stack, grid: Grid, *, rescale: bool = True, source: str = "", is_part: bool = False) -> xr.Dataset:
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
    is_part : bool
        Whether the user has chosen frames by a function: nothing is said of slices that they lack.
    """
    table = stack.table
    if stack.orientation is None and not table.frames.any():
        _warn_of_names(table, grid)
    form = pixel_format(table)
    complete = bool((grid.rows >= 0).all())
    slope, intercept, dtype = _rescale(table, form) if rescale and not form.is_colour else (None, None, form.dtype)
    fill: float = 0
    if not complete and not form.is_colour and not is_segmentation(table) and not has_segments(table):
        # Not 0, which would go into means and sums as if it had been measured, where `present` is lost.
        fill = np.nan
        if dtype.kind != "f":
            dtype = np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    has_lut = rescale and not form.is_colour and _has_lut(table)
    if grid.copies is not None:
        _check_copies(table, grid.copies, form)
    array = FrameArray(table, grid.rows, form, dtype, slope, intercept, fill, has_lut=has_lut)
    dims: tuple[Hashable, ...] = (*(axis.name for axis in grid.axes), "slice")
    place = _place(stack, form)
    attrs, coords = _headers(table, grid, dims, is_placed=place is not None)
    _name_empty_segments(table, grid, attrs, coords)
    if has_segments(table):
        _warn_of_unknown_segments(table)
    for axis in grid.axes:
        coords[axis.name] = xr.Variable((axis.name,), axis.labels, axis.attrs)
        for name, values in axis.coords.items():
            told = {"units": TAG_UNITS["b"]} if name == "b" else {"long_name": f"gradient direction {name[1]}, LPS+"}
            coords[name] = xr.Variable((axis.name,), values, told)
    if grid.start is not None:
        start = grid.start.isoformat()
        coords["AcquisitionDateTime"] = xr.Variable((), start, {AS_READ: start, **_zone(table, grid)})
        _free_dates_left_behind(attrs, coords)
    if not complete:
        coords["present"] = xr.Variable(dims, grid.rows >= 0)
    data = indexing.LazilyIndexedArray(array)
    pixel_dims = ("row", "col", "rgb") if form.is_colour else ("row", "col")
    if not form.is_colour and form.photometric:
        attrs[POLARITY] = form.photometric
    if not rescale and not form.is_colour and not _is_stored_as_told(table):
        for name in (*WINDOW_KEYWORDS, *OF_UNITS):  # of modality values, which these are not
            attrs.pop(name, None)
            coords.pop(name, None)
    variable = xr.Variable((*dims, *pixel_dims), data, attrs)
    indexes: dict[Hashable, xr.Index] = {}
    for axis in grid.axes:
        index = indexes[axis.name] = TagIndex.from_variables({axis.name: coords[axis.name]}, options={})
        coords.update(index.create_variables({axis.name: coords[axis.name]}))
    if rescale and _PARAMETRIC_MAP in table.distinct("SOPClassUID"):
        _warn_of_maps(table)
    of_two = warn_of_mixtures(table, grid, None if place is None else place[0]["slice"])
    if place is not None:
        positions, known, spacing = place
        if not is_part and not of_two:
            _warn_of_gaps(table, grid, positions["slice"])
        found = position_coordinates(variable.sizes, positions, known)
        coords |= found.variables
        indexes |= found.xindexes
        variable.attrs |= {"PixelSpacing": spacing, **frame_attrs(known)}
    distance = "" if place is not None else " ".join(map(str, pixel_distance(attrs)))
    known_series = (origin._replace(PixelSpacing=distance, Unit=unit_told(attrs)) for origin in whose(table))
    coords.update(origin_coordinates(known_series))
    chunks = preferred_chunks(array.shape, array.dtype.itemsize, array.rows.ndim)
    variable.encoding = _encoding(table, form, rescale=rescale, source=source)
    variable.encoding["preferred_chunks"] = dict(zip(variable.dims, chunks, strict=True))
    # All at once: xarray aligns and copies for each time that coordinates are assigned, and for a DataArray.
    return xr.Dataset({"image": variable}, xr.Coordinates(coords, indexes))


def _check_copies(table: FrameTable, copies: NDArray[np.intp], form: PixelFormat) -> None:
    """Raise DuplicateFramesError if frames with one SOPInstanceUID have other pixels, of which none may be dropped.

    So it is with what programs have computed and written under the UIDs of the images that it was made of.
    """
    pixels = FrameArray(table, copies, form, form.dtype, None, None, 0)
    lazy = xr.Variable(("pair", "copy", *map(str, range(len(form.shape)))), indexing.LazilyIndexedArray(pixels))
    for first in range(0, len(copies), _PAIRS_AT_ONCE):
        pairs = lazy[first : first + _PAIRS_AT_ONCE].values
        for one, other, (kept, dropped) in zip(pairs[:, 0], pairs[:, 1], copies[first:].tolist(), strict=False):
            if not np.array_equal(one, other, equal_nan=form.is_float):
                msg = (
                    f"{table.paths[kept]} and {table.paths[dropped]} have the same SOPInstanceUID and other pixels, so "
                    "they are no copies: one may have been computed from the other. Open the files of one folder, or "
                    "all of them with duplicates='stack'"
                )
                raise DuplicateFramesError(msg)


def _warn_of_names(table: FrameTable, grid: Grid) -> None:
    """Warn where nothing but the names of files tells which slice comes first."""
    told = turns(table)
    for rows in grid.rows.reshape(-1, grid.rows.shape[-1]).tolist():
        known = [told[row] for row in rows if row >= 0]
        if len(set(known)) < len(known):
            msg = (
                "frames have no place in the patient, and neither InstanceNumber nor SliceLocation tells their order: "
                f"slices are sorted by the names of their files, {table.paths[rows[0]]} first"
            )
            warnings.warn(msg, stacklevel=7)
            return


def _maps(path: str) -> Iterator[str]:
    """Yield what the maps to real world values of a file say that would change its values."""
    names = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    header = read_elements(path, map(tag, names))
    for group in (group for name in names for group in header.get(name) or ()):
        for item in group.get("RealWorldValueMappingSequence") or ():
            slope, intercept = item.get("RealWorldValueSlope"), item.get("RealWorldValueIntercept")
            if (slope, intercept) != (1, 0):
                units = [str(unit.get("CodeValue", "")) for unit in item.get("MeasurementUnitsCodeSequence") or ()]
                how = "a table" if slope is None else f"{slope:.6g} * image + {intercept or 0:.6g}"
                yield f"{str(item.get('LUTLabel', ''))!r} is {how} [{', '.join(units)}]"


def _warn_of_maps(table: FrameTable) -> None:
    """Warn where the values of a parametric map are told by a map to real world values, which is not applied."""
    told: dict[str, None] = {}
    for path in dict.fromkeys(table.paths):
        try:
            told |= dict.fromkeys(_maps(path))
        except DAMAGE as err:
            msg = f"{path} is a damaged DICOM file: {type(err).__name__} in RealWorldValueMappingSequence"
            raise UnreadableFileError(msg) from err
    if told:
        listed = "; ".join([*told][:4]) + "; ..." * (len(told) > 4)
        warnings.warn(
            f"the values of a parametric map are as stored; its RealWorldValueMappingSequence is not applied: {listed}",
            stacklevel=7,
        )


def _warn_of_gaps(table: FrameTable, grid: Grid, positions: NDArray[np.float64]) -> None:
    """Warn where slices seem to be missing: all distances are multiples of the smallest, and some are not one.

    Not where it is on purpose: slices of several thicknesses, localizers, segmentations, which have only the slices
    that a segment is in, slabs that are further apart than they have slices, and what is in one file, from which none
    gets lost.
    """
    if positions.size < 3:
        return
    steps = np.abs(np.diff(positions))
    times = (steps / steps.min()).round()
    count = int((times - 1).sum())
    if not 0 < count < positions.size or (np.abs(steps / steps.min() - times) > PART_OF_STEP).any():
        return
    thickness, kinds = table.distinct("SliceThickness"), table.distinct("ImageType")
    if len(set(map(str, thickness))) > 1 or "LOCALIZER" in str(kinds) or has_segments(table) or is_segmentation(table):
        return
    if len(set(table.paths)) == 1:
        return
    numbers, rows = table.values("InstanceNumber"), grid.rows.reshape(-1, positions.size).max(axis=0)
    gaps = [
        f"{positions[k]:.6g} and {positions[k + 1]:.6g} mm "
        f"(InstanceNumber {numbers[rows[k]]} and {numbers[rows[k + 1]]})"
        for k in np.flatnonzero(times > 1)
    ]
    shown = [*gaps[:4], "..."] if len(gaps) > 4 else gaps
    msg = (
        f"{count} slice{'s seem' if count > 1 else ' seems'} to be missing: slices are {steps.min():.6g} mm apart, "
        f"but not those at {'; '.join(shown)}. Means and projections are of the slices that are there"
    )
    warnings.warn(MissingSlicesWarning(msg), stacklevel=7)


def _zone(table: FrameTable, grid: Grid) -> dict[str, str]:
    """Return the attribute of a start that is told in UTC: the time zone of the first volume."""
    number, axis = next((k, axis) for k, axis in enumerate(grid.axes) if axis.name == "time")
    first = grid.rows.take([0], axis=number).ravel()
    zone = zone_of(table, str(axis.attrs["element"]), int(first[first >= 0][0]))
    return {"timezone": zone} if zone else {}


def _free_dates_left_behind(attrs: dict[str, Value], coords: dict[Hashable, xr.Variable]) -> None:
    """Let the one date of a series that runs past midnight be of each volume, as its time of day is.

    It is that of the first volumes: as an attribute it would be told of a mean over the others.
    """
    size = coords["time"].size
    for name in ("Acquisition", "Content"):
        told = coords.get(f"{name}Time")
        if f"{name}Date" not in attrs or told is None or "time" not in told.dims:
            continue
        known = {text: parse_time(text) for text in set(map(str, told.values.ravel().tolist()))}
        seconds = [known[text] for text in map(str, told.transpose("time", ...).values.ravel().tolist())]
        firsts = np.asarray(seconds, float).reshape(size, -1).min(axis=1)
        if (np.diff(firsts) < -_HALF_A_DAY).any():
            date = np.full(size, str(attrs.pop(f"{name}Date")), np.dtypes.StringDType())
            coords[f"{name}Date"] = xr.Variable(("time",), date)


def _place(stack: Stack, form: PixelFormat) -> tuple[dict[str, NDArray[np.float64]], Frame, list[float]] | None:
    """Return positions, frame and PixelSpacing, where the frames tell them."""
    if stack.orientation is None or stack.positions is None:
        _warn_of_lost_place(stack.table)
        return None
    told = stack.table.first("PixelSpacing")
    spacing = [s for s in told if isinstance(s, float) and s > 0] if isinstance(told, list) else []
    if not (isinstance(told, list) and len(spacing) == len(told) == 2):
        msg = f"PixelSpacing is {told or None!r}; two positive numbers [mm] are wanted to place the pixels"
        raise MissingHeaderError(msg)
    positions, shear = stack_positions(stack.positions, stack.orientation, spacing, form.rows, form.columns)
    return positions, make_frame(stack.orientation, shear), spacing


def _warn_of_lost_place(table: FrameTable) -> None:
    """Warn where frames tell a place that is not numbers, as with a comma in them: they are opened without it."""
    said = unreadable_place(table)
    if said:
        msg = (
            f"{said}: the slices have no place in the patient, and their order is that of InstanceNumber. Correct it "
            "in the files to have them placed"
        )
        warnings.warn(msg, stacklevel=7)


def _headers(
    table: FrameTable, grid: Grid, dims: tuple[Hashable, ...], *, is_placed: bool
) -> tuple[dict[str, Value], dict[Hashable, xr.Variable]]:
    """Return the elements that all frames share, and those that vary as coordinates.

    Of frames in a place the coordinates tell the distance of pixels.
    """
    attrs: dict[str, Value] = {}
    coords: dict[Hashable, xr.Variable] = {}
    single = len(table) == 1
    not_kept = _NOT_KEPT if is_placed else _NOT_KEPT - {"PixelSpacing"}
    for number in sorted([*table.common, *table.varying]):
        name = keyword(number)
        if not name or name in not_kept or number < 0x00080000:
            continue
        if number in table.common:
            value = table.value(number)
            if value is None:
                continue
            if not (single and name == "SOPInstanceUID"):
                attrs[name] = value
                continue
        left, data = spread(*table.codes(number), grid.rows, dims)
        coords[name] = xr.Variable(left, data)
    try:
        left, data = spread(*coded(table.paths), grid.rows, dims)
    except UnicodeEncodeError as err:
        path = next(path for path in table.paths if path.encode("utf-8", "replace").decode() != path)
        msg = f"the name of {path!a} is no text in UTF-8, so no coordinate can hold it: rename the file or folder"
        raise UnreadableFileError(msg) from err
    coords["source"] = xr.Variable(left, data)
    # The tiles of a mosaic are of its one frame.
    numbers = np.where(table.tiles[:, 2] > 0, 0, table.frames) + 1
    if (numbers > 1).any() or any(table.distinct_raws(tag("PerFrameFunctionalGroupsSequence"))):
        left, data = spread(*coded(numbers.tolist()), grid.rows, dims)
        coords["source_frame"] = xr.Variable(left, data)
    return attrs, coords


def _name_empty_segments(
    table: FrameTable, grid: Grid, attrs: dict[str, Value], coords: dict[Hashable, xr.Variable]
) -> None:
    """Give the segments that have no frame their number and name, which only the header of the file tells."""
    axes = [(k, axis) for k, axis in enumerate(grid.axes) if axis.name == "segment" and has_segments(table)]
    for k, axis in axes:
        if (grid.rows >= 0).any(axis=tuple(set(range(grid.rows.ndim)) - {k})).all():
            continue
        names: dict[int, str] = {}
        for path in dict.fromkeys(table.paths):
            header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=["SegmentSequence"])
            told = [
                (item.get("SegmentNumber"), item.get("SegmentLabel", "")) for item in header.get("SegmentSequence", ())
            ]
            names |= {int(number): str(label) for number, label in told if number}
        texts: list[Value | None] = [names.get(int(number), "") for number in axis.labels]
        numbers = np.arange(len(texts))
        for name, values in (("SegmentLabel", texts), ("ReferencedSegmentNumber", [int(n) for n in axis.labels])):
            # Where one segment alone has frames, all of these agree.
            attrs.pop(name, None)
            left, data = spread(numbers, values, numbers, ("segment",))
            coords[name] = xr.Variable(left, data)


def _warn_of_unknown_segments(table: FrameTable) -> None:
    """Warn where frames are of a segment of which the file does not say what it is."""
    told = zip(table.values("ReferencedSegmentNumber"), table.values("SegmentLabel"), table.paths, strict=True)
    unknown = {number: path for number, label, path in told if not label}
    if unknown:
        numbers = ", ".join(map(str, unknown))
        msg = (
            f"{next(iter(unknown.values()))} does not say what segment {numbers} is: SegmentSequence has no item "
            "of this number with a SegmentLabel. Its voxels are there, its label is empty"
        )
        warnings.warn(msg, stacklevel=6)


def _scalars(table: FrameTable, name: str, default: float) -> NDArray[np.float64]:
    """Return one number a frame; the default where the element is absent or empty."""
    codes, values = table.codes(name)
    for v in values:
        if v is not None and v != "" and not isinstance(v, int | float):
            msg = f"{name} is {v!r}; one number is wanted. Open with rescale=False for stored values"
            raise MissingHeaderError(msg)
    return np.asarray([float(v) if isinstance(v, int | float) else default for v in values])[codes]


def _has_lut(table: FrameTable) -> bool:
    """Whether tables give the values of frames, of all or none.

    Raises
    ------
    MissingHeaderError
        If only some frames have one.
    """
    number = tag("ModalityLUTSequence")
    if number not in table.varying:
        return number in table.common
    there = [raw is not None for raw in table.column(number)]
    if any(there) and not all(there):
        found = f"{sum(there)} of {len(there)} frames"
        msg = f"{found} have a ModalityLUTSequence; open with rescale=False for stored values"
        raise MissingHeaderError(msg)
    return all(there)


def _is_stored_as_told(table: FrameTable) -> bool:
    """Return whether stored values are in modality units as they are."""
    plain = {"RescaleSlope": (None, "", 1), "RescaleIntercept": (None, "", 0)}
    has_lut = any(raw is not None for raw in table.distinct_raws(tag("ModalityLUTSequence")))
    return not has_lut and all(value in known for name, known in plain.items() for value in table.distinct(name))


def _rescale(
    table: FrameTable, form: PixelFormat
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, np.dtype[Any]]:
    """Return slope and intercept of each frame (None where they change nothing), and the type that holds the values.

    Modality LUT, PS3.3 C.11.1: value = RescaleSlope × stored + RescaleIntercept.
    """
    if _has_lut(table):
        return None, None, np.dtype(np.int32)
    if RT_DOSE in table.distinct("SOPClassUID") and None in table.distinct("RescaleSlope"):
        msg = "a dose has no DoseGridScaling, which gives its values; open with rescale=False for stored values"
        raise MissingHeaderError(msg)
    if "FRACTIONAL" in table.distinct("SegmentationType") and None in table.distinct("MaximumFractionalValue"):
        msg = "fractions of segments have no MaximumFractionalValue; open with rescale=False for stored values"
        raise MissingHeaderError(msg)
    slope, intercept = _scalars(table, "RescaleSlope", 1.0), _scalars(table, "RescaleIntercept", 0.0)
    if (slope == 0).any() or not (np.isfinite(slope) & np.isfinite(intercept)).all():
        msg = f"RescaleSlope is {slope[slope == 0][:1] if (slope == 0).any() else slope}; open with rescale=False"
        raise MissingHeaderError(msg)
    if form.is_float:
        plain = bool((slope == 1).all() and (intercept == 0).all())
        return (None, None, form.dtype) if plain else (slope, intercept, form.dtype)
    low, high = form.range
    if (slope == slope.round()).all() and (intercept == intercept.round()).all():
        # The slope is multiplied in the same type: one of -1 is of no unsigned one.
        held = np.stack([slope * low + intercept, slope * high + intercept, slope])
        plain = bool((slope == 1).all() and (intercept == 0).all())
        # Signed, for a difference not to wrap.
        for name in ("int16", "int32", "int64"):
            info = np.iinfo(name)
            if info.min <= held.min() and held.max() <= info.max:
                dtype = np.dtype(name)
                return (None, None, dtype) if plain else (slope, intercept, dtype)
    # A float32 keeps 24 bits of values that are neither too large nor too small for it.
    largest = np.maximum(np.abs(slope * low + intercept), np.abs(slope * high + intercept))
    single = np.finfo(np.float32)
    is_kept = form.bits_stored <= 24 and bool((largest <= np.abs(slope) * 2.0**24).all())
    is_kept &= bool(largest.max() <= single.max and np.abs(slope).min() >= single.tiny)
    return slope, intercept, np.dtype(np.float32 if is_kept else np.float64)


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
        "tiled": bool((table.tiles[:, 2] > 0).any()),
        "source": source,
    }
    for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        values = [default if v in (None, "") else v for v in table.distinct(name)]
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
