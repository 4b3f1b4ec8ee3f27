"""Doses: what is written has the values and the places that were read, in Gray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, RTDoseStorage

import imagedata_xr as ixr
from imagedata_xr.errors import MissingHeaderError, MixedSeriesError, UnreadableFileError, ValuesNotStorableError
from tests.generate import AXIAL, _header, save, uid, write_series

if TYPE_CHECKING:
    from pathlib import Path

STORED = np.random.default_rng(5).integers(0, 2**32 - 1, (4, 4, 6), dtype="<u4")
GRAY = STORED * 1e-8


def _dose(file: Path, frames: np.ndarray, position: tuple[float, ...] = (1, 2, -30), **values: Any) -> Path:
    ds = _header("P1", "study", "dose", 1, RTDoseStorage)
    ds.Modality, ds.SliceThickness = "RTDOSE", None
    ds.SOPInstanceUID, ds.InstanceNumber = uid("dose", *position), 1
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 32, 32, 31, 0
    ds.PixelData = frames.tobytes()
    ds["PixelData"].VR = "OW"
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = list(position), list(AXIAL), [2.5, 3]
    ds.FrameIncrementPointer, ds.GridFrameOffsetVector = 0x3004000C, [2.0 * k for k in range(len(frames))]
    ds.DoseUnits, ds.DoseType, ds.DoseSummationType, ds.DoseGridScaling = "GY", "PHYSICAL", "PLAN", "1e-8"
    for keyword, value in values.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    file.parent.mkdir(exist_ok=True)
    return save(ds, file)


def _single(folder: Path) -> Path:
    """Write planes of a dose in files of their own."""
    for k in range(4):
        offset = [-30.0 + 2 * k] if k % 2 else None
        _dose(folder / f"{k}", STORED[k : k + 1], (1, 2, -30 + 2 * k), GridFrameOffsetVector=offset)
    return folder


def test_planes_of_a_dose_are_written_as_they_are(tmp_path: Path) -> None:
    image = ixr.open_series(_single(tmp_path / "source"))
    np.testing.assert_allclose(image, GRAY)
    assert "DoseGridScaling" not in image.attrs  # of stored values, which are not seen
    files = ixr.write(image, tmp_path / "out")
    for k, file in enumerate(files):
        header = pydicom.dcmread(file)
        np.testing.assert_array_equal(header.pixel_array, STORED[k])
        assert (header.DoseGridScaling, "RescaleSlope" in header) == (1e-8, False)
    back = ixr.open_series(tmp_path / "out")
    np.testing.assert_array_equal(back, image)
    assert back.dicom.geometry_equal(image)


@pytest.mark.parametrize("few", [False, True])
def test_computed_doses_are_told_by_their_scaling(tmp_path: Path, few: bool) -> None:
    image = ixr.open_series(_single(tmp_path / "source")).isel(slice=slice(0, 2 if few else None)) * 2
    if not few:  # many frames of one kind, of which files are made out of each other
        image = ixr.concat([image * (1 + k) for k in range(3)], "EchoTime").assign_coords(EchoTime=[1, 2, 3])
    files = ixr.write(image, tmp_path / "out")
    for file, values in zip(files, image.values.reshape(-1, 4, 6), strict=True):
        header = pydicom.dcmread(file)
        assert not {"RescaleSlope", "RescaleIntercept", "RescaleType"} & set(header.dir())
        gray = header.pixel_array * float(header.DoseGridScaling)
        np.testing.assert_allclose(gray, values, atol=image.values.max() / 65535)
        assert "GridFrameOffsetVector" not in header
    back = ixr.open_series(tmp_path / "out", "none" if few else "EchoTime")
    np.testing.assert_allclose(back, image, atol=image.values.max() / 65535)
    np.testing.assert_allclose(back.slice, image.slice)


def test_only_differences_of_doses_are_below_zero(tmp_path: Path) -> None:
    image = ixr.open_series(_single(tmp_path / "source"))
    difference = image - 20
    with pytest.raises(ValuesNotStorableError, match="DoseType='ERROR'"):
        ixr.write(difference, tmp_path / "out")
    ixr.write(difference.assign_attrs(DoseType="ERROR"), tmp_path / "out")
    np.testing.assert_allclose(ixr.open_series(tmp_path / "out"), difference, atol=1e-3)


def test_what_was_computed_of_stored_values_is_not_in_gray(tmp_path: Path) -> None:
    stored = ixr.open_series(_single(tmp_path / "source"), rescale=False)
    ixr.write(stored, tmp_path / "same")
    np.testing.assert_array_equal(ixr.open_series(tmp_path / "same"), GRAY)
    [first, *_] = ixr.write(stored / 7, tmp_path / "other")
    assert pydicom.dcmread(first).DoseUnits == "RELATIVE"


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_only_differences_of_doses_have_signed_pixels(tmp_path: Path, dtype: str) -> None:
    """PixelRepresentation is 1 where DoseType is ERROR, and nowhere else (PS3.3 C.8.8.3.4.2)."""
    whole = ixr.open_series(_single(tmp_path / "source")).round().astype(dtype)
    for number, (image, signed) in enumerate([(whole, 0), ((whole - 9).assign_attrs(DoseType="ERROR"), 1)]):
        files = ixr.write(image, tmp_path / f"{number}")
        assert {pydicom.dcmread(file).PixelRepresentation for file in files} == {signed}
        np.testing.assert_array_equal(ixr.open_series(tmp_path / f"{number}"), image)


@pytest.mark.parametrize("offsets", [(0, 2, 4, 6), (-30, -28, -26, -24)])
def test_a_dose_grid_with_the_headers_of_a_ct_has_the_same_values(tmp_path: Path, offsets: tuple[int, ...]) -> None:
    dose = ixr.open_series(_dose(tmp_path / "dose", STORED, GridFrameOffsetVector=list(offsets)))
    write_series(tmp_path / "ct", rows=4, cols=6, gap=2, spacing=(2.5, 3), origin=(1, 2, -30), sop_class=CTImageStorage)
    files = ixr.write(dose, tmp_path / "out", template=ixr.open_series(tmp_path / "ct"))
    header = pydicom.dcmread(files[0])
    assert not {"DoseGridScaling", "GridFrameOffsetVector"} & set(header.dir())
    back = ixr.open_series(tmp_path / "out")
    np.testing.assert_allclose(back, dose, atol=GRAY.max() / 65535)
    assert back.dicom.geometry_equal(dose)


def test_doses_that_do_not_tell_scaling_or_planes_raise(tmp_path: Path) -> None:
    file = _dose(tmp_path / "dose", STORED, DoseGridScaling=None)
    with pytest.raises(MissingHeaderError, match=r"no DoseGridScaling.*rescale=False"):
        ixr.open_series(file)
    np.testing.assert_array_equal(ixr.open_series(file, rescale=False), STORED)
    file = _dose(tmp_path / "dose", STORED, GridFrameOffsetVector=None)
    with pytest.raises(UnreadableFileError, match="dose grid with None in GridFrameOffsetVector; 4 numbers"):
        ixr.open_series(file)


def test_the_size_of_one_slice_whose_thickness_is_empty_is_asked_for(tmp_path: Path) -> None:
    image = ixr.open_series(_dose(tmp_path / "dose", STORED[:1]))
    with pytest.raises(ixr.errors.GeometryError, match="one slice and no SpacingBetweenSlices or SliceThickness"):
        image.dicom.affine  # noqa: B018 - it is asking that must raise
    assert image.assign_attrs(SliceThickness=4.0).dicom.affine[2, 0] == 4


@pytest.mark.parametrize("z", [-29, -22, 20])
def test_doses_of_other_planes_are_no_dose_together(tmp_path: Path, z: float) -> None:
    """Planes of one lie between those of the other, or after them."""
    _dose(tmp_path / "a", STORED)
    _dose(tmp_path / "b", STORED[:, ::-1], (1, 2, z))
    with pytest.raises(MixedSeriesError, match=r"2 stacks.*\n.*from \(1, 2, -30\) to \(1, 2, -24\) mm"):
        ixr.open_series(tmp_path)
    one, two = (node["image"] for node in ixr.open_study(tmp_path).leaves)
    np.testing.assert_allclose(one, GRAY)
    np.testing.assert_allclose(two, GRAY[:, ::-1])
    assert two.slice.values.tolist() == [z, z + 2, z + 4, z + 6]


def test_doses_of_the_same_planes_are_told_apart_by_an_order(tmp_path: Path) -> None:
    for number, kind in enumerate(("PHYSICAL", "EFFECTIVE")):
        _dose(tmp_path / kind, STORED, DoseType=kind, SOPInstanceUID=uid("dose", kind), InstanceNumber=number)
    assert ixr.open_series(tmp_path, "DoseType").sizes["DoseType"] == 2
