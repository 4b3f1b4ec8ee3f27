"""When an image was acquired, as its header elements tell: from then on times count that users have given."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import xarray as xr

from imagedata_xr.elements import parse_date, parse_datetime, parse_time
from imagedata_xr.origins import origins
from imagedata_xr.times import split_zone

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["first_moment"]

_PAIRS: Final = ("Acquisition", "Content", "Series", "Study")
"""Elements that come in pairs of date and time, the nearest to the acquisition first."""


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
