"""The header of a frame is the one in its file, with what the user changed since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

import imagedata_xr as ixr
from imagedata_xr.errors import MissingHeaderError, UnreadableFileError
from imagedata_xr.headers import described_dataset, header, source_dataset, spread
from tests.generate import PRIVATE_CREATOR, write_series


@pytest.fixture
def image(tmp_path: Path) -> xr.DataArray:
    write_series(tmp_path / "a", times=2, slices=4)
    return ixr.open_series(tmp_path / "a", "time")


def test_header_is_that_of_the_file(image: xr.DataArray) -> None:
    got = image.dicom.header(time=0, slice=3)
    want = pydicom.dcmread(image.source.values[0, 3], stop_before_pixels=True)
    assert got == want
    assert got.private_block(0x0029, PRIVATE_CREATOR)[0x01].value == "private text"
    assert got.AnatomicRegionSequence[0].CodeMeaning == "Head"
    assert "PixelData" not in got


def test_header_of_a_real_frame(shared_data: Path) -> None:
    image = ixr.open_series(shared_data / "si_time_3x3" / "dicom", "time")
    want = pydicom.dcmread(image.source.values[2, 1], stop_before_pixels=True)
    assert image.dicom.header(time=2, slice=1) == want
    assert any(element.tag.is_private for element in want)


def test_header_is_new_each_time(image: xr.DataArray) -> None:
    before = image.copy()
    got = image.dicom.header(time=0, slice=0)
    got.PatientName = "X"
    got.AnatomicRegionSequence[0].CodeMeaning = "X"
    assert image.dicom.header(time=0, slice=0).PatientName == "Test^P1"
    xr.testing.assert_identical(image, before)


def test_changes_of_the_user_are_in_it(image: xr.DataArray) -> None:
    changed = image.assign_attrs(
        SeriesDescription="Processed", SeriesNumber=1004, ImageType=["DERIVED", "SECONDARY"], note="no element"
    )
    changed = changed.assign_coords(ImageComments=("time", ["first", "second"]))
    got = changed.dicom.header(time=1, slice=2)
    assert (got.SeriesDescription, got.SeriesNumber, got.ImageComments) == ("Processed", 1004, "second")
    assert list(got.ImageType) == ["DERIVED", "SECONDARY"]
    assert got.private_block(0x0029, PRIVATE_CREATOR)[0x01].value == "private text"
    rest = {"SeriesDescription", "SeriesNumber", "ImageComments", "ImageType"}
    want = pydicom.dcmread(image.source.values[1, 2], stop_before_pixels=True)
    assert {e.keyword: e.value for e in got if e.keyword not in rest} == {
        e.keyword: e.value for e in want if e.keyword not in rest
    }


def test_value_that_an_element_cannot_hold(image: xr.DataArray) -> None:
    with pytest.raises(ValueError, match="SeriesNumber"):
        image.assign_attrs(SeriesNumber="x").dicom.header(time=0, slice=0)


def test_after_selection_and_arithmetic(image: xr.DataArray) -> None:
    part = image.isel(time=slice(1, 2), slice=slice(None, None, -1))
    assert part.dicom.header(slice=0).SOPInstanceUID == image.SOPInstanceUID.values[1, 3]
    one = (image * 2.0).isel(time=1, slice=2)
    assert one.dicom.header().SOPInstanceUID == image.SOPInstanceUID.values[1, 2]
    assert one.dicom.header().AnatomicRegionSequence[0].CodeValue == "69536005"


def test_mean_has_what_its_attributes_tell(image: xr.DataArray) -> None:
    got = image.mean("time", keep_attrs=True).dicom.header(slice=1)
    assert got.PatientID == "P1"
    assert "InstanceNumber" not in got
    assert "SOPInstanceUID" not in got
    assert "AnatomicRegionSequence" not in got


def test_two_series_have_no_source(tmp_path: Path, image: xr.DataArray) -> None:
    write_series(tmp_path / "b", times=2, slices=4, series="other")
    both = image + ixr.open_series(tmp_path / "b", "time")
    assert source_dataset(both.isel(time=0, slice=0)) is None
    again = both + image
    assert source_dataset(again.isel(time=0, slice=0)) is None, (
        "coordinates of the last operand come back, and prove nothing"
    )
    got = again.dicom.header(time=0, slice=0)
    assert got.PatientID == "P1"
    assert "AnatomicRegionSequence" not in got


def test_which_frame(image: xr.DataArray) -> None:
    with pytest.raises(ValueError, match=r"say which, time=0\.\.1, slice=0\.\.3"):
        image.dicom.header()
    with pytest.raises(ValueError, match=r"slice=0\.\.3"):
        image.dicom.header(time=0)
    with pytest.raises(ValueError, match="'echo' is no dim"):
        image.dicom.header(echo=0)
    with pytest.raises(ValueError, match="'row' is no dim"):
        image.dicom.header(time=0, slice=0, row=0)
    with pytest.raises(IndexError):
        image.dicom.header(time=2, slice=0)
    assert image.dicom.header(time=-1, slice=-1).InstanceNumber == 8


def test_file_gone(image: xr.DataArray) -> None:
    Path(image.source.values[0, 0]).unlink()
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        image.dicom.header(time=0, slice=0)
    assert image.dicom.header(time=0, slice=1).InstanceNumber == 2


def test_no_header_at_all() -> None:
    with pytest.raises(MissingHeaderError, match="neither attributes nor coordinates"):
        header(xr.DataArray(np.zeros((2, 2)), dims=("row", "col")))


def test_described_after_netcdf(tmp_path: Path, image: xr.DataArray) -> None:
    image.drop_encoding().to_netcdf(tmp_path / "image.nc")
    with xr.open_dataarray(tmp_path / "image.nc") as back:
        frame = back.isel(time=1, slice=0)
        got, want = described_dataset(frame), described_dataset(image.isel(time=1, slice=0))
        assert got == want
        assert got.ImageType == ["ORIGINAL", "PRIMARY", "M", "ND"]
        assert got.AcquisitionTime == "100002.500000"
        assert back.dicom.header(time=1, slice=0) == image.dicom.header(time=1, slice=0)


# --- spread


@given(data=st.data())
def test_spread_loses_nothing(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    size = int(np.prod(shape))
    kind = data.draw(st.sampled_from([st.integers(0, 2), st.sampled_from([0.5, 1.5]), st.sampled_from(["a", "b"])]))
    values = data.draw(st.lists(kind, min_size=size, max_size=size))
    rows = np.asarray(data.draw(st.permutations(range(size)))).reshape(shape)
    dims = ("x", "y", "z")[: len(shape)]
    left, array = spread(np.arange(size), values, rows, dims)
    distinct = list(dict.fromkeys(values))
    codes = np.asarray([distinct.index(value) for value in values])
    again, same = spread(codes, distinct, rows, dims)
    assert (again, np.asarray(same).tolist()) == (left, np.asarray(array).tolist())
    whole = xr.DataArray(array, dims=left).broadcast_like(xr.DataArray(rows, dims=dims)).transpose(*dims)
    assert whole.values.tolist() == np.asarray(values)[rows].tolist()
    for dim in left:
        assert (whole.isel({dim: [0]}).values != whole.values).any(), "no dim along which nothing varies"


def test_spread_of_absent_and_several_values() -> None:
    rows = codes = np.arange(3)
    assert spread(codes, [1, None, 2], rows, ["x"])[1].tolist() == pytest.approx([1, np.nan, 2], nan_ok=True)
    assert spread(codes, ["a", None, "b"], rows, ["x"])[1].tolist() == ["a", "", "b"]
    assert spread(codes, [[1.0, 2.0], [1.0, 3.0], "x"], rows, ["x"])[1].tolist() == ["1.0\\2.0", "1.0\\3.0", "x"]
    assert spread(codes, [5, 6, 7], np.array([2, -1, 2]), ["x"]) == ((), 7)
    assert spread(codes, [5, 6, 5], np.array([0, 2]), ["x"]) == ((), 5)


@pytest.mark.parametrize("within", ["header", "public sequence", "private sequence"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_values_that_cannot_be_of_their_vr_are_there_as_bytes(tmp_path: Path, syntax: UID, within: str) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        part = ds if within == "header" else Dataset()
        part.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
        part.add_new(0x0019100C, "UN", b"1000")  # an IS
        part.add_new(0x00191028, "UN", b"abcde" + bytes([z]))  # an FD
        if syntax == ImplicitVRLittleEndian and part is not ds:
            part.add_new("DiffusionBValue", "OB", b"fghij" + bytes([z]))
        if within == "public sequence":
            ds.ReferencedImageSequence = [part]
        elif within == "private sequence":
            ds.private_block(0x0031, "MAKER", create=True).add_new(0x01, "SQ", [part])

    write_series(tmp_path / "a", mutate=mutate, transfer_syntax=syntax)
    got = part = ixr.open_series(tmp_path / "a").dicom.header(slice=2)
    if within == "public sequence":
        part = got.ReferencedImageSequence[0]
    elif within == "private sequence":
        part = got.private_block(0x0031, "MAKER")[0x01].value
        if syntax == ImplicitVRLittleEndian:
            assert b"abcde\2" in part
            return
        part = part[0]
    assert (part[0x00191028].VR, part[0x00191028].value) == ("UN", b"abcde\2")
    assert part[0x0019100C].value == 1000
    if "DiffusionBValue" in part:
        assert (part["DiffusionBValue"].VR, part.DiffusionBValue) == ("UN", b"fghij\2")
    assert "abcde" in str(got)
    assert got.to_json_dict()["00080060"] == {"vr": "CS", "Value": ["MR"]}


@pytest.mark.parametrize("how", ["align", "concat"])
def test_text_of_frames_that_an_outer_join_adds_is_filled_as_said(patient: Path, tmp_path: Path, how: str) -> None:
    """What docs/howto.md says of `fill_value`; the frames that were measured are written with their headers."""
    a = ixr.open_series(patient / "dynamic_1", "time")
    first, last = a[:2, :3], a[-2:, 1:4]
    text = {name: "" for name, coord in a.coords.items() if coord.dtype.kind == "T"}
    assert {"SOPInstanceUID", "source"} <= text.keys()
    if how == "align":
        joined, _ = xr.align(first, last, join="outer", fill_value=text)
    else:
        joined = xr.concat([first, last], "time", coords="different", compat="equals", join="outer", fill_value=text)
    assert joined.sizes["slice"] == 4
    assert bool(joined.isel(time=0, slice=3).isnull().all())
    there = joined["SOPInstanceUID"] != ""
    joined.assign_coords(present=there).dicom.write(tmp_path / how)
    back = ixr.open_series(tmp_path / how, "time", missing="fill")
    assert int((back["SOPInstanceUID"] != "").sum()) == int(there.sum()) == (12 if how == "concat" else 6)
