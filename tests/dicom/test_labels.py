"""Labels along tag dims go to the elements that tell them, and no two elements of one file contradict each other."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import imagedata_xr as ixr
from imagedata_xr.dates import parse_datetime, parse_zone
from imagedata_xr.errors import OrderError
from tests.dicom.multi import macro, write_enhanced
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


def own_content(ds, time, _slice):
    """Let two volumes at once be reconstructed a minute after the acquisition."""
    ds.ContentTime = f"1001{30 * (time // 2):02d}"


def content_alone(ds, time, _slice):
    """Let the acquisition of all volumes begin at one time."""
    ds.AcquisitionTime, ds.ContentTime = "100000", f"1000{10 * time:02d}"


@pytest.mark.parametrize(
    ("mutate", "wanted"),
    [
        pytest.param(None, ["100000", "100007", "100009"], id="copy"),
        pytest.param(content_alone, ["100000", "100007", "100009"], id="the only one"),
        pytest.param(own_content, ["100100", "100100", "100130"], id="of its own"),
    ],
)
def test_the_time_of_content_follows_new_times_where_it_told_them(tmp_path, mutate, wanted):
    write_series(tmp_path / "source", times=3, slices=2, mutate=mutate)
    image = ixr.open_series(tmp_path / "source", "time")
    for name, factor in (("original", None), ("computed", 2)):
        new = image.assign_coords(time=[0.0, 7.0, 9.0])
        files = (new if factor is None else new * factor).dicom.write(tmp_path / name)
        found = headers(files)[::2]
        assert [ds.ContentTime[:6] for ds in found] == wanted
        assert [ds.AcquisitionTime[:6] for ds in found] == ["100000", "100007", "100009"]
    same = (image * 2).dicom.write(tmp_path / "same")
    assert [ds.ContentTime for ds in headers(same)] == [
        ds.ContentTime for ds in headers(image.source.values.ravel().tolist())
    ]


@pytest.mark.parametrize(
    "change",
    [lambda a: a, lambda a: a * 2, lambda a: (a * 2).drop_vars("source")],
    ids=["unchanged", "computed", "described"],
)
@pytest.mark.parametrize("part", [slice(None), slice(2, None), slice(3, 4)], ids=["all", "some", "one"])
def test_part_of_a_series_starts_at_the_moment_it_did_in_the_whole(tmp_path, part, change):
    """The clock is put back after the second volume, and all that is left may have one time zone."""

    def put_back(ds, time, _slice):
        ds.TimezoneOffsetFromUTC = "+0200" if time < 2 else "+0100"
        ds.AcquisitionTime = ["025500", "025900", "020300", "020700"][time]

    write_series(tmp_path / "source", times=4, slices=2, mutate=put_back)
    image = ixr.open_series(tmp_path / "source", "time")
    assert image.AcquisitionDateTime.item() == "2026-01-02T00:55:00"
    again = ixr.open_series(change(image.isel(time=part)).dicom.write(tmp_path / "new"), "time")
    seconds = image.time.values[part]
    start = np.datetime64("2026-01-02T00:55:00") + seconds[:1].astype("m8[s]")
    assert np.datetime64(again.AcquisitionDateTime.item()) == start
    assert again.AcquisitionDateTime.attrs["timezone"] == ("+0200" if part.start is None else "+0100")
    assert again.time.values.tolist() == (seconds - seconds[0]).tolist()


@pytest.mark.parametrize(
    ("tags", "start", "zone"),
    [
        ({"TimezoneOffsetFromUTC": "+0200"}, "2026-01-02T08:00:00", "+0200"),
        ({"TimezoneOffsetFromUTC": "+0000"}, "2026-01-02T10:00:00", "+0000"),
        ({"TimezoneOffsetFromUTC": "summer"}, "2026-01-02T10:00:00", None),
        ({}, "2026-01-02T10:00:00", None),
    ],
    ids=str,
)
def test_a_start_is_in_utc_wherever_the_zone_is_told(tmp_path, tags, start, zone):
    write_series(tmp_path / "clock", times=3, slices=2, tags=tags)
    moments = ["20260102100000", "20260102100002.5", "20260102100005"]
    write_series(tmp_path / "moments", per_time={"AcquisitionDateTime": moments}, slices=2, tags=tags)
    for name in ("clock", "moments"):
        image = ixr.open_series(tmp_path / name, "time")
        assert (image.AcquisitionDateTime.item(), image.AcquisitionDateTime.attrs.get("timezone")) == (start, zone)
        assert image.time.values.tolist() == [0, 2.5, 5]
        for number, new in enumerate((image * 2, (image * 2).drop_vars("source"))):
            again = ixr.open_series(new.dicom.write(tmp_path / f"{name}{number}"), "time")
            assert again.AcquisitionDateTime.variable.identical(image.AcquisitionDateTime.variable)


@pytest.mark.parametrize(
    "change",
    [lambda a: a, lambda a: a * 2, lambda a: (a * 2).drop_vars("source")],
    ids=["unchanged", "computed", "described"],
)
@pytest.mark.parametrize("part", [slice(None), slice(2, None), slice(3, 4)], ids=["all", "some", "one"])
@pytest.mark.parametrize("zone", [None, "+0200"])
def test_part_after_midnight_is_not_a_day_early_where_the_date_stayed(tmp_path, zone, part, change):
    def stay(ds, time, z):
        ds.AcquisitionTime = f"{['2355', '2359', '0003', '0007'][time]}{30 * z:02d}"
        if zone:
            ds.TimezoneOffsetFromUTC = zone
        ds.ContentTime = ds.AcquisitionTime

    write_series(tmp_path / "source", times=4, slices=2, mutate=stay)
    image = ixr.open_series(tmp_path / "source", "time")
    part = image.isel(time=part)
    again = ixr.open_series(change(part).dicom.write(tmp_path / "new"), "time")
    wanted = np.datetime64(image.AcquisitionDateTime.item()) + part.time.values.astype("m8[s]")
    found = np.datetime64(again.AcquisitionDateTime.item()) + again.time.values.astype("m8[s]")
    assert found.tolist() == wanted.tolist()
    for ds in headers(sorted((tmp_path / "new").iterdir())):
        assert ds.AcquisitionDate == ds.ContentDate == ("20260102" if part.sizes["time"] == 4 else "20260103")
    np.testing.assert_array_equal(again.AcquisitionTime, part.AcquisitionTime.squeeze(), "slices keep their own")


def test_originals_after_midnight_keep_what_they_say(tmp_path):
    def stay(ds, time, _slice):
        ds.AcquisitionTime = ["235500", "235900", "000300", "000700"][time]

    write_series(tmp_path / "source", times=4, slices=2, mutate=stay)
    late = ixr.open_series(tmp_path / "source", "time").isel(time=[2, 3])
    assert {ds.AcquisitionDate for ds in headers(late.dicom.write(tmp_path / "kept", keep_uid=True))} == {"20260102"}
    far = late.isel(time=[1]).assign_coords(time=[86400.0 - 60])
    assert {ds.AcquisitionDate for ds in headers(far.dicom.write(tmp_path / "far"))} == {"20260102"}


@pytest.mark.parametrize("factor", [None, 2])
def test_labels_are_told_in_headers_of_another_series_and_on_another_date(tmp_path, factor):
    for name, hour in (("first", "10"), ("second", "11")):
        moments = {"AcquisitionTime": [f"{hour}00{2 * n:02d}" for n in range(3)]}
        write_series(tmp_path / name, per_time=moments, slices=2, tags={"SeriesDescription": name})
    first, second = (ixr.open_series(tmp_path / name, "time") for name in ("first", "second"))
    image = first if factor is None else first * factor
    new = image.assign_coords(time=[0.0, 10.0, 25.0])
    for name, one, template in (
        ("dated", new.assign_attrs(AcquisitionDate="20200101"), None),
        ("volume of itself", new, first.isel(time=1)),
        ("volume of another", new, second.isel(time=1)),
    ):
        again = ixr.open_series(one.dicom.write(tmp_path / "out" / name, template=template), "time")
        assert again.time.values.tolist() == [0, 10, 25], name
        if template is None:
            assert again.attrs["AcquisitionDate"] == "20200101"
    kept = ixr.open_series(image.dicom.write(tmp_path / "kept", template=second), "time")
    assert kept.time.values.tolist() == [0, 2, 4]


def test_new_times_of_part_of_an_enhanced_file_with_headers_of_itself(shared_data, tmp_path):
    image = ixr.open_series(shared_data / "si_xa_enh_time" / "dicom").isel(slice=slice(0, 4))
    image = image.assign_coords(time=np.arange(5) * 11.0)
    files = image.dicom.write(tmp_path / "out", template=image)
    assert ixr.open_series(files, "time").time.values.tolist() == [0, 11, 22, 33, 44]
    assert "FrameAcquisitionDateTime" not in pydicom.dcmread(files[0])


def of_day(seconds):
    """Return a time of day, and whether it is the next day's."""
    day, rest = divmod(seconds, 86400)
    return f"{int(rest // 3600):02d}{int(rest // 60 % 60):02d}{rest % 60:09.6f}", int(day)


