"""Frames that name no source file are patched, and have the bytes of those that are written element by element."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import xarray as xr

import imagedata_xr as ixr
from tests.dicom.multi import macro, write_enhanced
from tests.dicom.test_patcher import both_ways, same_uids, staggered, vary, without_times
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

__all__ = ["same_uids"]  # a fixture of all tests

TIMES, SLICES = 5, 6


IMAGES = {
    "difference": lambda a: a - a.isel(time=0),
    "fraction": lambda a: (a - a.isel(time=0)) / 3,
    "as floats": lambda a: a.astype("float32") - a.isel(time=0),
    "new times": lambda a: (a - a.isel(time=0)).assign_coords(time=[0, 2.5, 3, 86_000, 90_000.5]),
    "without a start": lambda a: (a - a.isel(time=0)).drop_vars("AcquisitionDateTime", errors="ignore"),
    "backwards": lambda a: (a - a.isel(time=0)).isel(time=slice(None, None, -1), slice=slice(None, None, -1)),
    "cropped": lambda a: (a - a.isel(time=0)).isel(row=slice(1, 5), slice=slice(1, None)),
    "echoes": lambda a: (a - a.isel(time=0)).drop_vars("time").rename(time="EchoTime").assign_coords(EchoTime=range(5)),
    "b": lambda a: (a - a.isel(time=0)).drop_vars("time").rename(time="b").assign_coords(b=[0, 50, 100, 500, 1000]),
    "zeros": lambda a: (a - a.isel(time=0)).assign_coords(FlipAngle=("slice", [0.0, -0.0, 1.0, 1, 2.5, 0.0])),
    "comments": lambda a: (a - a.isel(time=0)).assign_coords(ImageComments=("time", list("abcde"))),
    "named": lambda a: (a - a.isel(time=0)).assign_attrs(SeriesDescription="διαφορά", PatientComments="y"),
    "chunks": lambda a: (a - a.isel(time=0)).chunk(time=2, slice=3),
}


@pytest.mark.parametrize("mutate", [None, without_times])
@pytest.mark.parametrize("kind", IMAGES)
def test_what_follows_from_volume_or_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mutate: Any
) -> None:
    write_series(tmp_path / "a", times=TIMES, slices=SLICES, mutate=mutate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = IMAGES[kind](ixr.open_series(tmp_path / "a", "time"))
    assert both_ways(image, tmp_path, monkeypatch) >= TIMES * (image.sizes["slice"] - 1)


def test_frames_of_several_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CT has a window for soft tissue and one for bone; its mean over time names no file."""

    def windows(ds: Dataset, _t: int, _z: int) -> None:
        ds.WindowCenter, ds.WindowWidth = [500, 1000], [1000, 2000]

    write_series(tmp_path / "a", times=TIMES, slices=SLICES, mutate=windows)
    image = ixr.open_series(tmp_path / "a", "time").mean("time", keep_attrs=True)
    assert both_ways(image, tmp_path, monkeypatch) == SLICES - 1
    np.testing.assert_allclose(ixr.open_series(tmp_path / "patched"), image, atol=0.05)


def test_mean_of_two_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write_series(tmp_path / name, times=TIMES, slices=SLICES, series=name)
    first, second = (ixr.open_series(tmp_path / name, "time") for name in "ab")
    assert both_ways((first + second) / 2, tmp_path, monkeypatch) == TIMES * SLICES - 1


@pytest.mark.parametrize("mutate", [vary, staggered])
def test_what_follows_from_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutate: Any) -> None:
    """Slices with times of their own, and elements that differ from frame to frame."""
    write_series(tmp_path / "a", times=4, slices=SLICES, mutate=mutate)
    image = ixr.open_series(tmp_path / "a", "time")
    for number, one in enumerate((image - image.isel(time=0), image - image.isel(slice=0, drop=True))):
        both_ways(one, tmp_path / str(number), monkeypatch)


def test_one_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over time: slices differ in their place alone."""
    write_series(tmp_path / "a", times=2, slices=20)
    image = ixr.open_series(tmp_path / "a", "time")
    assert both_ways(image.mean("time", keep_attrs=True), tmp_path / "1", monkeypatch) == 19
    assert both_ways(image.isel(time=0).drop_vars("source") * 2, tmp_path / "2", monkeypatch) == 19


def test_slices_with_times_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of all slices tell whether labels are new, and move with them."""
    write_series(tmp_path / "a", times=4, slices=SLICES, mutate=staggered)
    image = ixr.open_series(tmp_path / "a", "time").drop_vars("source")
    assert "slice" in image.AcquisitionTime.dims
    later = image.assign_coords(time=image.time * 2 + 5)
    mixed = image.isel(slice=[3, 0, 5, 1, 4, 2])
    for number, one in enumerate((image * 2, later, mixed, image - image.isel(time=0))):
        assert both_ways(one, tmp_path / str(number), monkeypatch) > 2 * SLICES, number


