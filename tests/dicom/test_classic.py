"""Frames of an enhanced PET are files of one image that tell what these have to, or are not written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    UID,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
)

import imagedata_xr as ixr
from imagedata_xr.dicom import emission
from imagedata_xr.dicom.emission import number_in_series
from imagedata_xr.errors import ConflictingOriginError, MissingHeaderError
from tests.dicom.multi import macro, write_enhanced
from tests.dicom.test_patcher import both_ways, same_uids
from tests.generate import clock, write_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import xarray as xr

__all__ = ["same_uids"]  # a fixture of all tests

STARTS, DURATIONS = [0, 30, 90], [30, 60, 300]  # s


def _pet(
    file: Path,
    *,
    flavour: str = "DYNAMIC",
    unit: str = "BQML",
    order: list[int] | None = None,
    change: Callable[[Dataset], None] | None = None,
    **values: str,
) -> Path:
    """Write an enhanced PET whose frames last longer and longer."""

    def group(item: Dataset, t: int, _z: int) -> None:
        content = item.FrameContentSequence[0]
        begin, middle = (
            np.datetime64("2026-01-02T10:00:00") + np.timedelta64(s, "s")
            for s in (STARTS[t], STARTS[t] + DURATIONS[t] // 2)
        )
        for name, moment in (("FrameAcquisitionDateTime", begin), ("FrameReferenceDateTime", middle)):
            setattr(content, name, str(moment).translate(str.maketrans("", "", "-T:")))
        content.FrameAcquisitionDuration = 1000.0 * DURATIONS[t]
        item.PETFrameCorrectionFactorsSequence = macro(DecayFactor=1.0 + t)

    def mutate(ds: Dataset) -> None:
        shared = ds.SharedFunctionalGroupsSequence[0]
        for name in ("MRTimingAndRelatedParametersSequence", "MREchoSequence", "MRImageFrameTypeSequence"):
            delattr(shared, name)
        shared.PETFrameTypeSequence = macro(FrameType=["ORIGINAL", "PRIMARY", flavour, "NONE"])
        shared.PixelValueTransformationSequence = macro(RescaleSlope=2, RescaleIntercept=0, RescaleType=unit)
        ds.Modality, ds.CountsSource, ds.SeriesTime = "PT", "EMISSION", "100000"
        ds.DecayCorrected, ds.DecayCorrectionDateTime = "YES", "20260102100000"
        ds.AttenuationCorrected, ds.ScatterCorrected = "YES", "NO"
        for name, value in values.items():
            setattr(ds, name, value)
        if change is not None:
            change(ds)

    pet = UID("1.2.840.10008.5.1.4.1.1.130")
    return write_enhanced(file, times=len(STARTS), group=group, mutate=mutate, sop_class=pet, order=order)


def test_what_an_enhanced_pet_tells_in_other_elements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ixr.open_series(_pet(tmp_path / "f"))
    both_ways(image, tmp_path, monkeypatch)
    headers = [pydicom.dcmread(file) for file in sorted((tmp_path / "patched").iterdir())]
    assert {tuple(ds.CorrectedImage) for ds in headers} == {("DECY", "ATTN")}
    shared = {(ds.Units, ds.CountsSource, *ds.SeriesType, ds.DecayCorrection) for ds in headers}
    assert shared == {("BQML", "EMISSION", "DYNAMIC", "IMAGE", "START")}
    assert {(ds.NumberOfSlices, ds.NumberOfTimeSlices) for ds in headers} == {(4, 3)}
    assert [ds.ImageIndex for ds in headers] == list(range(1, 13))
    assert [ds.ActualFrameDuration for ds in headers[::4]] == [30_000, 60_000, 300_000]
    assert [ds.FrameReferenceTime for ds in headers[::4]] == [15_000, 60_000, 240_000]
    assert [ds.AcquisitionTime for ds in headers[::4]] == ["100000", "100030", "100130"]
    again = ixr.open_series(tmp_path / "patched")
    np.testing.assert_array_equal(again, image)
    assert again.dims == image.dims


@pytest.mark.parametrize(
    ("told", "missing", "settings"),
    [
        ({"unit": "US"}, "Units", {"Units": "BQML"}),
        ({"flavour": "CARDIAC_GATED"}, "SeriesType", {"SeriesType": ["GATED", "IMAGE"]}),
        ({"DecayCorrectionDateTime": "20260102093000"}, "DecayCorrection", {"DecayCorrection": "ADMIN"}),
    ],
)
def test_what_it_does_not_tell_is_asked_for(
    tmp_path: Path, told: dict[str, str], missing: str, settings: dict[str, str | list[str]]
) -> None:
    """Counts that pass for a concentration, or a decay that was corrected to another moment, are wrong doses."""
    image = ixr.open_series(_pet(tmp_path / "f", **told))
    with pytest.raises(MissingHeaderError, match=rf"have to tell {missing}, .* image\.assign_attrs\({missing}="):
        image.dicom.write(tmp_path / "no")
    assert not (tmp_path / "no").exists()
    [first, *_] = image.assign_attrs(settings).dicom.write(tmp_path / "out")
    assert pydicom.dcmread(first)[missing].value == settings[missing]


def test_pet_that_is_not_corrected_for_decay(tmp_path: Path) -> None:
    image = ixr.open_series(_pet(tmp_path / "f", DecayCorrected="NO")).isel(time=1)
    headers = [pydicom.dcmread(file) for file in image.dicom.write(tmp_path / "out")]
    assert {ds.DecayCorrection for ds in headers} == {"NONE"}
    assert {(ds.NumberOfSlices, ds.NumberOfTimeSlices, ds.FrameReferenceTime) for ds in headers} == {(4, 1, 60_000)}


def test_what_is_computed_from_frames_of_one_file_is_completed(tmp_path: Path) -> None:
    """It names the file, but no frame of it; so it passed for one with a file of its own, and lacked elements."""
    image = ixr.open_series(_pet(tmp_path / "f", unit="US"))
    for part in (image.mean("time", keep_attrs=True), image - image.isel(time=0)):
        with pytest.raises(MissingHeaderError, match="have to tell Units"):
            part.dicom.write(tmp_path / "no")
    one = ixr.open_series(write_enhanced(tmp_path / "mr", times=3))
    for number in (1, 2):
        write_enhanced(tmp_path / "several" / str(number), number=number)
    several = ixr.open_series(tmp_path / "several", "InstanceNumber")
    parts = (one.mean("time", keep_attrs=True), one - one.isel(time=0), several - several.isel(slice=0, drop=True))
    for number, part in enumerate(parts):
        headers = [pydicom.dcmread(file) for file in part.dicom.write(tmp_path / f"{number}")]
        wanted = ("ScanOptions", "MRAcquisitionType", "EchoTrainLength", "SeriesNumber", "StudyID")
        assert all(name in ds for ds in headers for name in wanted)


def _classic_pet(path: Path, correction: str = "START", **told: Any) -> Path:
    """Write a dynamic PET of one image a file."""

    def each(ds: Dataset, t: int, z: int) -> None:
        ds.Units, ds.CountsSource, ds.SeriesType = "BQML", "EMISSION", ["DYNAMIC", "IMAGE"]
        ds.NumberOfSlices, ds.NumberOfTimeSlices, ds.ImageIndex = 4, 3, 4 * t + z + 1
        ds.FrameReferenceTime, ds.DecayCorrection = 1250 + 2500 * t, correction
        if correction != "NONE":
            ds.DecayFactor = 1 + t / 10

    write_series(path, times=3, sop_class=PositronEmissionTomographyImageStorage, mutate=each, **told)
    return path


def test_a_mean_of_a_dynamic_pet_is_numbered_anew(tmp_path: Path) -> None:
    """Numbers that differ over time are dropped with the time, and that of volumes was the old one."""
    mean = ixr.open_series(_classic_pet(tmp_path / "a"), "time").mean("time", keep_attrs=True)
    mean = mean.assign_attrs(FrameReferenceTime=3750.0, DecayFactor=1.1)
    headers = [pydicom.dcmread(file) for file in mean.dicom.write(tmp_path / "out")]
    assert [ds.ImageIndex for ds in headers] == [1, 2, 3, 4]
    assert {(ds.NumberOfSlices, ds.NumberOfTimeSlices) for ds in headers} == {(4, 1)}
    assert {(ds.FrameReferenceTime, ds.DecayFactor) for ds in headers} == {(3750, 1.1)}
    assert all(ds.RadiopharmaceuticalInformationSequence == [] for ds in headers)


@pytest.mark.parametrize(
    ("position", "meanings"),
    [
        ("HFS", ["recumbent", "supine", "headfirst"]),
        ("FFDR", ["recumbent", "right lateral decubitus", "feet-first"]),
        ("LFP", []),  # of a patient who enters from the side
        ("", []),
    ],
)
def test_a_pet_of_attributes_says_how_the_patient_lay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: str, meanings: list[str]
) -> None:
    """It lacked the sequence of the orientation, and that of the gantry was empty though the position was told."""
    image = ixr.open_series(_classic_pet(tmp_path / "a"), "time").drop_vars("source")
    both_ways(image.assign_attrs(PatientPosition=position), tmp_path, monkeypatch)
    for file in sorted((tmp_path / "patched").iterdir()):
        ds = pydicom.dcmread(file)
        items = [*ds.PatientOrientationCodeSequence]
        items += [one for item in items for one in item.PatientOrientationModifierCodeSequence]
        items += [*ds.PatientGantryRelationshipCodeSequence]
        assert [item.CodeMeaning for item in items] == meanings
        assert {item.CodingSchemeDesignator for item in items} <= {"SCT"}
        # It shall not be present beside a sequence that says the same (PS3.3 C.7.3.1).
        assert ds.get("PatientPosition", "") == ("" if meanings else position)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_position_that_the_user_has_set_is_not_contradicted(tmp_path: Path, factor: int) -> None:
    """The sequences of the header still said how the scanner took the patient to lie."""
    image = ixr.open_series(_classic_pet(tmp_path / "a"), "time").drop_vars("source")
    image.assign_attrs(PatientPosition="HFS").dicom.write(tmp_path / "b")
    again = ixr.open_series(tmp_path / "b", "time")
    told = []
    for name, changed in {"kept": again, "set": again.assign_attrs(PatientPosition="FFP")}.items():
        files = (changed if factor == 1 else changed * factor).dicom.write(tmp_path / name)
        for ds in map(pydicom.dcmread, files):
            assert "PatientPosition" not in ds
            [lies], [enters] = ds.PatientOrientationCodeSequence, ds.PatientGantryRelationshipCodeSequence
            told.append((lies.PatientOrientationModifierCodeSequence[0].CodeMeaning, enters.CodeMeaning))
    half = len(told) // 2
    assert told == [("supine", "headfirst")] * half + [("prone", "feet-first")] * half


@pytest.mark.parametrize(
    ("correction", "missing"), [("START", "FrameReferenceTime and DecayFactor"), ("NONE", "FrameReferenceTime")]
)
def test_what_no_frame_of_a_pet_tells_of_several_is_asked_for(tmp_path: Path, correction: str, missing: str) -> None:
    """Files without it were written: of a mean, and of a difference whose volumes kept their own."""
    image = ixr.open_series(_classic_pet(tmp_path / "a", correction), "time")
    first = image.isel(time=0)
    for part in (image.mean("time", keep_attrs=True), image - first):
        with pytest.raises(MissingHeaderError, match=rf"have to tell {missing} \(.*drop=True.*assign_attrs\(FrameRef"):
            part.dicom.write(tmp_path / "no")
    for number, part in enumerate((image - image.isel(time=0, drop=True), image.max("time", keep_attrs=True))):
        template = first if "time" not in part.dims else None
        headers = [pydicom.dcmread(file) for file in part.dicom.write(tmp_path / f"{number}", template=template)]
        assert all("FrameReferenceTime" in ds and ("DecayFactor" in ds) == (correction != "NONE") for ds in headers)


def test_images_of_a_pet_that_lacks_frames_have_the_numbers_of_their_places(tmp_path: Path) -> None:
    """ImageIndex counted the files, so that slices of the volumes after a gap passed for others."""
    there = [number for number in range(12) if number not in (1, 6)]
    image = ixr.open_series(_pet(tmp_path / "f", order=there), "time", missing="fill")
    headers = [pydicom.dcmread(file) for file in image.dicom.write(tmp_path / "out")]
    assert [ds.ImageIndex for ds in headers] == [number + 1 for number in there]
    assert [ds.InstanceNumber for ds in headers] == list(range(1, 11))
    assert {(ds.NumberOfSlices, ds.NumberOfTimeSlices) for ds in headers} == {(4, 3)}


@pytest.mark.parametrize(
    ("change", "indices", "sizes"),
    [
        (lambda a: a, range(1, 13), (4, 3)),
        (lambda a: a.isel(slice=slice(1, 3)), [2, 3, 6, 7, 10, 11], (4, 3)),
        (lambda a: a.isel(slice=slice(1, 3)) * 2, range(1, 7), (2, 3)),
        (lambda a: (a * 2).drop_vars("source").isel(time=[1, 2]), range(1, 9), (4, 2)),
        (lambda a: a.interp(time=[1.0, 2.0]).drop_vars("InstanceNumber"), range(1, 9), (4, 2)),
        (lambda a: a.isel(time=[2, 0]) * 2, [5, 6, 7, 8, 1, 2, 3, 4], (4, 2)),
    ],
    ids=["original", "selected", "computed", "described", "between", "backwards"],
)
def test_images_of_a_derived_pet_are_numbered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[xr.DataArray], xr.DataArray],
    indices: Iterable[int],
    sizes: tuple[int, int],
) -> None:
    """Numbers of the source were kept, or the mean of some."""
    image = change(ixr.open_series(_classic_pet(tmp_path / "a"), "time"))
    both_ways(image, tmp_path, monkeypatch)
    headers = [pydicom.dcmread(file) for file in sorted((tmp_path / "patched").iterdir())]
    assert [ds.ImageIndex for ds in headers] == [*indices]
    assert {(ds.NumberOfSlices, ds.NumberOfTimeSlices) for ds in headers} == {sizes}


def test_images_that_are_more_than_their_number_can_count_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the source stayed, which are of other images."""
    ds, size = Dataset(), {"time": 300, "slice": 300}
    ds.ImageIndex = 7
    with pytest.warns(UserWarning, match="90000 frames, and ImageIndex .* counts to 65535"):
        number_in_series(ds, size, {"time": 0, "slice": 0})
    assert "ImageIndex" not in ds
    assert ds.NumberOfSlices == 300
    monkeypatch.setattr(emission, "_LARGEST", 5)
    both_ways(ixr.open_series(_classic_pet(tmp_path / "a"), "time") * 2, tmp_path, monkeypatch)
    assert not any("ImageIndex" in pydicom.dcmread(file) for file in (tmp_path / "patched").iterdir())