CHANGES = {
    "none": lambda a, step: a,
    "earlier": lambda a, step: a.assign_coords(time=a.time.values - step),
    "later": lambda a, step: a.assign_coords(time=a.time.values + 500),
    "scaled": lambda a, step: a.assign_coords(time=a.time.values * 0.9),
    "computed": lambda a, step: (a * 2).assign_coords(time=a.time.values * 1.5),
    "days": lambda a, step: a.assign_coords(time=a.time.values + 86400.0 * np.arange(a.sizes["time"])),
    "last": lambda a, step: a.assign_coords(time=[*a.time.values[:-1], a.time.values[-1] + 0.3 * step]),
    "part": lambda a, step: a.isel(time=slice(1, None)),
    "slices cut": lambda a, step: a.isel(slice=slice(1, None)).assign_coords(time=a.time.values * 2),
    "copies": lambda a, step: xr.concat(
        [a.isel(time=-1, drop=True)] * 3, xr.Variable("time", [0.0, 0.7 * step, 9 * step])
    ),
    "copies a day apart": lambda a, step: xr.concat(
        [a.isel(time=0, drop=True)] * 2, xr.Variable("time", [0.0, 86400.0])
    ),
    "another day": lambda a, step: a.assign_coords(
        AcquisitionDateTime=a.AcquisitionDateTime.copy(data=np.asarray("2026-03-01T10:00:00"))
    ),
}


