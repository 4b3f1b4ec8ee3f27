"""Images put together keep each its own header, and only images of one place go together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from imagedata_xr.combine import concat
from imagedata_xr.errors import GeometryError, MissingHeaderError, PairingError
from imagedata_xr.indexes import PositionIndex, TagIndex
from imagedata_xr.origins import Origin, origins
from imagedata_xr.positions import affine, geometry_equal
from tests.places import ORIGIN, OTHER, PLACES, assert_at_its_place, coordinate_image, image


def echo(te, **kwargs):
    return image(**kwargs).assign_attrs(EchoTime=te, SeriesDescription=f"TE {te}")


def test_echoes_are_labelled_from_their_header():
    a, b = echo(4.5), echo(9.0, noise=1e-5, times=(0, 2.49, 4.98))
    both = concat([a, b], "te")
    assert both.dims == ("te", "time", "slice", "row", "col")
    np.testing.assert_array_equal(both.te, [4.5, 9.0])
    assert isinstance(both.xindexes["te"], TagIndex)
    assert isinstance(both.xindexes["slice"], PositionIndex)
    np.testing.assert_array_equal(both.isel(te=1), b)
    np.testing.assert_array_equal(both.time, a.time)
    assert geometry_equal(both, a)
    assert both.name == "image"


def test_what_differs_becomes_a_coordinate_and_nothing_is_taken_from_the_first():
    a, b = echo(4.5), echo(9.0, origin=OTHER)
    a.attrs |= {"ImageType": ["ORIGINAL", "M"], "Rows": 5, "ContrastBolusAgent": "Gd", "FlipAngle": 20.0}
    b.attrs |= {"ImageType": ["ORIGINAL", "P"], "Rows": 5, "FlipAngle": 20.0, "ImageComments": "late", "Repetitions": 3}
    both = concat([a, b], "te")
    assert both.ImageType.values.tolist() == ["ORIGINAL\\M", "ORIGINAL\\P"]
    assert both.PatientID.values.tolist() == ["p1", "p2"]
    assert both.ContrastBolusAgent.values.tolist() == ["Gd", ""]
    assert both.ImageComments.values.tolist() == ["", "late"]
    np.testing.assert_array_equal(both.Repetitions, [np.nan, 3])
    assert both.EchoTime.dims == ("te",)
    assert both.attrs["FlipAngle"] == 20.0
    assert both.attrs["ImageOrientationPatient"] == a.attrs["ImageOrientationPatient"]
    assert {"ImageType", "ContrastBolusAgent", "PatientID", "EchoTime"}.isdisjoint(both.attrs)
    assert both.isel(te=0).PatientID == "p1"
    assert a.attrs["ImageType"] == ["ORIGINAL", "M"]
    assert "ImageType" not in a.coords


def test_origins_of_all_are_kept():
    a, b, c = echo(1.0), echo(2.0, origin=OTHER), echo(3.0)
    assert origins(concat([a, a.assign_attrs(EchoTime=7.0), b, c], "te")) == {ORIGIN, OTHER}
    assert origins(concat([a.drop_vars([n for n in a.coords if str(n).startswith("origin")]), b], "te")) == {OTHER}


def test_series_of_one_patient_add_after_concat():
    second = ORIGIN._replace(SeriesInstanceUID="1.2.1.2")
    both = concat([echo(1.0), echo(2.0, origin=second)], "te")
    assert {origin.SeriesInstanceUID for origin in origins(both + both)} == {"1.2.1.1", "1.2.1.2"}
    assert both.attrs["PatientID"] == "p1"
    assert isinstance(next(iter(origins(both))), Origin)


def test_labels_can_be_given():
    a = image()
    named = concat([a, a + 1], pd.Index(["M", "P"], name="image_type"))
    assert named.image_type.values.tolist() == ["M", "P"]
    assert named.sel(image_type="P").isel(time=0, slice=0, row=0, col=0) == 1
    times = concat(
        [a.isel(time=0, drop=True), a.isel(time=1, drop=True)], xr.Variable("time", [0.0, 7.0], {"units": "s"})
    )
    assert times.xindexes["time"].tolerance == 1.75
    assert concat([a, a], "subject").dims[0] == "subject"
    assert "subject" not in concat([a, a], "subject").coords
    picked = concat([echo(5.0).assign_coords(te=1.0), echo(6.0).assign_coords(te=2.0)], "te")
    np.testing.assert_array_equal(picked.te, [1, 2])
    np.testing.assert_array_equal(concat([echo(5.0), echo(6.0)], "EchoTime").EchoTime, [5, 6])


def test_trigger_times_are_in_seconds():
    a, b = (image().isel(time=0, drop=True).assign_attrs(TriggerTime=t) for t in (0.0, 40.0))
    np.testing.assert_allclose(concat([a, b], "triggertime").triggertime, [0, 0.04])


@pytest.mark.parametrize("dim", ["te", "b", "image_type", "dti"])
def test_labels_that_are_nowhere_are_asked_for(dim):
    a = image()
    b = image()
    del b.attrs["EchoTime"]
    with pytest.raises(MissingHeaderError, match=rf"to label it along {dim}; give the labels with .*name='{dim}'"):
        concat([a, b], dim)


def test_runs_of_which_one_is_told_in_utc_are_on_no_common_clock():
    a, b = image(), image()
    b["AcquisitionDateTime"] = b.AcquisitionDateTime.assign_attrs(timezone="+0100")
    with pytest.raises(PairingError, match=r"image 0 is 2020-01-31 12:00:00 in the clock of a scanner[\s\S]*image 1"):
        concat([a, b], "time")
    with pytest.raises(PairingError, match="nothing tells how long the one is after the other"):
        concat([a, b], "te")
    assert concat([b, b.assign_coords(time=b.time + 10)], "time").AcquisitionDateTime.attrs == {"timezone": "+0100"}


def test_runs_follow_each_other_on_one_clock():
    a = image()
    b = image().assign_coords(AcquisitionDateTime="2020-01-31T12:01:00.5")
    both = concat([a, b], "time")
    np.testing.assert_allclose(both.time, [0, 2.5, 5, 60.5, 63, 65.5])
    assert both.AcquisitionDateTime == "2020-01-31T12:00:00"
    assert both.time.attrs == {"units": "s"}
    assert both.InstanceNumber.dims == ("time", "slice")
    again = concat([a.isel(time=[0]), a.isel(time=[1, 2])], "time")
    xr.testing.assert_identical(again, a)
    assert again.xindexes["time"].equals(a.xindexes["time"])
    single = concat([a.isel(time=0), b.isel(time=0)], "time")
    np.testing.assert_allclose(single.time, [0, 60.5])
    np.testing.assert_allclose(concat([a, b.isel(time=1)], "time").time, [0, 2.5, 5, 63])


def test_starts_of_images_along_another_dim_stay_in_utc():
    """The attribute that says so was dropped where clocks are an hour apart, as in summer, and its times were local."""
    a, b = (image().assign_attrs(EchoTime=te) for te in (5.0, 9.0))
    for one, zone in ((a, "+0100"), (b, "+0200")):
        one["AcquisitionDateTime"] = one.AcquisitionDateTime.assign_attrs(timezone=zone)
    b = b.assign_coords(AcquisitionDateTime=b.AcquisitionDateTime.copy(data="2020-01-31T12:30:00"))
    both = concat([a, b], "te")
    assert both.AcquisitionDateTime.dims == ("te",)
    assert both.AcquisitionDateTime.attrs == {"timezone": "+0100"}
    later = both.assign_coords(AcquisitionDateTime=("te", ["2020-01-31T13:00:00", "2020-01-31T13:30:00"]))
    later["AcquisitionDateTime"] = later.AcquisitionDateTime.assign_attrs(timezone="+0100")
    np.testing.assert_allclose(concat([both, later], "time").time, [0, 2.5, 5, 3600, 3602.5, 3605])
    with pytest.raises(PairingError, match=r"from 2 starts, 2020-01-31 12:00:00 the first, .* image 0 from 1"):
        concat([a.expand_dims(te=2).assign_coords(te=both.te.values), both], "time")


@pytest.mark.parametrize("name", PLACES)
def test_slabs_make_the_stack_again(name):
    a = coordinate_image(name)
    if a.sizes["slice"] == 1:
        return
    for parts in ([a.isel(slice=slice(0, 2)), a.isel(slice=slice(2, None))], [a.isel(slice=i) for i in range(6)]):
        whole = concat(parts, "slice").transpose(*a.dims)
        assert_at_its_place(whole)
        assert geometry_equal(whole, a)
        assert isinstance(whole.xindexes["slice"], PositionIndex)
    rows = concat([a.isel(row=[0, 1]), a.isel(row=[2, 3, 4])], "row").transpose(*a.dims)
    xr.testing.assert_allclose(rows, a)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: image(shift=0.5), r"image 1 is not at the place of image 0: slice positions are 83\.243"),
        (lambda a: a.isel(row=slice(1, None)), r"row positions are .* \(5\) against .* \(4\)"),
        (lambda a: image("sagittal"), "ImageOrientationPatient is"),
        (lambda a: image("uneven"), "slice positions"),
    ],
    ids=["shifted", "cropped", "turned", "uneven"],
)
def test_images_of_other_places_are_refused(change, message):
    with pytest.raises(GeometryError, match=message):
        concat([image(), change(image())], "te")


def test_slices_of_two_places_do_not_become_two_echoes():
    a = image()
    with pytest.raises(GeometryError, match="slice positions"):
        concat([a.isel(slice=0), a.isel(slice=1)], pd.Index([1.0, 2.0], name="te"))


def test_slabs_of_two_orientations_do_not_become_a_stack():
    a = image("axial")
    turned = image("axial", origin=OTHER).copy()
    turned = turned.drop_indexes(["slice", "row", "col"]).assign_attrs(
        ImageOrientationPatient=[1, 0, 0, 0, 0.99, 0.141067]
    )
    with pytest.raises(GeometryError, match="ImageOrientationPatient is"):
        concat([a, turned.set_xindex("slice").set_xindex("row").set_xindex("col")], "slice")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: image(times=(0, 5, 10)),
            r"image 1 has the time labels \[0, 5, 10\] \(3\), image 0 \[0, 2.5, 5\] \(3\)",
        ),
        (lambda a: a.isel(time=[0, 1]), r"time labels \[0, 2.5\] \(2\)"),
        (lambda a: a.drop_vars("time"), "time labels none"),
        (lambda a: a.isel(time=0, drop=True), "image 1 has the dims"),
    ],
    ids=["other times", "fewer", "no labels", "no dim"],
)
def test_volumes_that_do_not_pair_are_refused(change, message):
    with pytest.raises(PairingError, match=message):
        concat([image(), change(image())], pd.Index(["M", "P"], name="image_type"))


def test_coordinates_that_only_some_have_are_filled():
    a, b = echo(1.0), echo(2.0)
    b = b.drop_vars(["SliceLocation", "InstanceNumber"]).assign_coords(
        present=("slice", np.arange(6) > 2), SOPInstanceUID="1.9"
    )
    b = b.assign_attrs(InstanceNumber=7)
    both = concat([a, b], "te")
    np.testing.assert_array_equal(both.present.isel(te=0), True)
    np.testing.assert_array_equal(both.present.isel(te=1), b.present)
    np.testing.assert_array_equal(both.SliceLocation.isel(te=1), np.nan)
    np.testing.assert_array_equal(both.InstanceNumber.isel(te=1), 7)
    assert both.SOPInstanceUID.values.tolist() == ["", "1.9"]
    assert "InstanceNumber" not in both.attrs


def test_stored_form_is_kept_where_all_agree():
    a, b = (image().astype("i2") for _ in range(2))
    a.encoding = {"TransferSyntaxUID": "1.2", "RescaleSlope": 1.0, "preferred_chunks": {"time": 1}}
    b.encoding = {"TransferSyntaxUID": "1.2", "RescaleSlope": 2.0, "preferred_chunks": {"time": 1}}
    dim = pd.Index([1.0, 2.0], name="te")
    assert concat([a, b], dim).encoding == {"TransferSyntaxUID": "1.2"}
    assert concat([a, b + 0], dim).encoding == {}
    assert concat([a, (b * 1.0).astype("f4")], dim).encoding == {}


def test_chunked_images_stay_chunked():
    both = concat([echo(1.0).chunk(time=1), echo(2.0).chunk(time=1)], "te")
    assert both.chunks is not None
    np.testing.assert_allclose(affine(both), affine(echo(1.0)))


def test_nothing_and_one_image():
    with pytest.raises(ValueError, match="no images"):
        concat([], "te")
    assert concat([echo(3.0)], "te").te == 3.0


def test_images_without_a_patient_go_together_too():
    rows = [xr.DataArray([1.0, 2.0], dims="x", attrs={"k": k}) for k in "ab"]
    both = concat(rows, "n")
    assert both.k.values.tolist() == ["a", "b"]
    assert not [name for name in both.coords if str(name).startswith("origin")]
