"""A series becomes a DataArray that plain xarray understands: what is common, what varies, and where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import xarray as xr
from pydicom.uid import CTImageStorage

import imagedata_xr as ixr
from imagedata_xr.dicom.series import preferred_chunks
from imagedata_xr.errors import MissingFramesError, MissingHeaderError, UnreadableFileError
from imagedata_xr.names import PIXEL_KEYWORDS, POLARITY
from tests.generate import AXIAL, CORONAL, OBLIQUE, SAGITTAL, truth_affine, write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset


NOWHERE = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SliceLocation": None}


def _number(t: int, z: int) -> np.ndarray:
    return np.full((8, 6), 100 * t + z)


def affine(image: xr.DataArray) -> np.ndarray:
    return np.asarray(image.dicom.affine)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("shear", [(0.0, 0.0), (0.3, -0.1)])
def test_every_voxel_is_where_the_header_says(tmp_path: Path, orientation: Any, shear: Any) -> None:
    options = {"orientation": orientation, "shear": shear, "spacing": (1.5, 2.0), "gap": 3.0}
    write_series(tmp_path, times=2, slices=4, **options)
    image = ixr.open_series(tmp_path, "time")
    assert affine(image) == pytest.approx(truth_affine(**options), abs=2e-5)
    for z in range(4):
        header = image.dicom.header(time=1, slice=z)
        assert affine(image)[:3] @ [z, 0, 0, 1] == pytest.approx(
            [float(x) for x in header.ImagePositionPatient], abs=1e-4
        )
    assert image.attrs["ImageOrientationPatient"] == pytest.approx(list(orientation), abs=1e-6)
    assert image.attrs["slice_shear"] == pytest.approx(list(shear), abs=1e-5)
    assert image.attrs["PixelSpacing"] == [1.5, 2.0]
    assert all(image[d].attrs["units"] == "mm" for d in ("slice", "row", "col"))


def test_uneven_gaps_stay_as_they_are(tmp_path: Path) -> None:
    write_series(tmp_path, slices=4, gaps=[3, 5, 3])
    image = ixr.open_series(tmp_path)
    assert np.diff(image.slice.values) == pytest.approx([3, 5, 3])


def test_common_elements_are_attrs_and_varying_ones_coordinates(tmp_path: Path) -> None:
    def mutate(ds: Dataset, t: int, z: int) -> None:
        ds.WindowCenter = [t, 10 * t]
        if z == 0:
            ds.ImageComments = "first"

    write_series(tmp_path, times=3, slices=2, mutate=mutate)
    image = ixr.open_series(tmp_path, "time")
    assert image.attrs["PatientID"] == "P1"
    assert image.attrs["PatientName"] == "Test^P1"
    assert image.attrs["ImageType"] == ["ORIGINAL", "PRIMARY", "M", "ND"]
    assert image.attrs["EchoTime"] == 5.0
    assert image.attrs["SeriesNumber"] == 1
    assert image.attrs["ReferringPhysicianName"] == ""
    dims = {
        str(name): coord.dims for name, coord in image.coords.items() if not str(name).startswith(("origin_", "frame_"))
    }
    assert dims == {
        "time": ("time",),
        "slice": ("slice",),
        "row": ("row",),
        "col": ("col",),
        "AcquisitionDateTime": (),
        "InstanceNumber": ("time", "slice"),
        "SOPInstanceUID": ("time", "slice"),
        "source": ("time", "slice"),
        "AcquisitionTime": ("time",),
        "ContentTime": ("time",),
        "WindowCenter": ("time",),
        "SliceLocation": ("slice",),
        "ImageComments": ("slice",),
    }
    assert image.InstanceNumber.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert image.AcquisitionTime.values.tolist() == ["100000.000000", "100002.500000", "100005.000000"]
    assert image.WindowCenter.values.tolist() == ["0.0\\0.0", "1.0\\10.0", "2.0\\20.0"]
    assert image.ImageComments.values.tolist() == ["first", ""]
    assert image.SliceLocation.dtype == float
    assert image.InstanceNumber.dtype.kind == "i"
    for path, number in zip(image.source.values.ravel(), image.InstanceNumber.values.ravel(), strict=True):
        assert pydicom.dcmread(path).InstanceNumber == number


@pytest.mark.parametrize("slices", [slice(1, 2), slice(None, None, -1), [3, 0]], ids=str)
@pytest.mark.parametrize("times", [[0, 2], [2, 1], np.array([True, False, True]), slice(1, None)], ids=str)
def test_a_selection_names_the_frames_that_it_has(tmp_path: Path, slices: Any, times: Any) -> None:
    write_series(tmp_path, times=3, slices=4, values=_number)
    chosen = ixr.open_series(tmp_path, "time").isel(slice=slices, time=times)
    for frame in chosen.stack(frame=("time", "slice")).transpose("frame", ...):
        header = pydicom.dcmread(frame.source.item())
        assert (frame.values == header.pixel_array).all()
        assert frame.SOPInstanceUID.item() == header.SOPInstanceUID


def test_attrs_are_plain_python(tmp_path: Path) -> None:
    write_series(
        tmp_path, times=2, slices=2, rescale=(2, 1), tags={"PatientBirthDate": "19700101", "WindowCenter": [1, 2]}
    )
    image = ixr.open_series(tmp_path, "time")
    for value in image.attrs.values():
        assert type(value) in (str, int, float, list)
        assert not isinstance(value, list) or {type(v) for v in value} <= {str, int, float}
    not_told = (PIXEL_KEYWORDS | {"PixelData", "ImagePositionPatient"}) - {POLARITY}
    assert not {*image.attrs, *image.coords} & not_told
    assert all(not str(name).startswith("File") and "Private" not in str(name) for name in image.attrs)


def test_stored_values_have_no_window_of_modality_values(tmp_path: Path) -> None:
    header = {"WindowCenter": [40, 300], "WindowWidth": [400, 1500], "VOILUTFunction": "SIGMOID", "RescaleType": "HU"}
    for name, rescale in (("plain", None), ("one", (1, 0)), ("ct", (1, -1024)), ("slope", (2.5, 0))):
        write_series(tmp_path / name, slices=2, rescale=rescale, tags=header)
        image = ixr.open_series(tmp_path / name)
        stored = ixr.open_series(tmp_path / name, rescale=False)
        assert image.attrs["WindowCenter"] == [40, 300]
        kept = {name: stored.attrs[name] for name in header if name in stored.attrs}
        assert kept == (header if name in ("plain", "one") else {})
        assert ixr.open_series(tmp_path / name).attrs["PhotometricInterpretation"] == "MONOCHROME2"
        written = [pydicom.dcmread(file) for file in stored.dicom.write(tmp_path / "out" / name)]
        assert written[0].WindowCenter == [40, 300], "an original is as its files are"


def test_encoding_tells_how_values_were_stored(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=2, sop_class=CTImageStorage, dtype="i2", bits_stored=12, rescale=(1, -1024))
    image = ixr.open_series(tmp_path, "time")
    want = {
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
        "stored_dtype": "int16",
        "rescaled": True,
        "RescaleSlope": 1.0,
        "RescaleIntercept": -1024.0,
        "source": str(tmp_path),
    }
    assert {name: image.encoding[name] for name in want} == want
    assert "TransferSyntaxUID" in image.isel(time=0, slice=[0]).encoding
    assert "TransferSyntaxUID" not in (image + 0).encoding
    assert "TransferSyntaxUID" not in image.mean("time").encoding


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("times", [1, 3])
def test_netcdf_and_zarr(tmp_path: Path, times: int) -> None:
    write_series(tmp_path / "dicom", times=times, slices=3, rescale=(0.5, 0), tags={"PatientName": "Müller^Jörg"})
    image = ixr.open_series(tmp_path / "dicom", "time" if times > 1 else "none")
    image.drop_encoding().to_netcdf(tmp_path / "image.nc")
    image.drop_encoding().to_zarr(tmp_path / "image.zarr", consolidated=False)
    for back in (
        xr.open_dataarray(tmp_path / "image.nc"),
        xr.open_dataarray(tmp_path / "image.zarr", engine="zarr", consolidated=False),
    ):
        with back:
            assert (back.values == image.values).all()
            assert back.attrs["PatientName"] == "Müller^Jörg"
            assert back.SOPInstanceUID.values.tolist() == image.SOPInstanceUID.values.tolist()
            assert affine(back) == pytest.approx(affine(image))


def test_one_frame(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path, slices=1)
    image = ixr.open_series(file)
    assert image.sizes == {"slice": 1, "row": 8, "col": 6}
    assert image.source.shape == image.SOPInstanceUID.shape == ()
    assert "SOPInstanceUID" not in image.attrs
    assert affine(image)[:3, 3] == pytest.approx([-10, -20, 30])


def test_frames_without_a_place(tmp_path: Path) -> None:
    """They open in the order of InstanceNumber, without positions; none are made up."""
    write_series(tmp_path, slices=3, tags=NOWHERE)
    image = ixr.open_series(tmp_path, "none")
    assert image.values[:, 0, 1].tolist() == [0, 1, 2]
    assert not {"slice", "row", "col"} & set(image.coords)
    with pytest.raises(ValueError, match=r"."):
        image.dicom.affine  # noqa: B018


@pytest.mark.parametrize(("order", "tag"), [("time", "AcquisitionTime"), ("time", "ContentTime"), ("te", "EchoTime")])
def test_frames_without_a_place_are_ordered_as_asked(tmp_path: Path, order: str, tag: str) -> None:
    """Those of the same label are slices of one volume, in the order of InstanceNumber."""
    labels = ["100000", "100001"] if order == "time" else [10.0, 20.0]
    write_series(tmp_path, slices=3, tags=NOWHERE, per_time={tag: labels}, values=_number)
    image = ixr.open_series(tmp_path, order)
    assert image.dims == (order, "slice", "row", "col")
    assert image.sizes[order] == 2
    assert image.values[..., 0, 0].tolist() == [[0, 1, 2], [100, 101, 102]]
    assert not {"slice", "row", "col"} & set(image.coords)


def test_several_labels_of_frames_without_a_place(tmp_path: Path) -> None:
    """Of the elements that tell time, that counts which differs where the other labels are the same."""
    per_time = {
        "EchoTime": [10.0, 10.0, 20.0, 20.0],
        "AcquisitionTime": ["100000", "100000", "100001", "100001"],
        "TriggerTime": [0.0, 500.0, 0.0, 500.0],
    }
    write_series(tmp_path, slices=3, tags=NOWHERE, per_time=per_time, values=_number)
    image = ixr.open_series(tmp_path, "te,time")
    assert image.values[..., 0, 0].tolist() == [[[0, 1, 2], [100, 101, 102]], [[200, 201, 202], [300, 301, 302]]]


def test_slices_without_a_place_are_those_of_one_location(tmp_path: Path) -> None:
    def mutate(ds: Dataset, t: int, z: int) -> None:
        ds.SliceLocation = 5 * z
        ds.InstanceNumber = 10 * t + (2 - z if t else z) + 1

    nowhere = {name: value for name, value in NOWHERE.items() if name != "SliceLocation"}
    write_series(tmp_path, slices=3, tags=nowhere, per_time={"EchoTime": [1, 2]}, values=_number, mutate=mutate)
    assert ixr.open_series(tmp_path, "te").values[..., 0, 0].tolist() == [[0, 1, 2], [100, 101, 102]]


def test_slices_without_a_place_of_one_number_are_told_by_location(tmp_path: Path) -> None:
    nowhere = {name: value for name, value in NOWHERE.items() if name != "SliceLocation"} | {"InstanceNumber": 1}
    write_series(tmp_path / "a", tags=nowhere, mutate=lambda ds, _t, z: setattr(ds, "SliceLocation", [10, 0, 5, -5][z]))
    image = ixr.open_series(tmp_path / "a")
    assert image.SliceLocation.values.tolist() == [-5, 0, 5, 10]
    assert image.values[:, 0, 1].tolist() == [3, 1, 2, 0]
    files = write_series(tmp_path / "b", slices=3, tags=NOWHERE | {"InstanceNumber": None})
    with pytest.warns(UserWarning, match=r"neither InstanceNumber nor SliceLocation tells") as caught:
        image = ixr.open_series(tmp_path / "b")
    assert caught[0].filename == __file__
    assert image.source.values.tolist() == sorted(map(str, files))


def test_slices_without_a_place_are_not_guessed_where_some_are_missing(tmp_path: Path) -> None:
    files = write_series(tmp_path, slices=3, tags=NOWHERE, per_time={"EchoTime": [1, 2]}, values=_number)
    files[3].unlink()
    with pytest.raises(MissingFramesError):
        ixr.open_series(tmp_path, "te")


@pytest.mark.parametrize("name", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_a_place_that_is_no_numbers_is_not_left_out_silently(tmp_path: Path, name: str) -> None:
    for file in write_series(tmp_path, slices=2, origin=(-10.5, -20.5, 30.5), orientation=OBLIQUE):
        told = pydicom.dcmread(file)[name].value
        text = "\\".join(map(str, told)).encode()
        data = file.read_bytes()
        assert data.count(text) == 1
        file.write_bytes(data.replace(text, text.replace(b".", b",")))
    with pytest.warns(UserWarning, match=f"{name} is .*the slices have no place"):
        image = ixr.open_series(tmp_path)
    assert image["slice"].values.tolist() == [0, 1]


def test_frames_without_a_place_have_each_their_own_time(tmp_path: Path) -> None:
    """As of a cine that was written frame by frame."""
    write_series(tmp_path, times=4, slices=1, tags=NOWHERE)
    image = ixr.open_series(tmp_path, "time")
    assert (image.time.values.tolist(), image.sizes["slice"]) == ([0, 2.5, 5, 7.5], 1)
    assert ixr.open_series(tmp_path, "none").sizes["slice"] == 4


@pytest.mark.parametrize("spacing", [None, [0, 1], [-1, 1], ["1"], ["1", "x"], ["nan", "1"]])
def test_pixel_spacing_that_cannot_be(tmp_path: Path, spacing: Any) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = write_series(tmp_path, slices=2, tags={"PixelSpacing": None if spacing is None else ["7.25", "7.25"]})
    if spacing is not None:
        text = "\\".join(map(str, spacing)).ljust(10)
        for file in files:
            file.write_bytes(file.read_bytes().replace(b"7.25\\7.25 ", text.encode()))
    with pytest.raises(MissingHeaderError, match="PixelSpacing"):
        ixr.open_series(tmp_path, "none")


def test_pixel_spacing_that_varies(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        ds.PixelSpacing = [1, 1 + z]

    write_series(tmp_path, slices=3, mutate=mutate)
    with pytest.raises(ValueError, match="stacks"):
        ixr.open_series(tmp_path, "none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"NumberOfFrames": 4}, "is cut short: its 4 frames need at least"),
    ],
)
def test_images_of_other_kinds_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_series(tmp_path, slices=1, mutate=lambda ds, _t, _z: ds.update(changes))
    with pytest.raises(UnreadableFileError, match=message):
        ixr.open_series(tmp_path, "none")


@pytest.mark.parametrize(
    ("shape", "itemsize", "lead"),
    [
        ((60, 40, 256, 256), 2, 2),
        ((5000, 512, 512), 2, 1),
        ((100, 3, 20, 64, 64), 4, 3),
        ((3, 30000, 20000), 2, 1),
        ((1, 1, 1), 1, 1),
    ],
)
def test_preferred_chunks_are_whole_frames_of_a_good_size(shape: tuple[int, ...], itemsize: int, lead: int) -> None:
    chunks = preferred_chunks(shape, itemsize, lead)
    assert [chunks[axis] for axis in range(lead, len(shape))] == list(shape[lead:])
    size = itemsize * int(np.prod(chunks))
    whole = itemsize * int(np.prod(shape))
    frame = itemsize * int(np.prod(shape[lead:]))
    assert size <= 64 << 20 or size == frame
    if whole > 64 << 20 >= 2 * frame:
        assert size >= 24 << 20


def test_origins_follow(tmp_path: Path) -> None:
    from imagedata_xr.origins import origins

    write_series(tmp_path, times=2, slices=2)
    image = ixr.open_series(tmp_path, "time")
    (origin,) = origins(image)
    assert origin.PatientID == "P1"
    assert origin.SeriesInstanceUID == image.attrs["SeriesInstanceUID"]
    assert origins(image.mean("time")) == {origin}
