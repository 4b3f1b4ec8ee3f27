"""Values of DA, TM and DT are days, times and moments, or nothing; no text of a file stops the reading of it."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import imagedata_xr as ixr
from imagedata_xr.dates import date_text, parse_date, parse_datetime, parse_time
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("000000", 0.0),
        ("235959.999999", 86399.999999),
        ("07", 25200.0),
        ("0730", 27000.0),
        ("10:11:12.5", 36672.5),
        ("101112.5 ", 36672.5),
        ("101112\0", 36672.0),
        ("235960", 86400.0),
        ("", None),
        ("2400", None),
        ("106000", None),
        ("1", None),
        ("abc", None),
        ("²²", None),
        ("10-11", None),
        ("101112.x", None),
        ("-10000", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert parse_time(text) == pytest.approx(seconds) if seconds is not None else parse_time(text) is None


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20240229", date(2024, 2, 29)),
        ("2024.02.29", date(2024, 2, 29)),
        ("20230229", None),
        ("", None),
        ("2024", None),
    ],
)
def test_dates(text: str, day: date | None) -> None:
    assert parse_date(text) == day


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20240229123456.5", datetime(2024, 2, 29, 12, 34, 56, 500000)),
        ("20240229003000+0100", datetime(2024, 2, 28, 23, 30)),
        ("20240229233000-0130", datetime(2024, 3, 1, 1, 0)),
        ("20240229", None),
        ("20240229123456+01", None),
        ("", None),
        ("garbage", None),
        ("00010101013000+0200", None),
    ],
)
def test_moments(text: str, moment: datetime | None) -> None:
    assert parse_datetime(text) == moment


@given(st.text(max_size=30))
def test_parsers_never_raise(text: str) -> None:
    parse_time(text)
    parse_date(text)
    parse_datetime(text)


@given(st.dates())
def test_every_day_comes_back(day: date) -> None:
    assert parse_date(date_text(day)) == day


@pytest.mark.parametrize("zone", [None, "+0200", "-0500"])
def test_days_of_the_year_1(tmp_path: Path, zone: str | None) -> None:
    """Some anonymisers put these in the place of dates."""
    write_series(tmp_path / "in", times=3, slices=2, start=0, date="00010101", tags={"TimezoneOffsetFromUTC": zone})
    image = ixr.open_series(tmp_path / "in", "time")
    later = image.assign_coords(time=image.time + 20.0)
    for name, written in {"same": image, "later": later, "computed": later * 2}.items():
        written.dicom.write(tmp_path / name)
        again = ixr.open_series(tmp_path / name, "time")
        np.testing.assert_array_equal(again, written)
        assert again.dicom.header(time=0, slice=0).AcquisitionDate == "00010101"
