"""netCDF and Zarr: the image comes back with header and patient, and writing DICOM still works after it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.errors import GeometryError, MixedSeriesError, UnreadableFileError
from tests.formats.test_nifti import ORDERS
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.filterwarnings("ignore:.*slices? seems? to be missing")
@pytest.mark.parametrize("case", ["ge_ct_missing_slice", "ph_ct_tilt", "si_dwi_rsi", "si_te_time_5d", "si_time_3x3"])
def test_an_image_comes_back_whole(shared_data: Path, tmp_path: Path, case: str, suffix: str) -> None:
    image = ixr.open_series(shared_data / case / "dicom", **ORDERS.get(case, {}))
    image = image.assign_attrs(ContrastBolusAgent=["one"], ImageComments="")
    ixr.write(image, tmp_path / f"a{suffix}")
    back = ixr.open_series(tmp_path / f"a{suffix}")
    assert back.dims == image.dims
    assert back.dtype == image.dtype
    assert np.array_equal(back.values, image.values)
    assert back.attrs == image.attrs
    assert set(back.coords) == set(image.coords)
    assert all(back[name].attrs == image[name].attrs for name in image.coords), "lists were arrays"
    assert back.dicom.origins == image.dicom.origins
    assert not back.dicom.is_original, "another program may have changed it"
    assert (back - image).shape == image.shape, "the indexes are tolerant again"
    (back + 1).dicom.write(tmp_path / "dicom")
    order = {k: v for k, v in ORDERS.get(case, {}).items() if k == "order"}
    again = ixr.open_series(tmp_path / "dicom", **order)
    assert again.attrs["PatientID"] == image.attrs["PatientID"]
    assert again.dicom.geometry_equal(image, tolerance=0.01)
    assert np.array_equal(again.values, image.values + 1)


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")  # of xarray's text coordinates
@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "netcdf"])
def test_what_plain_xarray_stores_opens_too(patient: Path, tmp_path: Path, kind: str) -> None:
    image = ixr.open_series(patient / "dynamic_1", "time")
    if kind == "netcdf":
        image.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
        back = ixr.open_series(tmp_path / "a.nc")
        plain = xr.open_dataarray(tmp_path / "a.nc", engine="h5netcdf").dicom.index_positions()
    else:
        image.to_zarr(tmp_path / "a.zarr", zarr_format=int(kind[-1]), consolidated=False)
        back = ixr.open_series(tmp_path / "a.zarr")
        plain = xr.open_dataarray(tmp_path / "a.zarr", engine="zarr", consolidated=False).dicom.index_positions()
    assert np.array_equal(back.values, image.values)
    for number, one in enumerate((back, plain)):
        assert one.dicom.geometry_equal(image)
        (one * 2).dicom.write(tmp_path / f"dicom{number}")
        again = ixr.open_series(tmp_path / f"dicom{number}", "time")
        assert np.array_equal(again.values, image.values * 2)
        assert again.attrs["PatientID"] == image.attrs["PatientID"]


def test_stores_of_others(tmp_path: Path, patient: Path) -> None:
    xr.Dataset({"x": ("row", [1, 2])}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(UnreadableFileError, match="arrays x"):
        ixr.open_series(tmp_path / "a.nc")
    two = {"a": (("row", "col"), np.ones((2, 2))), "b": (("row", "col"), np.zeros((2, 2)))}
    xr.Dataset(two).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    with pytest.raises(MixedSeriesError, match="a, b"):
        ixr.open_series(tmp_path / "b.nc")
    assert float(ixr.open_series(tmp_path / "b.nc", options={"variable": "a"}).sum()) == 4
    (tmp_path / "c.nc").write_bytes(b"nothing")
    with pytest.raises(UnreadableFileError):
        ixr.open_series(tmp_path / "c.nc")
    image = ixr.open_series(patient / "ct")
    ixr.write(image, tmp_path / "d.zarr")
    with pytest.raises(FileExistsError):
        ixr.write(image, tmp_path / "d.zarr")
    ixr.write(image * 2, tmp_path / "d.zarr", overwrite=True)
    assert float(ixr.open_series(tmp_path / "d.zarr").max()) == 2 * float(image.max())


@pytest.mark.parametrize("chunks", [None, {}])
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_an_image_is_written_over_its_own_store(
    patient: Path, tmp_path: Path, suffix: str, chunks: dict[str, int] | None
) -> None:
    image, path = ixr.open_series(patient / "dynamic_1", "time"), tmp_path / f"a{suffix}"
    ixr.write(image, path)
    back, other = ixr.open_series(path, chunks=chunks), ixr.open_series(path, chunks=chunks)
    ixr.write((back + 1).assign_attrs(SeriesNumber=77), path, overwrite=True)
    again = ixr.open_series(path)
    assert np.array_equal(again.values, image.values + 1)
    assert again.attrs["SeriesNumber"] == 77
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    # Of the image that was opened before, no value may come from the one that is there now.
    with pytest.raises(UnreadableFileError, match="has changed since it was opened"):
        other.load()


def _broken(block: np.ndarray) -> np.ndarray:
    raise ZeroDivisionError(block.shape)


def test_netcdf_for_which_the_disk_has_no_room_is_told_before_it_is_written(tmp_path: Path) -> None:
    """HDF5 that meets a full disk ends the process."""
    image = xr.DataArray(np.broadcast_to(np.int16(0), (1 << 20,) * 3), dims=("slice", "row", "col"))
    with pytest.raises(OSError, match=r"No space left on device: .*huge\.nc"):
        ixr.write(image, tmp_path / "huge.nc")
    assert not list(tmp_path.iterdir())


def test_a_zarr_store_that_was_given_up_is_not_written_to(tmp_path: Path) -> None:
    """Where one chunk fails others are still being computed, and would make the folder again."""
    begun, removed = threading.Event(), threading.Event()

    def compute(block: np.ndarray) -> np.ndarray:
        if block.any():
            begun.set()
            assert removed.wait(60)
            return block
        assert begun.wait(60)
        raise ZeroDivisionError

    values = dask.array.from_array(np.arange(2, dtype=np.int16).reshape(2, 1, 1), chunks=1)
    values = values.map_blocks(compute, dtype=np.int16, meta=np.empty((0, 0, 0), np.int16))
    with ThreadPoolExecutor(2) as pool, dask.config.set(pool=pool):
        with pytest.raises(ZeroDivisionError):
            ixr.write(xr.DataArray(values, dims=("slice", "row", "col")), tmp_path / "a.zarr")
        removed.set()
    assert not list(tmp_path.iterdir())


def test_only_stores_are_replaced(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "ct")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other things"):
        ixr.write(image, tmp_path / "a.zarr", overwrite=True)
    ixr.write(image, tmp_path / "b.zarr")
    broken = image.copy(data=image.chunk().data.map_blocks(_broken, dtype=image.dtype))
    with pytest.raises(ZeroDivisionError):
        ixr.write(broken, tmp_path / "b.zarr", overwrite=True)
    assert np.array_equal(ixr.open_series(tmp_path / "b.zarr").values, image.values), "as it was"


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_frames_of_a_transposed_image_keep_their_headers(tmp_path: Path, suffix: str) -> None:
    """Zarr 3.1 stores transposed text as it lies in memory."""

    def fill(ds: Dataset, t: int, z: int) -> None:
        ds.ImageComments = f"{t},{z}"

    write_series(tmp_path / "in", times=3, slices=3, mutate=fill)
    image = ixr.open_series(tmp_path / "in")
    ixr.write(image.transpose("col", "slice", "row", "time"), tmp_path / f"turned{suffix}")
    again = ixr.open_series(tmp_path / f"turned{suffix}")
    xr.testing.assert_equal(again.transpose(*image.dims).SOPInstanceUID, image.SOPInstanceUID)
    written = ixr.open_series(again.dicom.write(tmp_path / "out"))
    assert written.ImageComments.values.tolist() == [[f"{t},{z}" for z in range(3)] for t in range(3)]
    assert (written.values == image.values).all()


def test_chunks_that_were_lost_are_told(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "dynamic_1", "time")
    image = image.copy(data=np.zeros(image.shape, image.dtype))
    ixr.write(image, tmp_path / "a.zarr")
    assert ixr.open_series(tmp_path / "a.zarr").attrs == image.attrs, "chunks of zeros are there"
    chunks = sorted(file for file in (tmp_path / "a.zarr" / "image" / "c").rglob("*") if file.is_file())
    chunks[0].write_bytes(chunks[0].read_bytes()[:-5])
    with pytest.raises(UnreadableFileError, match=r"cannot read image of .*a\.zarr"):
        ixr.open_series(tmp_path / "a.zarr").load()
    chunks[0].unlink()
    (tmp_path / "a.zarr" / "slice" / "c" / "0").unlink()
    with pytest.warns(UserWarning, match=rf"lacks chunks, .*1 of {len(chunks)} of image"), suppress(GeometryError):
        ixr.open_series(tmp_path / "a.zarr")


def test_a_series_of_a_stored_tree(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "ct")
    tree = xr.DataTree.from_dict({"/study/ct 1": image.drop_encoding().to_dataset()})
    tree.to_zarr(tmp_path / "a.zarr", zarr_format=2)
    with pytest.raises(UnreadableFileError, match="a Zarr store that is a tree"):
        ixr.open_series(tmp_path / "a.zarr")
    back = ixr.open_series(tmp_path / "a.zarr" / "study" / "ct 1", format="zarr")
    assert np.array_equal(back.values, image.values)
    assert back.dicom.geometry_equal(image)