def test_a_sum_of_pet_series_that_began_at_different_times_says_what_it_counts_from(tmp_path: Path) -> None:
    """It told no SeriesTime, which readers correct for decay from."""
    a, b = (
        ixr.open_series(_classic_pet(tmp_path / name, series=name, tags={"SeriesTime": time, "SeriesDate": "20260102"}))
        for name, time in (("a", "100000"), ("b", "101500"))
    )
    with pytest.raises(MissingHeaderError, match="do not agree on SeriesTime: set these"):
        (a + b).dicom.write(tmp_path / "no")
    for number, image in enumerate((a + a, (a + b).assign_attrs(SeriesTime="100000"))):
        assert {pydicom.dcmread(file).SeriesTime for file in image.dicom.write(tmp_path / f"{number}")} == {"100000"}


def test_new_times_of_an_enhanced_pet_move_its_frame_reference_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stayed, while the frames were acquired at other times."""
    image = ixr.open_series(_pet(tmp_path / "f")).assign_coords(time=[0.0, 100.0, 200.0])
    both_ways(image, tmp_path, monkeypatch)
    headers = [pydicom.dcmread(file) for file in sorted((tmp_path / "patched").iterdir())]
    assert [ds.AcquisitionTime for ds in headers[::4]] == ["100000.000000", "100140.000000", "100320.000000"]
    assert [ds.FrameReferenceTime for ds in headers[::4]] == [15_000, 130_000, 350_000]


def test_frames_that_differ_in_nothing_but_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of one may be taken for that of another, but for what tells them apart."""

    def mutate(ds: Dataset) -> None:
        del ds.AcquisitionDateTime
        for item in ds.PerFrameFunctionalGroupsSequence:
            item.FrameContentSequence[0].FrameAcquisitionDuration = 1000.0
            item.PETFrameCorrectionFactorsSequence[0].DecayFactor = 1.0

    image = ixr.open_series(_pet(tmp_path / "f", change=mutate)).assign_attrs(DecayCorrection="START")
    both_ways(image, tmp_path, monkeypatch)
    headers = [pydicom.dcmread(file) for file in sorted((tmp_path / "patched").iterdir())]
    assert [ds.FrameReferenceTime for ds in headers[::4]] == [15_000, 60_000, 240_000]


