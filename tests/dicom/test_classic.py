"""Frames of an enhanced PET are files of one image that tell what these have to, or are not written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, PositronEmissionTomographyImageStorage

import imagedata_xr as ixr
from imagedata_xr.errors import MissingHeaderError
from tests.dicom.multi import macro, write_enhanced
from tests.dicom.test_patcher import both_ways, same_uids
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

__all__ = ["same_uids"]  # a fixture of all tests

STARTS, DURATIONS = [0, 30, 90], [30, 60, 300]  # s


def _pet(file: Path, *, flavour: str = "DYNAMIC", unit: str = "BQML", **values: str) -> Path:
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

    pet = UID("1.2.840.10008.5.1.4.1.1.130")
    return write_enhanced(file, times=len(STARTS), group=group, mutate=mutate, sop_class=pet)


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


def test_a_mean_of_a_dynamic_pet_is_numbered_anew(tmp_path: Path) -> None:
    """Numbers that differ over time are dropped with the time, and that of volumes was the old one."""

    def each(ds: Dataset, t: int, z: int) -> None:
        ds.Units, ds.CountsSource, ds.SeriesType, ds.DecayCorrection = "BQML", "EMISSION", ["DYNAMIC", "IMAGE"], "START"
        ds.NumberOfSlices, ds.NumberOfTimeSlices, ds.ImageIndex = 4, 3, 4 * t + z + 1

    write_series(tmp_path / "a", times=3, sop_class=PositronEmissionTomographyImageStorage, mutate=each)
    mean = ixr.open_series(tmp_path / "a", "time").mean("time", keep_attrs=True)
    headers = [pydicom.dcmread(file) for file in mean.dicom.write(tmp_path / "out")]
    assert [ds.ImageIndex for ds in headers] == [1, 2, 3, 4]
    assert {(ds.NumberOfSlices, ds.NumberOfTimeSlices) for ds in headers} == {(4, 1)}
    assert all(ds.RadiopharmaceuticalInformationSequence == [] for ds in headers)