@given(
    change=st.sampled_from(sorted(CHANGES)),
    start=st.sampled_from([36000.0, 86390.0]),
    step=st.sampled_from([0.5, 60.0, 1800.0]),
    part=st.sampled_from([0.0, 0.4]),
    teller=st.sampled_from(["Acquisition", "AcquisitionDateTime", "both", "Content"]),
    stays=st.booleans(),
    zone=st.sampled_from([None, "+0200"]),
    times=st.sampled_from([2, 4]),
)
@settings(max_examples=60)
def test_any_labels_along_time_come_back(change, start, step, part, teller, stays, zone, times):
    def tell(ds, time, z):
        for name in ("AcquisitionDate", "AcquisitionTime"):
            delattr(ds, name)
        clock, day = of_day(start + time * step + z * part * step / 3)
        ds.ContentDate, ds.ContentTime = "20260102", "120000"
        if zone:
            ds.TimezoneOffsetFromUTC = zone
        if teller in ("AcquisitionDateTime", "both"):
            ds.AcquisitionDateTime = f"2026010{2 + day}{clock}"
        if teller != "AcquisitionDateTime":
            name = "Content" if teller == "Content" else "Acquisition"
            setattr(ds, f"{name}Date", f"2026010{2 if stays else 2 + day}")
            setattr(ds, f"{name}Time", clock)

    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder, "source"), times=times, slices=3, mutate=tell)
        image = CHANGES[change](ixr.open_series(Path(folder, "source"), "time"), step)
        again = ixr.open_series(image.dicom.write(Path(folder, "new")), "time")
        np.testing.assert_allclose(again.time - again.time[0], image.time - image.time.values[0], atol=2e-3)
        np.testing.assert_array_equal(again.values, image.values)
        starts = [one.AcquisitionDateTime.item() for one in (image, again) if "AcquisitionDateTime" in one.coords]
        if len(starts) == 2:
            wanted, found = (datetime.fromisoformat(text) for text in starts)
            late = (found - wanted).total_seconds() + float(again.time[0] - image.time.values[0])
            assert -2e-3 <= late <= part * step, "slices cut"


