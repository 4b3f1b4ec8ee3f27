"""Files of many frames open as files of one image each would."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    NuclearMedicineImageStorage,
    ParametricMapStorage,
    RLELossless,
    RTDoseStorage,
    SegmentationStorage,
    UltrasoundMultiFrameImageStorage,
)

import imagedata_xr as ixr
from imagedata_xr.dicom.scan import scan
from imagedata_xr.errors import (
    MissingFramesError,
    MissingHeaderError,
    MissingSlicesWarning,
    MixedSeriesError,
    OrderError,
    UnreadableFileError,
)
from tests.dicom.multi import macro, write_enhanced
from tests.generate import AXIAL, CORONAL, OBLIQUE, _header, frame_values, save, truth_affine, uid, write_series

if TYPE_CHECKING:
    from pathlib import Path

SHUFFLED = np.random.default_rng(1).permutation(12).tolist()


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, OBLIQUE])
def test_shuffled_frames_have_the_places_and_values_of_classic_ones(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    file = write_enhanced(tmp_path / "enhanced", times=3, order=SHUFFLED, orientation=orientation)
    write_series(tmp_path / "classic", times=3, orientation=orientation)
    image, classic = ixr.open_series(file), ixr.open_series(tmp_path / "classic", "time")
    assert image.dims == ("time", "slice", "row", "col")
    np.testing.assert_array_equal(image, classic)
    assert image.dtype == classic.dtype
    np.testing.assert_allclose(image.dicom.affine, truth_affine(orientation=orientation), atol=1e-6)
    np.testing.assert_allclose(image.time, [0, 2.5, 5])
    assert str(image.AcquisitionDateTime.item()) == "2026-01-02T10:00:00"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless])
def test_every_transfer_syntax_gives_the_same(tmp_path: Path, syntax: Any) -> None:
    plain = ixr.open_series(write_enhanced(tmp_path / "plain", times=2))
    image = ixr.open_series(write_enhanced(tmp_path / "other", times=2, syntax=syntax))
    np.testing.assert_array_equal(image, plain)
    np.testing.assert_allclose(image.dicom.affine, plain.dicom.affine)
    assert image.attrs["EffectiveEchoTime"] == 4.5
    np.testing.assert_array_equal(image.FrameAcquisitionDateTime, plain.FrameAcquisitionDateTime)


def test_elements_of_functional_groups_are_attributes_and_coordinates(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        item.MREchoSequence = macro(EffectiveEchoTime=10.0 * (t + 1))
        item.MRDiffusionSequence = macro(
            DiffusionBValue=float(100 * t),
            DiffusionDirectionality="DIRECTIONAL",
            DiffusionGradientDirectionSequence=macro(DiffusionGradientOrientation=[0.0, 0.6, 0.8]),
        )
        item.CardiacSynchronizationSequence = macro(NominalCardiacTriggerDelayTime=5.0 * t)
        item.FrameVOILUTSequence = macro(WindowCenter=10 * z, WindowWidth=4)

    file = write_enhanced(tmp_path / "f", times=2, group=group)
    image = ixr.open_series(file, "te")
    assert image.te.values.tolist() == [10, 20]  # a frame's own, not the shared
    assert image.attrs["FlipAngle"] == 15
    assert image.attrs["RepetitionTime"] == 100
    assert image.attrs["DiffusionGradientOrientation"] == [0, 0.6, 0.8]
    assert image.DiffusionBValue.dims == ("te",)
    assert image.DiffusionBValue.values.tolist() == [0, 100]
    assert image.WindowCenter.dims == ("slice",)
    assert image.attrs["ImageType"] == ["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"]
    assert ixr.open_series(file, "triggertime").triggertime.values.tolist() == [0, 0.005]
    assert image.source_frame.values.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_each_frame_has_its_own_rescale_and_kind_of_image(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        item.PixelValueTransformationSequence = macro(RescaleSlope=0.5 + t, RescaleIntercept=-t)
        item.MRImageFrameTypeSequence = macro(
            FrameType=["ORIGINAL", "PRIMARY", "B0", ("M", "P")[t]], ComplexImageComponent=("MAGNITUDE", "PHASE")[t]
        )

    file = write_enhanced(tmp_path / "f", times=2, group=group)
    image = ixr.open_series(file, "image_type")
    assert image.image_type.values.tolist() == ["M", "P"]
    stored = ixr.open_series(file, "image_type", rescale=False)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[0], 0.5 * stored[0])
    np.testing.assert_array_equal(image[1], 1.5 * stored[1] - 1)


def test_complex_component_tells_images_apart_where_frame_types_agree(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        item.MRImageFrameTypeSequence = macro(
            FrameType=["ORIGINAL", "PRIMARY", "T1", "NONE"], ComplexImageComponent=("PHASE", "MAGNITUDE")[t]
        )

    image = ixr.open_series(write_enhanced(tmp_path / "f", times=2, group=group), "image_type")
    assert image.image_type.values.tolist() == ["M", "P"]
    assert image[:, 0, 0, 0].values.tolist() == [1, 0]


def test_groups_win_over_the_top_level(tmp_path: Path) -> None:
    def mutate(ds: Dataset) -> None:
        ds.ImagePositionPatient = [0, 0, 0]
        ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        ds.PixelSpacing = [9, 9]

    image = ixr.open_series(write_enhanced(tmp_path / "f", mutate=mutate))
    np.testing.assert_allclose(image.dicom.affine, truth_affine(), atol=1e-6)


def test_two_stacks_of_one_file_are_told_apart(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        item.FrameContentSequence[0].StackID = str(t + 1)

    file = write_enhanced(tmp_path / "f", times=2, group=group)
    with pytest.raises(MixedSeriesError, match="2 stacks") as caught:
        ixr.open_series(file)
    assert str(caught.value).endswith("with open_study(source)"), "no list of files has one of them"
    images = [node["image"] for node in ixr.open_study(file).subtree if "image" in node]
    assert [image.shape for image in images] == [(4, 8, 6)] * 2
    assert [int(image[0, 0, 0]) for image in images] == [0, 1]


def test_a_missing_frame_is_named(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "f", times=3, order=[i for i in range(12) if i != 6])
    with pytest.raises(MissingFramesError, match=r"1 of 12 frames are missing.* time 2\.5 s, slice 2 \(36\.000 mm\)"):
        ixr.open_series(file, "time")
    image = ixr.open_series(file, "time", missing="fill")
    assert np.argwhere(~image.present.values).tolist() == [[1, 2]]


def test_one_file_a_time_point_is_one_image(tmp_path: Path) -> None:
    for t in range(3):

        def later(item: Dataset, _: int, z: int, t: int = t) -> None:
            item.FrameContentSequence[0].FrameAcquisitionDateTime = f"202601021000{7 * t + 0.1 * z:09.6f}"

        write_enhanced(tmp_path / "s" / f"{9 - t}", group=later, number=t + 1)
    image = ixr.open_series(tmp_path / "s")
    assert image.shape == (3, 4, 8, 6)
    assert image.time.values.tolist() == [0, 7, 14]
    assert image.SOPInstanceUID.dims == ("time",)
    assert image.source_frame.values.tolist() == [1, 2, 3, 4]


def test_reading_a_frame_reads_that_frame_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_enhanced(tmp_path / "f", times=4, rows=64, cols=64)
    image = ixr.open_series(file)
    total, real = [0], builtins.open

    class Counting:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._file = real(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def readinto(self, buffer: Any) -> int:
            got = self._file.readinto(buffer)
            total[0] += got
            return int(got)

        def read(self, *args: int) -> bytes:
            data: bytes = self._file.read(*args)
            total[0] += len(data)
            return data

    monkeypatch.setattr(builtins, "open", Counting)
    values = image[2, 1].values
    assert total[0] == 64 * 64 * 2
    np.testing.assert_array_equal(values, frame_values(2, 1, 64, 64))


def test_header_of_a_frame_has_its_groups_only(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "f", times=2, order=[5, 0, 3, 1, 2, 4, 6, 7])
    image = ixr.open_series(file)
    got = image.dicom.header(time=1, slice=1)
    whole = pydicom.dcmread(file, stop_before_pixels=True)
    assert got.NumberOfFrames == 1
    assert list(got.PerFrameFunctionalGroupsSequence) == [whole.PerFrameFunctionalGroupsSequence[0]]
    assert got.SharedFunctionalGroupsSequence == whole.SharedFunctionalGroupsSequence
    assert "EffectiveEchoTime" not in got  # it stays in its group
    assert got.keys() == whole.keys()
    changed = image.assign_attrs(EffectiveEchoTime=7.0).dicom.header(time=1, slice=1)
    assert changed.SharedFunctionalGroupsSequence[0].MREchoSequence[0].EffectiveEchoTime == 7


def test_a_function_as_order_sees_the_groups_of_each_frame(tmp_path: Path) -> None:
    def echo(ds: Dataset) -> float:
        (group,) = ds.PerFrameFunctionalGroupsSequence
        return float(group.MREchoSequence[0].EffectiveEchoTime)

    def group(item: Dataset, t: int, z: int) -> None:
        item.MREchoSequence = macro(EffectiveEchoTime=20.0 - 5 * t)

    image = ixr.open_series(write_enhanced(tmp_path / "f", times=3, order=SHUFFLED, group=group), {"echo": echo})
    assert image.echo.values.tolist() == [10, 15, 20]
    assert image[:, 0, 0, 0].values.tolist() == [2, 1, 0]


def test_what_is_written_is_one_file_a_frame_without_groups(tmp_path: Path) -> None:
    image = ixr.open_series(write_enhanced(tmp_path / "f", times=2, orientation=OBLIQUE))
    files = ixr.write(image.isel(row=slice(2, 6)), tmp_path / "out")
    back = ixr.open_series(tmp_path / "out")
    np.testing.assert_array_equal(back, image.isel(row=slice(2, 6)))
    np.testing.assert_allclose(back.dicom.affine, image.isel(row=slice(2, 6)).dicom.affine, atol=1e-4)
    np.testing.assert_allclose(back.time, image.time)
    header = pydicom.dcmread(files[0])
    assert header.SOPClassUID.name == "MR Image Storage"
    assert header.EchoTime == 4.5
    assert "PerFrameFunctionalGroupsSequence" not in header
    assert len({pydicom.dcmread(file).SOPInstanceUID for file in files}) == 8
    with pytest.raises(ValueError, match="keep_uid"):
        ixr.write(image, tmp_path / "same", keep_uid=True)


def test_what_a_converter_found_no_group_for_is_of_the_frame(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        del item.FrameContentSequence[0].FrameAcquisitionDateTime
        item.UnassignedPerFrameConvertedAttributesSequence = macro(
            TriggerTime=40 * t, InstanceNumber=t * 4 + z + 1, ImagePositionPatient=[9, 9, 9], PatientID="X", Rows=5
        )
        item.ConversionSourceAttributesSequence = macro(ReferencedSOPInstanceUID=uid("old", t, z))

    image = ixr.open_series(write_enhanced(tmp_path / "f", times=2, group=group), "triggertime")
    assert image.triggertime.values.tolist() == [0, 0.04]
    assert image.InstanceNumber.values.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    np.testing.assert_allclose(image.dicom.affine, truth_affine(), atol=1e-6)
    assert image.attrs["PatientID"] == "P1"
    assert "ReferencedSOPInstanceUID" not in image.coords


# --- what cannot be right raises


def test_fewer_groups_than_frames_raise(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "f", mutate=lambda ds: ds.PerFrameFunctionalGroupsSequence.pop())
    with pytest.raises(UnreadableFileError, match="f has 3 items in PerFrameFunctionalGroupsSequence for its 4 frames"):
        ixr.open_series(file)


def test_shared_groups_without_those_of_frames_raise(tmp_path: Path) -> None:
    def mutate(ds: Dataset) -> None:
        del ds.PerFrameFunctionalGroupsSequence

    file = write_enhanced(tmp_path / "f", mutate=mutate)
    with pytest.raises(UnreadableFileError, match="has 0 items in PerFrameFunctionalGroupsSequence for its 4 frames"):
        ixr.open_series(file)


def test_a_frame_without_position_raises(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        if z == 2:
            del item.PlanePositionSequence

    file = write_enhanced(tmp_path / "f", group=group)
    with pytest.raises(UnreadableFileError, match=r"1 of 4 frames without ImagePositionPatient.*frame 3 is the first"):
        ixr.open_series(file)


@pytest.mark.parametrize("count", [5, 2_000_000_000])
def test_more_frames_than_the_file_holds_raise(tmp_path: Path, count: int) -> None:
    def mutate(ds: Dataset) -> None:
        ds.NumberOfFrames = count

    file = write_enhanced(tmp_path / "f", mutate=mutate)
    with pytest.raises(UnreadableFileError, match=f"f is cut short: its {count} frames need at least"):
        ixr.open_series(file)
    with pytest.warns(UserWarning, match="left out"), pytest.raises(FileNotFoundError):
        ixr.open_series(file, errors="warn")


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_a_number_of_frames_that_is_none_raises(tmp_path: Path, count: str) -> None:
    file = write_enhanced(tmp_path / "f", slices=10)
    data = file.read_bytes()
    old = b"\x28\x00\x08\x00IS\x02\x0010"
    assert data.count(old) == 1
    value = count.encode() + b" " * (len(count) % 2)
    file.write_bytes(data.replace(old, old[:6] + len(value).to_bytes(2, "little") + value))
    with pytest.raises(UnreadableFileError, match="as its NumberOfFrames; a number of at least 1 is wanted"):
        scan(file)


def test_sequences_within_sequences_without_end_are_refused_or_left_alone(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "f")
    data = file.read_bytes()
    depth = 3000
    at = data.index(b"\x00\x52\x29\x92SQ")  # SharedFunctionalGroupsSequence
    bomb = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * depth
    bomb += b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    item = b"\xfe\xff\x00\xe0" + len(bomb).to_bytes(4, "little") + bomb
    sequence = b"\x00\x52\x30\x92SQ\0\0" + len(item).to_bytes(4, "little") + item
    file.write_bytes(data[:at] + sequence)
    with pytest.raises((UnreadableFileError, FileNotFoundError)):
        ixr.open_series(file)


def test_cut_files_raise_at_any_byte(tmp_path: Path) -> None:
    data = write_enhanced(tmp_path / "f", slices=2, rows=4, cols=4).read_bytes()
    cut = tmp_path / "cut"
    for end in range(400, len(data) - 1, 97):
        cut.write_bytes(data[:end])
        with pytest.raises((UnreadableFileError, FileNotFoundError)):
            ixr.open_series(cut)


# --- other kinds of file


def _plain(sop_class: Any, frames: np.ndarray, **values: Any) -> Dataset:
    ds = _header("P1", "study", "multi", 1, sop_class)
    ds.SOPInstanceUID, ds.InstanceNumber = uid("multi", str(sop_class)), 1
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape[:3]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = frames.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    if frames.dtype.kind == "u":
        ds.PixelData = frames.tobytes()
        ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def test_an_enhanced_file_without_groups_opens_without_a_place_and_says_so(tmp_path: Path) -> None:
    def mutate(ds: Dataset) -> None:
        del ds.PerFrameFunctionalGroupsSequence, ds.SharedFunctionalGroupsSequence

    file = write_enhanced(tmp_path / "f", mutate=mutate)
    with pytest.warns(UserWarning, match="without functional groups: its 4 frames .* no place in the patient"):
        image = ixr.open_series(file)
    assert image[:, 0, 1].values.tolist() == [0, 1, 2, 3]
    assert "slice" not in image.coords


def test_clips_of_one_series_are_not_put_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ds = _plain(UltrasoundMultiFrameImageStorage, FRAMES.astype("u1"), FrameTime="40")
        ds.SOPInstanceUID = uid("clip", name)
        save(ds, tmp_path / name)
    with pytest.raises(MixedSeriesError, match="2 stacks"):
        ixr.open_series(tmp_path)


FRAMES = np.arange(5 * 4 * 6, dtype="<u2").reshape(5, 4, 6)


def test_cine_has_time(tmp_path: Path) -> None:
    frames = FRAMES.astype("u1")
    steady = _plain(UltrasoundMultiFrameImageStorage, frames, FrameTime="40", FrameIncrementPointer=0x00181063)
    image = ixr.open_series(save(steady, tmp_path / "steady"))
    assert image.dims == ("time", "slice", "row", "col")
    np.testing.assert_allclose(image.time, [0, 0.04, 0.08, 0.12, 0.16])
    np.testing.assert_array_equal(image[:, 0], frames)
    with pytest.raises(OrderError, match="Use order='time'"):
        ixr.open_series(tmp_path / "steady", "none")
    vector = _plain(
        UltrasoundMultiFrameImageStorage, frames, FrameTimeVector=[0, 10, 20, 30, 40], FrameIncrementPointer=0x00181065
    )
    image = ixr.open_series(save(vector, tmp_path / "vector"))
    np.testing.assert_allclose(image.time, [0, 0.01, 0.03, 0.06, 0.1])
    with pytest.raises(OrderError, match="several frames of one file are at one place: they are no duplicates"):
        ixr.open_series(tmp_path / "vector", "none", duplicates="first")


@pytest.mark.parametrize("step", [4.0, -4.0])
def test_nuclear_slices_follow_the_sign_of_their_spacing(tmp_path: Path, step: float) -> None:
    ds = _plain(
        NuclearMedicineImageStorage,
        FRAMES,
        ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"],
        FrameIncrementPointer=0x00540080,
        SliceVector=[1, 2, 3, 4, 5],
        SpacingBetweenSlices=step,
        PixelSpacing=[4, 4],
        DetectorInformationSequence=macro(ImagePositionPatient=[0, 0, 10], ImageOrientationPatient=list(AXIAL)),
    )
    image = ixr.open_series(save(ds, tmp_path / "nm"))
    assert image.slice.values.tolist() == sorted(10 + step * k for k in range(5))
    np.testing.assert_array_equal(image.sel(slice=10), FRAMES[0])
    assert image.SliceVector.sel(slice=10) == 1


def test_gates_of_nuclear_slices(tmp_path: Path) -> None:
    ds = _plain(
        NuclearMedicineImageStorage,
        FRAMES[:4],
        ImageType=["ORIGINAL", "PRIMARY", "RECON GATED TOMO", "EMISSION"],
        FrameIncrementPointer=[0x00540060, 0x00540070, 0x00540080],
        RRIntervalVector=[1, 1, 1, 1],
        TimeSlotVector=[1, 1, 2, 2],
        SliceVector=[1, 2, 1, 2],
        SpacingBetweenSlices=4,
        PixelSpacing=[4, 4],
        DetectorInformationSequence=macro(ImagePositionPatient=[0, 0, 10], ImageOrientationPatient=list(AXIAL)),
    )
    image = ixr.open_series(save(ds, tmp_path / "nm"))
    assert image.dims[:2] == ("TimeSlotVector", "slice")
    np.testing.assert_array_equal(image.sel(TimeSlotVector=2), FRAMES[2:4])


def test_dose_grid_has_positions_and_gray(tmp_path: Path) -> None:
    frames = (FRAMES.astype("<u4") + 1) * 70000
    ds = _plain(
        RTDoseStorage,
        frames,
        GridFrameOffsetVector=[0, 2, 4, 8, 10],
        FrameIncrementPointer=0x3004000C,
        DoseGridScaling="1e-6",
        ImagePositionPatient=[1, 2, -30],
        ImageOrientationPatient=list(AXIAL),
        PixelSpacing=[2.5, 3],
    )
    image = ixr.open_series(save(ds, tmp_path / "dose"))
    assert image.slice.values.tolist() == [-30, -28, -26, -22, -20]
    np.testing.assert_allclose(image, frames * 1e-6, rtol=1e-6)
    absolute = _plain(RTDoseStorage, frames)
    absolute.update(ds)
    absolute.GridFrameOffsetVector = [-30, -28, -26, -22, -20]
    assert ixr.open_series(save(absolute, tmp_path / "absolute")).slice.values.tolist() == [-30, -28, -26, -22, -20]
    ds.GridFrameOffsetVector = [0, 2, 4, 8]
    with pytest.raises(UnreadableFileError, match="4 in GridFrameOffsetVector; 5 numbers are wanted"):
        ixr.open_series(save(ds, tmp_path / "short"))
    ds.GridFrameOffsetVector = [7, 9, 11, 15, 17]
    with pytest.raises(UnreadableFileError, match="begins with 7 mm"):
        ixr.open_series(save(ds, tmp_path / "odd"))


def test_parametric_map_of_floats(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(size=(4, 8, 6)).astype("<f4")

    def mutate(ds: Dataset) -> None:
        del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
        ds.BitsAllocated = 32
        ds.FloatPixelData = values.tobytes()

    image = ixr.open_series(write_enhanced(tmp_path / "f", mutate=mutate, sop_class=ParametricMapStorage))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, values)


MAPS = {"T1": (0.5, 0.0), "T2": (2.0, 1.0)}


def _maps(item: Dataset, t: int, z: int) -> None:
    label, (slope, intercept) = list(MAPS.items())[t]
    item.RealWorldValueMappingSequence = macro(
        LUTLabel=label,
        LUTExplanation="",
        RealWorldValueSlope=slope,
        RealWorldValueIntercept=intercept,
        MeasurementUnitsCodeSequence=macro(CodeValue="ms"),
    )
    del item.FrameContentSequence[0].FrameAcquisitionDateTime, item.FrameContentSequence[0].TemporalPositionIndex


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_maps_of_several_quantities_are_told_apart_by_name(tmp_path: Path, syntax: Any) -> None:
    file = write_enhanced(
        tmp_path / "pm",
        times=2,
        order=[5, 0, 3, 1, 2, 4, 6, 7],
        group=_maps,
        syntax=syntax,
        sop_class=ParametricMapStorage,
    )
    with pytest.warns(UserWarning, match="is not applied: 'T") as told:
        image = ixr.open_series(file)
    for text in ("'T1' is 0.5 * image + 0 [ms]", "'T2' is 2 * image + 1 [ms]"):
        assert text in str(told[0].message)
    assert image.dims == ("LUTLabel", "slice", "row", "col")
    assert image.LUTLabel.values.tolist() == ["T1", "T2"]
    np.testing.assert_array_equal(image, [[frame_values(t, z, 8, 6) for z in range(4)] for t in range(2)])
    header = image.dicom.header(LUTLabel=1, slice=2)
    assert "LUTLabel" not in header
    assert header.PerFrameFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].LUTLabel == "T2"


def test_names_of_maps_are_not_written_to_files_of_one_image(tmp_path: Path) -> None:
    image = ixr.open_series(write_enhanced(tmp_path / "f", times=1, group=_maps))
    assert image.attrs["LUTLabel"] == "T1"
    assert not any("LUTLabel" in pydicom.dcmread(file) for file in ixr.write(image, tmp_path / "out"))


def _segmentation(path: Path, kind: str, frames: dict[tuple[int, int], np.ndarray]) -> Path:
    keys = list(frames)

    def group(item: Dataset, t: int, z: int) -> None:
        segment, place = keys[t]
        item.SegmentIdentificationSequence = macro(ReferencedSegmentNumber=segment)
        item.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3 * place]
        del item.FrameContentSequence[0].FrameAcquisitionDateTime

    def mutate(ds: Dataset) -> None:
        ds.Modality, ds.SegmentationType = "SEG", kind
        ds.SegmentSequence = DicomSequence()
        for number, label in ((1, "liver"), (2, "tumour")):
            segment = Dataset()
            segment.SegmentNumber, segment.SegmentLabel = number, label
            ds.SegmentSequence.append(segment)
        stack = np.stack(list(frames.values())).astype("u1")
        bits = 1 if kind == "BINARY" else 8
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
        if kind == "FRACTIONAL":
            ds.MaximumFractionalValue = 255
        data = np.packbits(stack.ravel(), bitorder="little").tobytes() if bits == 1 else stack.tobytes()
        ds.PixelData = data + b"\0" * (len(data) % 2)
        ds["PixelData"].VR = "OB"

    return write_enhanced(
        path, times=len(keys), slices=1, rows=5, cols=7, group=group, mutate=mutate, sop_class=SegmentationStorage
    )


def test_segments_are_a_dim_and_empty_frames_background(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = {key: rng.integers(0, 2, (5, 7)) for key in [(1, 0), (1, 1), (1, 2), (2, 1)]}
    image = ixr.open_series(_segmentation(tmp_path / "seg", "BINARY", frames))
    assert image.dims == ("segment", "slice", "row", "col")
    assert image.segment.values.tolist() == [1, 2]
    assert image.SegmentLabel.values.tolist() == ["liver", "tumour"]
    assert image.slice.values.tolist() == [0, 3, 6]
    for (segment, place), frame in frames.items():
        np.testing.assert_array_equal(image.sel(segment=segment)[place], frame)
    assert not image.sel(segment=2)[[0, 2]].any()
    assert image.present.values.tolist() == [[True] * 3, [False, True, False]]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_segments_with_the_headers_of_another_image_are_no_segmentation(tmp_path: Path, kind: str) -> None:
    """The other segment came back without a voxel, as if it had been looked for; fractions were divided once more."""
    rng = np.random.default_rng(4)
    values = {(s, z): rng.integers(0, 2, (5, 7)) * (1 if kind == "BINARY" else 51) for s in (1, 2) for z in range(3)}
    image = ixr.open_series(_segmentation(tmp_path / "seg", kind, values))
    write_series(tmp_path / "ct", slices=3, rows=5, cols=7, gap=3, origin=(0, 0, 0), sop_class=CTImageStorage)
    ct = ixr.open_series(tmp_path / "ct")
    for number, part in enumerate((image.isel(segment=0), image)):
        files = part.dicom.write(tmp_path / f"new {number}", template=ct)
        told = set().union(*(dir(pydicom.dcmread(file)) for file in files))
        assert not {"SegmentationType", "SegmentNumber", "MaximumFractionalValue"} & told
        assert {"ReferencedSegmentNumber", "SegmentLabel"} <= told
        again = ixr.open_series(files)
        assert again.segment.values.tolist() == np.atleast_1d(part.segment).tolist()
        np.testing.assert_allclose(again.squeeze(), part, atol=1e-5)


def _but_one(ds: Dataset, _t: int, z: int) -> None:
    ds.skip = z == 3


def _with_spacing(path: Path, step: float) -> Path:
    ds = pydicom.dcmread(path)
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = step
    ds.save_as(path)
    return path


def test_slices_without_any_segment_are_empty_slices(tmp_path: Path) -> None:
    ones = np.ones((5, 7))
    # As far apart as if there were no slices between.
    path = _segmentation(tmp_path / "seg", "BINARY", {(1, 0): ones, (1, 2): ones, (2, 6): ones})
    told = ixr.open_series(_with_spacing(path, 3))
    assert told.slice.values.tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert told[:, :, 0, 0].values.tolist() == [[1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]]
    np.testing.assert_array_equal(told.present, told[:, :, 0, 0])
    np.testing.assert_allclose(told.dicom.affine[:, 0], [0, 0, 3, 0])
    ixr.write(told, tmp_path / "seg.nii.gz")
    back = ixr.open_series(tmp_path / "seg.nii.gz").dicom.turn_like(told)
    np.testing.assert_array_equal(back.sel(slice=9), 0)
    # Of images that were written with elements of a segmentation nothing is background.
    write_series(tmp_path / "ct", tags={"SegmentationType": "BINARY"}, slices=7, mutate=_but_one, gap=3)
    with pytest.warns(MissingSlicesWarning):
        assert ixr.open_series(tmp_path / "ct").sizes["slice"] == 6
    # What is told by nothing is not made up.
    for step in (2.5, -0.0, 1e-6):
        assert ixr.open_series(_with_spacing(path, step)).slice.values.tolist() == [0, 6, 18]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.parametrize("found", [1, 2])
def test_segment_without_a_frame_is_there_and_empty(tmp_path: Path, kind: str, found: int) -> None:
    frames = {(found, place): np.ones((5, 7)) for place in (0, 1)}
    image = ixr.open_series(_segmentation(tmp_path / "seg", kind, frames))
    assert image.segment.values.tolist() == [1, 2]
    assert image.SegmentLabel.values.tolist() == ["liver", "tumour"]
    assert image.ReferencedSegmentNumber.values.tolist() == [1, 2]
    assert not {"SegmentLabel", "ReferencedSegmentNumber"} & image.attrs.keys()
    assert not image.sel(segment=3 - found).any()
    assert image.sel(segment=found).values.all()
    assert image.present.values.tolist() == [[number == found] * 2 for number in (1, 2)]
    assert ixr.scan(tmp_path)["shape"].item() == (2, 2)


@pytest.mark.parametrize("described", [(1,), (), (1, None)], ids=["one", "none", "no number"])
def test_a_segment_that_nothing_describes_is_told(tmp_path: Path, described: tuple[int | None, ...]) -> None:
    frames = {key: np.ones((5, 7)) for key in [(1, 0), (3, 0), (3, 1)]}
    path = _segmentation(tmp_path / "seg", "BINARY", frames)
    ds = pydicom.dcmread(path)
    ds.SegmentSequence = [macro(SegmentNumber=number, SegmentLabel="liver")[0] for number in described]
    for item in ds.SegmentSequence:
        if item.SegmentNumber is None:
            del item.SegmentNumber
    ds.save_as(path)
    numbers = "3" if described else "1, 3"
    with pytest.warns(UserWarning, match=rf"seg does not say what segment {numbers} is: SegmentSequence has no item"):
        image = ixr.open_series(path)
    assert image.segment.values.tolist() == [1, 3]
    assert image.sel(segment=3).values.all()
    if described:
        assert image.SegmentLabel.values.tolist() == ["liver", ""]


def test_a_number_of_two_segments_is_refused(tmp_path: Path) -> None:
    path = _segmentation(tmp_path / "seg", "BINARY", {(1, 0): np.ones((5, 7))})
    ds = pydicom.dcmread(path)
    ds.SegmentSequence[1].SegmentNumber = 1
    ds.save_as(path)
    with pytest.raises(UnreadableFileError, match=r"seg calls segment 1 'liver' and 'tumour'"):
        ixr.open_series(path)


def test_segments_without_a_place_stay_apart(tmp_path: Path) -> None:
    frames = {key: np.full((5, 7), n % 2) for n, key in enumerate([(1, 0), (1, 1), (1, 2), (2, 2)])}
    path = _segmentation(tmp_path / "seg", "BINARY", frames)
    ds = pydicom.dcmread(path)
    for item in ds.PerFrameFunctionalGroupsSequence:
        del item.PlanePositionSequence
    ds.save_as(path)
    for order in ("auto", "segment"):
        image = ixr.open_series(path, order)
        assert image.present.values.tolist() == [[True, True, True, False], [False, False, False, True]]


def test_fractions_are_divided_by_their_largest_value(tmp_path: Path) -> None:
    frame = np.arange(35).reshape(5, 7) * 7
    frame[0, 0] = 255
    image = ixr.open_series(_segmentation(tmp_path / "seg", "FRACTIONAL", {(1, 0): frame, (2, 1): frame}))
    assert float(image[0, 0, 0, 0]) == 1
    np.testing.assert_allclose(image[1, 1], frame / 255, rtol=1e-6)
    assert not image[0, 1].any()
    ds = pydicom.dcmread(tmp_path / "seg")
    del ds.MaximumFractionalValue
    ds.save_as(tmp_path / "seg")
    with pytest.raises(MissingHeaderError, match=r"no MaximumFractionalValue; open with rescale=False"):
        ixr.open_series(tmp_path / "seg")
    np.testing.assert_array_equal(ixr.open_series(tmp_path / "seg", rescale=False)[1, 1], frame)


def test_a_label_map_has_the_names_of_its_values(tmp_path: Path) -> None:
    labels = np.arange(4 * 8 * 6, dtype="u1").reshape(4, 8, 6) % 3

    def mutate(ds: Dataset) -> None:
        ds.SegmentationType, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "LABELMAP", 8, 8, 7
        ds.SegmentSequence = DicomSequence()
        for number, label in ((0, "background"), (1, "liver"), (2, "tumour")):
            ds.SegmentSequence.append(macro(SegmentNumber=number, SegmentLabel=label)[0])
        ds.PixelData = labels.tobytes()
        ds["PixelData"].VR = "OB"

    image = ixr.open_series(write_enhanced(tmp_path / "f", mutate=mutate, sop_class=SegmentationStorage))
    np.testing.assert_array_equal(image, labels)
    assert image.attrs["SegmentNumber"] == [0, 1, 2]
    assert image.attrs["SegmentLabel"] == ["background", "liver", "tumour"]
    assert "SegmentLabel" not in image.dicom.header(slice=0)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_label_map_with_a_palette_and_without_empty_slices_has_its_values(tmp_path: Path, syntax: Any) -> None:
    labels = np.arange(3 * 8 * 6, dtype="u1").reshape(3, 8, 6) % 3

    def group(item: Dataset, t: int, z: int) -> None:
        item.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3 * (z + (z == 2))]

    def mutate(ds: Dataset) -> None:
        ds.SegmentationType, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "LABELMAP", 8, 8, 7
        ds.SegmentSequence = DicomSequence(
            macro(SegmentNumber=number, SegmentLabel=str(number))[0] for number in range(3)
        )
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for colour in ("Red", "Green", "Blue"):
            setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(ds, f"{colour}PaletteColorLookupTableData", np.arange(256, dtype="<u2").tobytes())
        ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 3
        ds.PixelData = labels.tobytes()
        ds["PixelData"].VR = "OB"

    file = write_enhanced(
        tmp_path / "f", slices=3, group=group, mutate=mutate, sop_class=SegmentationStorage, syntax=syntax
    )
    for order in ("auto", "none"):
        image = ixr.open_series(file, order)
        assert image.dims == ("slice", "row", "col")
        assert image.slice.values.tolist() == [0, 3, 6, 9]
        assert image.present.values.tolist() == [True, True, False, True]
        np.testing.assert_array_equal(image[[0, 1, 3]], labels)
        assert not image[2].any()


# --- real files


@pytest.mark.filterwarnings("ignore:.*without functional groups")
def test_frames_of_real_files_in_all_syntaxes(shared_data: Path) -> None:
    folder = shared_data / "py_emri_syntaxes" / "dicom"
    want = ixr.open_series(folder / "emri_small.dcm").values
    for file in folder.iterdir():
        image = ixr.open_series(file)
        if "too_short" in file.name:
            with pytest.raises(UnreadableFileError, match="too_short"):
                image.values  # noqa: B018 - it is reading them that must raise
        else:
            np.testing.assert_array_equal(image, want)


def test_field_map_in_hertz_beside_magnitude(shared_data: Path) -> None:
    image = ixr.open_series(shared_data / "ph_enh_fieldmap" / "dicom", "image_type")
    assert image.image_type.values.tolist() == ["M", "FIELD_MAP"]
    slope, intercept = 0.2442002442, -500
    stored = (image[1].values - intercept) / slope
    np.testing.assert_allclose(stored, stored.round(), atol=1e-3)
    assert -500 <= float(image[1].min()) < 0 < float(image[1].max()) <= 500
