"""Labels along tag dims go to the elements that tell them, and no two elements of one file contradict each other."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

import imagedata_xr as ixr
from imagedata_xr.elements import parse_datetime
from imagedata_xr.times import parse_zone
from tests.dicom.multi import write_enhanced
from tests.generate import write_series


def headers(files):
    return [pydicom.dcmread(file) for file in files]


# ---- time zones


def zoned(ds, time, _slice):
    """Put a moment just after midnight of a clock that is ahead of UTC in a header."""
    ds.AcquisitionDate, ds.AcquisitionTime = "20260102", f"0000{10 * time:02d}"
    ds.AcquisitionDateTime, ds.TimezoneOffsetFromUTC = f"20260102{ds.AcquisitionTime}+0200", "+0200"


def moment(ds):
    """Return the moment [UTC] of the acquisition, that all elements of a file have to tell."""
    zone = parse_zone(ds.TimezoneOffsetFromUTC)
    found = {parse_datetime(ds.AcquisitionDate + ds.AcquisitionTime) - zone}
    if "AcquisitionDateTime" in ds:
        found.add(parse_datetime(ds.AcquisitionDateTime))
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        pytest.param(lambda a: a, [0, 10, 20], id="unchanged"),
        pytest.param(lambda a: a * 2, [0, 10, 20], id="computed"),
        pytest.param(lambda a: (a + a).drop_vars("source"), [0, 10, 20], id="described"),
        pytest.param(lambda a: a.interp(time=[5.0, 12.0]), [5, 12], id="between"),
        pytest.param(lambda a: a.assign_coords(time=[0.0, 7.0, 9.0]), [0, 7, 9], id="set"),
        pytest.param(lambda a: a.assign_coords(time=[0.0, 7.0, 9.0]) * 2, [0, 7, 9], id="set and computed"),
        pytest.param(
            lambda a: a.assign_coords(time=np.array([0, 7, 9], "m8[s]") + np.datetime64("2026-01-01T22:00:00")),
            [0, 7, 9],
            id="moments",
        ),
    ],
)
def test_dates_and_times_are_in_the_time_zone_of_the_file(tmp_path, change, seconds):
    write_series(tmp_path / "source", times=3, slices=2, mutate=zoned)
    image = ixr.open_series(tmp_path / "source", "time")
    files = change(image).dicom.write(tmp_path / "new")
    start = parse_datetime("20260101220000")
    assert [(moment(ds) - start).total_seconds() for ds in headers(files)[::2]] == seconds
    again = ixr.open_series(files, "time")
    assert again.time.values.tolist() == [second - seconds[0] for second in seconds]


@pytest.mark.parametrize("times", [None, [0.0, 100.0]])
def test_dates_and_times_of_frames_of_an_enhanced_file(tmp_path, times):
    def group(item, time, _slice):
        item.FrameContentSequence[0].FrameAcquisitionDateTime = f"202601020{time}0000+0200"

    def zone(ds):
        ds.TimezoneOffsetFromUTC = "+0100"

    write_enhanced(tmp_path / "source" / "a.dcm", times=2, slices=2, group=group, mutate=zone)
    image = ixr.open_series(tmp_path / "source", "time")
    files = (image if times is None else image.assign_coords(time=times)).dicom.write(tmp_path / "new")
    found = [moment(ds) for ds in headers(files)[::2]]
    assert found[0] == parse_datetime("20260101220000")
    assert (found[1] - found[0]).total_seconds() == (3600 if times is None else 100)
    assert headers(files)[0].AcquisitionDate + headers(files)[0].AcquisitionTime[:6] == "20260101230000"


def test_new_times_where_the_clock_was_put_back(tmp_path):
    def put_back(ds, time, _slice):
        ds.TimezoneOffsetFromUTC = "+0200" if time < 2 else "+0100"
        ds.AcquisitionTime = ["025500", "025900", "020300"][time]

    write_series(tmp_path / "source", times=3, slices=2, mutate=put_back)
    image = ixr.open_series(tmp_path / "source", "time")
    assert image.time.values.tolist() == [0, 240, 480]
    for name, new in (("same", image), ("set", (image * 2).assign_coords(time=[0.0, 100.0, 200.0]))):
        files = new.dicom.write(tmp_path / name)
        assert ixr.open_series(files, "time").time.values.tolist() == new.time.values.tolist()
    assert [ds.AcquisitionTime[:6] for ds in headers(files)[::2]] == ["025500", "025640", "015820"]