def test_labels_that_no_time_can_tell_are_refused(tmp_path):
    write_series(tmp_path / "source", times=3, slices=2)
    image = ixr.open_series(tmp_path / "source", "time")
    for labels, message in (([0, 1e-7, 1.0], "have the label 0"), ([0.0, 1e9, 1.7e18], "reach 1.7e.18 s, more than")):
        with pytest.raises(OrderError, match=message):
            image.assign_coords(time=labels).dicom.write(tmp_path / "new")


# ---- times that no clock tells


@pytest.mark.parametrize(
    "told",
    [
        {"TriggerTime": [100.0, 1100.0, 2100.0]},
        {"FrameReferenceTime": [500.0, 1500.0, 2500.0]},
        {"TemporalPositionIdentifier": [1, 2, 3]},
        {"TemporalPositionIdentifier": [1, 2, 3], "TemporalResolution": [1000.0] * 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("factor", [1, 2])
def test_new_times_that_no_clock_tells(tmp_path, told, factor):
    write_series(tmp_path / "source", per_time=told, slices=2)
    image = ixr.open_series(tmp_path / "source", "time")
    times = image.time.values
    assert times.tolist() == [0, 1, 2]
    image = image * factor if factor > 1 else image
    sources = [image, image.drop_vars("source")] if factor > 1 else [image]
    for number, new in enumerate(sources):
        for name, labels in (("twice", times * 2), ("other", [0.0, 7.0, 9.0]), ("same", times)):
            files = new.assign_coords(time=labels).dicom.write(tmp_path / f"{number}{name}")
            assert ixr.open_series(files, "time").time.values.tolist() == list(labels)
    if factor == 1:
        image.dicom.write(tmp_path / "kept", keep_uid=True)
        image.isel(time=[2, 1]).dicom.write(tmp_path / "some", keep_uid=True)
        with pytest.raises(ValueError, match="labels along its tag dims were changed"):
            image.assign_coords(time=times * 2).dicom.write(tmp_path / "refused", keep_uid=True)


def test_slices_that_have_each_their_own_trigger_time_keep_it(tmp_path):
    def own(ds, time, z):
        ds.TriggerTime = 1000.0 * time + [30.0, 0.0, 60.0][z] + 5 * (time == 1)

    write_series(tmp_path / "source", per_time={"TemporalResolution": [1000.0] * 3}, slices=3, mutate=own)
    image = ixr.open_series(tmp_path / "source", "time")
    for name, part in (("all", image), ("some", image.isel(slice=[0, 2]))):
        part.dicom.write(tmp_path / name, keep_uid=True)
    files = (image.isel(slice=[0, 2]) * 2).dicom.write(tmp_path / "new")
    assert [float(ds.TriggerTime) for ds in headers(files)] == [30, 60, 1035, 1065, 2030, 2060]


@pytest.mark.parametrize(("name", "count"), [("ge_time_trigger", 3), ("si_mosaic_fh", 3)])
def test_new_times_of_real_series(shared_data, tmp_path, name, count):
    image = ixr.open_series(shared_data / name / "dicom", "time").isel(time=slice(count), slice=slice(2))
    new = (image * 2).assign_coords(time=image.time.values * 2)
    again = ixr.open_series(new.dicom.write(tmp_path / "new"), "time")
    assert np.allclose(again.time, new.time)


# ---- what two elements tell


@pytest.mark.parametrize("factor", [1, 2])
def test_both_elements_of_an_echo_time_tell_the_new_one(tmp_path, factor):
    def echo(item, time, _slice):
        item.MREchoSequence = macro(EffectiveEchoTime=5.0 * time + 1)

    def only_effective(ds, time, _slice):
        del ds.EchoTime
        ds.EffectiveEchoTime = 5.0 * time + 1

    write_enhanced(tmp_path / "enhanced" / "a.dcm", times=3, slices=2, group=echo)
    write_series(tmp_path / "classic", times=3, slices=2, mutate=only_effective)
    for name in ("enhanced", "classic"):
        image = ixr.open_series(tmp_path / name, "te")
        image = image * factor if factor > 1 else image
        files = image.assign_coords(te=[2.0, 4.0, 6.0]).dicom.write(tmp_path / f"{name}_new")
        for ds, te in zip(headers(files)[::2], [2, 4, 6], strict=True):
            assert ds.EffectiveEchoTime == te
            assert float(ds.get("EchoTime", te)) == te
        assert ixr.open_series(files, "te").te.values.tolist() == [2, 4, 6]


def test_both_elements_of_a_trigger_time_tell_the_new_one(tmp_path):
    def group(item, time, _slice):
        item.CardiacSynchronizationSequence = macro(NominalCardiacTriggerDelayTime=50.0 * time)

    write_enhanced(tmp_path / "source" / "a.dcm", times=3, slices=2, group=group)
    image = ixr.open_series(tmp_path / "source", "triggertime").assign_coords(triggertime=[0.0, 1.0, 2.0])
    for ds, time in zip(headers(image.dicom.write(tmp_path / "new"))[::2], [0, 1000, 2000], strict=True):
        assert ds.TriggerTime == ds.NominalCardiacTriggerDelayTime == time


@pytest.mark.parametrize("name", ["RepetitionTime", "InversionTime", "EchoNumbers"])
def test_uids_are_kept_along_a_dim_that_is_named_after_an_element(tmp_path, name):
    write_series(tmp_path / "source", per_time={name: [1, 2, 3]}, slices=2)
    image = ixr.open_series(tmp_path / "source", name)
    kept = headers(image.dicom.write(tmp_path / "kept", keep_uid=True))
    assert [ds.SOPInstanceUID for ds in kept] == image.SOPInstanceUID.values.ravel().tolist()
    with pytest.raises(ValueError, match="labels along its tag dims were changed"):
        image.assign_coords({name: [1, 2, 4]}).dicom.write(tmp_path / "no", keep_uid=True)


@pytest.mark.parametrize("name", ["AcquisitionTime", "ContentTime", "ContrastBolusStartTime"])
@pytest.mark.parametrize("factor", [None, 2])
def test_new_labels_along_a_dim_that_is_named_after_a_time_of_day(tmp_path, name, factor):
    def tell(ds, time, _z):
        setattr(ds, name, f"1000{10 * time:02d}.5")

    write_series(tmp_path / "source", times=3, slices=4, mutate=tell)
    image = ixr.open_series(tmp_path / "source", name)
    image = image if factor is None else image * factor
    for ds in headers(image.dicom.write(tmp_path / "same"))[:4]:
        assert ds[name].value == "100000.5"
    twice = image.isel({name: [0, 0, 1]})
    changes = {"later": image[name] + 1, "earlier": image[name].values - 30, "turned": image[name].values[::-1]}
    news = {folder: image.assign_coords({name: labels}) for folder, labels in changes.items()}
    for folder, new in {**news, "twice": twice.assign_coords({name: [36000.0, 36001.0, 36002.0]})}.items():
        again = ixr.open_series(new.dicom.write(tmp_path / folder), name)
        np.testing.assert_array_equal(again, new.sortby(name))
        np.testing.assert_allclose(again[name], np.sort(new[name]))
    with pytest.raises(ValueError, match=f"{name} is a time of day, 0 to 86400 s, and cannot hold the label -5"):
        image.assign_coords({name: [-5.0, 0.0, 5.0]}).dicom.write(tmp_path / "no")
    if factor is None:
        image.dicom.write(tmp_path / "kept", keep_uid=True)
        with pytest.raises(ValueError, match="labels along its tag dims were changed"):
            news["later"].dicom.write(tmp_path / "no", keep_uid=True)


def test_a_file_of_one_image_is_no_part_of_a_concatenation(tmp_path):
    def part(ds):
        ds.ConcatenationUID, ds.InConcatenationNumber, ds.InConcatenationTotalNumber = "2.25.7", 1, 1
        ds.ConcatenationFrameOffsetNumber, ds.SOPInstanceUIDOfConcatenationSource = 0, "2.25.8"

    write_enhanced(tmp_path / "source" / "a.dcm", mutate=part)
    for ds in headers(ixr.open_series(tmp_path / "source").dicom.write(tmp_path / "new")):
        assert not [element.keyword for element in ds if "Concatenation" in element.keyword]


# ---- times that users give to copies of a volume


def copies(image, times):
    return xr.concat([image * (k + 1) for k in range(len(times))], xr.Variable("time", times))


def written_times(image, folder, **options):
    return ixr.open_series(image.dicom.write(folder, **options), "time").time.values


def test_copies_of_a_volume_without_a_coordinate_of_its_time(tmp_path):
    def own(ds, _time, z):
        ds.AcquisitionTime = f"12000{z}.5"

    write_series(tmp_path / "source", times=1, slices=3, mutate=own)
    image = ixr.open_series(tmp_path / "source")
    assert "AcquisitionDateTime" not in image.coords
    # The slices of a volume take 2 s: where the next one begins earlier they have one time.
    for times in ([0.0, 2.5, 7.0], [0.0, 0.5, 1.0], [3.0, 4.0, 9.0]):
        found = written_times(copies(image, times), tmp_path / str(times))
        np.testing.assert_allclose(found, np.subtract(times, times[0]), atol=1e-3)


@pytest.mark.parametrize("kept", [("Acquisition", "Content", "Series"), ("Content", "Series"), ("Series",), ()])
def test_copies_count_from_the_first_moment_that_is_known(tmp_path, kept):
    def some(ds, _time, _z):
        for name in ("Acquisition", "Content", "Series", "Study"):
            is_kept = name in kept
            setattr(ds, f"{name}Date", "20260304" if is_kept else "")
            setattr(ds, f"{name}Time", f"1{len(name) % 10}0000" if is_kept else "")

    write_series(tmp_path / "source", times=1, slices=2, mutate=some)
    image = ixr.open_series(tmp_path / "source")
    files = copies(image, [0.0, 2.5]).dicom.write(tmp_path / "new")
    assert ixr.open_series(files, "time").time.values.tolist() == [0, 2.5]
    assert ixr.open_series(files).dims[0] == "time"
    if kept:
        assert headers(files)[-1].AcquisitionTime == f"1{len(kept[0]) % 10}0002.500000"
    # The same of a template, and of headers that attributes alone tell.
    new = copies(image, [0.0, 2.5])
    assert written_times(new, tmp_path / "template", template=image).tolist() == [0, 2.5]
    alone = copies(image.drop_vars("source"), [0.0, 2.5])
    assert written_times(alone, tmp_path / "described").tolist() == [0, 2.5]


def test_temporal_position_counts_volumes(tmp_path):
    def counted(ds, _time, _z):
        ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = 1, 6

    write_series(tmp_path / "source", times=1, slices=2, mutate=counted)
    image = ixr.open_series(tmp_path / "source", "time")
    for name, new in (("files", image), ("described", image.drop_vars("source"))):
        new = copies(new.isel(time=0, drop=True), [0.0, 2.5, 5.0])
        found = headers(new.dicom.write(tmp_path / name))[::2]
        told = [(ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions) for ds in found]
        assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("name", ["si_tra_rl/dicom", "si_te_mag"])
def test_copies_of_real_volumes(shared_data, tmp_path, name):
    image = ixr.open_series(shared_data / name)
    image = image.isel(te=0) if "te" in image.dims else image
    found = written_times(copies(image, [0.0, 2.5, 5.0]), tmp_path / "new")
    np.testing.assert_allclose(found, [0, 2.5, 5], atol=1e-3)
