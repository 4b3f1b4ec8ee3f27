"""What is computed of a dynamic PET is written with what is true of it, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, PositronEmissionTomographyImageStorage

import imagedata_xr as ixr
from imagedata_xr.errors import MissingHeaderError
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import xarray as xr
    from pydicom import Dataset


@pytest.fixture
def pet(tmp_path: Path) -> xr.DataArray:
    """Return a dynamic PET of three volumes of 1, 2 and 4 s."""

    def each(ds: Dataset, t: int, z: int) -> None:
        ds.Units, ds.CountsSource, ds.SeriesType, ds.DecayCorrection = "BQML", "EMISSION", ["DYNAMIC", "IMAGE"], "START"
        ds.NumberOfSlices, ds.NumberOfTimeSlices, ds.ImageIndex = 4, 3, 4 * t + z + 1
        ds.ActualFrameDuration, ds.FrameReferenceTime, ds.DecayFactor = 1000 * 2**t, (500, 2000, 5000)[t], 1 + t / 10

    write_series(tmp_path / "pet", times=[0, 1, 3], sop_class=PositronEmissionTomographyImageStorage, mutate=each)
    return ixr.open_series(tmp_path / "pet", "time")


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize(
    "change",
    [lambda a: a - a.isel(time=1, drop=True), lambda a: (a - a.isel(time=1, drop=True)) / 3, lambda a: a],
    ids=["whole", "fractions", "positive"],
)
def test_volumes_of_a_series_have_one_type(
    tmp_path: Path, pet: xr.DataArray, dtype: str, change: Callable[[xr.DataArray], Any]
) -> None:
    """One that had values below 0 was signed, and the others not: what was written did not open."""
    image = change(pet.astype(dtype))
    for number, one in enumerate((image, image.chunk(time=1))):
        files = one.dicom.write(tmp_path / f"{number}")
        assert len({pydicom.dcmread(file).PixelRepresentation for file in files}) == 1
        back = ixr.open_series(tmp_path / f"{number}", "time")
        np.testing.assert_allclose(back, image, atol=float(abs(image).max()) / 65534)


def test_what_takes_the_place_of_nan_may_be_below_0(tmp_path: Path, pet: xr.DataArray) -> None:
    image = pet.astype(float).where(pet.time > 0)
    image.dicom.write(tmp_path / "out", nan=-1)
    back = ixr.open_series(tmp_path / "out", "time")
    np.testing.assert_allclose(back, image.fillna(-1), atol=0.01)


@pytest.mark.parametrize(
    "change",
    [lambda a, dim: a.differentiate(dim), lambda a, dim: a.cumulative_integrate(dim)],
    ids=["derivative", "integral"],
)
def test_what_has_lost_its_attributes_has_lost_its_unit(
    tmp_path: Path, pet: xr.DataArray, change: Callable[[xr.DataArray, str], Any]
) -> None:
    """Bq/ml/s were written as Bq/ml, and HU/mm as HU: the headers of the frames said so."""
    image = change(pet.astype(float), "time")
    with pytest.raises(MissingHeaderError, match=r"files in BQML tells none, .*derivatives .*assign_attrs\(Units="):
        image.dicom.write(tmp_path / "no")
    for number, unit in enumerate(("BQML", "CPS")):
        files = image.assign_attrs(Units=unit).dicom.write(tmp_path / f"{number}")
        assert {pydicom.dcmread(file).Units for file in files} == {unit}
    write_series(tmp_path / "ct", sop_class=CTImageStorage, tags={"RescaleType": "HU"})
    ct = change(ixr.open_series(tmp_path / "ct").astype(float), "slice")
    for unit, one in (("US", ct), ("HU", ct.assign_attrs(RescaleType="HU")), ("Z", ct.assign_attrs(RescaleType="Z"))):
        assert {pydicom.dcmread(file).RescaleType for file in one.dicom.write(tmp_path / f"ct_{unit}")} == {unit}


MIXED = {
    "coarsen": lambda a: a.isel(time=slice(0, 2)).coarsen(time=2).mean(),
    "one of them": lambda a: a.isel(time=slice(0, 2)).coarsen(time=2).mean().isel(time=0),
    "equal": lambda a: a.drop_vars("ActualFrameDuration").assign_attrs(ActualFrameDuration=1000).coarsen(time=3).sum(),
    "interp": lambda a: a.interp(time=[0.5, 2.0]),
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_frames_that_were_put_together_are_not_as_long_as_one(
    tmp_path: Path, pet: xr.DataArray, mix: Callable[[xr.DataArray], Any]
) -> None:
    """Two frames of 1 and 2 s were written as one of 1.5 s, with a mean of decay factors."""
    image = mix(pet.drop_vars(["source", "SOPInstanceUID", "AcquisitionTime", "ContentTime"]).astype(float))
    with pytest.raises(MissingHeaderError, match=r"coarsen and interp do, and ActualFrameDuration, FrameRef"):
        image.dicom.write(tmp_path / "no")
    right = {"ActualFrameDuration": 3000, "FrameReferenceTime": 1500.0, "DecayFactor": 1.04}
    said = image.drop_vars([*right, "InstanceNumber"], errors="ignore").assign_attrs(right)
    for file in said.dicom.write(tmp_path / "out"):
        ds = pydicom.dcmread(file)
        assert {name: ds[name].value for name in right} == right


def test_slices_that_were_put_together_leave_frames_as_long_as_they_were(tmp_path: Path, pet: xr.DataArray) -> None:
    image = pet.drop_vars(["source", "SOPInstanceUID", "AcquisitionTime", "ContentTime"]).astype(float)
    files = image.coarsen(slice=2).mean().assign_attrs(SliceThickness=6.0).dicom.write(tmp_path / "out")
    assert [pydicom.dcmread(file).ActualFrameDuration for file in files] == [1000, 1000, 2000, 2000, 4000, 4000]
    means = image.coarsen(time=3, coord_func={"ActualFrameDuration": "sum"}).mean()
    # That is no mean, so somebody has thought of it.
    assert {pydicom.dcmread(file).ActualFrameDuration for file in means.dicom.write(tmp_path / "sum")} == {7000}


def test_an_intercept_that_a_pet_should_not_have(tmp_path: Path, pet: xr.DataArray) -> None:
    """Unread values below 0 are of files whose pixels are not signed."""

    def each(ds: Dataset, t: int, z: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 0.5, -60

    write_series(tmp_path / "low", times=[0, 1, 3], sop_class=PositronEmissionTomographyImageStorage, mutate=each)
    image = ixr.open_series(tmp_path / "low", "time")
    files = image.dicom.write(tmp_path / "out", template=pet)
    assert {pydicom.dcmread(file).PixelRepresentation for file in files} == {1}
    np.testing.assert_allclose(ixr.open_series(tmp_path / "out", "time"), image, atol=0.01)
