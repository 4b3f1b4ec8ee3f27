"""Kinds of files that are rare: places and times are those that the standard gives, and what is no volume is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pydicom
import pytest
import xarray as xr
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedXAImageStorage,
    MRSpectroscopyStorage,
    NuclearMedicineImageStorage,
    OphthalmicTomographyImageStorage,
    ParametricMapStorage,
    UltrasoundMultiFrameImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)

import imagedata_xr as ixr
from imagedata_xr.errors import OrderError, UnreadableFileError
from tests.dicom.multi import macro, write_enhanced
from tests.generate import AXIAL, _header, frame_values, save, uid, write_series

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = np.arange(6 * 4 * 6, dtype="<u2").reshape(6, 4, 6)


def _frames(file: Path, sop_class: UID, **values: Any) -> Path:
    """Write the six frames above with these elements."""
    ds = _header("P1", "study", "kinds", 1, sop_class)
    ds.SOPInstanceUID, ds.InstanceNumber = uid("kinds", sop_class), 1
    ds.NumberOfFrames, ds.Rows, ds.Columns = FRAMES.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = FRAMES.tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return save(ds, file)


@pytest.mark.parametrize("second", [10, 100])
def test_slices_of_each_detector_lie_where_that_detector_says(tmp_path: Path, second: float) -> None:
    detectors = DicomSequence(
        macro(ImagePositionPatient=[1, 2, z], ImageOrientationPatient=list(AXIAL))[0] for z in (10, second)
    )
    file = _frames(
        tmp_path / "nm",
        NuclearMedicineImageStorage,
        ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"],
        FrameIncrementPointer=[0x00540020, 0x00540080],
        DetectorVector=[1, 1, 1, 2, 2, 2],
        SliceVector=[1, 2, 3, 1, 2, 3],
        SpacingBetweenSlices=4,
        PixelSpacing=[4, 4],
        DetectorInformationSequence=detectors,
    )
    image = ixr.open_series(file)
    if second == 10:
        assert image.DetectorVector.values.tolist() == [1, 2]
        np.testing.assert_array_equal(image, FRAMES.reshape(2, 3, 4, 6))
    else:
        assert image.slice.values.tolist() == [10, 14, 18, 100, 104, 108]
        np.testing.assert_array_equal(image, FRAMES)


def _dynamic(file: Path, slices: list[int]) -> Path:
    phases = DicomSequence(
        macro(PhaseDelay=delay, ActualFrameDuration=duration, PauseBetweenFrames=pause, NumberOfFramesInPhase=count)[0]
        for delay, duration, pause, count in ((0, 1000, 100, 2), (500, 5000, 0, 1))
    )
    return _frames(
        file,
        NuclearMedicineImageStorage,
        ImageType=["ORIGINAL", "PRIMARY", "DYNAMIC", "EMISSION"],
        FrameIncrementPointer=[0x00540010, 0x00540020, 0x00540030, 0x00540100],
        EnergyWindowVector=[1] * 6,
        DetectorVector=[1, 1, 1, 2, 2, 2],
        PhaseVector=[1, 1, 2] * 2,
        TimeSliceVector=slices * 2,
        PhaseInformationSequence=phases,
        DetectorInformationSequence=DicomSequence([Dataset(), Dataset()]),
    )


def test_frames_of_a_dynamic_nuclear_image_are_times(tmp_path: Path) -> None:
    image = ixr.open_series(_dynamic(tmp_path / "nm", [1, 2, 1]))
    assert image.dims == ("time", "DetectorVector", "slice", "row", "col")
    np.testing.assert_allclose(image.time, [0, 1.1, 2.6])
    np.testing.assert_array_equal(image[:, :, 0], FRAMES.reshape(2, 3, 4, 6).swapaxes(0, 1))
    # No times are made up where the phases have not as many frames.
    assert ixr.open_series(_dynamic(tmp_path / "other", [1, 3, 1])).dims == ("slice", "row", "col")


@pytest.mark.parametrize("step", [0.006, 0.0098, 0.02])
def test_slices_of_a_few_micrometres_are_told_apart(tmp_path: Path, step: float) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        item.PlanePositionSequence[0].ImagePositionPatient = [0, 0, round(step * z, 6)]

    file = write_enhanced(
        tmp_path / "oct", spacing=(0.004, 0.012), group=group, sop_class=OphthalmicTomographyImageStorage
    )
    image = ixr.open_series(file)
    assert image.dims == ("slice", "row", "col")
    np.testing.assert_allclose(image.slice, step * np.arange(4), atol=1e-6)
    np.testing.assert_array_equal(image, [frame_values(0, z, 8, 6) for z in range(4)])


def test_a_cine_has_the_times_that_it_points_to(tmp_path: Path) -> None:
    both = {"FrameTime": "40", "FrameTimeVector": [0, 10, 20, 30, 40, 50]}
    times = {0x00181065: [0, 0.01, 0.03, 0.06, 0.1, 0.15], 0x00181063: [0, 0.04, 0.08, 0.12, 0.16, 0.2]}
    for pointer, want in times.items():
        file = _frames(tmp_path / "us", UltrasoundMultiFrameImageStorage, FrameIncrementPointer=pointer, **both)
        np.testing.assert_allclose(ixr.open_series(file).time, want)


def test_frames_that_nothing_tells_apart_open_as_they_lie_in_the_file(tmp_path: Path) -> None:
    file = _frames(
        tmp_path / "us", UltrasoundMultiFrameImageStorage, FrameIncrementPointer=0x00181065, FrameTimeVector=[0, 10, 20]
    )
    with pytest.raises(OrderError, match="FrameTimeVector has 3 values\\nWith order='none' and duplicates='stack'"):
        ixr.open_series(file)
    image = ixr.open_series(file, "none", duplicates="stack")
    assert image.dims[0] == "duplicate"
    np.testing.assert_array_equal(image[:, 0], FRAMES)


@pytest.mark.parametrize("is_read", [False, True])
def test_grey_ultrasound_is_written_in_8_bits(tmp_path: Path, is_read: bool) -> None:
    frames = FRAMES.astype("u1")
    file = _frames(
        tmp_path / "us",
        UltrasoundMultiFrameImageStorage,
        **{"FrameTime": "40", "FrameIncrementPointer": 0x00181063, "PixelData": frames.tobytes()},
        **{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    )
    image = ixr.open_series(file)
    if is_read:
        image.load()
    headers = [pydicom.dcmread(path) for path in ixr.write(image, tmp_path / "out")]
    np.testing.assert_array_equal([header.pixel_array for header in headers], frames)
    # The only ones that the Ultrasound Image IOD has (PS3.3 A.6.4).
    assert {(h.BitsAllocated, h.BitsStored, h.PixelRepresentation) for h in headers} == {(8, 8, 0)}
    np.testing.assert_array_equal(ixr.open_series(tmp_path / "out", "time"), image)
    if is_read:
        image.values[2, 0, 0, 0] = -3
        ixr.write(image, tmp_path / "more")
        np.testing.assert_array_equal(ixr.open_series(tmp_path / "more", "time"), image)
    chunked = image.chunk(time=1)
    filtered = chunked.copy(data=chunked.data * 3 - 5)
    ixr.write(filtered, tmp_path / "filtered")
    np.testing.assert_array_equal(ixr.open_series(tmp_path / "filtered", "time"), filtered)


def test_volumes_without_a_place_are_not_put_on_top_of_each_other(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        del item.PlanePositionSequence

    image = ixr.open_series(write_enhanced(tmp_path / "us", times=2, group=group))
    assert image.dims == ("time", "slice", "row", "col")
    np.testing.assert_array_equal(image, [[frame_values(t, z, 8, 6) for z in range(4)] for t in range(2)])
    assert "slice" not in image.coords


def test_frames_of_an_enhanced_angiography_are_times(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        del item.PlanePositionSequence

    file = write_enhanced(
        tmp_path / "xa", times=5, slices=1, group=group, order=[3, 0, 4, 1, 2], sop_class=EnhancedXAImageStorage
    )
    image = ixr.open_series(file)
    assert image.dims == ("time", "slice", "row", "col")
    np.testing.assert_allclose(image.time, 2.5 * np.arange(5))
    np.testing.assert_array_equal(image[:, 0], [frame_values(t, 0, 8, 6) for t in range(5)])


@pytest.mark.parametrize("motion", ["Cardiac", "Respiratory"])
def test_phases_told_by_percentages_are_sorted(tmp_path: Path, motion: str) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        del item.FrameContentSequence[0].FrameAcquisitionDateTime, item.FrameContentSequence[0].TemporalPositionIndex
        percentage = {f"NominalPercentageOf{motion}Phase": 30.0 - 10 * t}
        setattr(item, f"{motion}SynchronizationSequence", macro(**percentage))

    image = ixr.open_series(write_enhanced(tmp_path / "ct", times=3, group=group, sop_class=EnhancedCTImageStorage))
    assert image[f"NominalPercentageOf{motion}Phase"].values.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(image[::-1, 2], [frame_values(t, 2, 8, 6) for t in range(3)])


@pytest.mark.parametrize("has_places", [False, True])
def test_tiles_of_a_slide_are_no_slices(tmp_path: Path, has_places: bool) -> None:
    places = [
        macro(ColumnPositionInTotalImagePixelMatrix=6 * column + 1, RowPositionInTotalImagePixelMatrix=4 * row + 1)
        for row, column in np.ndindex(2, 3)
    ]
    tiles = DicomSequence(macro(PlanePositionSlideSequence=place)[0] for place in places)
    file = _frames(
        tmp_path / "sm",
        VLWholeSlideMicroscopyImageStorage,
        TotalPixelMatrixRows=8,
        TotalPixelMatrixColumns=18,
        SharedFunctionalGroupsSequence=macro(PixelMeasuresSequence=macro(PixelSpacing=[0.001, 0.001])),
        **({"PerFrameFunctionalGroupsSequence": tiles} if has_places else {}),
    )
    with pytest.raises(UnreadableFileError, match="whole slide image: its 6 frames are tiles of one picture of 8 × 18"):
        ixr.open_series(file)


def test_one_tile_of_a_slide_is_no_slice(tmp_path: Path) -> None:
    """As a file has it that is a part of a concatenation; a label is a whole picture."""
    tile = FRAMES[:1]
    elements = {
        **{"NumberOfFrames": 1, "PixelData": tile.tobytes(), "TotalPixelMatrixRows": 4},
        "SharedFunctionalGroupsSequence": macro(PixelMeasuresSequence=macro(PixelSpacing=[0.001, 0.001])),
    }
    file = _frames(tmp_path / "sm", VLWholeSlideMicroscopyImageStorage, **elements, TotalPixelMatrixColumns=18)
    with pytest.raises(UnreadableFileError, match="its frame is a tile of one picture of 4 × 18 pixels, and no slice"):
        ixr.open_series(file)
    label = _frames(tmp_path / "label", VLWholeSlideMicroscopyImageStorage, **elements, TotalPixelMatrixColumns=6)
    np.testing.assert_array_equal(ixr.open_series(label), tile)


def test_spectra_beside_images_are_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path)
    ds = _header("P1", "study", "spectra", 2, MRSpectroscopyStorage)
    ds.SOPInstanceUID = uid("spectra")
    ds.Rows, ds.Columns, ds.NumberOfFrames = 8, 8, 1
    ds.SharedFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence = macro()
    ds.SpectroscopyData = np.zeros(128, "<f4").tobytes()
    save(ds, tmp_path / "spectra")
    assert ixr.open_series(tmp_path).shape == (4, 8, 6)
    assert len(ixr.scan(tmp_path)) == 1


def test_headers_of_a_template_are_those_of_the_nearest_slice(tmp_path: Path) -> None:
    def comment(ds: Dataset, t: int, z: int) -> Dataset:
        ds.ImageComments = f"slice {z}"
        return ds

    write_series(tmp_path / "micro", spacing=(0.004, 0.004), gap=0.006, mutate=comment)
    image = ixr.open_series(tmp_path / "micro")
    mask = (image > 3).isel(slice=[1, 3]).drop_vars("ImageComments")
    files = ixr.write(mask, tmp_path / "out", template=image)
    assert [pydicom.dcmread(file).ImageComments for file in files] == ["slice 1", "slice 3"]


def test_damaged_phases_and_maps_are_told_by_name(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        item.RealWorldValueMappingSequence = macro(
            LUTLabel="T1", RealWorldValueSlope=2.0, MeasurementUnitsCodeSequence=macro(CodeValue="ms")
        )

    phases = _dynamic(tmp_path / "nm", [1, 2, 1])
    maps = write_enhanced(tmp_path / "pm", group=group, sop_class=ParametricMapStorage)
    for file, element, sequence in (
        (phases, b"\x18\x00\x42\x12IS", "PhaseInformationSequence"),
        (maps, b"\x08\x00\x00\x01SH\x02\x00ms", "RealWorldValueMappingSequence"),
    ):
        data = file.read_bytes()
        assert element in data
        file.write_bytes(data.replace(element, element[:4] + b"CH" + element[6:]))
        with pytest.raises(UnreadableFileError, match=f"is a damaged DICOM file: .* in {sequence}"):
            ixr.open_series(file)


def _picture(file: Path, series: str = "picture", **values: Any) -> Path:
    ds = _header("P1", "study", series, 1, DigitalXRayImageStorageForPresentation)
    ds.SOPInstanceUID, ds.InstanceNumber, ds.Modality = uid(series, "1"), 1, "DX"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 4, 6, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelSpacing, ds.ImagerPixelSpacing = [0.2, 0.1], [0.25, 0.125]
    ds.PixelData = FRAMES[0].tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return save(ds, file)


def test_the_distance_of_pixels_of_a_picture_is_told(tmp_path: Path) -> None:
    """A radiograph has no place, but can be measured; every second row of it is as far from the next as two rows."""
    image = ixr.open_series(_picture(tmp_path / "a.dcm"))
    assert image.attrs["PixelSpacing"] == [0.2, 0.1]
    with pytest.warns(UserWarning, match="2 x 6 pixels of 4 x 6 .* PixelSpacing and ImagerPixelSpacing"):
        image.isel(row=slice(None, None, 2)).dicom.write(tmp_path / "as it was")
    every_second = image.isel(row=slice(None, None, 2)).assign_attrs(PixelSpacing=[0.4, 0.1])
    [file] = every_second.dicom.write(tmp_path / "as it is")  # warnings are errors
    assert pydicom.dcmread(file).PixelSpacing == [0.4, 0.1]
    [file] = (image * 2).dicom.write(tmp_path / "double")
    assert pydicom.dcmread(file).PixelSpacing == [0.2, 0.1]


def test_frames_without_a_place_keep_the_distance_of_pixels(tmp_path: Path) -> None:
    file = _frames(tmp_path / "us", UltrasoundMultiFrameImageStorage, PixelSpacing=[0.2, 0.1], FrameTime=40)
    image = ixr.open_series(file)
    assert image.attrs["PixelSpacing"] == [0.2, 0.1]
    for frame in (image * 2).dicom.write(tmp_path / "out"):
        assert pydicom.dcmread(frame).PixelSpacing == [0.2, 0.1]
    every_second = image.isel(col=slice(None, None, 2))
    for number, part in enumerate((every_second, every_second * 2)):
        with pytest.warns(UserWarning, match=r"4 x 3 pixels of 4 x 6 .* the PixelSpacing of"):
            part.dicom.write(tmp_path / f"as it was {number}")
    every_second.assign_attrs(PixelSpacing=[0.2, 0.2]).dicom.write(tmp_path / "as it is")  # warnings are errors
    file.unlink()
    image.isel(time=[0]).copy(data=np.zeros((1, 1, 4, 6), "i2")).dicom.write(tmp_path / "without its file")


def test_pictures_of_several_scales_keep_their_own(tmp_path: Path) -> None:
    """Through a microscope a thousandth of a mm is much."""
    scales = [[0.004, 0.004], [0.0045, 0.0045]]
    images = [
        ixr.open_series(_picture(tmp_path / f"{number}", f"{number}", PixelSpacing=scale))
        for number, scale in enumerate(scales)
    ]
    files = ixr.concat(images, pd.Index([0.0, 1.0], name="time")).dicom.write(tmp_path / "out")
    assert [pydicom.dcmread(file).PixelSpacing for file in files] == scales


def test_sums_of_pictures_of_several_scales_have_none_unnoticed(tmp_path: Path) -> None:
    """xarray drops the distance of pixels of two that differ, and that of a third comes in its place."""
    scales = {"a": [0.1, 0.1], "b": [0.2, 0.2], "c": [0.3, 0.3], "d": [0.1, 0.1]}
    a, b, c, d = (
        ixr.open_series(_picture(tmp_path / name, name, PixelSpacing=scale, ImagerPixelSpacing=scale))
        for name, scale in scales.items()
    )
    total = (a + b) + c
    with pytest.warns(UserWarning, match=r"0\.1 0\.1, 0\.2 0\.2, 0\.3 0\.3 mm apart, and is written with 0\.3 0\.3 mm"):
        total.dicom.write(tmp_path / "as it was")
    with pytest.warns(UserWarning, match=r"written with 0\.3 0\.3 mm.* template="):
        total.dicom.write(tmp_path / "another's", template=b)
    [file] = total.dicom.write(tmp_path / "meant", template=c)  # warnings are errors
    assert pydicom.dcmread(file).PixelSpacing == [0.3, 0.3]
    for name, image in {"set": total.assign_attrs(PixelSpacing=[0.15, 0.15]), "none": a + b, "same": a + d}.items():
        [file] = image.dicom.write(tmp_path / name)  # warnings are errors
        assert pydicom.dcmread(file).get("PixelSpacing") == {"set": [0.15, 0.15], "same": [0.1, 0.1]}.get(name)


def test_a_template_of_another_size_does_not_tell_the_distance_of_pixels(tmp_path: Path) -> None:
    image = ixr.open_series(_picture(tmp_path / "a.dcm"))
    larger = xr.DataArray(np.zeros((1, 8, 12), "i2"), dims=("slice", "row", "col"), name="image")
    with pytest.warns(UserWarning, match="8 x 12 pixels of 4 x 6 .* PixelSpacing and ImagerPixelSpacing"):
        larger.dicom.write(tmp_path / "as it was", template=image)
    [file] = larger.assign_attrs(PixelSpacing=[0.1, 0.05]).dicom.write(tmp_path / "as it is", template=image)
    assert pydicom.dcmread(file).PixelSpacing == [0.1, 0.05]
    larger[:, :4, :6].dicom.write(tmp_path / "of its size", template=image)
