"""xarray opens DICOM by name, and guesses it only where it is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.backend import DicomBackendEntrypoint
from imagedata_xr.errors import MissingSlicesWarning, MixedSeriesError, NoDicomError
from tests.generate import CORONAL, write_series

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dynamic")
    write_series(path, times=3, slices=2)
    return path


def test_engine_is_registered() -> None:
    assert "dicom" in xr.backends.list_engines()


def test_open_dataset_dataarray_and_datatree(folder: Path) -> None:
    want = ixr.open_series(folder, "time")
    dataset = xr.open_dataset(folder, engine="dicom", order="time")
    assert list(dataset.data_vars) == ["image"]
    xr.testing.assert_identical(dataset["image"], want)
    xr.testing.assert_identical(xr.open_dataarray(folder, engine="dicom", order="time"), want)
    tree = xr.open_datatree(folder, engine="dicom", order="time")
    (node,) = [n for n in tree.subtree if "image" in n.variables]
    xr.testing.assert_identical(node["image"], want)


def test_options_of_xarray(folder: Path) -> None:
    dataset = xr.open_dataset(folder, engine="dicom", order="time", chunks={}, drop_variables=["source", "absent"])
    assert dataset["image"].chunks is not None
    assert "source" not in dataset.coords
    assert xr.open_dataset(folder, engine="dicom", rescale=False)["image"].dtype == np.uint16
    with pytest.raises(TypeError, match="ordre"):
        xr.open_dataset(folder, engine="dicom", ordre="time")
    with pytest.raises(TypeError, match="ordre"):
        xr.open_datatree(folder, engine="dicom", ordre="time")


def test_guessed(folder: Path) -> None:
    assert xr.open_dataset(folder)["image"].sizes["slice"] == 2
    file = next(iter(sorted(folder.iterdir())))
    assert xr.open_dataset(file)["image"].sizes["slice"] == 1
    assert xr.open_dataset(str(file))["image"].sizes["slice"] == 1


def test_real_dicom_is_guessed(shared_data: Path) -> None:
    guess = DicomBackendEntrypoint().guess_can_open
    for name in ("ph_ct", "pet_nema", "si_te_mag", "ph_ct_rle"):
        assert guess(shared_data / name / "dicom"), name
        assert guess(next((shared_data / name / "dicom").iterdir())), name


def test_what_is_not_guessed(tmp_path: Path, folder: Path) -> None:
    guess = DicomBackendEntrypoint().guess_can_open
    image = ixr.open_series(folder, "time").reset_coords(drop=True).drop_encoding()
    image.attrs = {}
    image.to_zarr(tmp_path / "v3.zarr", zarr_format=3, consolidated=False)
    image.to_zarr(tmp_path / "v2.zarr", zarr_format=2, consolidated=False)
    image.to_netcdf(tmp_path / "image.nc")
    (tmp_path / "text.dcm").write_text("no DICOM" * 50)
    (tmp_path / "empty").mkdir()
    for name in ("v3.zarr", "v2.zarr", "image.nc", "text.dcm", "empty", "missing"):
        assert not guess(tmp_path / name), name
        assert not guess(str(tmp_path / name)), name
    assert not guess(tmp_path), "of folders below nothing is known without looking at all of them"
    for other in (None, 3, b"bytes", [folder], "https://example.org/x", {"image": image}):
        assert not guess(other)
    # A zarr store in which a DICOM file lies is a zarr store.
    shutil.copy(next(folder.iterdir()), tmp_path / "v3.zarr" / "000")
    assert not guess(tmp_path / "v3.zarr")
    assert xr.open_dataarray(tmp_path / "v2.zarr", consolidated=False).sizes == image.sizes
    assert xr.open_dataarray(tmp_path / "image.nc").sizes == image.sizes


def test_tree_is_as_deep_as_the_data(tmp_path: Path) -> None:
    write_series(tmp_path / "1", slices=2, series="A/B", number=1, tags={"SeriesDescription": "A/B"})
    write_series(tmp_path / "2", slices=2, series="second", number=2)
    one_study = ixr.open_study(tmp_path)
    assert sorted(one_study.children) == ["1 A-B", "2 second"]
    assert one_study.attrs["PatientID"] == "P1"
    write_series(tmp_path / "3", slices=2, series="third", study="later", number=1, tags={"StudyDate": "20260303"})
    studies = ixr.open_study(tmp_path)
    assert sorted(studies.children) == ["20260102", "20260303"]
    write_series(tmp_path / "4", slices=2, patient="P2")
    patients = ixr.open_study(tmp_path)
    assert sorted(patients.children) == ["P1", "P2"]
    assert "PatientID" not in patients.attrs
    assert sum("image" in node.variables for node in patients.subtree) == 4


def test_two_studies_of_one_day_stay_apart(tmp_path: Path) -> None:
    write_series(tmp_path / "1", slices=2, study="morning")
    write_series(tmp_path / "2", slices=3, study="evening")
    tree = ixr.open_study(tmp_path)
    assert sorted(n["image"].sizes["slice"] for n in tree.subtree if "image" in n.variables) == [2, 3]
    assert len({n["image"].attrs["StudyInstanceUID"] for n in tree.subtree if "image" in n.variables}) == 2
    assert len(tree.children) == 2, "one node a study"


def test_stacks_of_a_series_are_its_children(tmp_path: Path) -> None:
    def mutate(ds: object, _t: int, z: int) -> None:
        if z == 3:
            ds.ImageOrientationPatient = list(CORONAL)  # type: ignore[attr-defined]

    write_series(tmp_path, slices=4, mutate=mutate)
    tree = ixr.open_study(tmp_path)
    (series,) = tree.children.values()
    assert len(series.children) == 2
    assert sorted(child["image"].sizes["slice"] for child in series.children.values()) == [1, 3]


def test_nothing_there(tmp_path: Path) -> None:
    for function in (ixr.open_series, ixr.open_study):
        with pytest.raises(NoDicomError):
            function(tmp_path)
        with pytest.raises(FileNotFoundError):
            function(tmp_path / "missing")


def test_error_in_one_series_names_it(tmp_path: Path) -> None:
    write_series(tmp_path / "1", slices=2)
    write_series(tmp_path / "2", per_time={"ImageComments": ["a", "b"]}, slices=2, series="odd one", number=7)
    with pytest.raises(ValueError, match="odd one"):
        ixr.open_study(tmp_path)


def test_mixed(tmp_path: Path) -> None:
    write_series(tmp_path / "1", slices=2)
    write_series(tmp_path / "2", slices=2, series="second", number=2)
    with pytest.raises(MixedSeriesError, match="2 series are there"):
        xr.open_dataset(tmp_path, engine="dicom")


@pytest.mark.parametrize(("name", "format"), [("x.nii.gz", "nifti"), ("x.zarr", "zarr"), ("x.mha", "itk")])
def test_open_study_of_another_format_says_what_opens_it(folder: Path, tmp_path: Path, name: str, format: str) -> None:
    ixr.write(ixr.open_series(folder, "time"), tmp_path / name)
    for source in (tmp_path, tmp_path / name, [tmp_path / name]):
        with pytest.raises(
            NoDicomError, match=rf"; there is {format}: imagedata_xr.open_series opens one image of it$"
        ):
            ixr.open_study(source)


def test_warnings_of_a_study_name_the_series(tmp_path: Path) -> None:
    write_series(tmp_path / "a", times=2, slices=2, series="a", number=1)
    for number in (2, 3):
        name = "bc"[number - 2]
        write_series(tmp_path / name, slices=4, gaps=[3.0, 6.0, 3.0], series=name, number=number)
    with pytest.warns(MissingSlicesWarning) as caught:
        ixr.open_study(tmp_path)
    assert sorted(str(warning.message).partition(": ")[0] for warning in caught) == ["series '2 b'", "series '3 c'"]


def test_a_dataset_says_where_the_accessor_is(folder: Path) -> None:
    dataset = xr.open_dataset(folder, engine="dicom", order="time")
    with pytest.raises(AttributeError, match=r"a Dataset: dataset\['image'\]\.dicom\.affine$"):
        _ = dataset.dicom.affine
    with pytest.raises(AttributeError, match="without an image"):
        dataset.drop_vars("image").dicom.write("out")
    assert not hasattr(dataset.dicom, "affine")
    assert dataset.copy().identical(dataset)
