"""Values of DA, TM and DT (PS3.5 6.2) to days, times of day and moments, and back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

__all__ = ["date_text", "parse_date", "parse_datetime", "parse_time", "parse_zone", "split_zone", "time_text"]

_PADDING: Final = " \0"


@lru_cache(4096)
def parse_time(text: str) -> float | None:
    """Return the seconds since midnight of a TM value, None if it is none.

    Examples
    --------
    >>> parse_time("143531.6625"), parse_time("14:35:31"), parse_time("")
    (52531.6625, 52531.0, None)
    """
    text = text.strip(_PADDING).replace(":", "")
    whole, _, fraction = text.partition(".")
    if not whole.isdecimal() or len(whole) not in (2, 4, 6) or (fraction and not fraction.isdecimal()):
        return None
    hours, minutes, seconds = int(whole[:2]), int(whole[2:4] or 0), int(whole[4:6] or 0)
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return 3600.0 * hours + 60.0 * minutes + float(f"{seconds}.{fraction or 0}")


@lru_cache(4096)
def parse_date(text: str) -> date | None:
    """Return the date of a DA value, None if it is none.

    Examples
    --------
    >>> parse_date("20200131"), parse_date("2020.01.31"), parse_date("")
    (datetime.date(2020, 1, 31), datetime.date(2020, 1, 31), None)
    """
    digits = text.strip(_PADDING).replace(".", "").replace("-", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None


@lru_cache(4096)
def parse_datetime(text: str) -> datetime | None:
    """Return the moment of a DT value (in UTC if it names its offset, without time zone if not), None if it is none.

    Examples
    --------
    >>> parse_datetime("20200131123456.5")
    datetime.datetime(2020, 1, 31, 12, 34, 56, 500000)
    >>> parse_datetime("20200131123456+0200")
    datetime.datetime(2020, 1, 31, 10, 34, 56)
    """
    bare, zone = split_zone(text)
    offset = parse_zone(zone) if zone else timedelta(0)
    day, seconds = parse_date(bare[:8]), parse_time(bare[8:])
    if offset is None or day is None or seconds is None:
        return None
    try:
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=seconds) - offset
    except OverflowError:  # before the year 1
        return None
    return moment.replace(tzinfo=None)


def date_text(day: date) -> str:
    """Return a day as a DA value.

    Anonymised files have days of the year 1, of which strftime leaves out the zeros.

    Examples
    --------
    >>> date_text(date(1, 1, 31))
    '00010131'
    """
    return f"{day.year:04d}{day:%m%d}"


def time_text(moment: datetime) -> str:
    """Return a time of day as a TM value.

    Examples
    --------
    >>> time_text(datetime(2020, 1, 31, 12, 34, 56, 500000))
    '123456.500000'
    """
    return f"{moment:%H%M%S.%f}"


def parse_zone(text: str) -> timedelta | None:
    """Return what a clock is ahead of UTC in a time zone of DICOM, None if it is none.

    Examples
    --------
    >>> parse_zone("-0330") == timedelta(hours=-3, minutes=-30), parse_zone("")
    (True, None)
    """
    text = text.strip(_PADDING)
    if len(text) != 5 or text[0] not in "+-" or not text[1:].isdecimal():
        return None
    return timedelta(hours=int(text[:3]), minutes=int(text[0] + text[3:]))


def split_zone(text: str) -> tuple[str, str]:
    """Return a DT value without its time zone, and that.

    Examples
    --------
    >>> split_zone("20200101120000-0330")
    ('20200101120000', '-0330')
    """
    text = text.strip(_PADDING)
    bare = text.partition("+")[0].partition("-")[0]
    return bare, text[len(bare) :]
