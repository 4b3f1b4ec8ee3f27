"""Attributes that are those of one series alone are not written to frames of another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd
import pydicom
import pytest
import xarray as xr
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

import imagedata_xr as ixr
from imagedata_xr.errors import ConflictingOriginError, MissingHeaderError
from tests.dicom.multi import macro, write_enhanced
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom import Dataset


def _as_xarray(images: list[xr.DataArray]) -> xr.DataArray:
    """Return images put together by xarray as it does without further ado."""
    return xr.concat(images, "slice", coords="different", compat="equals")


@pytest.fixture
def slabs(tmp_path: Path) -> list[xr.DataArray]:
    """Return two series of one study, the second above the first."""
    images = []
    for number in (1, 2):
        name, told = f"slab{number}", {"EchoTime": 4.0 * number, "SeriesDescription": f"slab {number}"}
        write_series(tmp_path / name, series=name, number=number, origin=(0, 0, 12.0 * number), tags=told)
        images.append(ixr.open_series(tmp_path / name))
    return images


def test_what_xarray_takes_from_the_first_series_is_not_written_to_all(
    tmp_path: Path, slabs: list[xr.DataArray]
) -> None:
    """Frames that were acquired with an echo time of 8 ms said 4, and nothing told of it."""
    both = _as_xarray(slabs)
    for image, template in ((both, None), (both * 2, None), (both, slabs[0].isel(slice=0))):
        with pytest.raises(
            ConflictingOriginError, match=r"EchoTime is 4\.0, .* 2 series .* tell 4, 8\. .* imagedata_xr\.concat"
        ):
            image.dicom.write(tmp_path / "no", template=template)
    assert not (tmp_path / "no").exists()
    means = {"each": ixr.concat(slabs, "slice"), "said": both.assign_coords(EchoTime=4.0)}
    means["new"] = both.assign_attrs(EchoTime=6.0, SeriesDescription="both")
    found = {
        name: [float(pydicom.dcmread(file).EchoTime) for file in image.dicom.write(tmp_path / name)]
        for name, image in means.items()
    }
    assert found == {"each": [4] * 4 + [8] * 4, "said": [4] * 8, "new": [6] * 8}


def test_labels_tell_their_elements(tmp_path: Path, slabs: list[xr.DataArray]) -> None:
    a, b = slabs
    files = xr.concat([a, b.assign_coords(slice=a.slice)], pd.Index([4.0, 8.0], name="te")).dicom.write(tmp_path / "o")
    assert [float(pydicom.dcmread(file).EchoTime) for file in files] == [4] * 4 + [8] * 4


def test_images_of_two_kinds(tmp_path: Path) -> None:
    for sop_class, name in ((MRImageStorage, "mr"), (CTImageStorage, "ct")):
        write_series(tmp_path / name, series=name, sop_class=sop_class, tags={"EchoTime": None})
    images = [ixr.open_series(tmp_path / name) for name in ("mr", "ct")]
    with pytest.raises(ConflictingOriginError, match=r"the attribute ImageType is .*; likewise SOPClassUID, "):
        xr.concat(images, pd.Index([1, 2], name="AcquisitionNumber")).dicom.write(tmp_path / "no")


def test_frames_of_several_enhanced_files(tmp_path: Path) -> None:
    images = []
    for te in (4.0, 8.0):

        def mutate(ds: Dataset, te: float = te) -> None:
            ds.SharedFunctionalGroupsSequence[0].MREchoSequence = macro(EffectiveEchoTime=te)

        file = write_enhanced(tmp_path / f"{te}", mutate=mutate, series=f"{te}", origin=(0, 0, te * 3))
        images.append(ixr.open_series(file))
    with pytest.raises(ConflictingOriginError, match=r"EffectiveEchoTime is 4\.0, .* tell 4, 8\."):
        _as_xarray(images).dicom.write(tmp_path / "no")
    files = ixr.concat(images, "slice").dicom.write(tmp_path / "out")
    assert [float(pydicom.dcmread(file).EchoTime) for file in files] == [4] * 4 + [8] * 4


def _pets(path: Path, *units: str) -> list[xr.DataArray]:
    """Return PET series of one place, in different units."""
    images = []
    for number, unit in enumerate(units):

        def mutate(ds: Dataset, _t: int, z: int, unit: str = unit) -> None:
            ds.Units, ds.CountsSource, ds.SeriesType, ds.DecayCorrection = unit, "EMISSION", ["STATIC", "IMAGE"], "NONE"
            ds.FrameReferenceTime, ds.NumberOfSlices, ds.ImageIndex = 1250, 4, z + 1

        folder = path / f"pet{number}"
        write_series(folder, series=folder.name, sop_class=PositronEmissionTomographyImageStorage, mutate=mutate)
        images.append(ixr.open_series(folder))
    return images


MIXED = {
    "where": lambda a, b, c: a.where(a > 5, b),
    "fillna": lambda a, b, c: a.where(a > 5).fillna(b),
    "combine_first": lambda a, b, c: a.where(a > 5).combine_first(b),
    "third operand": lambda a, b, c: (a + b) + c,
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("name", ["no", "no.nii.gz"])
def test_the_unit_of_the_first_image_is_not_that_of_another(
    tmp_path: Path, mix: Callable[..., xr.DataArray], name: str
) -> None:
    """Values in g/ml were written as Bq/ml."""
    mixed = mix(*_pets(tmp_path, "BQML", "GML", "GML"))
    with pytest.raises(ConflictingOriginError, match=r"Units is .* BQML, GML: .*assign_coords\(Units="):
        ixr.write(mixed, tmp_path / name)
    assert not (tmp_path / name).exists()
    said = mixed.assign_coords(Units="GML")
    if name == "no":
        assert {pydicom.dcmread(file).Units for file in said.dicom.write(tmp_path / "out")} == {"GML"}
    else:
        ixr.write(said, tmp_path / "out.nii.gz")
        assert json.loads((tmp_path / "out.json").read_text())["Units"] == "GML"


def test_units_of_series_that_agree_or_of_a_mask_of_another_kind_are_written(tmp_path: Path) -> None:
    a, b = _pets(tmp_path, "BQML", "BQML")
    write_series(tmp_path / "ct", series="ct", sop_class=CTImageStorage, tags={"RescaleType": "HU"})
    for number, image in enumerate((a.where(a > 5, b), a.where(ixr.open_series(tmp_path / "ct") > 5, 0))):
        files = image.dicom.write(tmp_path / f"{number}")
        assert {pydicom.dcmread(file).Units for file in files} == {"BQML"}


@pytest.mark.parametrize("name", ["no", "no.nii.gz"])
def test_values_of_a_ct_in_a_pet_are_not_in_its_unit(tmp_path: Path, name: str) -> None:
    """HU were written as Bq/ml."""
    [pet] = _pets(tmp_path, "BQML")
    write_series(tmp_path / "ct", series="ct", sop_class=CTImageStorage, rescale=(1, -1024), tags={"RescaleType": "HU"})
    ct = ixr.open_series(tmp_path / "ct")
    for mixed in (pet.where(pet > 20, ct), pet.where(pet > 20).fillna(ct)):
        with pytest.raises(ConflictingOriginError, match=r"'BQML', .* CT in HU, .* below 0.*assign_coords\(Units"):
            ixr.write(mixed, tmp_path / name)
    difference = (pet - 20).where(ct > -1000, 0).assign_coords(Units="BQML")
    for number, image in enumerate((difference, pet.where(ct > -1000, 0), ct.where(pet > 20, -1024))):
        ixr.write(image, tmp_path / f"{number}{name.removeprefix('no')}")


def test_a_sidecar_tells_nothing_of_one_series_alone(tmp_path: Path, slabs: list[xr.DataArray]) -> None:
    both = _as_xarray(slabs)
    with pytest.raises(ConflictingOriginError, match=r"EchoTime is 4\.0, .* tell 4, 8\. "):
        ixr.write(both, tmp_path / "no.nii.gz")
    assert not (tmp_path / "no.nii.gz").exists()
    ixr.write(ixr.concat(slabs, "slice"), tmp_path / "each.nii.gz")
    ixr.write(both.assign_coords(EchoTime=8.0), tmp_path / "said.nii.gz")
    assert "EchoTime" not in json.loads((tmp_path / "each.json").read_text())
    assert json.loads((tmp_path / "said.json").read_text())["EchoTime"] == 0.008


def test_masks_have_no_unit(tmp_path: Path) -> None:
    """What is True and False was written as Bq/ml and HU."""
    pet = _pets(tmp_path, "BQML")[0] > 5
    write_series(tmp_path / "ct", series="ct", sop_class=CTImageStorage, tags={"RescaleType": "HU"})
    ct = ixr.open_series(tmp_path / "ct") > 5
    assert {pydicom.dcmread(file).Units for file in pet.dicom.write(tmp_path / "pet")} == {"NONE"}
    assert {pydicom.dcmread(file).RescaleType for file in ct.dicom.write(tmp_path / "mask")} == {"US"}
    ixr.write(pet, tmp_path / "pet.nii.gz")
    assert "Units" not in json.loads((tmp_path / "pet.json").read_text())


def test_what_is_computed_of_stored_values_has_no_units_of_a_pet(tmp_path: Path) -> None:
    """Stored counts, doubled, were written as Bq/ml."""

    def mutate(ds: Dataset, t: int, z: int) -> None:
        ds.Units, ds.CountsSource, ds.SeriesType, ds.DecayCorrection = "BQML", "EMISSION", ["DYNAMIC", "IMAGE"], "START"
        ds.FrameReferenceTime, ds.DecayFactor, ds.ActualFrameDuration = 1000 * t + 500, 1 + t / 10, 1000
        ds.NumberOfSlices, ds.ImageIndex, ds.RescaleSlope, ds.RescaleIntercept = 4, z + 1, 2.5 * (z + 1), 0

    write_series(tmp_path / "pet", times=2, sop_class=PositronEmissionTomographyImageStorage, mutate=mutate)
    stored = ixr.open_series(tmp_path / "pet", rescale=False)
    assert "Units" not in stored.attrs
    for image in (stored * 2, stored.mean("time")):
        with pytest.raises(MissingHeaderError, match=r"tells none, .*rescale=False.*assign_attrs\(Units="):
            image.dicom.write(tmp_path / "no")
    said = (stored * 2).assign_attrs(Units="CNTS")
    for image, unit in ((stored > 5, "NONE"), (stored, "BQML"), (said, "CNTS")):  # as it is, it has slopes to Bq/ml
        assert {pydicom.dcmread(file).Units for file in image.dicom.write(tmp_path / unit)} == {unit}
    mean = ixr.open_series(tmp_path / "pet").mean("time")
    with pytest.raises(MissingHeaderError, match="ActualFrameDuration, 1000 ms, is that of one frame"):
        mean.dicom.write(tmp_path / "no")
