"""MAT files: SciPy and h5py read what is written; our own come back whole; nothing in one is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import scipy.io

import imagedata_xr as ixr
from imagedata_xr.errors import MixedSeriesError, OrderError, UnreadableFileError, ValuesNotStorableError
from tests.formats.test_nifti import ORDERS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("version", ["5", "7.3"])
@pytest.mark.filterwarnings("ignore:.*slices? seems? to be missing")
@pytest.mark.parametrize("case", ["ge_ct_missing_slice", "ph_ct_tilt", "si_dwi_rsi", "si_te_time_5d", "ph_enh_dwi"])
def test_our_own_files_come_back_whole(shared_data: Path, tmp_path: Path, case: str, version: str) -> None:
    image = ixr.open_series(shared_data / case / "dicom", **ORDERS.get(case, {}))
    ixr.write(image, tmp_path / "a.mat", version=version)
    back = ixr.open_series(tmp_path / "a.mat")
    assert back.dims == image.dims
    assert np.array_equal(ixr.open_series(tmp_path / "a.mat")[..., 1, ::-2, 3].values, image[..., 1, ::-2, 3].values)
    assert np.array_equal(back.values, image.values)
    assert back.dtype == image.dtype
    assert back.attrs == image.attrs
    assert set(back.coords) == set(image.coords)
    for name in image.coords:
        assert (back[name].values == image[name].values).all() or image[name].isnull().any()
    assert back.dicom.geometry_equal(image)
    assert back.dicom.origins == image.dicom.origins
    (back * 2).dicom.write(tmp_path / "dicom")
    again = ixr.open_series(tmp_path / "dicom", **{k: v for k, v in ORDERS.get(case, {}).items() if k == "order"})
    assert again.attrs["PatientID"] == image.attrs["PatientID"]
    assert again.dicom.geometry_equal(image, tolerance=0.01)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_a_mask_is_logical(patient: Path, tmp_path: Path, version: str) -> None:
    mask = ixr.open_series(patient / "ct") > 0
    ixr.write(mask, tmp_path / "a.mat", version=version)
    back = ixr.open_series(tmp_path / "a.mat")
    assert back.dtype == back.values.dtype == bool
    assert np.array_equal(back.values, mask.values)
    if version == "5":
        assert scipy.io.whosmat(tmp_path / "a.mat")[0][2] == "logical"
        assert np.array_equal(scipy.io.loadmat(tmp_path / "a.mat")["A"], mask.transpose("row", "col", "slice"))


def test_order_of_axes_is_matlabs(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "dynamic_1", "time")
    ixr.write(image, tmp_path / "a.mat")
    ixr.write(image, tmp_path / "b.mat", version="7.3")
    values = scipy.io.loadmat(tmp_path / "a.mat")["A"]
    assert np.array_equal(values, image.transpose("row", "col", "slice", "time").values)
    with h5py.File(tmp_path / "b.mat") as file:
        assert np.array_equal(file["A"][()].T, values)
        assert file["A"].attrs["MATLAB_class"] == b"int16"
    assert (tmp_path / "b.mat").read_bytes().startswith(b"MATLAB 7.3 MAT-file")


def test_files_of_others(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 6, 3, 2))
    scipy.io.savemat(tmp_path / "a.mat", {"x": values, "note": "text", "s": {"f": 1}})
    image = ixr.open_series(tmp_path / "a.mat")
    assert image.dims == ("volume", "slice", "row", "col")
    assert np.array_equal(image.values, values.transpose(3, 2, 0, 1))
    assert "slice" not in image.coords
    assert ixr.open_series(tmp_path / "a.mat", "te").dims[0] == "te"
    with pytest.raises(OrderError):
        ixr.open_series(tmp_path / "a.mat", "te,fa")
    scipy.io.savemat(tmp_path / "b.mat", {"x": values, "y": values[..., 0]})
    with pytest.raises(MixedSeriesError, match=r"x \(5, 6, 3, 2\), y \(5, 6, 3\)"):
        ixr.open_series(tmp_path / "b.mat")
    assert ixr.open_series(tmp_path / "b.mat", options={"variable": "y"}).shape == (3, 5, 6)
    with pytest.raises(UnreadableFileError, match="no array 'z'"):
        ixr.open_series(tmp_path / "b.mat", options={"variable": "z"})
    assert ixr.open_series(tmp_path / "a.mat", chunks={}).data.npartitions == 1, "each would read all"
    with h5py.File(tmp_path / "c.mat", "w", userblock_size=512) as file:
        file["v"] = values.T
    assert np.array_equal(ixr.open_series(tmp_path / "c.mat").values, values.transpose(3, 2, 0, 1))


def test_values_have_the_class_of_the_variable(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"x": np.full((4, 3, 2), 7, np.uint8)})
    data = bytearray(path.read_bytes())
    # As MATLAB stores doubles that are whole and small: class double (6), in 8 bits.
    assert data[144] == 9
    data[144] = 6
    path.write_bytes(data)
    for image in (ixr.open_series(path), ixr.open_series(path, chunks={})):
        assert image.dtype == image.values.dtype == np.float64
        assert float((image - 9).max()) == -2
    mask = np.arange(24).reshape(4, 3, 2) > 5
    scipy.io.savemat(tmp_path / "b.mat", {"x": mask})
    with h5py.File(tmp_path / "c.mat", "w", userblock_size=512) as file:
        file["x"] = mask.T.astype(np.uint8)
        file["x"].attrs["MATLAB_class"] = np.bytes_("logical")
    for name in ("b.mat", "c.mat"):
        image = ixr.open_series(tmp_path / name)
        assert image.dtype == image.values.dtype == bool
        assert np.array_equal(~image, ~mask.transpose(2, 0, 1))
    scipy.io.savemat(tmp_path / "d.mat", {"x": mask * 1j})
    with pytest.raises(UnreadableFileError, match=r"complex; store real\(x\)"):
        ixr.open_series(tmp_path / "d.mat").load()


def test_hostile_files(tmp_path: Path) -> None:
    objects = np.empty((2, 2), object)
    objects[:] = [[{"a": 1}, "b"], [3, "x"]]
    scipy.io.savemat(tmp_path / "a.mat", {"cells": objects})
    with pytest.raises(UnreadableFileError, match="0 arrays"):
        ixr.open_series(tmp_path / "a.mat")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones((3, 3, 3))
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:
        file["x"] = h5py.ExternalLink("other.h5", "/secret")
        file["self"] = h5py.SoftLink("/self")
        file.create_dataset("raw", (3, 3), "u1", external=[(str(tmp_path / "other.h5"), 0, 9)])
    with pytest.raises(UnreadableFileError, match="0 arrays"):
        ixr.open_series(tmp_path / "b.mat")
    scipy.io.savemat(tmp_path / "c.mat", {"x": np.ones((50, 50, 3))}, do_compression=True)
    data = (tmp_path / "c.mat").read_bytes()
    for cut in (20, 140, len(data) - 40):
        (tmp_path / "d.mat").write_bytes(data[:cut])
        with pytest.raises(UnreadableFileError):
            ixr.open_series(tmp_path / "d.mat").load()


def test_the_shape_of_an_empty_array_is_not_its_values(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["x"] = np.array([[0, 4]], np.uint64)
        file["x"].attrs.update({"MATLAB_class": np.bytes_("double"), "MATLAB_empty": np.uint8(1)})
    with pytest.raises(UnreadableFileError, match="0 arrays"):
        ixr.open_series(tmp_path / "a.mat")


def test_what_is_not_written(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "ct")
    with pytest.raises(ValuesNotStorableError, match="complex128"):
        ixr.write(image * 1j, tmp_path / "a.mat")
    with pytest.raises(ValuesNotStorableError, match="rgb"):
        ixr.write(image.expand_dims(rgb=3, axis=-1), tmp_path / "a.mat")
    single = ixr.open_series(patient / "ct").isel(slice=3)
    ixr.write(single, tmp_path / "one.mat")
    back = ixr.open_series(tmp_path / "one.mat")
    assert back.dims == ("row", "col")
    assert float(back.slice) == float(single.slice)
    assert list(tmp_path.glob("a*")) == []


def test_complex_values_of_7_3_are_named(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["z"] = np.zeros((2, 3, 4), [("real", "f8"), ("imag", "f8")])  # as MATLAB stores them
        file["z"].attrs["MATLAB_class"] = np.bytes_("double")
    with pytest.raises(UnreadableFileError, match=r"z is complex; store real\(z\)"):
        ixr.open_series(tmp_path / "a.mat")
