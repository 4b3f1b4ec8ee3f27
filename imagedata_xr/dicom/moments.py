"""The moments that a header tells a frame was acquired at, and new ones into it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from imagedata_xr.dates import date_text, parse_date, parse_datetime, parse_time, parse_zone, split_zone, time_text
from imagedata_xr.elements import to_element

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom import Dataset

    Header = Dataset | Mapping[str, Any]

__all__ = ["CLOCK", "MOMENTS", "UNCHANGED", "NewTimes", "moment_of", "moments_of", "move", "zone_of"]

CLOCK: Final = 2e-3
"""What two elements of one moment may differ by [s], since they are rounded."""
MOMENTS: Final = ("AcquisitionDateTime", "FrameReferenceDateTime", "Acquisition", "Content")
"""Elements that tell when a frame was acquired; the last two are pairs of date and time."""


class NewTimes(NamedTuple):
    """What labels along ``time`` and ``triggertime`` tell that the headers of a volume do not."""

    trigger: float | None
    """TriggerTime [ms]; None where it stays."""
    moment: datetime | None
    """When the volume was acquired; None where it stays."""
    numbers: tuple[tuple[str, float], ...]
    """Other elements that tell the time of the volume, and their values; empty where none has to."""
    position: int | None = None
    """TemporalPositionIdentifier; None where it stays."""


UNCHANGED: Final = NewTimes(None, None, ())


def zone_of(ds: Header, zone: timedelta | None) -> timedelta:
    """Return what has to be taken from dates and times of a header for them to be in the clock of the labels."""
    if zone is None:
        return timedelta(0)
    own = parse_zone(str(ds.get("TimezoneOffsetFromUTC") or ""))
    return zone if own is None else own


def moment_of(text: str, zone: timedelta | None) -> datetime | None:
    """Return the moment of a DT value: in UTC where a zone is given, that of a value without one of its own."""
    bare, own = split_zone(text)
    if zone is not None and own:
        return parse_datetime(text)
    moment = parse_datetime(bare)
    try:
        return moment if zone is None or moment is None else moment - zone
    except OverflowError:  # before the year 1
        return None


def moments_of(ds: Header, zone: timedelta | None) -> dict[str, datetime]:
    """Return when a frame was acquired, by each element (or pair of date and time) that tells it.

    In UTC where the labels count from a moment in UTC, with a time zone; else in the clock of the scanner.
    """
    found = {}
    ahead = None if zone is None else zone_of(ds, zone)
    for name in MOMENTS[:2]:
        moment = moment_of(str(ds.get(name) or ""), ahead)
        if moment is not None:
            found[name] = moment
    for name in MOMENTS[2:]:
        day, seconds = parse_date(str(ds.get(f"{name}Date") or "")), parse_time(str(ds.get(f"{name}Time") or ""))
        if day is not None and seconds is not None:
            moment = datetime(day.year, day.month, day.day) + timedelta(seconds=seconds)
            with suppress(OverflowError):  # before the year 1
                found[name] = moment - (ahead or timedelta(0))
    return found


def move(ds: Dataset, zone: timedelta | None, wanted: datetime, *, is_content: bool) -> None:
    """Put a moment in every element that tells when a frame was acquired, in the time zone that it has there.

    `is_content` says whether only ContentTime has told it.
    """
    moments = moments_of(ds, zone)
    # When pixel data were made (PS3.3 C.7.6.1) is another moment, which no label tells: many scanners reconstruct
    # later, several volumes at once. Only where it is the time of acquisition once more it would contradict that.
    told = [moments[name] for name in ("Content", "Acquisition") if name in moments]
    is_copy = len(told) == 2 and abs((told[0] - told[1]).total_seconds()) <= CLOCK
    if "Content" in moments and (is_content or is_copy):
        local = wanted + zone_of(ds, zone)
        ds.ContentDate, ds.ContentTime = date_text(local), time_text(local)
    for name in moments:
        if name.endswith("DateTime"):
            bare, own = split_zone(str(ds.get(name) or ""))
            there = parse_datetime(bare) or moments[name]
            local = wanted + (there - moments[name])
            ds.add(to_element(name, f"{date_text(local)}{time_text(local)}{own}"))
    if "Acquisition" in moments or "AcquisitionDateTime" not in moments:
        local = wanted + zone_of(ds, zone)
        ds.AcquisitionDate, ds.AcquisitionTime = date_text(local), time_text(local)
