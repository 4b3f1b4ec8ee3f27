"""Frames that name no source file are written as each by itself would be."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import imagedata_xr as ixr
from imagedata_xr.dicom import patcher
from tests.dicom.test_patcher import both_ways, same_uids, staggered, vary, without_times
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from pydicom.dataset import Dataset

__all__ = ["same_uids"]  # a fixture of all tests

TIMES, SLICES = 5, 6


def composed_of(image: xr.DataArray, path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Write an image both ways; return how many frames were composed."""
    count = 0
    compose = patcher.composed_heads

    def counted(*args: Any) -> Any:
        nonlocal count
        found = compose(*args)
        count += len(found[0]) if found else 0
        return found

    monkeypatch.setattr(patcher, "composed_heads", counted)
    assert not both_ways(image, path, monkeypatch)
    return count


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
    frames = (TIMES - 1) * image.sizes["slice"]
    assert composed_of(image, tmp_path, monkeypatch) == frames


def test_mean_of_two_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write_series(tmp_path / name, times=TIMES, slices=SLICES, series=name)
    first, second = (ixr.open_series(tmp_path / name, "time") for name in "ab")
    assert composed_of((first + second) / 2, tmp_path, monkeypatch) == (TIMES - 1) * SLICES


@pytest.mark.parametrize("mutate", [vary, staggered])
def test_what_follows_from_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutate: Any) -> None:
    """Slices with times of their own, and elements that differ from frame to frame."""
    write_series(tmp_path / "a", times=4, slices=SLICES, mutate=mutate)
    image = ixr.open_series(tmp_path / "a", "time")
    for number, one in enumerate((image - image.isel(time=0), image - image.isel(slice=0, drop=True))):
        composed_of(one, tmp_path / str(number), monkeypatch)


def test_texts_in_several_character_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in which no letter is lacking are composed; others change the set, and with it all texts."""

    def western(ds: Dataset, _t: int, _z: int) -> Dataset:
        ds.SpecificCharacterSet = "ISO_IR 100"
        return ds

    write_series(tmp_path / "a", times=TIMES, slices=SLICES, mutate=western)
    image = ixr.open_series(tmp_path / "a", "time")
    image = (image - image.isel(time=0)).assign_coords(ImageComments=("time", ["a", "é", "ß", "Ω", "Ж"]))
    assert composed_of(image, tmp_path, monkeypatch) == 2 * SLICES


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