def test_runs_of_a_pet_count_from_one_start(tmp_path: Path) -> None:
    """Each told the time after its own start; so they seemed to be of the same minutes."""
    runs = {}
    for correction in ("ADMIN", "START"):
        for number, start in ((1, 36_000), (2, 36_900)):
            path, told = tmp_path / f"{correction}{number}", {"SeriesTime": clock(start), "SeriesDate": "20260102"}
            _classic_pet(path, correction, series=path.name, number=number, start=start, tags=told)
            runs[correction, number] = ixr.open_series(path, "time")
    both = ixr.concat([runs["ADMIN", 1], runs["ADMIN", 2]], "time")
    headers = [pydicom.dcmread(file) for file in both.dicom.write(tmp_path / "out")]
    late = [1250, 3750, 6250, 901_250, 903_750, 906_250]
    assert [ds.FrameReferenceTime for ds in headers][::4] == late
    assert {(ds.SeriesTime, ds.NumberOfSlices, ds.NumberOfTimeSlices) for ds in headers} == {("100000.000000", 4, 6)}
    assert [ds.ImageIndex for ds in headers] == list(range(1, 25))
    both = ixr.concat([runs["START", 1], runs["START", 2]], "time")
    with pytest.raises(ConflictingOriginError, match=r"'START', SeriesTime 100000\.0+, 101500\.0+\), which no one"):
        both.dicom.write(tmp_path / "no")
    one = both.assign_attrs(SeriesTime="100000.000000")
    assert [pydicom.dcmread(file).FrameReferenceTime for file in one.dicom.write(tmp_path / "one")][::4] == late


