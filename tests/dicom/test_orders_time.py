"""Ways to tell time: PET frames, temporal positions, clocks of several zones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import OrderError
from tests.generate import clock, write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset


def test_pet_frames(tmp_path: Path) -> None:
    """FrameReferenceTime is in ms, and the only element that tells frames of some PET scanners apart."""
    write_series(tmp_path, per_time={"FrameReferenceTime": [5000.0, 17500.0, 40000.0]}, slices=2)
    image = ixr.open_series(tmp_path)
    assert image.dims[0] == "time"
    assert image.time.values.tolist() == [0, 12.5, 35]
    assert image.time.attrs == {"units": "s", "element": "FrameReferenceTime"}


def test_temporal_positions_with_their_distance(tmp_path: Path) -> None:
    tags = {"TemporalResolution": 2500.0, "NumberOfTemporalPositions": 3}
    write_series(tmp_path, per_time={"TemporalPositionIdentifier": [1, 2, 3]}, tags=tags, slices=2)
    image = ixr.open_series(tmp_path)
    assert image.time.values.tolist() == [0, 2.5, 5]
    assert image.time.attrs["units"] == "s"


def test_temporal_positions_alone_are_numbers(tmp_path: Path) -> None:
    """RepetitionTime is no distance of volumes, and is not taken for one."""
    write_series(tmp_path, per_time={"TemporalPositionIdentifier": [1, 2, 3]}, tags={"RepetitionTime": 2000}, slices=2)
    image = ixr.open_series(tmp_path)
    assert image.time.values.tolist() == [0, 1, 2]
    assert "units" not in image.time.attrs


def test_clock_put_back_in_between(tmp_path: Path) -> None:
    """At the end of summer time the clock goes back an hour; TimezoneOffsetFromUTC says so."""

    def fill(ds: Dataset, t: int, _z: int) -> None:
        ds.TimezoneOffsetFromUTC = "+0200" if t < 2 else "+0100"
        ds.AcquisitionTime = clock(3 * 3600 - 10 + 5 * t - 3600 * (t >= 2))

    write_series(tmp_path, times=4, slices=2, mutate=fill)
    image = ixr.open_series(tmp_path, "time")
    assert image.time.values.tolist() == [0, 5, 10, 15]
    assert image.values[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_moments_in_several_zones(tmp_path: Path) -> None:
    stamps = ["20260102120000+0100", "20260102110005+0000", "20260102130010+0200"]
    write_series(tmp_path, per_time={"AcquisitionDateTime": stamps}, slices=2)
    assert ixr.open_series(tmp_path, "time").time.values.tolist() == [0, 5, 10]


def test_moments_some_of_which_name_their_zone(tmp_path: Path) -> None:
    stamps = ["20260102120000+0100", "20260102120005"]
    zone = {"TimezoneOffsetFromUTC": "+0100"}
    write_series(tmp_path / "told", per_time={"AcquisitionDateTime": stamps}, slices=2, tags=zone)
    assert ixr.open_series(tmp_path / "told", "time").time.values.tolist() == [0, 5]
    write_series(tmp_path / "untold", per_time={"AcquisitionDateTime": stamps}, slices=2)
    with pytest.raises(OrderError, match="no order sorts"):
        ixr.open_series(tmp_path / "untold")
