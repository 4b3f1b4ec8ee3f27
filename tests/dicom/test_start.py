"""From when on labels along time count, and which of them are times at all."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pydicom
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.errors import OrderError
from tests.generate import clock, write_series

WHEN = ("Acquisition", "Content", "Series", "Study")


def headers(files):
    return [pydicom.dcmread(file) for file in files]


def staggered(ds, time, z):
    """Give each slice its own time, 0.3 s after the one before."""
    ds.AcquisitionTime = ds.ContentTime = clock(36_000 + 2.5 * time + 0.3 * z)


def untold(ds, _time, _z):
    """Take all that tells when a frame was acquired."""
    for name in WHEN:
        setattr(ds, f"{name}Date", "")
        setattr(ds, f"{name}Time", "")


def moments(image):
    """Return when the volumes of an image were acquired, by its start and its labels."""
    start = np.datetime64(image.AcquisitionDateTime.item(), "ms")
    return start + np.round(image.time.values * 1000).astype("m8[ms]")


# ---- slices that were left out, or a start that was set


@pytest.mark.parametrize("zone", [None, "+0200"])
@pytest.mark.parametrize("factor", [None, 2])
def test_slices_keep_their_own_times_where_the_first_were_left_out(tmp_path, factor, zone):
    tags = {"TimezoneOffsetFromUTC": zone} if zone else {}
    write_series(tmp_path / "source", times=4, slices=5, mutate=staggered, tags=tags)
    image = ixr.open_series(tmp_path / "source", "time")
    for name, part in (("all", image), ("some", image.isel(time=[1, 3])), ("one", image.isel(time=slice(1, 3)))):
        cut = part.isel(slice=[3] if name == "one" else slice(3, None))
        cut = cut if factor is None else cut * factor
        again = ixr.open_series(cut.dicom.write(tmp_path / name), "time")
        assert again.AcquisitionTime.values.ravel().tolist() == cut.AcquisitionTime.values.ravel().tolist()


@pytest.mark.parametrize("zone", [None, "+0200"])
@pytest.mark.parametrize("factor", [None, 2])
@pytest.mark.parametrize("mutate", [None, staggered])
def test_a_start_that_was_set_a_little_earlier_is_written(tmp_path, mutate, factor, zone):
    tags = {"TimezoneOffsetFromUTC": zone} if zone else {}
    write_series(tmp_path / "source", times=4, slices=3, mutate=mutate, tags=tags)
    image = ixr.open_series(tmp_path / "source", "time")
    start = np.datetime64(image.AcquisitionDateTime.item()) - np.timedelta64(1, "s")
    kept = image.AcquisitionDateTime.copy(data=np.asarray(str(start)))
    settings = {"kept": kept} if zone else {"kept": kept, "plain": str(start)}
    for name, setting in settings.items():
        new = image.assign_coords(AcquisitionDateTime=setting)
        again = ixr.open_series((new if factor is None else new * factor).dicom.write(tmp_path / name), "time")
        assert moments(again).tolist() == moments(new).tolist()
        assert moments(again)[0] == moments(image)[0] - np.timedelta64(1, "s")


@pytest.mark.parametrize("change", [lambda time: time - 1, lambda time: time.values - 1], ids=["attrs", "values"])
def test_labels_of_a_part_that_were_set_a_little_earlier_are_written(tmp_path, change):
    write_series(tmp_path / "source", times=4, slices=3)
    image = ixr.open_series(tmp_path / "source", "time").isel(time=slice(1, None))
    new = image.assign_coords(time=change(image.time))
    again = ixr.open_series(new.dicom.write(tmp_path / "new"), "time")
    assert moments(again).tolist() == moments(new).tolist()


# ---- a date that the scanner left behind at midnight


def after_midnight(ds, time, z):
    ds.AcquisitionTime = clock([86_100, 86_340, 86_580, 86_820][time] + 30 * z)
    ds.ContentTime = "000900"


@pytest.mark.parametrize("part", [slice(None), slice(2, None)], ids=["all", "late"])
def test_a_mean_has_no_date_that_was_left_behind(tmp_path, part):
    write_series(tmp_path / "source", times=4, slices=2, mutate=after_midnight)
    image = ixr.open_series(tmp_path / "source", "time")
    assert set(image.AcquisitionDate.values.tolist()) == {"20260102"}, "as the files say"
    for ds in headers(image.isel(time=part).mean("time").dicom.write(tmp_path / "mean")):
        assert "AcquisitionDate" not in ds
        assert (ds.ContentDate, ds.StudyDate) == ("20260102", "20260102"), "which do not run past it"
    between = image.isel(time=part).interp(time=image.time.values[part][:-1] + 60)
    again = ixr.open_series(between.dicom.write(tmp_path / "between"), "time")
    assert moments(again).tolist() == moments(between).tolist()
    image.isel(time=part).dicom.write(tmp_path / "kept", keep_uid=True)
    later = image.isel(time=part).assign_attrs(AcquisitionDate="20200101").drop_vars("AcquisitionDate")
    assert ixr.open_series(later.dicom.write(tmp_path / "set"), "time").AcquisitionDateTime.item()[:10] == "2020-01-01"


# ---- one rule for what no clock tells


@pytest.mark.parametrize("factor", [None, 2])
def test_a_cine_counts_from_its_header_whether_labels_are_set_or_not(shared_data, tmp_path, factor):
    image = ixr.open_series(shared_data / "us_cine_ybr" / "dicom").isel(time=slice(3))
    step = float(image.time[1])
    with_attrs = image.assign_coords(time=image.time * (factor or 1))
    without = image.assign_coords(time=image.time.values * (factor or 1))
    for name, new in (("attrs", with_attrs), ("values", without)):
        files = new.dicom.write(tmp_path / name)
        for number, ds in enumerate(headers(files)):
            assert ds.AcquisitionDate + ds.AcquisitionTime == "20160503" + clock(
                43_200 + 15 * 60 + 35 + number * step * (factor or 1)
            )
            assert (ds.ContentDate, ds.ContentTime) == ("20160503", "121535")
            assert ("FrameTime" in ds) == (factor is None), "it says the step, or nothing"
        again = ixr.open_series(files)
        assert again.dims == image.dims
        np.testing.assert_allclose(again.time, new.time, atol=1e-6)


@pytest.mark.filterwarnings("ignore:no element tells time")
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dates", [True, False])
def test_numbers_of_volumes_are_no_times_until_they_are_multiplied(tmp_path, dates, interleaved):
    def tell(ds, time, z):
        if dates:
            ds.AcquisitionTime = ds.ContentTime = "100000"
        else:
            untold(ds, time, z)
        ds.InstanceNumber = z * 6 + time + 1 if interleaved else time * 3 + z + 1

    write_series(tmp_path / "source", times=6, slices=3, mutate=tell)
    image = ixr.open_series(tmp_path / "source", "time")
    assert image.time.attrs == {"element": "InstanceNumber"}
    for name, part in (("all", image), ("some", image.isel(time=[0, 2, 4])), ("cut", image.isel(slice=[1, 2]))):
        files = part.dicom.write(tmp_path / name)
        assert {ds.AcquisitionTime for ds in headers(files)} == {"100000" if dates else ""}
        described = (part * 2).drop_vars("source").dicom.write(tmp_path / f"{name}_described")
        assert len({ds.get("ContentTime") for ds in headers(described)}) == 1, "no time was told"
        again = ixr.open_series(described, "time")
        np.testing.assert_array_equal(again.values, (part * 2).values)
        for change in (lambda time: time * 2, lambda time: time.values * 2.5):
            new = part.assign_coords(time=change(part.time))
            again = ixr.open_series(new.dicom.write(tmp_path / "timed"), "time")
            shutil.rmtree(tmp_path / "timed")
            assert (again.time.values.tolist(), again.time.attrs["units"]) == (new.time.values.tolist(), "s")


# ---- elements that tell the same once more


def philips(ds, time, _z):
    ds.TriggerTime, ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = 2500.4 * time, time + 3, 40


@pytest.mark.parametrize(
    "change",
    [lambda a: a, lambda a: a * 2, lambda a: (a * 2).drop_vars("source")],
    ids=["unchanged", "computed", "described"],
)
@pytest.mark.parametrize(
    ("times", "positions"),
    [([0.0, 1, 2, 3], [3, 4, 5, 6]), ([9.0, 6, 3, 0], [4, 3, 2, 1]), ([0.0, 7, 3, 9], [1, 3, 2, 4])],
)
def test_trigger_times_and_positions_follow_new_times(tmp_path, times, positions, change):
    write_series(tmp_path / "source", times=4, slices=2, mutate=philips)
    image = change(ixr.open_series(tmp_path / "source", "time").assign_coords(time=times))
    told = headers(image.dicom.write(tmp_path / "new"))[::2]
    assert [float(ds.TriggerTime) for ds in told] == [1000 * time for time in times]
    assert [ds.TemporalPositionIdentifier for ds in told] == positions


def test_volumes_that_are_there_twice_are_counted_anew(tmp_path):
    write_series(tmp_path / "source", times=3, slices=2, mutate=philips)
    image = ixr.open_series(tmp_path / "source", "time").isel(time=[0, 0, 1]).assign_coords(time=[0.0, 1.0, 2.0])
    told = headers(image.dicom.write(tmp_path / "new"))[::2]
    assert [(ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions) for ds in told] == [(1, 3), (2, 3), (3, 3)]
    assert [float(ds.TriggerTime) for ds in told] == [0, 1000, 2000]


def test_trigger_times_of_heart_beats_stay(tmp_path):
    """They tell no time since the first volume, whenever that was."""

    def beat(ds, time, _z):
        ds.TriggerTime = [110.0, 60.0, 170.0, 90.0][time]

    write_series(tmp_path / "source", times=4, slices=2, mutate=beat)
    image = ixr.open_series(tmp_path / "source", "time")
    told = headers(image.assign_coords(time=image.time.values * 3).dicom.write(tmp_path / "new"))[::2]
    assert [float(ds.TriggerTime) for ds in told] == [110, 60, 170, 90]


def test_frame_reference_times_move_with_their_frames(tmp_path):
    """They lie within frames, which need not be as long."""

    def middle(ds, time, _z):
        ds.FrameReferenceTime = [5000.0, 15_000, 35_000][time]

    write_series(tmp_path / "source", times=[0.0, 10.0, 20.0], slices=2, mutate=middle)
    image = ixr.open_series(tmp_path / "source", "time")
    assert image.time.attrs["element"] == "AcquisitionDate + AcquisitionTime"
    told = headers(image.assign_coords(time=[0.0, 15.0, 30.0]).dicom.write(tmp_path / "new"))[::2]
    assert [float(ds.FrameReferenceTime) for ds in told] == [5000, 20_000, 45_000]


@pytest.mark.parametrize("times", [[0.0, 5.0, 3.0], [9.0, 4.0, 0.0]])
def test_copies_are_counted_in_the_order_of_their_times(tmp_path, times):
    write_series(tmp_path / "source", times=1, slices=2, mutate=philips)
    volume = ixr.open_series(tmp_path / "source", "time").isel(time=0, drop=True)
    image = xr.concat([volume] * 3, xr.Variable("time", times))
    told = headers(image.dicom.write(tmp_path / "new"))[::2]
    assert [ds.TemporalPositionIdentifier for ds in told] == [1 + sorted(times).index(time) for time in times]


# ---- series put together


@pytest.fixture
def echoes(tmp_path):
    """Return two dynamic series of one study, the second a quarter of an hour after the first."""
    images = []
    for number, (te, start) in enumerate(((5.0, 36_000.0), (9.0, 36_900.0)), 1):
        name = f"echo{number}"
        write_series(tmp_path / name, times=3, series=name, number=number, start=start, tags={"EchoTime": te})
        images.append(ixr.open_series(tmp_path / name, "time"))
    return images


@pytest.mark.parametrize("put", [ixr.concat, xr.concat], ids=["ours", "xarray"])
def test_series_along_another_dim_keep_their_own_times(tmp_path, echoes, put):
    """The starts of both were one text, in which no moment is."""
    both = put(echoes, pd.Index([5.0, 9.0], name="te"))
    for number, image in enumerate((both, both * 2, both.assign_coords(time=[0.0, 10.0, 20.0]))):
        files = image.dicom.write(tmp_path / f"out{number}")
        step = 10 if number == 2 else 2.5
        wanted = [clock(start + step * k) for start in (36_000, 36_900) for k in range(3)]
        assert [ds.AcquisitionTime for ds in headers(files)][::4] == wanted
        assert [ds.EchoTime for ds in headers(files)][::12] == [5, 9]
        again = ixr.open_series(tmp_path / f"out{number}", "time")
        np.testing.assert_array_equal(again.values, image.values.reshape(again.shape))


def test_labels_that_count_from_several_starts_are_refused(tmp_path, echoes):
    a, b = echoes
    both = xr.concat([a, b.assign_coords(time=b.time + 900)], "time", coords="different", compat="equals")
    both = both.assign_coords(EchoTime=("time", [5.0] * 3 + [9.0] * 3))
    with pytest.raises(
        OrderError, match=r"2 starts, .* 2026-01-02T10:00:00 to 2026-01-02T10:15:00.*imagedata_xr\.conc"
    ):
        both.dicom.write(tmp_path / "no")
    one = both.assign_coords(AcquisitionDateTime=a.AcquisitionDateTime)
    one.dicom.write(tmp_path / "one")
    assert np.diff(ixr.open_series(tmp_path / "one", "time").time)[2] == 895


def test_stations_keep_their_own_times(tmp_path):
    images = []
    for number in (1, 2):
        name, z = f"station{number}", 30.0 + 12 * number
        write_series(tmp_path / name, series=name, number=number, start=36_000 + 60 * number, origin=(0, 0, z))
        images.append(ixr.open_series(tmp_path / name))
    files = (ixr.concat(images, "slice") * 2).dicom.write(tmp_path / "out")
    assert [ds.AcquisitionTime for ds in headers(files)] == [clock(36_060)] * 4 + [clock(36_120)] * 4


def counted(ds, time, _z):
    """Number the volumes, each with its trigger time."""
    ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions, ds.TriggerTime = time + 1, 3, 2500.0 * time


def test_runs_put_together_are_counted_on(tmp_path):
    """Each counted its own volumes, so that two of one series had one number."""
    images = []
    for number in (1, 2):
        name = f"run{number}"
        write_series(tmp_path / name, times=3, series=name, start=36_000 + 60 * number, mutate=counted)
        images.append(ixr.open_series(tmp_path / name, "time"))
    for number, both in enumerate((ixr.concat(images, "time"), ixr.concat(images[::-1], "time") * 2)):
        found = [
            (ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions)
            for ds in headers(both.dicom.write(tmp_path / f"{number}"))
        ]
        order = [1, 2, 3, 4, 5, 6] if number == 0 else [4, 5, 6, 1, 2, 3]
        assert found[::4] == [(position, 6) for position in order]


def test_volumes_between_others_that_have_triggers_keep_their_moments(tmp_path):
    """Nothing but how long after the trigger they were was told of them."""
    write_series(tmp_path / "a", times=3, mutate=counted)
    image = ixr.open_series(tmp_path / "a", "time").interp(time=[1.0, 4.0])
    found = headers(image.dicom.write(tmp_path / "out"))
    assert [(ds.AcquisitionTime, ds.TriggerTime) for ds in found[::4]] == [(clock(36_001), 1000), (clock(36_004), 4000)]
    np.testing.assert_array_equal(moments(ixr.open_series(tmp_path / "out", "time")), moments(image))