@pytest.mark.parametrize(
    ("modifier", "sequence", "time"),
    [
        ({"InversionRecovery": "YES", "InversionTimes": 150.5}, ["GR", "IR"], 150.5),
        ({"InversionRecovery": "YES", "InversionTimes": [100.0, 200.0]}, ["GR", "IR"], None),
        ({"InversionTime": 80}, ["GR", "IR"], 80),
        ({"InversionRecovery": "NO", "InversionTime": 0}, "GR", ""),
    ],
)
def test_inversion_and_side_of_an_enhanced_mr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modifier: dict[str, Any], sequence: Any, time: float | str | None
) -> None:
    """An inversion without its time, or a time without an inversion, is no valid header."""

    def group(item: Dataset, t: int, z: int) -> None:
        item.MRModifierSequence = macro(**modifier)
        item.FrameAnatomySequence = macro(FrameLaterality="LR"[z % 2])

    def mutate(ds: Dataset) -> None:
        ds.EchoPulseSequence = "GRADIENT"

    image = ixr.open_series(write_enhanced(tmp_path / "f", times=3, group=group, mutate=mutate), "time")
    both_ways(image, tmp_path, monkeypatch)
    headers = [pydicom.dcmread(file) for file in sorted((tmp_path / "patched").iterdir())]
    assert all((ds.ScanningSequence, ds.get("InversionTime", "")) == (sequence, time) for ds in headers)
    assert [ds.ImageLaterality for ds in headers] == ["L", "R"] * 6
    assert not any("FrameLaterality" in ds for ds in headers)


