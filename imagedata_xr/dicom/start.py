"""When an image was acquired, as its header elements tell: from then on times count that users have given."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from imagedata_xr.dates import parse_date, parse_datetime, parse_time, split_zone
from imagedata_xr.dicom.moments import MOMENTS
from imagedata_xr.errors import OrderError
from imagedata_xr.formats.labels import are_counted_from_first
from imagedata_xr.origins import origins
from imagedata_xr.times import are_numbers_of_volumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "CINE",
    "COUNTS",
    "FLOWING",
    "NUMBERS_OF_TIME",
    "are_counted",
    "first_moment",
    "has_no_clock",
    "parsed",
    "start_of",
    "vary",
]

NUMBERS_OF_TIME: Final = {"TemporalPositionTimeOffset": 1.0, "FrameReferenceTime": 1e-3, "TriggerTime": 1e-3}
"""Elements that tell time as a number, and the factor from their unit to seconds."""
FLOWING: Final = ("TemporalPositionTimeOffset", "FrameReferenceTime")
"""Those of them that count from one moment by their definition; a trigger may be that of each heart beat."""
CINE: Final = ("FrameTime", "FrameTimeVector")
"""Elements that tell the steps between the frames of a file of many."""
COUNTS: Final = ("TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber")
_PAIRS: Final = ("Acquisition", "Content", "Series", "Study")
"""Elements that come in pairs of date and time, the nearest to the acquisition first."""


def start_of(image: xr.DataArray) -> tuple[str, xr.Variable]:
    """Return from when on labels along ``time`` count, and how much later they do so [s] in which volumes.

    That is "" where nothing tells it, or slices have each their own, as of two stations: headers tell their times.

    Raises
    ------
    OrderError
        If labels along ``time`` count from several starts.
    """
    none = xr.Variable((), 0.0)
    if "AcquisitionDateTime" not in image.coords:
        return "", none
    told = image.coords["AcquisitionDateTime"].variable
    if not told.ndim:
        return str(told.values), none
    texts = [str(text) for text in told.values.ravel()]
    if not all("T" in text for text in texts) or "slice" in told.dims:
        return "", none
    moments = [datetime.fromisoformat(text) for text in texts]
    first = min(moments)
    if "time" in told.dims and max(moments) > first:
        raise OrderError(
            f"labels along 'time' count from {len(set(moments))} starts, AcquisitionDateTime is {first.isoformat()} to "
            f"{max(moments).isoformat()}, as where xarray put series one after another: imagedata_xr.concat counts all "
            "from one; or give the image one, with its labels, image.assign_coords(AcquisitionDateTime=..., time=...)"
        )
    after = np.reshape([(moment - first).total_seconds() for moment in moments], told.shape)
    return first.isoformat(), xr.Variable(told.dims, after) if "time" not in told.dims else none


def parsed(texts: xr.Variable | None, parse: Callable[[str], float | None]) -> xr.Variable | None:
    """Return the numbers that texts tell; None where one tells none."""
    if texts is None:
        return None
    known = {text: parse(text) for text in set(map(str, texts.values.ravel().tolist()))}
    if None in known.values():
        return None
    numbers = [known[text] for text in map(str, texts.values.ravel().tolist())]
    return xr.Variable(texts.dims, np.reshape(np.asarray(numbers, float), texts.shape))


def first_moment(image: xr.DataArray) -> datetime | None:
    """Return the earliest moment that an image's attributes and coordinates tell, in the clock of the scanner.

    None where they tell none, and for an image of several series, which was not acquired at one time.

    Parameters
    ----------
    image : DataArray
        Image.

    Examples
    --------
    >>> told = {"SeriesDate": "20260301", "SeriesTime": "115959", "AcquisitionDate": "20260301"}
    >>> times = {"AcquisitionTime": ("slice", ["120001.5", "120001"])}
    >>> first_moment(xr.DataArray([1, 2], dims="slice", coords=times, attrs=told))
    datetime.datetime(2026, 3, 1, 12, 0, 1)
    >>> first_moment(xr.DataArray([1, 2], dims="slice", attrs=told))
    datetime.datetime(2026, 3, 1, 11, 59, 59)
    """
    if len({origin.SeriesInstanceUID for origin in origins(image)}) > 1:
        return None
    whole = (parse_datetime(split_zone(text)[0]) for (text,) in _told(image, "AcquisitionDateTime"))
    moments = [moment for moment in whole if moment is not None]
    for name in _PAIRS:
        if moments:
            break
        for day, time in _told(image, f"{name}Date", f"{name}Time"):
            date, seconds = parse_date(day), parse_time(time)
            if date is not None and seconds is not None:
                moments.append(datetime(date.year, date.month, date.day) + timedelta(seconds=seconds))
    return min(moments, default=None)


def _told(image: xr.DataArray, *names: str) -> Iterable[tuple[str, ...]]:
    """Return the different values of some elements, each with those that the others have in the same frame."""
    columns = [image.coords[n] if n in image.coords else xr.DataArray(image.attrs.get(n, "")) for n in names]
    alike = xr.broadcast(*(xr.DataArray(column.variable) for column in columns))
    return set(zip(*([str(text) for text in column.values.ravel()] for column in alike), strict=True))


def vary(image: xr.DataArray, names: Iterable[str]) -> bool:
    """Return whether one of some coordinates varies along ``time``."""
    return any(name in image.coords and "time" in image.coords[name].dims for name in names)


def has_no_clock(image: xr.DataArray) -> bool:
    """Return whether the labels of an image along ``time`` were made of something that is no moment."""
    made_of = str(image.coords["time"].attrs.get("element", "")) if "time" in image.coords else ""
    moments = ("", *MOMENTS, "FrameAcquisitionDateTime", *CINE, "InstanceNumber")  # a cine begins when its file says
    return are_counted(image) or made_of.partition(" + ")[0].removesuffix("Date") not in moments


def are_counted(image: xr.DataArray) -> bool:
    """Return whether labels along ``time`` say nothing but the order of volumes, which files tell by nothing else.

    Arithmetic leaves attributes as they were, so that numbers that were multiplied by the time of a volume are times.
    Volumes that are left are still counted if InstanceNumber goes on by as much, frame by frame or volume by volume.
    """
    labels = image.coords.get("time")
    if labels is None or "units" in labels.attrs:
        return False
    if are_counted_from_first(labels):
        return bool((np.diff(labels.values) == 1).all())
    if labels.attrs.get("element") != "InstanceNumber":
        return False
    numbers = image.coords.get("InstanceNumber")
    if are_numbers_of_volumes(labels) or numbers is None or "time" not in numbers.dims or labels.size < 2:
        return True
    paces = np.diff(numbers.transpose(..., "time").values.astype(float)) / np.diff(labels.values)
    pace = float(paces.max())
    is_even = float(paces.min()) == pace and pace.is_integer()
    return is_even and (pace == 1 or pace >= image.sizes.get("slice", 1))