def test_windows_that_fit_some_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that does not fit the values of its volume goes, whichever slices have it."""

    def mutate(ds: Dataset, t: int, z: int) -> None:
        ds.WindowCenter, ds.WindowWidth = (50, 20) if z % 3 else (5000 * t, 100)
        ds.add_new("SliceThickness", "DS", str(1 + z % 2))

    write_series(tmp_path / "a", times=4, slices=9, mutate=mutate)
    image = ixr.open_series(tmp_path / "a", "time").drop_vars("source")
    scaled = image * [[[[1]]], [[[40]]], [[[1]]], [[[3]]]]
    assert both_ways(scaled.astype("float32") / 3, tmp_path, monkeypatch) > 20


def test_volumes_of_which_some_are_whole_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DerivationDescription says which were rescaled."""
    write_series(tmp_path / "a", times=4, slices=6)
    image = ixr.open_series(tmp_path / "a", "time").drop_vars("source").astype("float32")
    image = image + xr.DataArray([0, 0.5, 0, 0.25], dims="time")
    assert both_ways(image, tmp_path, monkeypatch) > 12


def test_frames_of_a_file_of_many(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their elements become those of files of one image each."""
    image = ixr.open_series(shared_data / "si_xa_enh_time" / "dicom", "time").isel(row=slice(0, 32), time=slice(0, 4))
    assert both_ways(image, tmp_path / "1", monkeypatch) > image.time.size * (image.sizes["slice"] - 2)
    assert both_ways(image * 2, tmp_path / "2", monkeypatch) > image.time.size * (image.sizes["slice"] - 2)


@pytest.mark.parametrize(
    "name", ["SpecificCharacterSet", "ContentCreatorName", "SliceThickness", "InStackPositionNumber"]
)
def test_elements_of_each_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also some that slices lack, and those that change how others are encoded."""
    values = {
        "SpecificCharacterSet": ["ISO_IR 100", "ISO_IR 192"] * 3,
        "ContentCreatorName": ["A", "B", "C", "Ä", "B", "Ω"],
        "SliceThickness": [1.0, 2.0, np.nan, 3.0, 1.5, np.nan],
        "InStackPositionNumber": [1, 2, 3, 4, 5, 6],
    }
    write_series(tmp_path / "a", times=4, slices=6)
    image = ixr.open_series(tmp_path / "a", "time").drop_vars("source")
    image.attrs.pop(name, None)
    image = image.assign_coords({name: ("slice", values[name])}).assign_attrs(PatientComments="Größe")
    count = both_ways(image * 2, tmp_path, monkeypatch)
    assert count >= 22 if name == "InStackPositionNumber" else count >= 0


def test_texts_in_several_character_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in which letters are lacking change the set, and with it all texts."""

    def western(ds: Dataset, _t: int, _z: int) -> Dataset:
        ds.SpecificCharacterSet = "ISO_IR 100"
        return ds

    write_series(tmp_path / "a", times=TIMES, slices=SLICES, mutate=western)
    image = ixr.open_series(tmp_path / "a", "time")
    image = (image - image.isel(time=0)).assign_coords(ImageComments=("time", ["a", "é", "ß", "Ω", "Ж"]))
    assert both_ways(image, tmp_path, monkeypatch) == TIMES * (SLICES - 1)


def test_places_and_values_come_back(tmp_path: Path) -> None:
    def numbered(ds: Dataset, t: int, z: int) -> Dataset:
        ds.RescaleSlope, ds.RescaleIntercept = 1 + t, -7 * t
        return ds

    write_series(tmp_path / "a", times=TIMES, slices=SLICES, mutate=numbered)
    image = ixr.open_series(tmp_path / "a", "time")
    change = (image - image.isel(time=0)) / 7
    change.dicom.write(tmp_path / "b")
    again = ixr.open_series(tmp_path / "b", "time")
    np.testing.assert_allclose(again.values, change.values, atol=float(np.ptp(change.values)) / 65535)
    np.testing.assert_allclose(again.time, change.time)
    assert again.dicom.geometry_equal(change)
    assert len(set(again.SOPInstanceUID.values.ravel().tolist())) == TIMES * SLICES


@pytest.mark.parametrize("intercept", [0, -12.25])
def test_values_of_an_enhanced_file_are_stored_with_its_rescale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, intercept: float
) -> None:
    """They were rounded to another rescale; what was computed, or put in their place, still is."""
    slope = 2.38510378510378

    def mutate(ds: Dataset) -> None:
        shared = ds.SharedFunctionalGroupsSequence[0]
        shared.PixelValueTransformationSequence = macro(
            RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US"
        )

    image = ixr.open_series(write_enhanced(tmp_path / "enhanced", times=3, mutate=mutate), "time")
    assert both_ways(image, tmp_path, monkeypatch) > 0
    headers = [pydicom.dcmread(file) for file in sorted((tmp_path / "patched").iterdir())]
    assert {(ds.RescaleSlope, ds.RescaleIntercept) for ds in headers} == {(slope, intercept)}
    assert not any("rescaled" in ds.DerivationDescription for ds in headers)
    assert np.array_equal(ixr.open_series(tmp_path / "patched", "time"), image)
    changed = image.compute()
    changed[1, 2, 3, 3] += 0.5
    assert both_ways(changed, tmp_path / "changed", monkeypatch) > 0
    headers = [pydicom.dcmread(file) for file in sorted((tmp_path / "changed" / "patched").iterdir())]
    assert ["rescaled" in ds.DerivationDescription for ds in headers] == [4 <= k < 8 for k in range(12)]
    back = ixr.open_series(tmp_path / "changed" / "patched", "time")
    step = float(headers[4].RescaleSlope)
    np.testing.assert_allclose(back, changed, rtol=1e-6, atol=step / 2)


@pytest.mark.parametrize("signed", [False, True])
def test_each_frame_of_an_enhanced_file_keeps_its_rescale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: bool
) -> None:
    """They were rounded to one rescale a volume. All volumes are of one type, also when some have other values."""

    def group(item: Dataset, t: int, z: int) -> None:
        item.PixelValueTransformationSequence = macro(
            RescaleSlope=[0.5, 0.37, 1, 2.5e-5][z], RescaleIntercept=-z / 4, RescaleType="US"
        )

    file = write_enhanced(
        tmp_path / "enhanced", times=3, group=group, mutate=lambda ds: setattr(ds, "PixelRepresentation", int(signed))
    )
    image = ixr.open_series(file, "time")
    loaded = image.compute()
    for number, one in enumerate((image, loaded, image.isel(slice=[2, 0], row=slice(1, 5)))):
        both_ways(one, tmp_path / str(number), monkeypatch)
        headers = [pydicom.dcmread(file) for file in sorted((tmp_path / str(number) / "patched").iterdir())]
        assert [ds.RescaleSlope for ds in headers] == ([1, 0.5] if number == 2 else [0.5, 0.37, 1, 2.5e-5]) * 3
        assert {ds.PixelRepresentation for ds in headers} == {int(signed)}
        assert not any("rescaled" in ds.DerivationDescription for ds in headers)
        assert np.array_equal(ixr.open_series(tmp_path / str(number) / "patched", "time"), one.sortby("slice"))
    loaded[2, 2, 3, 3] += 0.3
    both_ways(loaded, tmp_path / "changed", monkeypatch)
    back = ixr.open_series(tmp_path / "changed" / "patched", "time")
    np.testing.assert_allclose(back, loaded, atol=float(loaded.max() - loaded.min()) / 65534)


def test_values_that_are_not_read_yet_keep_the_rescale_of_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where attributes and coordinates make the headers, as of several series."""

    def mutate(ds: Dataset, t: int, z: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 0.3125 + 0.125 * (3 * t + z), 0

    write_series(tmp_path / "a", times=3, slices=4, mutate=mutate)
    image = ixr.open_series(tmp_path / "a", "time").drop_vars("source").isel(time=[2, 1], slice=slice(1, None))
    both_ways(image, tmp_path, monkeypatch)
    headers = [pydicom.dcmread(file) for file in sorted((tmp_path / "patched").iterdir())]
    assert [ds.RescaleSlope for ds in headers] == [0.3125 + 0.125 * (3 * t + z) for t in (2, 1) for z in (1, 2, 3)]
    assert np.array_equal(ixr.open_series(tmp_path / "patched", "time"), image.sortby("time"))
