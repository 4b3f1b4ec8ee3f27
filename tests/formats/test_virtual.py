"""A virtual store is the image, read where its frames lie; it says so where it cannot be."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.errors import UnreadableFileError
from tests.conftest import SHARED
from tests.formats.test_nifti import ORDERS
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from fsspec.implementations.memory import MemoryFileSystem

REFUSED = {
    "si_jpegll_3d": "no run of bytes",
    **dict.fromkeys(("rgb_volume_j2k", "si_mosaic_fh", "si_mosaic_hf", "us_cine_ybr"), "none of"),
    "uih_dwi_grid": "none of these is a run of values",
}
NOT_ONE_IMAGE = {
    *("float_paramap", "mixed_orientation", "nifti_itk", "not_a_volume", "ph_enh_fieldmap", "py_emri_syntaxes"),
    *("si_12bit", "si_cohort_mixed", "si_transfer_syntaxes"),
}
CASES = sorted(path.name for path in SHARED.glob("*") if (path / "dicom").is_dir() and path.name not in NOT_ONE_IMAGE)


def by_zarr(file: Path) -> xr.Dataset:
    """Return what a program finds that knows Zarr and references, and nothing of this package but its codec."""
    options = {"storage_options": {"fo": str(file), "remote_protocol": "file"}, "consolidated": False}
    found: xr.Dataset = xr.open_dataset("reference://", engine="zarr", chunks=None, backend_kwargs=options)
    if "image" in found:
        return found
    values = found["stored_values"] * found["RescaleSlope"] + found["RescaleIntercept"]
    return found.assign(image=values)


@pytest.mark.filterwarnings("ignore:no element tells time", "ignore:.*slices? seems? to be missing")
@pytest.mark.parametrize("case", CASES)
def test_real_series(shared_data: Path, tmp_path: Path, case: str) -> None:
    image = ixr.open_series(shared_data / case / "dicom", **ORDERS.get(case, {}))
    if case in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[case]):
            image.dicom.to_virtual(tmp_path / "image.json")
        assert not list(tmp_path.iterdir())
        return
    file = image.dicom.to_virtual(tmp_path / "image.json")
    back = ixr.open_virtual(file)
    assert back.identical(image)
    assert back.dtype == image.dtype
    assert back.dicom.is_original
    assert back.dicom.geometry_equal(image)
    found = by_zarr(file)
    np.testing.assert_allclose(found["image"], image, rtol=1e-6)
    for name, coord in image.coords.items():
        assert found[name].dims == coord.dims
        assert np.array_equal(found[name].values.astype(coord.dtype), coord, equal_nan=coord.dtype.kind == "f"), name
    last = dict.fromkeys(image.dims[:-2], -1)
    assert np.array_equal(back.isel(last), image.isel(last))


def test_what_was_computed_from_it_is_written_with_its_patient(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "dynamic_1", "time")
    back = ixr.open_virtual(image.dicom.to_virtual(tmp_path / "a.json"))
    ((back + back.shift(time=1, fill_value=0)) / 2).dicom.write(tmp_path / "out")
    again = ixr.open_series(tmp_path / "out", "time")
    assert again.attrs["PatientID"] == image.attrs["PatientID"]
    assert again.dicom.geometry_equal(image)
    back.dicom.write(tmp_path / "same", keep_uid=True)


def test_whole_frames_may_be_selected_before_it_is_written(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "dynamic_1", "time")
    part = image.isel(time=slice(1, None, 2), slice=[4, 2])
    back = ixr.open_virtual(part.dicom.to_virtual(tmp_path / "part.json"))
    assert back.identical(part)
    one = image.isel(time=2, slice=3)
    assert ixr.open_virtual(one.dicom.to_virtual(tmp_path / "one.json")).identical(one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image.load() * 1, "loaded, computed or chunked"),
        (lambda image: image.chunk(), "loaded, computed or chunked"),
        (lambda image: image.isel(row=slice(3)), "parts of frames"),
        (lambda image: image.isel(col=slice(None, None, -1)), "turned round"),
    ],
    ids=["loaded", "chunked", "cropped", "flipped"],
)
def test_what_does_not_lie_in_files_is_refused(patient: Path, tmp_path: Path, change: object, message: str) -> None:
    image = change(ixr.open_series(patient / "ct"))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        image.dicom.to_virtual(tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_other_programs_find_what_dask_has_not_computed_and_no_false_scale(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "ct").assign_attrs(scale_factor=3.0)
    mean = image.chunk().mean(("row", "col"))
    image = image.assign_coords(mean=mean)
    file = image.dicom.to_virtual(tmp_path / "a.json")
    found = by_zarr(file)
    np.testing.assert_allclose(found["image"], image)
    for name in ("mean", "InstanceNumber", "SliceLocation"):
        assert (found[name].values == image[name].values).all(), name
    assert ixr.open_virtual(file).identical(image.compute())


def test_names_that_are_taken_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    write_series(
        tmp_path / "a", slices=3, mutate=lambda ds, _t, z: ds.update({"RescaleSlope": z + 1, "RescaleIntercept": 0})
    )
    image = ixr.open_series(tmp_path / "a", "none")
    for name in ("RescaleSlope", "stored_values"):
        with pytest.raises(ValueError, match=f"which {name} has to say"):
            image.assign_coords({name: ("slice", [1, 2, 3])}).dicom.to_virtual(tmp_path / "a.json")
    with pytest.raises(ValueError, match="the image is empty"):
        image.isel(slice=slice(0)).dicom.to_virtual(tmp_path / "a.json")
    file = image.dicom.to_virtual(tmp_path / "a.json")
    np.testing.assert_array_equal(by_zarr(file)["image"], ixr.open_virtual(file))


@pytest.mark.parametrize("planar", [0, 1])
def test_colours(shared_data: Path, tmp_path: Path, planar: int) -> None:
    source = ixr.open_series(shared_data / "rgb_volume_j2k" / "dicom")
    files = source.dicom.write(tmp_path / "native")
    if planar:
        for path in files:
            ds = pydicom.dcmread(path)
            ds.PixelData, ds.PlanarConfiguration = np.moveaxis(ds.pixel_array, 2, 0).tobytes(), 1
            ds.save_as(path)
    np.testing.assert_array_equal(ixr.open_series(tmp_path / "native"), source)
    image = ixr.open_series(tmp_path / "native")
    if planar:
        with pytest.raises(ValueError, match="not stored as RGB pixel by pixel"):
            image.dicom.to_virtual(tmp_path / "a.json")
        return
    for part in (image.isel(rgb=1), image.isel(rgb=[2, 1, 0])):
        with pytest.raises(ValueError, match="parts of frames"):
            part.dicom.to_virtual(tmp_path / "b.json")
    file = image.dicom.to_virtual(tmp_path / "a.json")
    assert ixr.open_virtual(file).identical(image)
    assert ixr.open_virtual(file).isel(slice=1, row=3, rgb=2).identical(image.isel(slice=1, row=3, rgb=2))
    np.testing.assert_array_equal(by_zarr(file)["image"], image)


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_moments_and_durations(patient: Path, tmp_path: Path, unit: str) -> None:
    image = ixr.open_series(patient / "dynamic_1", "time")
    since = (image.time.values * 1e9).astype("m8[ns]").astype(f"m8[{unit}]")
    when = np.datetime64("2026-01-02T03:04:05", unit) + since
    when[-1] = "NaT"
    image = image.assign_coords(since=("time", since), when=("time", when))
    file = image.dicom.to_virtual(tmp_path / "a.json")
    back = ixr.open_virtual(file)
    assert back.identical(image)
    assert back.when.dtype == image.when.dtype
    assert (by_zarr(file)["since"].values.astype(since.dtype) == since).all()


def test_missing_frames_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", times=2, slices=3)
    files[1].unlink()
    image = ixr.open_series(tmp_path / "series", "time", missing="fill")
    with pytest.raises(ValueError, match="missing"):
        image.dicom.to_virtual(tmp_path / "a.json")


def test_changed_and_lost_files_are_noticed(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", slices=3)
    file = ixr.open_series(tmp_path / "series").dicom.to_virtual(tmp_path / "a.json")
    opened = ixr.open_virtual(file)
    os.utime(files[1], ns=(1, 1))
    with pytest.raises(UnreadableFileError, match="changed since"):
        ixr.open_virtual(file)
    with pytest.raises(UnreadableFileError, match="changed"):
        opened.load()
    files[1].unlink()
    with pytest.raises(UnreadableFileError, match="is gone"):
        ixr.open_virtual(file)


def test_nothing_is_overwritten(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "ct")
    file = image.dicom.to_virtual(tmp_path / "a.json")
    before = file.read_bytes()
    with pytest.raises(FileExistsError):
        image.dicom.to_virtual(file)
    assert file.read_bytes() == before
    image.isel(slice=slice(3)).dicom.to_virtual(file, overwrite=True)
    assert ixr.open_virtual(file).sizes["slice"] == 3


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"refs": {}}', '{"version": 1, "refs": {"image/.zattrs": "{}"}}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UnreadableFileError, match="no virtual store"):
        ixr.open_virtual(tmp_path / "a.json")


def test_a_store_whose_places_are_wrong_is_refused(patient: Path, tmp_path: Path) -> None:
    file = ixr.open_series(patient / "ct").dicom.to_virtual(tmp_path / "a.json")
    told = json.loads(file.read_text())
    name = next(name for name, value in told["refs"].items() if isinstance(value, list))
    told["refs"][name][1] = 10**9
    file.write_text(json.dumps(told))
    with pytest.raises((UnreadableFileError, ValueError)):
        ixr.open_virtual(file).load()


def test_frames_go_by_their_names_and_not_by_the_order_in_the_file(tmp_path: Path) -> None:
    write_series(tmp_path / "series", slices=12)
    image = ixr.open_series(tmp_path / "series")
    file = image.dicom.to_virtual(tmp_path / "a.json")
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told, sort_keys=True))  # 10 comes before 2
    assert ixr.open_virtual(file).identical(image)
    told["refs"]["image/12.0.0"] = told["refs"]["image/11.0.0"]
    file.write_text(json.dumps(told))
    with pytest.raises(UnreadableFileError, match="refers to other frames than its shape"):
        ixr.open_virtual(file)


@pytest.mark.parametrize("name", ["image", "files", "dtype", "rescale", "sizes"])
def test_a_store_that_lacks_a_part_is_refused(tmp_path: Path, name: str) -> None:
    write_series(tmp_path / "series", slices=2)
    file = ixr.open_series(tmp_path / "series").dicom.to_virtual(tmp_path / "a.json")
    told = json.loads(file.read_text())
    attributes = json.loads(told["refs"]["image/.zattrs"])
    del attributes["imagedata_xr"][name]
    told["refs"]["image/.zattrs"] = json.dumps(attributes)
    file.write_text(json.dumps(told))
    with pytest.raises(UnreadableFileError, match="no virtual store"):
        ixr.open_virtual(file)


def test_files_elsewhere(tmp_path: Path, memory: MemoryFileSystem) -> None:
    write_series(tmp_path / "series", slices=3)
    memory.put(str(tmp_path / "series"), "/virtual", recursive=True)
    image = ixr.open_series("memory://virtual")
    back = ixr.open_virtual(image.dicom.to_virtual(tmp_path / "a.json"))
    assert back.identical(image)


def test_a_virtual_store_at_a_url_is_to_be_copied() -> None:
    with pytest.raises(ValueError, match=r"memory://a.json is a URL, and virtual .* copy the file, and open the copy"):
        ixr.open_virtual("memory://a.json")