def test_slices_of_an_enhanced_file_that_have_their_own_times_are_patched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start that the whole file tells made each of them one of its own kind, ten times as slow."""
    image = ixr.open_series(write_enhanced(tmp_path / "f", times=3, slices=8))
    assert both_ways(image, tmp_path, monkeypatch) > 12


@pytest.mark.parametrize("sop_class", [XRayAngiographicImageStorage, SecondaryCaptureImageStorage])
def test_kinds_that_have_files_of_one_image_are_written_as_these(tmp_path: Path, sop_class: UID) -> None:
    """They were refused as if there were none: angiography, and captures with what other programs left in them."""

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.SOPClassUID = sop_class
        if sop_class == SecondaryCaptureImageStorage:
            ds.FrameIncrementPointer, ds.FrameTime = 0x00181063, 40

    write_series(tmp_path / "a", slices=3, mutate=mutate)
    image = ixr.open_series(tmp_path / "a").drop_vars("source") * 2
    headers = [pydicom.dcmread(file) for file in image.dicom.write(tmp_path / "b")]
    assert {ds.SOPClassUID for ds in headers} == {sop_class}
    assert not any("FrameIncrementPointer" in ds for ds in headers)
    np.testing.assert_array_equal(ixr.open_series(tmp_path / "b"), image)


def test_frames_of_an_angiography_become_files_of_one_image(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.SOPClassUID, ds.FrameIncrementPointer, ds.FrameTime = XRayAngiographicImageStorage, 0x00181063, 40
        ds.NumberOfFrames, ds.PixelData = 3, ds.PixelData * 3
        del ds.ImagePositionPatient, ds.ImageOrientationPatient

    write_series(tmp_path / "a", slices=1, mutate=mutate)
    image = ixr.open_series(tmp_path / "a")
    for file in image.dicom.write(tmp_path / "b"):
        ds = pydicom.dcmread(file)
        assert ds.SOPClassUID == XRayAngiographicImageStorage
        assert "NumberOfFrames" not in ds
        assert "FrameIncrementPointer" not in ds
    again = ixr.open_series(tmp_path / "b")
    np.testing.assert_allclose(again.time, [0, 0.04, 0.08])
    np.testing.assert_array_equal(again, image)
